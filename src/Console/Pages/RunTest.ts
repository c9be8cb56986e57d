/** Writes a test that repeats a run. The values that were recorded become stubs for the run's steps. */
import type { LoggedEvent } from "../../Protocol/Events.ts"
import type { WireRun, WireStep } from "../../Protocol/Runs.ts"
import { thrownError } from "../../DescribeError.ts"
import { isRecord } from "../Parts/Calls.ts"
import { reportedError } from "../Parts/ErrorView.tsx"

export const testOf = (
  run: WireRun,
  steps: ReadonlyArray<WireStep>,
  event: LoggedEvent | undefined
): string => {
  const functionName = camelCase(run.functionId)
  const stepsByName = new Map<string, Array<WireStep>>()
  for (const step of steps) {
    if (step.status !== "completed" && step.status !== "failed") continue
    const key = `${step.kind === "invokeAsync" ? "invoke" : step.kind} ${step.name}`
    stepsByName.set(key, [...(stepsByName.get(key) ?? []), step])
  }
  const stubs = [...stepsByName.values()].flatMap((sameSteps) => stubLines(sameSteps))
  const hasFailedSteps = steps.some(({ status }) => status === "failed")
  const hasFailed = run.state === "failed"
  const assertions = hasFailed
    ? [
        `  assert.equal(run.status, "failed")`,
        `  assert.match(String(run.error), /${escapeText(messageOf(run.error))}/)`
      ]
    : [`  assert.equal(run.status, "completed")`, `  assert.deepEqual(run.output, ${codeOf(run.output)})`]
  return [
    `import assert from "node:assert/strict"`,
    `import { test } from "node:test"`,
    ...(hasFailedSteps ? [`import { NonRetryableError } from "@ironflow/node"`] : []),
    `import { createTestClient } from "@ironflow/node/test"`,
    `// change this to the file with the function "${run.functionId}"`,
    `import { ${functionName} } from "./functions.ts"`,
    ``,
    `test(${JSON.stringify(`${run.functionId} does what it did in ${run.id}`)}, async () => {`,
    `  const t = createTestClient({ functions: [${functionName}] })`,
    ...stubs.map((line) => `  ${line}`),
    ``,
    `  const run = await t.emit(${JSON.stringify(event?.name ?? "the.event")}, ${codeOf(event?.data ?? run.input ?? {})})`,
    ``,
    ...assertions,
    `})`,
    ``
  ].join("\n")
}

/** The lines that stub all steps of one kind and name. `sameSteps` has these steps, in their order. */
const stubLines = (sameSteps: ReadonlyArray<WireStep>): ReadonlyArray<string> => {
  const [{ kind, name } = { kind: "", name: "" }] = sameSteps
  const quotedName = JSON.stringify(name)
  switch (kind) {
    case "run":
    case "invoke":
    case "invokeAsync": {
      const mockMethod = kind === "run" ? "mockStep" : "mockInvoke"
      const results = sameSteps.map(resultOf)
      if (new Set(results).size === 1) return [`t.${mockMethod}(${quotedName}, () => ${results[0]})`]
      const resultsName = camelCase(`results of ${name}`)
      return [
        `const ${resultsName} = [${results.map((result) => `() => ${result}`).join(", ")}]`,
        `t.${mockMethod}(${quotedName}, () => ${resultsName}.shift()!())`
      ]
    }
    case "waitForEvent":
      return sameSteps.flatMap(({ output }) =>
        isRecord(output) && typeof output["name"] === "string"
          ? [`t.sendEvent(${JSON.stringify(output["name"])}, ${codeOf(output["data"])})`]
          : []
      )
    default:
      // no stub is needed: sleeps take no time, transactions only collect writes, and compensations run
      return []
  }
}

const resultOf = ({ error, output, status }: WireStep): string =>
  status === "failed"
    ? `{ throw new NonRetryableError(${JSON.stringify(messageOf(error))}) }`
    : typeof output === "object" && output !== null && !Array.isArray(output)
      ? `(${codeOf(output)})`
      : codeOf(output)

const messageOf = (error: unknown): string => {
  const reported = reportedError(error)
  return reported === undefined ? "" : thrownError(reported).message
}

const codeOf = (value: unknown): string =>
  value === undefined ? "undefined" : JSON.stringify(value, null, 2).replaceAll("\n", "\n  ")

const escapeText = (text: string): string =>
  text
    .slice(0, 120)
    .replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")
    .replaceAll("\n", "\\n")

const camelCase = (text: string): string => {
  const identifier = text.replace(/[^A-Za-z\d]+(.)?/g, (_, letter: string = "") => letter.toUpperCase())
  return /^[A-Za-z]/.test(identifier) ? identifier : `fn${identifier}`
}
