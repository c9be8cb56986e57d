import { assert, it } from "vitest"
import { activityJson, activityLine } from "../../src/Cli/ActivityLines.ts"
import type { ObservedActivity } from "../../src/Engine/Store/RunActivity.ts"

const now = 1_000_000
const run = { runId: "run_1", functionId: "process-order", environment: "default" } as const
const error = { name: "Error", message: "the bank\nis down", code: "ERROR", retryable: true } as const

it.for<[ObservedActivity, string]>([
  [{ ...run, _tag: "RunStarted", at: now }, "created"],
  [{ ...run, _tag: "RunTaken", at: now }, "started"],
  [
    {
      ...run,
      _tag: "StepEnded",
      name: "charge",
      kind: "run",
      outcome: { _tag: "Success", value: '{"receipt":1}' },
      attempt: 1,
      startedAt: now - 12,
      endedAt: now
    },
    '  ✓ charge  12ms  {"receipt":1}'
  ],
  [
    {
      ...run,
      _tag: "StepEnded",
      name: "wait",
      kind: "sleep",
      outcome: { _tag: "Success", value: undefined },
      attempt: 1,
      startedAt: now - 5000,
      endedAt: now
    },
    "  ✓ wait (sleep)  5.0s"
  ],
  [
    {
      ...run,
      _tag: "StepEnded",
      name: "charge",
      kind: "run",
      outcome: { _tag: "Failure", error },
      attempt: 3,
      startedAt: now - 12,
      endedAt: now
    },
    "  ✗ charge  12ms  the bank is down"
  ],
  [
    { ...run, _tag: "StepFailed", name: "charge", failures: 1, error, dueAt: now + 1000 },
    "  ↻ charge  attempt 1 failed: the bank is down; again in 1.0s"
  ],
  [
    { ...run, _tag: "RunFailed", error, dueAt: now + 2000 },
    "↻ failed outside of steps: the bank is down; again in 2.0s"
  ],
  [{ ...run, _tag: "RunPaused", message: "by hand" }, "paused: by hand"],
  [
    { ...run, _tag: "RunPaused", message: "A step has changed. Put the code back, then resumeRun" },
    "paused: A step has changed. Put the code back, then `ironflow runs resume run_1`"
  ],
  [
    {
      ...run,
      _tag: "RunEnded",
      status: "completed",
      outcome: { _tag: "Success", value: "42" },
      createdAt: now - 300,
      endedAt: now
    },
    "completed in 300ms  42"
  ],
  [
    {
      ...run,
      _tag: "RunEnded",
      status: "failed",
      outcome: { _tag: "Failure", error: { ...error, name: "TypeError" } },
      createdAt: now - 300,
      endedAt: now
    },
    "failed in 300ms  TypeError: the bank is down"
  ]
])("a line for %j", ([activity, expected]) => {
  const line = activityLine(activity, now)

  assert.match(line, /^\d\d:\d\d:\d\d {2}run_1 {2}process-order {2}/)
  assert.strictEqual(line.replace(/^.*?process-order {2}/, ""), expected)
})

it("the JSON of a result is a value", () => {
  const text = activityJson({
    ...run,
    _tag: "RunEnded",
    status: "completed",
    outcome: { _tag: "Success", value: '{"a":1}' },
    createdAt: 1,
    endedAt: 2
  })

  assert.deepStrictEqual(JSON.parse(text), {
    ...run,
    _tag: "RunEnded",
    status: "completed",
    value: { a: 1 },
    createdAt: 1,
    endedAt: 2
  })
})
