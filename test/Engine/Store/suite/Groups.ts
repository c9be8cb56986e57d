/** Topics and consumer groups: what is counted, handed out, settled, handed out again and deleted. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import type { GroupClaim, NewGroup } from "../../../../src/Engine/Store/Store.ts"
import { environment, type Shop, type ShopTest } from "./Shop.ts"

const packers: NewGroup = {
  environment,
  namespace: "default",
  name: "packers",
  pattern: "events:order.*",
  kind: "event",
  names: "order.*"
}

const claim = (shop: Shop, group: number, credits: Readonly<Record<string, number>>) =>
  shop.store.claimDeliveries({
    group,
    maxRedeliveries: 3,
    members: Object.entries(credits).map(([holder, credit]) => ({ holder, credit, ackMs: 30_000 }))
  })

const held = ({ deliveries }: GroupClaim) =>
  deliveries.map(({ attempt, entry, holder }) => `${holder} ${JSON.parse(entry.data).i} ${attempt}`)

const publish = (shop: Shop, topic: string, text = "") =>
  shop.store.appendMessage({ environment, topic, data: JSON.stringify({ text }) })

export const groupsSuite = (test: ShopTest): void => {
  describe("consumer groups", () => {
    test("share what follows their beginning, each event with one holder", function* (shop) {
      yield* shop.emit("order.placed", { i: 0 })
      const { key } = yield* shop.store.openGroup(packers)
      for (let i = 1; i <= 4; i++) yield* shop.emit("order.placed", { i })
      yield* shop.emit("user.created", { i: 5 })

      assert.deepStrictEqual(held(yield* claim(shop, key, { anna: 1, ben: 2 })), [
        "anna 1 1",
        "ben 2 1",
        "ben 3 1"
      ])
      assert.deepStrictEqual(held(yield* claim(shop, key, { anna: 9 })), ["anna 4 1"])
      assert.deepStrictEqual(held(yield* claim(shop, key, { anna: 9 })), [])
    })

    test("keep an acked event from coming again, and give a missed one to somebody", function* (shop) {
      const { key } = yield* shop.store.openGroup(packers)
      const { position: first } = yield* shop.emit("order.placed", { i: 1 })
      yield* shop.emit("order.placed", { i: 2 })
      yield* claim(shop, key, { anna: 9 })

      assert.deepStrictEqual(
        yield* shop.store.settleDeliveries([
          { group: key, position: first, holder: "ben" },
          { group: key, position: first, holder: "anna" },
          { group: key, position: first, holder: "anna" }
        ]),
        [false, true, false]
      )
      yield* TestClock.adjust(29_999)
      assert.deepStrictEqual(held(yield* claim(shop, key, { ben: 9 })), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(held(yield* claim(shop, key, { ben: 9 })), ["ben 2 2"])
    })

    test("give up what has failed too often, and count no failure for a holder that is gone", function* (shop) {
      const { key } = yield* shop.store.openGroup(packers)
      const { position } = yield* shop.emit("order.placed", { i: 1 })
      yield* claim(shop, key, { anna: 1 })
      yield* shop.store.releaseHolder("anna")
      for (let attempt = 1; attempt <= 4; attempt++) {
        assert.deepStrictEqual(held(yield* claim(shop, key, { ben: 1 })), [`ben 1 ${attempt}`])
        yield* shop.store.settleDeliveries([{ group: key, position, holder: "ben", redeliverMs: 0 }])
      }

      const last = yield* claim(shop, key, { ben: 1 })

      assert.deepStrictEqual([held(last), last.exhausted.length], [[], 1])
    })

    test("pass over what their filter leaves out", function* (shop) {
      const { key } = yield* shop.store.openGroup({ ...packers, filter: "event.data.i > 1" })
      for (let i = 1; i <= 3; i++) yield* shop.emit("order.placed", { i })

      assert.deepStrictEqual(held(yield* claim(shop, key, { anna: 9 })), ["anna 2 1", "anna 3 1"])
    })

    test("are deleted when nobody has used them for long, and then begin anew", function* (shop) {
      const { key } = yield* shop.store.openGroup(packers)
      yield* TestClock.adjust(1000)
      yield* shop.store.touchGroups([key])
      assert.strictEqual(yield* shop.store.deleteAbandonedGroups(1000, 10), 0)
      assert.strictEqual(yield* shop.store.deleteAbandonedGroups(1001, 10), 1)
      assert.isTrue((yield* shop.store.openGroup(packers)).isNew)
    })
  })

  describe("topics", () => {
    test("know their messages and the lag of the group furthest behind", function* (shop) {
      const news = { ...packers, pattern: "topic:news", kind: "message", names: "news" } as const
      const { key } = yield* shop.store.openGroup(news)
      const first = yield* publish(shop, "news")
      yield* publish(shop, "other")
      const last = yield* publish(shop, "news")
      const lag = Effect.map(shop.store.getTopic(environment, "news"), (topic) => topic.lag)

      assert.deepStrictEqual(yield* shop.store.getTopic(environment, "news"), {
        messageCount: 2,
        firstSeq: first.sequence,
        lastSeq: last.sequence,
        lag: 2
      })
      yield* claim(shop, key, { anna: 9 })
      assert.strictEqual(yield* lag, 2)
      yield* shop.store.settleDeliveries([{ group: key, position: first.sequence, holder: "anna" }])
      assert.strictEqual(yield* lag, 1)
      assert.deepStrictEqual(
        (yield* shop.store.listTopics(environment)).map(({ messageCount, name }) => [name, messageCount]),
        [
          ["news", 2],
          ["other", 1]
        ]
      )
    })

    test("lose their oldest messages by age and by size, but never the newest row of the log", function* (shop) {
      for (const text of ["a", "b", "c", "d"]) yield* publish(shop, "news", text)
      const count = Effect.map(shop.store.getTopic(environment, "news"), ({ messageCount }) => messageCount)

      // {"text":"a"} has 12 bytes
      yield* shop.store.deleteOldMessages({ storedBefore: 0, topicBytes: 36 }, 100)
      assert.strictEqual(yield* count, 3)
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* shop.store.deleteOldMessages({ storedBefore: 1000, topicBytes: 999 }, 1), 1)
      yield* shop.store.deleteOldMessages({ storedBefore: 1000, topicBytes: 999 }, 100)
      assert.strictEqual(yield* count, 1)
    })
  })
}
