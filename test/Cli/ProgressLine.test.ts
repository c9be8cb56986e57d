/** How progress is shown without a terminal. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { vi } from "vitest"
import { showProgress, withProgressLine } from "../../src/Cli/ProgressLine.ts"

const progressLines = (more: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    vi.spyOn(process.stderr, "write").mockImplementation((text) => {
      lines.push(String(text))
      return true
    })
    const argv = process.argv
    process.argv = [...argv, ...more]
    yield* withProgressLine(
      Effect.gen(function* () {
        for (let second = 1; second <= 12; second++) {
          yield* TestClock.adjust("1 second")
          showProgress(`${second} runs retried`)
        }
      })
    )
    showProgress("after its end")
    process.argv = argv
    vi.restoreAllMocks()
    return lines
  })

it.effect("progress without a terminal is a line every few seconds", () =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* progressLines([]), ["5 runs retried\n", "10 runs retried\n"])
  })
)

it.effect("progress is not shown with --json", () =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* progressLines(["--json"]), [])
  })
)
