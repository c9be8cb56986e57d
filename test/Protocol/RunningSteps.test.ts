import { assert, describe, it } from "@effect/vitest"
import {
  limitSteps,
  progressOf,
  readRunningTurns,
  MAX_STEPS_PER_TURN,
  MAX_STEPS_PER_WORKER
} from "../../src/Protocol/RunningSteps.ts"

const step = { stepKey: "charge:0", name: "charge", kind: "run", attempt: 1, forMs: 1200 } as const
const turn = { jobId: "job_1", runId: "run_1", steps: [step] }

describe("a worker's report of running steps", () => {
  it.each([
    ["a list of turns", [turn], [turn]],
    ["nothing", undefined, []],
    ["an object instead of a list", { turn }, []],
    ["a turn without a job", [{ ...turn, jobId: 1 }, turn], [turn]],
    ["a step without a key", [{ ...turn, steps: [{ ...step, stepKey: 1 }, step, null] }], [turn]],
    ["an invalid kind", [{ ...turn, steps: [{ ...step, kind: "dance" }] }], []],
    ["an invalid time", [{ ...turn, steps: [{ ...step, forMs: "soon" }] }], []],
    ["an invalid attempt", [{ ...turn, steps: [{ ...step, attempt: 0 }] }], []],
    [
      "progress that is partly invalid",
      [{ ...turn, steps: [{ ...step, progress: { fraction: "half", text: "row 1" } }] }],
      [{ ...turn, steps: [{ ...step, progress: { text: "row 1" } }] }]
    ],
    ["invalid progress", [{ ...turn, steps: [{ ...step, progress: 5 }] }], [turn]]
  ])("is read as far as it is valid: %s", (_, said, read) => {
    assert.deepStrictEqual(readRunningTurns(said), read)
  })

  it("is limited for each turn and for each worker", () => {
    const steps = Array.from({ length: MAX_STEPS_PER_TURN + 5 }, () => step)
    const told = readRunningTurns(Array.from({ length: 100 }, () => ({ ...turn, steps })))

    assert.lengthOf(told[0]!.steps, MAX_STEPS_PER_TURN)
    assert.lengthOf(
      told.flatMap((turn) => turn.steps),
      MAX_STEPS_PER_WORKER
    )
    assert.deepStrictEqual(limitSteps(told), told)
  })

  it.each([
    [0.5, "half", { fraction: 0.5, text: "half" }],
    [-1, undefined, { fraction: 0 }],
    [40, "", { fraction: 1 }],
    [Number.NaN, "counting", { text: "counting" }],
    ["half", 5, undefined],
    [1, "x".repeat(500), { fraction: 1, text: "x".repeat(200) }]
  ])("with the progress %s and %s keeps the valid parts", (fraction, text, expected) => {
    assert.deepStrictEqual(progressOf(fraction, text), expected)
  })
})
