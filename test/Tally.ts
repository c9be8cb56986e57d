/**
 * A vitest reporter for machines and hurried people: after all other output it prints one plain line,
 * `12 passed, 0 failed`.
 *
 * A file that could not be loaded, and an error outside any test, count as failures. Skipped tests have a line of their own,
 * and so have tests that passed only at another attempt: the line never looks better than the run.
 */
import type { Reporter, TestModule } from "vitest/node"

export default class Tally implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandledErrors: ReadonlyArray<unknown>): void {
    const again: Array<string> = []
    const tally = { passed: 0, failed: unhandledErrors.length, skipped: 0, pending: 0 }
    for (const module of modules) {
      tally.failed += module.errors().length
      for (const suite of module.children.allSuites()) tally.failed += suite.errors().length
      for (const test of module.children.allTests()) {
        tally[test.result().state] += 1
        const attempts = (test.diagnostic()?.retryCount ?? 0) + 1
        if (attempts > 1 && test.result().state === "passed")
          again.push(`passed at attempt ${attempts} only: ${module.relativeModuleId} > ${test.fullName}`)
      }
    }
    // a test that never ran, because a hook before it failed or the run was stopped, has not passed
    const failed = tally.failed + tally.pending
    const lines = [`${tally.passed} passed, ${failed} failed`]
    lines.unshift(...again)
    if (tally.skipped > 0) lines.unshift(`${tally.skipped} skipped`)
    // at exit, because the default reporter writes its summary in the same hook
    process.once("exit", () => process.stdout.write(`${lines.join("\n")}\n`))
  }
}
