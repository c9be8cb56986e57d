/** Finding events in the log by their fields, page by page, from either end. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Append from "../../../../src/Engine/Events/Append.ts"
import * as EventSearch from "../../../../src/Engine/Log/EventSearch.ts"
import type { EventQuery, FoundEvent } from "../../../../src/Engine/Log/LogRecords.ts"
import * as Publish from "../../../../src/Engine/PubSub/Publish.ts"
import * as StreamRows from "../../../../src/Engine/Streams/StreamRows.ts"
import { matchesPattern } from "../../../../src/Pattern.ts"
import { environment, type Shop, type ShopTest } from "./Shop.ts"

/** Reads all pages. */
const listAll = (shop: Shop, query: Partial<EventQuery>, limit: number) =>
  Effect.gen(function* () {
    const found: Array<FoundEvent> = []
    for (let cursor: number | undefined; ;) {
      const page = yield* EventSearch.listEvents(shop.store, {
        environment,
        order: "newest",
        ...query,
        limit,
        ...(cursor === undefined ? {} : { cursor })
      })
      assert.isAtMost(page.events.length, limit)
      found.push(...page.events)
      if (page.next === undefined) return found
      assert.notStrictEqual(page.next, cursor)
      cursor = page.next
    }
  })

/** Fills a log in which similar events are far apart. */
const fill = (shop: Shop) =>
  Effect.gen(function* () {
    for (let i = 0; i < 90; i++) {
      yield* TestClock.adjust("1 minute")
      yield* shop.store.write(
        Append.appendEvent({
          environment: i % 7 === 0 ? "staging" : environment,
          name: ["order.placed", "order.paid", "cart.filled", "order.item.added"][i % 4]!,
          version: 1,
          data: JSON.stringify({ i }),
          ...(i % 5 === 0 ? { idempotencyKey: `key-${i % 3}` } : {})
        })
      )
      if (i % 3 === 0) {
        yield* shop.store.write(
          StreamRows.appendToStream(i % 2 === 0 ? environment : "staging", {
            entityId: `o-${i % 4}`,
            entityType: i % 4 === 0 ? "order" : "cart",
            events: [
              { name: "order.placed", version: 1, data: "{}" },
              { name: "order.paid", version: 1, data: "{}" }
            ],
            ...(i % 9 === 0 ? { idempotencyKey: `append-${i}` } : {})
          })
        )
      }
      if (i % 10 === 0) {
        yield* shop.store.write(
          Publish.appendMessage({ environment, topic: "order.placed", data: "{}", idempotencyKey: "key-0" })
        )
      }
    }
  })

const fits = (event: FoundEvent, query: Partial<EventQuery>): boolean =>
  (query.name === undefined || matchesPattern(query.name, event.name)) &&
  (query.entityId === undefined || event.entity?.id === query.entityId) &&
  (query.entityType === undefined || event.entity?.type === query.entityType) &&
  (query.idempotencyKey === undefined || event.idempotencyKey === query.idempotencyKey) &&
  (query.since === undefined || event.timestamp >= query.since) &&
  (query.until === undefined || event.timestamp < query.until) &&
  (query.after === undefined || event.position > query.after)

export const eventSearchSuite = (test: ShopTest, isWhole: boolean): void => {
  describe("finding events", () => {
    test("returns matching events, each once, from either end and in pages of any length", function* (shop) {
      yield* fill(shop)
      const all = yield* listAll(shop, {}, 1000)
      assert.isAbove(all.length, 90)
      const middle = all[40]!
      const [since, until] = [all[60]!.timestamp, all[20]!.timestamp]

      const queries: ReadonlyArray<Partial<EventQuery>> = [
        {},
        { name: "order.placed" },
        { name: "order.*" },
        { name: "order.>" },
        { name: "shipment.*" },
        { entityId: "o-0" },
        { entityId: "o-2", name: "order.paid" },
        { entityId: "nobody" },
        { entityType: "cart" },
        { entityType: "order", entityId: "o-2" },
        { idempotencyKey: "key-0" },
        { idempotencyKey: "key-1", name: "order.*" },
        { idempotencyKey: "append-18" },
        { since },
        { until },
        { since, until },
        { since, until, name: "order.paid" },
        { since, until, entityId: "o-0" },
        { since, until, idempotencyKey: "key-2" },
        { since: until, until: since },
        { after: middle.position },
        { after: middle.position, entityId: "o-2", until }
      ]
      for (const query of queries) {
        const expected = all.filter((event) => fits(event, query))
        for (const limit of isWhole ? [1, 7, 1000] : [7]) {
          const label = `${JSON.stringify(query)} by ${limit}`
          assert.deepStrictEqual(yield* listAll(shop, query, limit), expected, label)
          assert.deepStrictEqual(
            yield* listAll(shop, { ...query, order: "oldest" }, limit),
            expected.toReversed(),
            `${label}, oldest first`
          )
        }
      }
      assert.deepStrictEqual(yield* listAll(shop, { environment: "unknown" }, 10), [])
    })

    test("keeps the pages stable while new events come", function* (shop) {
      for (let i = 0; i < 6; i++) yield* shop.emit("order.placed", { i })
      const query: EventQuery = { environment, order: "newest", limit: 3 }
      const first = yield* EventSearch.listEvents(shop.store, query)
      for (let i = 6; i < 9; i++) yield* shop.emit("order.placed", { i })
      const second = yield* EventSearch.listEvents(shop.store, { ...query, cursor: first.next! })

      assert.deepStrictEqual(
        [...first.events, ...second.events].map(({ data }) => JSON.parse(data).i),
        [5, 4, 3, 2, 1, 0]
      )
      assert.notProperty(second, "next")
    })

    test("ends a page after 10,000 rows without a match, and says how far it has looked", function* (shop) {
      yield* shop.emit("order.placed")
      for (let i = 0; i < 11; i++) {
        yield* shop.store.write(
          Append.appendEvents(
            Array.from({ length: 1000 }, () => ({ environment, name: "page.seen", version: 1, data: "{}" }))
          )
        )
      }
      const query: EventQuery = { environment, order: "newest", name: "*.placed", limit: 5 }
      const first = yield* EventSearch.listEvents(shop.store, query)
      assert.deepStrictEqual(first.events, [])
      assert.strictEqual(first.next, 1002)
      assert.strictEqual(first.lookedTo?.position, 1002)
      const second = yield* EventSearch.listEvents(shop.store, { ...query, cursor: first.next! })
      assert.lengthOf(second.events, 1)

      // with a whole name the search uses an index
      const named = yield* EventSearch.listEvents(shop.store, { ...query, name: "order.placed" })
      assert.deepStrictEqual(named.events, second.events)
    })

    test("finds events by id, in their environment", function* (shop) {
      yield* fill(shop)
      const all = yield* listAll(shop, {}, 1000)
      for (const event of all) {
        assert.deepStrictEqual(
          yield* shop.store.read(EventSearch.getEvent(environment, event.id)),
          event,
          event.id
        )
      }
      const [{ id }] = all as [FoundEvent]
      for (const [name, given] of [
        ["staging", id],
        [environment, `msg_${id.slice(4)}`],
        [environment, "evt_"],
        [environment, "evt_zzzz"],
        [environment, ""]
      ] as const) {
        assert.isUndefined(yield* shop.store.read(EventSearch.getEvent(name, given)), given)
      }
      const staged = yield* listAll(shop, { environment: "staging" }, 1000)
      assert.isUndefined(yield* shop.store.read(EventSearch.getEvent(environment, staged[0]!.id)))
    })
  })
}
