import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FunctionRows from "../../../../src/Engine/Functions/FunctionRows.ts"
import { checkFilters } from "../../../../src/Engine/Runs/CheckFilters.ts"
import { countMatchingRuns } from "../../../../src/Engine/Runs/RunCounts.ts"
import * as RunRetention from "../../../../src/Engine/Runs/RunRetention.ts"
import { searchMatchingRuns } from "../../../../src/Engine/Runs/RunSearch.ts"
import * as SearchAttributes from "../../../../src/Engine/Runs/SearchAttributes.ts"
import type { RunFilters } from "../../../../src/RunFilters.ts"
import * as TestClock from "effect/testing/TestClock"
import { complete, fail, handles, type Shop, type ShopTest } from "./Shop.ts"

const find = (shop: Shop, filters: RunFilters, options: { limit?: number; cursor?: string } = {}) =>
  searchMatchingRuns(
    shop.store,
    { environment: "default", filters: checkFilters(filters), limit: 100, ...options },
    undefined
  )
const findIds = (shop: Shop, filters: RunFilters) =>
  Effect.map(find(shop, filters), ({ runs }) => runs.map(({ id }) => id))

const fillAll = (shop: Shop): Effect.Effect<number, unknown> =>
  Effect.flatMap(shop.store.write(SearchAttributes.fillAttributes()), (isMore) =>
    isMore ? Effect.map(fillAll(shop), (count) => count + 1) : Effect.succeed(0)
  )

const orderId = (id: string): RunFilters => ({ attributes: { "event.data.orderId": id } })
const searchBy = ["event.data.orderId"]

