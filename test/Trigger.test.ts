import { assert, describe, it } from "@effect/vitest"
import * as Cron from "effect/Cron"
import { ValidationError } from "../src/Errors.ts"
import {
  checkTrigger,
  cronEventName,
  matchTrigger,
  matchTriggers,
  parseCron,
  type Trigger
} from "../src/Trigger.ts"

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

  it("needs no data when there is no expression", () => {
    assert.isTrue(matchTrigger({ event: "order.*" }, { name: "order.placed" }).matched)
  })

  it("does not match when the expression fails, and says why", () => {
    const verdict = matchTrigger({ event: "order.placed", expression: "event.data.missing > 5" }, event)

    assert.deepStrictEqual(verdict, { matched: false, error: "No such key: missing" })
  })
})

describe("matchTriggers", () => {
  it("matches when one of them does, and reports the expressions that failed before it", () => {
    const failing: Trigger = { event: "order.placed", expression: "event.data.missing > 5" }
    const errors = ['trigger expression "event.data.missing > 5": No such key: missing']

    assert.deepStrictEqual(matchTriggers([failing, { event: "order.*" }], event), { matched: true, errors })
    assert.deepStrictEqual(matchTriggers([failing], event), { matched: false, errors })
    assert.deepStrictEqual(matchTriggers([], event), { matched: false, errors: [] })
  })
})

describe("parseCron", () => {
  const next = (cron: string, timezone: string | undefined, after: string) =>
    Cron.next(parseCron(cron, timezone), new Date(after)).toISOString()

  it.each<readonly [cron: string, timezone: string | undefined, after: string, due: string]>([
    ["0 9 * * *", undefined, "2026-01-01T10:00:00Z", "2026-01-02T09:00:00.000Z"],
    ["0 9 * * *", "Europe/Berlin", "2026-01-01T10:00:00Z", "2026-01-02T08:00:00.000Z"],
    ["0 */6 * * *", "UTC", "2026-01-01T10:00:00Z", "2026-01-01T12:00:00.000Z"],
    ["30 0 9 * * *", undefined, "2026-01-01T10:00:00Z", "2026-01-02T09:00:30.000Z"],
    ["0 9 * * 1-5", undefined, "2026-01-02T10:00:00Z", "2026-01-05T09:00:00.000Z"]
  ])("%s in %s is due after %s at %s", (cron, timezone, after, due) => {
    assert.strictEqual(next(cron, timezone, after), due)
  })

  it.each<readonly [cron: string, timezone: string | undefined, message: RegExp]>([
    ["", undefined, /"" is not a cron schedule/],
    ["* * * *", undefined, /is not a cron schedule: .*number of segments.*Write minute/],
    ["60 * * * *", undefined, /"60 \* \* \* \*" is not a cron schedule/],
    ["0 9 * * *", "Mars", /"Mars" is not a time zone.*Europe\/Berlin/]
  ])("refuses %o in %s", (cron, timezone, message) => {
    assert.throws(() => parseCron(cron, timezone), ValidationError)
    assert.throws(() => parseCron(cron, timezone), message)
  })
})

describe("checkTrigger", () => {
  it("refuses a schedule that never comes, and takes one that seldom does", () => {
    const check = (cron: string) => () => checkTrigger({ cron }, "Trigger 0")
    assert.throws(check("0 0 30 2 *"), /"0 0 30 2 \*" never comes/)
    assert.throws(check("0 0 31 4,6,9,11 *"), ValidationError)
    assert.doesNotThrow(check("0 0 29 2 *"))
  })
})

describe("cronEventName", () => {
  it("is the trigger's event, else made from the function's id", () => {
    assert.strictEqual(
      cronEventName("cleanup", { cron: "0 9 * * *", event: "scheduled.cleanup" }),
      "scheduled.cleanup"
    )
    assert.strictEqual(cronEventName("cleanup", { cron: "0 9 * * *" }), "cron.cleanup")
  })
})
