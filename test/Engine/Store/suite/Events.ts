/** Events: what they start, their idempotency keys and their environments. */
import type { IronflowError } from "../../../../src/Errors.ts"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { complete, handles, invoke, type ShopTest } from "./Shop.ts"
import * as FunctionRows from "../../../../src/Engine/Functions/FunctionRows.ts"
import * as Publish from "../../../../src/Engine/PubSub/Publish.ts"
import * as RunInspection from "../../../../src/Engine/Runs/RunInspection.ts"
import * as RunList from "../../../../src/Engine/Runs/RunList.ts"
import * as RunRows from "../../../../src/Engine/Runs/RunRows.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"

const DAY = 24 * 60 * 60 * 1000

export const eventsSuite = (test: ShopTest): void => {
  describe("events", () => {
    test("an event starts one run of each function that it matches, and of no other", function* (shop) {
      yield* shop.register(handles("charge"), handles("notify"), handles("ship", { on: ["order.paid"] }))

      const { runIds } = yield* shop.emit("order.placed", { orderId: "o-1" })

      const runs = yield* Effect.forEach(runIds, (id) => shop.run(id))
      assert.deepStrictEqual(
        runs.map(({ functionId, status, input, attempt }) => ({ functionId, status, input, attempt })),
        [
          { functionId: "charge", status: "pending", input: { orderId: "o-1" }, attempt: 1 },
          { functionId: "notify", status: "pending", input: { orderId: "o-1" }, attempt: 1 }
        ]
      )
    })

    test("an event that matches two triggers of one function starts one run", function* (shop) {
      yield* shop.register(handles("audit", { on: ["order.*", "order.placed", "order.>"] }))

      assert.strictEqual((yield* shop.emit("order.placed")).runIds.length, 1)
    })

    test("an event with a number that the database cannot represent is refused, and blocks no run", function* (shop) {
      yield* shop.register(handles("charge"))

      assert.strictEqual(
        (yield* Effect.flip(shop.emit("order.placed", {}, { version: 1e17 }))).code,
        "STORE_ERROR"
      )

      const { runIds } = yield* shop.emit("order.placed")
      assert.deepStrictEqual([(yield* shop.claimOne()).runId], runIds)
    })

    test("patterns match whole tokens", function* (shop) {
      yield* shop.register(handles("one", { on: ["order.*"] }), handles("many", { on: ["order.>"] }))
      const startedBy = (name: string) =>
        Effect.flatMap(shop.emit(name), ({ runIds }) =>
          Effect.forEach(runIds, (id) => Effect.map(shop.run(id), (run) => run.functionId))
        )

      assert.deepStrictEqual(yield* startedBy("order.placed"), ["one", "many"])
      assert.deepStrictEqual(yield* startedBy("order.item.added"), ["many"])
      assert.deepStrictEqual(yield* startedBy("order"), [])
      assert.deepStrictEqual(yield* startedBy("orders.placed"), [])
    })

    test("a trigger's expression decides by the event, and an expression that fails matches nothing and warns", function* (shop) {
      yield* shop.register(
        handles("big", { triggers: [{ event: "order.placed", expression: "event.data.amount > 100" }] })
      )

      assert.strictEqual((yield* shop.emit("order.placed", { amount: 101 })).runIds.length, 1)
      const small = yield* shop.emit("order.placed", { amount: 100 })
      assert.deepStrictEqual([small.runIds, small.warnings], [[], []])
      const without = yield* shop.emit("order.placed", {})
      assert.deepStrictEqual(without.runIds, [])
      assert.strictEqual(without.warnings.length, 1)
      assert.include(without.warnings[0], 'function "big"')
    })

    test("a function that is registered again with another trigger follows the new one", function* (shop) {
      yield* shop.register(handles("ship"))
      yield* shop.register(handles("ship", { on: ["order.paid"] }))

      assert.strictEqual((yield* shop.emit("order.placed")).runIds.length, 0)
      assert.strictEqual((yield* shop.emit("order.paid")).runIds.length, 1)
      const [ship] = yield* FunctionRows.listFunctions(shop.store, "default")
      assert.strictEqual(ship?.version, 2)
    })

    test("a function that is registered again unchanged keeps its version", function* (shop) {
      yield* shop.register(handles("ship"))
      yield* shop.register(handles("ship"))

      assert.deepStrictEqual(
        (yield* FunctionRows.listFunctions(shop.store, "default")).map(({ id, version }) => [id, version]),
        [["ship", 1]]
      )
    })

    test("nothing starts a deleted function, its runs stay, and registering it again restores it", function* (shop) {
      const nightly = handles("nightly", { triggers: [{ event: "order.placed" }, { cron: "* * * * *" }] })
      yield* shop.register(nightly, handles("ship"))
      const [runId] = (yield* shop.emit("order.placed")).runIds

      yield* shop.store.write(FunctionRows.deleteFunction("default", "nightly"))
      assert.strictEqual((yield* shop.emit("order.placed")).runIds.length, 1)
      yield* shop.pass(120_000)
      const runs = yield* RunList.listRuns(shop.store, {
        environment: "default",
        functionId: "nightly",
        limit: 10
      })
      assert.deepStrictEqual(
        runs.runs.map(({ id }) => id),
        [runId]
      )
      assert.deepStrictEqual(
        (yield* FunctionRows.listFunctions(shop.store, "default")).map(({ id }) => id),
        ["ship"]
      )
      assert.isTrue((yield* shop.situation(runId!)).functionDeleted)
      assert.strictEqual(
        (yield* Effect.flip(shop.store.write(FunctionRows.deleteFunction("default", "nightly")))).code,
        "FUNCTION_NOT_FOUND"
      )

      yield* shop.register(nightly)
      assert.strictEqual((yield* shop.emit("order.placed")).runIds.length, 2)
      assert.isFalse((yield* shop.situation(runId!)).functionDeleted)
    })

    test("a deleted function cannot be invoked", function* (shop) {
      yield* shop.register(handles("ship"), handles("invoice", { on: [] }))
      yield* shop.store.write(FunctionRows.deleteFunction("default", "invoice"))
      const job = yield* shop.start()

      const [outcome] = yield* shop.report(job, invoke("invoice:0", "invoice"))

      assert.strictEqual(outcome?._tag === "Failure" && outcome.error.code, "FUNCTION_NOT_FOUND")
    })

    test("a registration by a program that was started earlier does not replace one by a program started later", function* (shop) {
      const [before, after] = [handles("ship"), handles("ship", { on: ["order.paid"] })]
      const version = Effect.map(FunctionRows.listFunctions(shop.store, "default"), ([ship]) => ship?.version)

      assert.deepStrictEqual(
        yield* shop.store.write(FunctionRows.registerFunctions("default", [before], 1000)),
        []
      )
      assert.deepStrictEqual(
        yield* shop.store.write(FunctionRows.registerFunctions("default", [after], 2000)),
        []
      )
      // the older program reconnects
      assert.deepStrictEqual(
        yield* shop.store.write(FunctionRows.registerFunctions("default", [before], 1000)),
        ["ship"]
      )
      assert.strictEqual((yield* shop.emit("order.placed")).runIds.length, 0)
      assert.strictEqual((yield* shop.emit("order.paid")).runIds.length, 1)
      assert.strictEqual(yield* version, 2)

      // the older code is deployed again
      assert.deepStrictEqual(
        yield* shop.store.write(FunctionRows.registerFunctions("default", [before], 3000)),
        []
      )
      assert.strictEqual((yield* shop.emit("order.placed")).runIds.length, 1)
      assert.strictEqual(yield* version, 3)
    })

    test("a program that registers again keeps its registration", function* (shop) {
      const [before, after] = [handles("ship"), handles("ship", { on: ["order.paid"] })]
      yield* shop.store.write(FunctionRows.registerFunctions("default", [after], 1000))
      yield* shop.store.write(FunctionRows.registerFunctions("default", [after], 3000))

      assert.deepStrictEqual(
        yield* shop.store.write(FunctionRows.registerFunctions("default", [before], 2000)),
        ["ship"]
      )
    })

    test("the same idempotency key returns the first event and its runs and creates nothing", function* (shop) {
      yield* shop.register(handles("charge"))
      const first = yield* shop.emit("order.placed", { orderId: "o-1" }, { idempotencyKey: "o-1" })

      const again = yield* shop.emit("order.placed", { orderId: "o-1" }, { idempotencyKey: "o-1" })

      assert.deepStrictEqual(again, { ...first, duplicate: true })
      assert.strictEqual(
        (yield* RunList.listRuns(shop.store, { environment: "default", limit: 10 })).totalCount,
        1
      )
    })

    test("the same idempotency key with other data returns the first event with a warning", function* (shop) {
      const first = yield* shop.emit("order.placed", { orderId: "o-1" }, { idempotencyKey: "o-1" })

      const later = yield* shop.emit("order.placed", { orderId: "o-2" }, { idempotencyKey: "o-1" })

      assert.deepStrictEqual(later, { ...first, duplicate: true, conflicting: true })
    })

    test("an idempotency key is separate for each event name, and for each topic", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: ["order.paid"] }))
      const key = { idempotencyKey: "o-1" }
      const publish = (topic: string) =>
        shop.store.write(Publish.appendMessage({ environment: "default", topic, data: "{}", ...key }))

      const placed = yield* shop.emit("order.placed", {}, key)
      const paid = yield* shop.emit("order.paid", {}, key)
      const [news, weather] = [yield* publish("news"), yield* publish("weather")]

      assert.lengthOf(new Set([...placed.runIds, ...paid.runIds]), 2)
      assert.notStrictEqual(news.eventId, weather.eventId)
      for (const first of [placed, paid, news, weather]) assert.isFalse(first.duplicate)
      assert.deepStrictEqual(yield* shop.emit("order.paid", {}, key), { ...paid, duplicate: true })
      assert.deepStrictEqual(yield* publish("weather"), { ...weather, duplicate: true })
    })

    test("an idempotency key is separate for each webhook and event name", function* (shop) {
      const by = (webhook: string | undefined, name = "order.placed") =>
        shop.emit(name, {}, { idempotencyKey: "1001", ...(webhook === undefined ? {} : { webhook }) })

      const first = [
        yield* by("stripe"),
        yield* by("github"),
        yield* by(undefined),
        yield* by("stripe", "order.paid")
      ]

      assert.lengthOf(new Set(first.map(({ eventId }) => eventId)), 4)
      assert.deepStrictEqual(yield* by("stripe"), { ...first[0], duplicate: true })
      assert.deepStrictEqual(yield* by("stripe", "order.paid"), { ...first[3], duplicate: true })
    })

    test("an idempotency key is forgotten after 24 hours, and not before", function* (shop) {
      const first = yield* shop.emit("order.placed", {}, { idempotencyKey: "o-1" })

      yield* shop.pass(DAY - 1)
      assert.strictEqual((yield* shop.emit("order.placed", {}, { idempotencyKey: "o-1" })).duplicate, true)
      // even before the sweep
      yield* TestClock.adjust(1)
      const later = yield* shop.emit("order.placed", {}, { idempotencyKey: "o-1" })
      assert.deepStrictEqual([later.duplicate, later.eventId === first.eventId], [false, false])
    })

    test("environments and operations have separate idempotency keys", function* (shop) {
      yield* shop.emit("order.placed", {}, { idempotencyKey: "k" })

      const message = { environment: "default", topic: "order.placed", data: "{}", idempotencyKey: "k" }
      const published = yield* shop.store.write(Publish.appendMessage(message))
      const elsewhere = yield* shop.emit("order.placed", {}, { idempotencyKey: "k", environment: "staging" })
      const publishedAgain = yield* shop.store.write(Publish.appendMessage({ ...message, data: "1" }))

      assert.deepStrictEqual([published.duplicate, elsewhere.duplicate], [false, false])
      assert.deepStrictEqual(publishedAgain, { ...published, duplicate: true, conflicting: true })
    })

    test("events and messages share one growing log", function* (shop) {
      const a = yield* shop.emit("order.placed")
      const b = yield* shop.store.write(
        Publish.appendMessage({ environment: "default", topic: "orders", data: "1" })
      )
      const c = yield* shop.emit("order.placed")

      assert.isBelow(a.position, b.sequence)
      assert.isBelow(b.sequence, c.position)
      assert.match(a.eventId, /^evt_/)
      assert.match(b.eventId, /^msg_/)
    })

    test("a message starts no function and satisfies no wait", function* (shop) {
      yield* shop.register(handles("charge"))

      yield* shop.store.write(
        Publish.appendMessage({ environment: "default", topic: "order.placed", data: "{}" })
      )

      assert.deepStrictEqual(yield* shop.claim({ room: 10 }), [])
    })

    test("environments share nothing", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.store.write(
        FunctionRows.registerFunctions("staging", [handles("charge", { on: ["order.placed"] })])
      )
      const here = yield* shop.emit("order.placed", { where: "here" })
      const there = yield* shop.emit("order.placed", { where: "there" }, { environment: "staging" })

      const missed = yield* Effect.flip(shop.store.read(RunRows.getRun("default", there.runIds[0]!)))
      assert.strictEqual(missed.code, "RUN_NOT_FOUND")
      const attempts: ReadonlyArray<Effect.Effect<unknown, IronflowError>> = [
        RunInspection.getRunSteps(shop.store, "staging", here.runIds[0]!),
        shop.store.read(RunInspection.getSituation("staging", here.runIds[0]!)),
        shop.store.write(RunControl.cancelRun("staging", here.runIds[0]!, "")),
        shop.store.write(RunControl.pauseRun("staging", here.runIds[0]!, "")),
        shop.store.write(RunControl.resumeRun("staging", here.runIds[0]!)),
        shop.store.write(RunControl.retryRun("staging", here.runIds[0]!)),
        shop.store.write(RunControl.patchStep("staging", `${here.runIds[0]}:charge:0`, "1", "")),
        shop.store.read(RunRows.getRun("nowhere", here.runIds[0]!))
      ]
      for (const attempt of attempts) {
        assert.strictEqual((yield* Effect.flip(attempt)).code, "RUN_NOT_FOUND")
      }
      const job = yield* shop.claimOne({ environment: "staging" })
      assert.deepStrictEqual([job.runId, job.environment], [there.runIds[0], "staging"])
      const page = yield* RunList.listRuns(shop.store, { environment: "default", limit: 10 })
      assert.deepStrictEqual(
        page.runs.map(({ id }) => id),
        here.runIds
      )
    })

    test("listeners are notified of started runs once, before the caller continues", function* (shop) {
      yield* shop.register(handles("charge"))
      let heard = 0
      const stop = shop.store.onCommit(({ ready }) => void (ready && heard++))

      yield* shop.emit("order.placed")
      assert.strictEqual(heard, 1)
      stop()
      yield* shop.emit("order.placed")
      assert.strictEqual(heard, 1)
    })

    test("listeners are notified of the end of a run", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, complete())

      assert.deepStrictEqual(shop.ended, [job.runId])
    })
  })
}