export const findingSuite = (test: ShopTest): void => {
  describe("finding runs", () => {
    test("a run is found by its attributes as soon as it exists", function* (shop) {
      yield* shop.register(handles("charge", { searchBy }))
      yield* fillAll(shop)
      const { runIds } = yield* shop.emit("order.placed", { orderId: "o-1" })
      yield* shop.emit("order.placed", { orderId: "o-2" })
      yield* shop.emit("order.placed", { orderId: { id: "o-1" } })
      yield* shop.emit("order.placed", { orderId: "x".repeat(257) })
      yield* shop.emit("order.placed", null)

      assert.deepStrictEqual(yield* findIds(shop, orderId("o-1")), runIds)
      assert.deepStrictEqual(yield* findIds(shop, orderId("[object Object]")), [])
    })

    test("runs are counted for all filters and all groupings", function* (shop) {
      yield* shop.register(handles("charge", { searchBy }))
      yield* fillAll(shop)
      yield* shop.report(yield* shop.start("order.placed", { orderId: "o-1" }), fail("card 12 is declined"))
      yield* shop.register(handles("charge", { searchBy }), handles("ship"))
      yield* shop.emit("order.placed", { orderId: 17 }, { idempotencyKey: "k-1" })
      yield* TestClock.adjust("2 days")
      yield* shop.emit("order.placed", { orderId: "o-1" })

      const ways: ReadonlyArray<readonly [RunFilters, ReadonlyArray<string>]> = [
        [{}, ["charge", "ship"]],
        [{ functionId: "charge" }, ["charge"]],
        [{ status: ["failed", "cancelled"] }, ["charge", "ship"]],
        [{ status: ["pending", "running"] }, ["charge", "ship"]],
        [{ eventName: "order.placed" }, ["charge", "ship"]],
        [{ idempotencyKey: "k-1" }, ["charge", "ship"]],
        [{ entityId: "none" }, []],
        [{ error: "declined" }, ["charge", "ship"]],
        [{ attributes: { "event.data.orderId": "o-1" } }, ["charge"]]
      ]
      for (const [filters, functions] of ways) {
        // the statement of a grouping does not depend on the filters, so that each grouping is tried only without
        // filters
        const all = ["status", "function", "error", "event", "version", "hour", "day", "event.data.orderId"]
        for (const by of Object.keys(filters).length === 0 ? all : ["function", "event.data.orderId"]) {
          const query = {
            environment: "default",
            filters: checkFilters(filters),
            by,
            durations: true,
            timeLimit: 10_000
          }
          const counts = yield* countMatchingRuns(shop.store, query, undefined)
          // the same counts, made by reading each run
          const fullAccess = { canSeeRun: () => true, canSeeInput: () => true }
          assert.deepStrictEqual(
            yield* countMatchingRuns(shop.store, query, fullAccess),
            counts,
            JSON.stringify([filters, by])
          )
          if (by !== "function") continue
          const { runs } = yield* find(shop, filters)
          assert.strictEqual(counts.count, runs.length)
          for (const { value } of counts.groups) assert.include(functions, value)
        }
      }
    })

    test("a number is found by its decimal text", function* (shop) {
      yield* shop.register(handles("charge", { searchBy }))
      const { runIds } = yield* shop.emit("order.placed", { orderId: 17 })

      assert.deepStrictEqual(yield* findIds(shop, { attributes: { "event.data.orderId": 17 } }), runIds)
      assert.deepStrictEqual(yield* findIds(shop, orderId("17")), runIds)
    })

    test("attributes of earlier runs are filled in, slice after slice, and the list says how far back", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship"))
      const ids: Array<string> = []
      for (let i = 0; i < 450; i++) {
        const { runIds } = yield* shop.emit("order.placed", { orderId: `o-${i % 45}` })
        ids.push(...runIds.slice(0, 1))
        yield* TestClock.adjust(1)
      }
      yield* shop.register(handles("charge", { searchBy }))

      const before = yield* find(shop, orderId("o-7"))
      assert.deepStrictEqual(before.runs, [])
      assert.isString(before.filledBackTo)
      yield* shop.store.write(SearchAttributes.fillAttributes())
      const partial = yield* find(shop, orderId("o-7"))
      assert.isAbove(partial.runs.length, 0)
      assert.isBelow(partial.runs.length, 10)
      // every listed run is in the part that is already filled in
      assert.isTrue(partial.runs.every(({ createdAt }) => createdAt >= partial.filledBackTo!))
      assert.isAbove(yield* fillAll(shop), 1)

      const after = yield* find(shop, orderId("o-7"))
      assert.notProperty(after, "filledBackTo")
      assert.deepStrictEqual(
        after.runs.map(({ id }) => id),
        ids.filter((_, i) => i % 45 === 7).toReversed()
      )
      assert.isFalse(yield* shop.store.read(SearchAttributes.isFillingNeeded()))
    })

    test("runs of the transaction that registers the path are found as well", function* (shop) {
      yield* shop.register(handles("charge"))
      const [, { runIds }] = yield* Effect.all(
        [
          shop.store.write(FunctionRows.registerFunctions("default", [handles("charge", { searchBy })])),
          shop.emit("order.placed", { orderId: "o-1" })
        ],
        { concurrency: "unbounded" }
      )
      yield* fillAll(shop)

      assert.deepStrictEqual(yield* findIds(shop, orderId("o-1")), runIds)
    })

    test("a path that no function names any more is refused and its values deleted; they are filled in when it is named again", function* (shop) {
      yield* shop.register(handles("charge", { searchBy }))
      const { runIds } = yield* shop.emit("order.placed", { orderId: "o-1" })
      yield* fillAll(shop)
      yield* shop.register(handles("charge"))
      const refusal = yield* Effect.flip(find(shop, orderId("o-1")))
      assert.match(refusal.message, /runs cannot be found by "event\.data\.orderId": no function/)
      const { runIds: later } = yield* shop.emit("order.placed", { orderId: "o-1" })
      yield* fillAll(shop)
      yield* shop.register(handles("charge", { searchBy }))
      assert.deepStrictEqual(yield* findIds(shop, orderId("o-1")), [])
      yield* fillAll(shop)

      assert.deepStrictEqual(yield* findIds(shop, orderId("o-1")), [...later, ...runIds])
    })

    test("a deleted run loses its attributes", function* (shop) {
      yield* shop.register(handles("charge", { searchBy }))
      yield* shop.report(yield* shop.start("order.placed", { orderId: "o-1" }), complete())
      const { runIds } = yield* shop.emit("order.placed", { orderId: "o-1" })
      yield* TestClock.adjust("1 hour")
      yield* shop.store.write(RunRetention.deleteEndedRuns(1000, 10, undefined))

      assert.deepStrictEqual(yield* findIds(shop, orderId("o-1")), runIds)
    })

    test("pages stay stable while new runs are added, and count the earlier runs", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship"))
      const ids: Array<string> = []
      for (let i = 0; i < 6; i++)
        ids.unshift(...(yield* shop.emit("order.placed", { i })).runIds.toReversed())
      const filters = { eventName: "order.placed" }

      const first = yield* find(shop, filters, { limit: 5 })
      yield* shop.emit("order.placed")
      const second = yield* find(shop, filters, { limit: 5, cursor: first.nextCursor! })
      yield* shop.emit("order.placed")
      const third = yield* find(shop, filters, { limit: 5, cursor: second.nextCursor! })

      assert.deepStrictEqual(
        [first, second, third].flatMap(({ runs }) => runs.map(({ id }) => id)),
        ids
      )
      assert.deepStrictEqual(
        [first, second, third].map(({ isTotalExact, totalCount }) => [totalCount, isTotalExact]),
        [
          [5, false],
          [10, false],
          [12, true]
        ]
      )
    })

    test("a page whose time is up says how far it has looked, and the next one continues there", function* (shop) {
      yield* shop.register(handles("charge"))
      const { runIds } = yield* shop.emit("order.placed", { amount: 500 })
      for (let i = 0; i < 600; i++) {
        yield* TestClock.adjust(1000)
        yield* shop.emit("order.placed", { amount: i % 100 })
      }
      // on this clock each reading is one second after the last
      let now = 0
      const slow = { ...(yield* Clock.Clock), currentTimeMillis: Effect.sync(() => (now += 1000)) }
      const page = (cursor?: string) =>
        find(shop, { where: "event.data.amount == 500" }, cursor === undefined ? {} : { cursor }).pipe(
          Effect.provideService(Clock.Clock, slow)
        )

      const lookedBackTimes: Array<string> = []
      let last = yield* page()
      while (last.nextCursor !== undefined) {
        assert.deepStrictEqual(last.runs, [])
        assert.isFalse(last.isTotalExact)
        lookedBackTimes.push(last.lookedBackTo!)
        last = yield* page(last.nextCursor)
      }

      assert.deepStrictEqual(
        last.runs.map(({ id }) => id),
        runIds
      )
      assert.notProperty(last, "lookedBackTo")
      assert.isAtLeast(lookedBackTimes.length, 2)
      assert.deepStrictEqual(lookedBackTimes, lookedBackTimes.toSorted().toReversed())
      assert.strictEqual(new Set(lookedBackTimes).size, lookedBackTimes.length)
    })

    test("failed runs are found by their errors", function* (shop) {
      yield* shop.register(handles("charge"))
      const failed: Array<string> = []
      for (const message of ["card declined", "no such card", "Card DECLINED by bank"]) {
        const job = yield* shop.start()
        yield* shop.report(job, fail(message))
        failed.unshift(job.runId)
      }
      yield* shop.report(yield* shop.start("order.placed", { note: "card declined" }), complete())

      assert.deepStrictEqual(yield* findIds(shop, { error: "Declined" }), [failed[0], failed[2]])
      assert.deepStrictEqual(yield* findIds(shop, { error: "card" }), failed)
      assert.deepStrictEqual(yield* findIds(shop, { error: "%" }), [])
    })
  })
}
