/** Waits for events: what they accept, how far they look back (guarantee G8), and how they end. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Outcome, TurnOp } from "../../../../src/Protocol/Worker.ts"
import { complete, handles, settle, type ShopTest, suspend, waitFor } from "./Shop.ts"

/** The field `n` of the event that a wait delivered. */
const n = (outcome: Outcome | undefined): unknown =>
  outcome === undefined
    ? undefined
    : outcome._tag === "Failure"
      ? outcome.error.name
      : JSON.parse(outcome.value ?? "{}").data.n

export const waitsSuite = (test: ShopTest): void => {
  describe("waits", () => {
    test("an event that a suspended run waits for wakes it", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, waitFor("paid:0", "order.paid"), suspend("paid:0"))
      assert.deepStrictEqual(yield* shop.claim(), [])

      const { eventId } = yield* shop.emit("order.paid", { n: 1 }, { metadata: '{"m":1}', source: "webhook" })

      const [entry] = (yield* shop.claimOne()).journal
      assert(entry?.outcome._tag === "Success")
      assert.deepStrictEqual(JSON.parse(entry.outcome.value!), {
        id: eventId,
        name: "order.paid",
        version: 1,
        data: { n: 1 },
        metadata: { m: 1 },
        source: "webhook",
        timestamp: new Date(0).toISOString()
      })
    })

    test("an event wakes a run that waits for it, even if no run has waited for its name before", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.emit("order.paid", { n: 1 })
      yield* shop.emit("order.paid", { n: 2 })
      const one = yield* shop.start()
      yield* shop.report(one, waitFor("paid:0", "order.paid"), suspend("paid:0"))
      yield* shop.emit("order.paid", { n: 3 })
      yield* shop.report(yield* shop.claimOne(), complete())
      yield* shop.emit("order.paid", { n: 4 })
      const other = yield* shop.start()
      yield* shop.report(other, waitFor("any:0", "order.*"), suspend("any:0"))
      yield* shop.emit("order.paid", { n: 5 })

      const [entry] = (yield* shop.claimOne()).journal
      assert.strictEqual(n(entry?.outcome), 5)
    })

    test("an event that a live turn waits for is sent as a notice", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, waitFor("paid:0", "order.paid"))

      yield* shop.emit("order.paid", { n: 1 })

      assert.deepStrictEqual(shop.takeNotices(), ["Fired paid:0"])
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["paid:0 waiting"])
      yield* shop.report(job, settle("paid:0"))
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["paid:0 completed"])
    })

    test("an event of another name, or of another environment, satisfies no wait", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, waitFor("paid:0", "order.paid"), waitFor("any:0", "order.*"))

      yield* shop.emit("order.paid", {}, { environment: "staging" })
      yield* shop.emit("invoice.paid")

      assert.deepStrictEqual(shop.takeNotices(), [])
      assert.deepStrictEqual(
        yield* shop.report(job, waitFor("again:0", "order.paid"), waitFor("any:1", "order.*")),
        [undefined, undefined]
      )
    })

    test("a wait for a pattern accepts events that match it", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, waitFor("one:0", "order.*"), waitFor("many:0", "order.>"))

      yield* shop.emit("order.item.added")
      assert.deepStrictEqual(shop.takeNotices(), ["Fired many:0"])
      yield* shop.emit("order.paid")
      assert.deepStrictEqual(shop.takeNotices(), ["Fired one:0"])
    })

    test("a wait that times out fails with the reason, at its time", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, waitFor("paid:0", "order.paid", { timeoutMs: 1000 }), suspend("paid:0"))

      yield* shop.pass(999)
      assert.deepStrictEqual(yield* shop.claim(), [])
      yield* shop.pass(1)
      yield* shop.emit("order.paid")

      const [entry] = (yield* shop.claimOne()).journal
      assert(entry?.outcome._tag === "Failure")
      const { name, code, retryable, message } = entry.outcome.error
      assert.deepStrictEqual(
        { name, code, retryable },
        { name: "WaitTimeoutError", code: "WAIT_TIMEOUT", retryable: false }
      )
      assert.match(message, /"paid" timed out after 1000ms: no matching event "order.paid"/)
    })

    test("the timeout of a wait for a pattern names the pattern", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, waitFor("any:0", "order.*", { timeoutMs: 1000 }), suspend())
      yield* shop.pass(1000)

      const [entry] = (yield* shop.claimOne()).journal
      assert(entry?.outcome._tag === "Failure")
      assert.include(entry.outcome.error.message, '"order.*"')
    })

    test("one event wakes every run that waits for it", function* (shop) {
      yield* shop.register(handles("charge"))
      const runs = yield* Effect.forEach([1, 2, 3], () => shop.start())
      for (const job of runs) yield* shop.report(job, waitFor("paid:0", "order.paid"), suspend())

      yield* shop.emit("order.paid")

      assert.strictEqual((yield* shop.claim({ room: 10 })).length, 3)
    })
  })

  describe("matching", () => {
    const match = "data.orderId"

    test("a path must have the same value in the event as in the trigger", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", { orderId: "o-1" })
      yield* shop.report(
        job,
        waitFor("paid:0", "order.paid", { match }),
        waitFor("any:0", "order.*", { match })
      )

      yield* shop.emit("order.paid", { orderId: "o-2" })
      yield* shop.emit("order.paid", {})
      assert.deepStrictEqual(shop.takeNotices(), [])

      yield* shop.emit("order.paid", { orderId: "o-1" })
      assert.deepStrictEqual([...shop.takeNotices()].sort(), ["Fired any:0", "Fired paid:0"])
    })

    test("values at a path are compared as JSON: a number does not equal its string", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", { orderId: 1 })
      yield* shop.report(job, waitFor("paid:0", "order.paid", { match }))

      yield* shop.emit("order.paid", { orderId: "1" })
      assert.deepStrictEqual(shop.takeNotices(), [])
      yield* shop.emit("order.paid", { orderId: 1 })
      assert.deepStrictEqual(shop.takeNotices(), ["Fired paid:0"])
    })

    test("a path that the trigger does not have matches no event, absent or empty, early or late", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {})
      yield* shop.emit("order.paid", {})
      yield* shop.emit("order.paid", { orderId: "" })

      assert.deepStrictEqual(
        yield* shop.report(job, waitFor("paid:0", "order.paid", { match, timeoutMs: 1000 })),
        [undefined]
      )
      yield* shop.emit("order.paid", {})
      yield* shop.emit("order.paid", { orderId: "" })
      yield* shop.emit("order.paid", { orderId: null })
      assert.deepStrictEqual(shop.takeNotices(), [])
      yield* shop.pass(1000)
      assert.deepStrictEqual(shop.takeNotices(), ["Fired paid:0"])
    })

    test("waits with different paths and the same event name do not affect each other", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", { a: 1, b: 2, c: 3 })
      yield* shop.report(
        job,
        ...["a", "b", "c"].map((key) => waitFor(`${key}:0`, "order.paid", { match: `data.${key}` })),
        waitFor("all:0", "order.paid")
      )

      yield* shop.emit("order.paid", { a: 1, b: 1, c: 3 })

      assert.deepStrictEqual([...shop.takeNotices()].sort(), ["Fired a:0", "Fired all:0", "Fired c:0"])
    })

    test("an expression decides by the event and the trigger", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", { total: 10 })
      const enough = "event.data.amount >= trigger.data.total"
      yield* shop.report(job, waitFor("paid:0", "order.paid", { match: enough }))

      yield* shop.emit("order.paid", { amount: 9 })
      assert.deepStrictEqual(shop.takeNotices(), [])
      yield* shop.emit("order.paid", { amount: 10 })
      assert.deepStrictEqual(shop.takeNotices(), ["Fired paid:0"])
    })

    test("an expression that fails for an event does not match it, and the emit succeeds with a warning", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed")
      yield* shop.report(job, waitFor("paid:0", "order.paid", { match: "event.data.amount > 1" }))

      const { warnings } = yield* shop.emit("order.paid", {})

      assert.strictEqual(warnings.length, 1)
      assert.include(warnings[0], "paid:0")
      assert.deepStrictEqual(shop.takeNotices(), [])
    })

    test("an expression that fails for many runs is reported once, with the number of runs", function* (shop) {
      yield* shop.register(handles("charge"))
      for (let i = 0; i < 3; i++) {
        const job = yield* shop.start()
        yield* shop.report(
          job,
          waitFor("paid:0", "order.paid", { match: "event.data.amount > 5" }),
          suspend("paid:0")
        )
      }

      const { warnings } = yield* shop.emit("order.paid", {})

      assert.strictEqual(warnings.length, 1)
      assert.match(
        warnings[0] ?? "",
        /^wait "paid:0" stays open, because its `match` failed: .* \(3 waits\)$/
      )
    })

    test("the expression of a wait for a pattern is not evaluated for events of other names", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed")
      yield* shop.report(job, waitFor("paid:0", "order.*", { match: "event.data.amount > 1" }))

      assert.deepStrictEqual((yield* shop.emit("invoice.paid", {})).warnings, [])
    })

    for (const [what, wait] of [
      ["an invalid expression", (key) => waitFor(key, "order.paid", { match: "event.data.amount >" })],
      ["an expression with an unknown name", (key) => waitFor(key, "order.paid", { match: "run.id == 1" })],
      ["an invalid pattern as the event's name", (key) => waitFor(key, "order..*")]
    ] satisfies ReadonlyArray<[string, (key: string) => TurnOp]>) {
      test(`a wait with ${what} fails at once, with and without candidates, and blocks no event`, function* (shop) {
        yield* shop.register(handles("charge"))
        const job = yield* shop.start("order.placed")

        const [outcome] = yield* shop.report(job, wait("paid:0"))
        assert(outcome?._tag === "Failure")
        assert.strictEqual(outcome.error.code, "VALIDATION_ERROR")
        yield* shop.report(job, settle("paid:0"), suspend())

        assert.deepStrictEqual((yield* shop.emit("order.paid")).warnings, [])
        const again = yield* shop.claimOne()
        const [later] = yield* shop.report(again, wait("later:0"))
        assert.strictEqual(later?._tag, "Failure")
      })
    }
  })

  describe("looking back", () => {
    test("a wait sees the events after the trigger, oldest first, but not the trigger or earlier events", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.emit("order.paid", { n: 0 })
      const job = yield* shop.start("order.placed")
      yield* shop.emit("order.paid", { n: 1 })
      yield* shop.emit("order.paid", { n: 2 })

      const outcomes = yield* shop.report(
        job,
        waitFor("paid:0", "order.paid"),
        waitFor("placed:0", "order.placed")
      )

      assert.deepStrictEqual(outcomes.map(n), [1, undefined])
      assert.deepStrictEqual(
        shop.takeNotices(),
        [],
        "the answer of the report has the event, so there is no notice"
      )
    })

    test("an event found by looking back is delivered like a new one", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed")
      yield* shop.report(job, waitFor("live:0", "order.paid"))
      yield* shop.emit("order.paid", { n: 1 }, { source: "webhook", metadata: '{"m":1}', version: 2 })
      const [{ notice } = { notice: undefined }] = shop.notices

      const [back] = yield* shop.report(job, waitFor("back:0", "order.paid"))

      assert(notice?._tag === "Fired")
      assert.deepStrictEqual(back, notice.outcome)
    })

    test("the next wait of the same kind sees the next event", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed")
      for (const i of [1, 2]) yield* shop.emit("order.paid", { n: i })

      const [first, , second, , third] = yield* shop.report(
        job,
        waitFor("paid:0", "order.paid"),
        settle("paid:0"),
        waitFor("paid:1", "order.paid"),
        settle("paid:1"),
        waitFor("paid:2", "order.paid")
      )

      assert.deepStrictEqual([first, second, third].map(n), [1, 2, undefined])
      yield* shop.emit("order.paid", { n: 3 })
      assert.deepStrictEqual(shop.takeNotices(), ["Fired paid:2"])
    })

    test("an event that comes between two waits of a suspended run is not missed", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed")
      yield* shop.report(job, waitFor("paid:0", "order.paid"), suspend("paid:0"))
      for (const i of [1, 2]) yield* shop.emit("order.paid", { n: i })

      const next = yield* shop.claimOne()

      assert.strictEqual(n(next.journal[0]?.outcome), 1)
      assert.deepStrictEqual((yield* shop.report(next, waitFor("paid:1", "order.paid"))).map(n), [2])
    })

    test("an event that comes after the timeout of a wait is seen by the next one", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed")
      yield* shop.report(job, waitFor("paid:0", "order.paid", { timeoutMs: 10 }), suspend("paid:0"))
      yield* shop.pass(10)
      yield* shop.emit("order.paid", { n: 1 })
      const next = yield* shop.claimOne()

      assert.deepStrictEqual((yield* shop.report(next, waitFor("paid:1", "order.paid"))).map(n), [1])
    })

    test("waits that are open at the same time share an event", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed")
      yield* shop.report(job, waitFor("a:0", "order.paid"), waitFor("b:0", "order.paid"))

      yield* shop.emit("order.paid", { n: 1 })

      assert.deepStrictEqual([...shop.takeNotices()].sort(), ["Fired a:0", "Fired b:0"])
    })

    test("a wait with another branch, pattern or match sees the event again", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", { orderId: "o-1" })
      yield* shop.emit("order.paid", { n: 1, orderId: "o-1" })
      yield* shop.report(job, waitFor("first:0", "order.paid"), settle("first:0"))

      const outcomes = yield* shop.report(
        job,
        waitFor("same:0", "order.paid"),
        waitFor("branch:0", "order.paid", { scope: "both/0" }),
        waitFor("pattern:0", "order.*"),
        waitFor("match:0", "order.paid", { match: "data.orderId" }),
        waitFor("expression:0", "order.paid", { match: "event.data.n == 1" })
      )

      assert.deepStrictEqual(outcomes.map(n), [undefined, 1, 1, 1, 1])
    })

    test("paths and expressions also apply when looking back", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", { orderId: "o-2", total: 5 })
      for (const i of [1, 2, 3]) yield* shop.emit("order.paid", { n: i, orderId: `o-${i}`, amount: i * 2 })

      const outcomes = yield* shop.report(
        job,
        waitFor("path:0", "order.paid", { match: "data.orderId" }),
        waitFor("expression:0", "order.paid", { match: "event.data.amount > trigger.data.total" }),
        waitFor("pattern:0", "order.*", { match: "data.orderId" }),
        waitFor("broken:0", "order.paid", { match: "event.data.nothing > 1" })
      )

      assert.deepStrictEqual(outcomes.map(n), [2, 3, 2, undefined])
    })

    test("looking back reads more than one page of events", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", { orderId: "o-401" })
      yield* Effect.forEach(
        Array.from({ length: 450 }, (_, i) => i),
        (i) => shop.emit("order.paid", { n: i, orderId: `o-${i}` }),
        { concurrency: "unbounded" }
      )

      const outcomes = yield* shop.report(
        job,
        waitFor("paid:0", "order.paid", { match: "data.orderId" }),
        waitFor("any:0", "order.*", { match: "data.orderId" })
      )

      assert.deepStrictEqual(outcomes.map(n), [401, 401])
    })

    test("a wait that was withdrawn has received nothing", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed")
      yield* shop.emit("order.paid", { n: 1 })
      yield* shop.report(job, waitFor("a:0", "order.paid"), { _tag: "Withdraw", stepKey: "a:0" })

      assert.deepStrictEqual((yield* shop.report(job, waitFor("b:0", "order.paid"))).map(n), [1])
    })

    test("an invoked run looks back to its invocation", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }))
      const parent = yield* shop.start("order.placed")
      yield* shop.emit("order.paid", { n: 1 })
      yield* shop.report(
        parent,
        {
          _tag: "Invoke",
          stepKey: "ship:0",
          name: "ship",
          functionId: "ship",
          input: '{"n":2}',
          timeoutMs: 1e6
        },
        suspend()
      )
      yield* shop.emit("order.paid", { n: 2 })
      const child = yield* shop.claimOne()

      const outcomes = yield* shop.report(
        child,
        waitFor("paid:0", "order.paid"),
        waitFor("match:0", "order.paid", { match: "data.n" })
      )
      assert.deepStrictEqual(outcomes.map(n), [2, 2])
    })
  })
}
