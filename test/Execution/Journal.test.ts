import { assert, describe, it } from "@effect/vitest"
import { Journal } from "../../src/Execution/Journal.ts"
import type { JournalEntry, OpenStep } from "../../src/Protocol/Worker.ts"
import { success } from "./ScriptedEngine.ts"

const recorded = (stepKey: string, kind: JournalEntry["kind"] = "run"): JournalEntry => ({
  stepKey,
  name: stepKey.replace(/:\d+$/, ""),
  kind,
  outcome: success(1),
  attempt: 1
})
const open = (stepKey: string): OpenStep => ({
  stepKey,
  name: stepKey.replace(/:\d+$/, ""),
  kind: "sleep",
  failures: 0,
  pending: true
})

describe("Journal", () => {
  it("returns an entry once, with its place", () => {
    const journal = new Journal({ journal: [recorded("charge:0"), recorded("ship:0")], open: [] })

    assert.isTrue(journal.has("ship:0"))
    assert.strictEqual(journal.take("ship:0")?.index, 1)
    assert.isFalse(journal.has("ship:0"))
    assert.isUndefined(journal.take("ship:0"))
    assert.isUndefined(journal.take("refund:0"))
  })

  it("is behind until the handler has reached every open step", () => {
    const journal = new Journal({ journal: [], open: [open("nap:0"), open("nap:1")] })

    assert.strictEqual(journal.reach("nap:0")?.stepKey, "nap:0")
    assert.isTrue(journal.hasUnreachedSteps)
    journal.reach("nap:1")

    assert.isFalse(journal.hasUnreachedSteps)
    assert.isTrue(journal.knows("nap:1"))
    assert.isFalse(journal.knows("nap:2"))
  })

  it("keeps early outcomes of open steps only", () => {
    const journal = new Journal({ journal: [], open: [open("nap:0"), open("charge:0")] })

    journal.fireEarly("nap:0", success(1))
    journal.fireEarly("charge:0", undefined)
    journal.fireEarly("other:0", success(2))

    assert.deepStrictEqual(journal.earlyFiring("nap:0"), { outcome: success(1) })
    assert.deepStrictEqual(journal.earlyFiring("charge:0"), { outcome: undefined })
    assert.isUndefined(journal.earlyFiring("other:0"))
  })

  for (const [completed, names] of [
    [false, ["charge", "nap"]],
    [true, ["charge", "all:0:branch", "nap"]]
  ] as const) {
    it(`knows what a handler that ${completed ? "has completed" : "waits"} did not call: ${names.join(", ")}`, () => {
      const journal = new Journal({
        journal: [
          recorded("asked:0"),
          recorded("charge:0"),
          recorded("all:0:branch:0"),
          recorded("compensate:charge:0", "compensate")
        ],
        open: [open("nap:0"), open("reached:0")]
      })
      journal.take("asked:0")
      journal.reach("reached:0")

      assert.deepStrictEqual(journal.uncalled(completed), names)
    })
  }
})
