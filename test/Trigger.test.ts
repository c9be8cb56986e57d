import { assert, describe, it } from "@effect/vitest"
import { ValidationError } from "../src/Errors.ts"
import { checkTrigger, cronEventName, matchTrigger, matchTriggers, type Trigger } from "../src/Trigger.ts"

const event = { name: "order.placed", data: { priority: 6 } }

describe("matchTrigger", () => {
  it.each<readonly [trigger: Trigger, matched: boolean]>([
    [{ event: "order.placed" }, true],
    [{ event: "order.*" }, true],
    [{ event: "order.cancelled" }, false],
    [{ event: "order.placed", expression: "event.data.priority > 5" }, true],
    [{ event: "order.placed", expression: "event.data.priority > 6" }, false],
    [{ event: "order.cancelled", expression: "true" }, false],
    [{ cron: "0 9 * * *" }, false],
    [{ cron: "0 9 * * *", event: "order.placed" }, true]
  ])("%o: %s", (trigger, matched) => {
    assert.deepStrictEqual(matchTrigger(trigger, event), { matched })
  })

  it("needs no data without an expression", () => {
    assert.isTrue(matchTrigger({ event: "order.*" }, { name: "order.placed" }).matched)
  })

  it("does not match when the expression fails, and says why", () => {
    const verdict = matchTrigger({ event: "order.placed", expression: "event.data.missing > 5" }, event)

    assert.deepStrictEqual(verdict, { matched: false, error: "No such key: missing" })
  })
})

describe("matchTriggers", () => {
  it("matches when one trigger does, and reports the expressions that failed before it", () => {
    const failing: Trigger = { event: "order.placed", expression: "event.data.missing > 5" }
    const errors = ['trigger expression "event.data.missing > 5": No such key: missing']

    assert.deepStrictEqual(matchTriggers([failing, { event: "order.*" }], event), { matched: true, errors })
    assert.deepStrictEqual(matchTriggers([failing], event), { matched: false, errors })
    assert.deepStrictEqual(matchTriggers([], event), { matched: false, errors: [] })
  })
})

describe("checkTrigger", () => {
  it("refuses a schedule that never fires, and accepts one that seldom does", () => {
    const check = (cron: string) => () => checkTrigger({ cron }, "Trigger 0")
    assert.throws(check("0 0 30 2 *"), /"0 0 30 2 \*" never fires/)
    assert.throws(check("0 0 31 4,6,9,11 *"), ValidationError)
    assert.doesNotThrow(check("0 0 29 2 *"))
  })
})

describe("checkTrigger, for `overlap`,", () => {
  it.each(["allow", "skip", "queue"])("accepts %s on a cron trigger", (overlap) => {
    assert.doesNotThrow(() => checkTrigger({ cron: "0 9 * * *", overlap }, "Trigger 0"))
  })

  it.each<readonly [trigger: unknown, message: RegExp]>([
    [
      { cron: "0 9 * * *", overlap: "later" },
      /Trigger 0: `overlap`: it must be "allow", "skip" or "queue", got "later"/
    ],
    [{ cron: "0 9 * * *", overlap: true }, /got true/],
    [{ event: "order.placed", overlap: "skip" }, /`overlap`: it needs `cron`/]
  ])("refuses %j", (trigger, message) => {
    assert.throws(() => checkTrigger(trigger, "Trigger 0"), ValidationError)
    assert.throws(() => checkTrigger(trigger, "Trigger 0"), message)
  })
})

describe("cronEventName", () => {
  it("is the trigger's event, or else made from the function's id", () => {
    assert.strictEqual(
      cronEventName("cleanup", { cron: "0 9 * * *", event: "scheduled.cleanup" }),
      "scheduled.cleanup"
    )
    assert.strictEqual(cronEventName("cleanup", { cron: "0 9 * * *" }), "cron.cleanup")
  })
})
