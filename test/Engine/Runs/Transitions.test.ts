import { assert, describe, it } from "@effect/vitest"
import {
  type TransitionName,
  initialStatus,
  nextStatus,
  refusal,
  statusesBefore,
  transitions
} from "../../../src/Engine/Runs/Transitions.ts"
import { isTerminal, runStatuses } from "../../../src/RunStatus.ts"

/** For every status and everything that can happen to a run: the next status, or `-` where it cannot happen. */
const table = `
                   pending    running       waiting    compensating  paused        completed  failed   cancelled
claimed            running    -             running    compensating  -             -          -        -
outgrown           failed     -             failed     failed        -             -          -        -
completed          -          completed     -          -             -             -          -        -
failed             -          failed        -          failed        -             -          -        -
compensationBegan  -          compensating  -          compensating  -             -          -        -
suspended          -          waiting       -          compensating  -             -          -        -
attemptFailed      -          waiting       -          compensating  -             -          -        -
stopped            -          waiting       -          compensating  -             -          -        -
released           -          waiting       -          compensating  -             -          -        -
leaseLost          -          waiting       -          compensating  -             -          -        -
leaseRevoked       -          waiting       -          compensating  -             -          -        -
paused             paused     -             paused     paused        -             -          -        -
pauseAsked         -          running       -          compensating  -             -          -        -
pauseWithdrawn     -          running       -          compensating  -             -          -        -
resumed            -          -             -          -             waiting       -          -        -
rollbackResumed    -          -             -          -             compensating  -          -        -
cancelled          cancelled  cancelled     cancelled  -             cancelled     -          -        -
retried            -          -             -          -             -             -          waiting  waiting
`

const [columns = [], ...rows] = table
  .trim()
  .split("\n")
  .map((line) => line.trim().split(/\s+/))

describe("the transitions of a run", () => {
  it("are listed in this table for every status and everything that can happen", () => {
    assert.deepStrictEqual(columns, [...runStatuses])
    assert.deepStrictEqual(rows.map(([happening]) => happening).sort(), Object.keys(transitions).sort())
    for (const row of rows) assert.strictEqual(row.length, runStatuses.length + 1, row.join(" "))
  })

  for (const [happening = "", ...expected] of rows) {
    it(`${happening}: ${expected.join(" ")}`, () => {
      const next = runStatuses.map((status) => nextStatus(status, happening as TransitionName) ?? "-")

      assert.deepStrictEqual(next, expected as typeof next)
      assert.deepStrictEqual(
        [...statusesBefore(happening as TransitionName)].sort(),
        runStatuses.filter((_, i) => expected[i] !== "-").sort()
      )
    })
  }

  it("lead from the first status to every other one", () => {
    const reached = new Set<string>([initialStatus])
    for (const status of reached) {
      for (const happening of Object.keys(transitions)) {
        const next = nextStatus(status as typeof initialStatus, happening as TransitionName)
        if (next !== undefined) reached.add(next)
      }
    }
    assert.deepStrictEqual([...reached].sort(), [...runStatuses].sort())
  })

  it("leave an ended status only with a retry", () => {
    const leaving = Object.keys(transitions).filter((happening) =>
      runStatuses.some(
        (status) => isTerminal(status) && nextStatus(status, happening as TransitionName) !== undefined
      )
    )
    assert.deepStrictEqual(leaving, ["retried"])
  })

  it("name the attempted transition when it is impossible", () => {
    assert.strictEqual(refusal("run_1", "completed", "paused"), "Run run_1 is completed and cannot be paused")
    assert.strictEqual(
      refusal("run_1", undefined, "claimed"),
      "Run run_1 is in no status that exists and cannot be handed out"
    )
  })
})
