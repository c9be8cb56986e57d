/** Topics and consumer groups: counts, delivery, acks and failures, redelivery and deletion. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import type {
  GroupDefinition,
  ListGroupsQuery,
  GroupClaim,
  NewGroup
} from "../../../../src/Engine/PubSub/GroupRecords.ts"
import { environment, type Shop, type ShopTest } from "./Shop.ts"
import * as GroupClaims from "../../../../src/Engine/PubSub/GroupClaims.ts"
import * as GroupRows from "../../../../src/Engine/PubSub/GroupRows.ts"
import * as DeliveryRows from "../../../../src/Engine/PubSub/DeliveryRows.ts"
import * as AbandonedGroups from "../../../../src/Engine/PubSub/AbandonedGroups.ts"
import * as Publish from "../../../../src/Engine/PubSub/Publish.ts"
import * as GroupInspection from "../../../../src/Engine/PubSub/GroupInspection.ts"
import * as GroupDeadLetters from "../../../../src/Engine/PubSub/GroupDeadLetters.ts"
import * as TopicRows from "../../../../src/Engine/PubSub/TopicRows.ts"

const packers: NewGroup = {
  environment,
  namespace: "default",
  name: "packers",
  pattern: "events:order.*",
  kind: "event",
  names: "order.*"
}

const claim = (shop: Shop, group: number, credits: Readonly<Record<string, number>>) =>
  shop.store.write(
    GroupClaims.claimDeliveries({
      environment,
      group,
      maxRedeliveries: 3,
      members: Object.entries(credits).map(([holder, credit]) => ({ holder, credit, ackMs: 30_000 }))
    })
  )

/** A failure after which the event is due again in `ms` milliseconds, at most three times. */
const failureDueIn = (ms: number) => ({ redelivery: { firstMs: ms, longestMs: ms, maxRedeliveries: 3 } })

const describeDeliveries = ({ deliveries }: GroupClaim) =>
  deliveries.map(({ attempt, entry, holder }) => `${holder} ${JSON.parse(entry.data).i} ${attempt}`)

const publish = (shop: Shop, topic: string, text = "") =>
  shop.store.write(Publish.appendMessage({ environment, topic, data: JSON.stringify({ text }) }))

export const groupsSuite = (test: ShopTest): void => {
  describe("consumer groups", () => {
    test("share later events, and each event is with one member at a time", function* (shop) {
      yield* shop.emit("order.placed", { i: 0 })
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      for (let i = 1; i <= 4; i++) yield* shop.emit("order.placed", { i })
      yield* shop.emit("user.created", { i: 5 })

      assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { anna: 1, ben: 2 })), [
        "anna 1 1",
        "ben 2 1",
        "ben 3 1"
      ])
      assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { anna: 9 })), ["anna 4 1"])
      assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { anna: 9 })), [])
    })

    test("never deliver an acked event again, and give a missed one to another member", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      const { position: first } = yield* shop.emit("order.placed", { i: 1 })
      yield* shop.emit("order.placed", { i: 2 })
      yield* claim(shop, key, { anna: 9 })

      assert.deepStrictEqual(
        yield* shop.store.write(
          DeliveryRows.settleDeliveries(environment, [
            { group: key, position: first, holder: "ben" },
            { group: key, position: first, holder: "anna" },
            { group: key, position: first, holder: "anna" }
          ])
        ),
        [false, true, false]
      )
      yield* TestClock.adjust(29_999)
      assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { ben: 9 })), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { ben: 9 })), ["ben 2 2"])
    })

    test("give up events that failed too often, and count no failure when a member is gone", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      const { position } = yield* shop.emit("order.placed", { i: 1 })
      yield* claim(shop, key, { anna: 1 })
      yield* shop.store.write(DeliveryRows.releaseHolder(environment, key, "anna"))
      for (let attempt = 1; attempt <= 4; attempt++) {
        assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { ben: 1 })), [`ben 1 ${attempt}`])
        yield* shop.store.write(
          DeliveryRows.settleDeliveries(environment, [
            { group: key, position, holder: "ben", failed: failureDueIn(0) }
          ])
        )
      }

      const last = yield* claim(shop, key, { ben: 1 })

      assert.deepStrictEqual([describeDeliveries(last), last.givenUp.length], [[], 1])
    })

    test("keep the newest thousand dead letters, until they are deleted", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      const choice = { environment, namespace: "default", name: "packers" }
      const positions: Array<number> = []
      for (let i = 0; i < 1002; i++) positions.push((yield* shop.emit("order.placed", { i })).position)
      yield* TestClock.adjust(1)
      for (let n = 0; n < 1002;) {
        const { deliveries } = yield* claim(shop, key, { anna: 1000 })
        n += deliveries.length
        yield* shop.store.write(
          DeliveryRows.settleDeliveries(
            environment,
            deliveries.map(({ entry: { position } }) => ({
              group: key,
              position,
              holder: "anna",
              failed: { reason: "torn" }
            }))
          )
        )
      }

      const group = yield* shop.store.read(GroupInspection.getGroup(choice))
      assert.deepInclude(group, { givenUp: 1002, deadLetters: 1000, inFlight: 0, retrying: 0 })
      const [oldest] = yield* shop.store.read(GroupDeadLetters.listDeadLetters(choice, 0, 1))
      assert.strictEqual(oldest?.position, positions[2])
      assert.deepInclude(oldest, { attempts: 1, reason: "torn", at: 1 })

      assert.strictEqual(yield* shop.store.write(GroupDeadLetters.retryDeadLetters(choice, positions[0])), 0)
      assert.strictEqual(yield* shop.store.write(GroupDeadLetters.retryDeadLetters(choice, positions[2])), 1)
      assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { ben: 1 })), ["ben 2 1"])
      yield* shop.store.write(GroupInspection.deleteGroup(choice))
      yield* shop.store.write(GroupRows.openGroup(packers))
      assert.deepInclude(yield* shop.store.read(GroupInspection.getGroup(choice)), {
        givenUp: 0,
        deadLetters: 0
      })
    })

    test("extend the deadlines of all events of a member, of all but some, or of one", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      const positions: Array<number> = []
      for (let i = 1; i <= 3; i++) positions.push((yield* shop.emit("order.placed", { i })).position)
      yield* claim(shop, key, { anna: 3 })
      const extend = (more: object) =>
        shop.store.write(
          DeliveryRows.extendDeliveries({ environment, holder: "anna", ackMs: 30_000, ...more })
        )

      yield* TestClock.adjust(20_000)
      assert.strictEqual(yield* extend({ except: [positions[2]] }), 2)
      yield* TestClock.adjust(10_000)
      assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { ben: 3 })), ["ben 3 2"])
      assert.strictEqual(yield* extend({ position: positions[0] }), 1)
      assert.strictEqual(yield* extend({ position: positions[2] }), 0)
      yield* TestClock.adjust(20_000)
      assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { ben: 3 })), ["ben 2 2"])
      assert.strictEqual(yield* extend({}), 1)
    })

    test("skip events that their filter rejects", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup({ ...packers, filter: "event.data.i > 1" }))
      for (let i = 1; i <= 3; i++) yield* shop.emit("order.placed", { i })

      assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { anna: 9 })), [
        "anna 2 1",
        "anna 3 1"
      ])
    })

    test("belong to one environment: members in another one cannot receive, keep or delete their events", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      yield* shop.emit("order.placed", { i: 1 })
      yield* shop.emit("order.placed", { i: 2 }, { environment: "staging" })
      const there = yield* shop.store.write(GroupRows.openGroup({ ...packers, environment: "staging" }))
      const claimIn = (environment: string) =>
        shop.store.write(
          GroupClaims.claimDeliveries({
            environment,
            group: key,
            maxRedeliveries: 3,
            members: [{ holder: "anna", credit: 9, ackMs: 30_000 }]
          })
        )

      assert.deepStrictEqual(describeDeliveries(yield* claimIn("staging")), [])
      assert.isUndefined(yield* shop.store.read(GroupInspection.getSetup("staging", key)))
      assert.deepStrictEqual(describeDeliveries(yield* claimIn(environment)), ["anna 1 1"])

      yield* TestClock.adjust(2000)
      yield* shop.store.write(AbandonedGroups.touchGroups("staging", [key]))
      yield* shop.store.write(AbandonedGroups.touchGroups("staging", [there.key]))
      assert.strictEqual(yield* AbandonedGroups.deleteAbandonedGroups(shop.store, 1000, 10), 1)
      assert.isDefined(yield* shop.store.read(GroupInspection.getSetup("staging", there.key)))
    })

    test("are deleted when they have been unused for long, and can then be created again", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      yield* TestClock.adjust(1000)
      yield* shop.store.write(AbandonedGroups.touchGroups(environment, [key]))
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* AbandonedGroups.deleteAbandonedGroups(shop.store, 1000, 10), 0)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* AbandonedGroups.deleteAbandonedGroups(shop.store, 1000, 10), 1)
      assert.isTrue((yield* shop.store.write(GroupRows.openGroup(packers))).isNew)
    })

    test("that do not exist are not created by a member that wants to continue", function* (shop) {
      assert.isUndefined(yield* shop.store.write(GroupRows.reopenGroup(packers)))
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))

      assert.strictEqual((yield* shop.store.write(GroupRows.reopenGroup(packers)))?.key, key)
    })
  })

  describe("managing consumer groups", () => {
    const created: GroupDefinition = { ...packers, settings: { maxInflight: 7, ackMode: "manual" } }
    const choice = { environment, namespace: "default", name: "packers" }

    test("a group is created once, at the end of the log, with its settings", function* (shop) {
      const { position } = yield* shop.emit("order.placed", { i: 0 })

      const group = yield* shop.store.write(
        GroupInspection.createGroup({
          ...created,
          filter: "event.data.i > 1",
          metadata: '{"team":"logistics"}'
        })
      )
      const again = yield* Effect.flip(shop.store.write(GroupInspection.createGroup(created)))

      assert.strictEqual(again.code, "CONSUMER_GROUP_EXISTS")
      assert.deepInclude(group, {
        name: "packers",
        filter: "event.data.i > 1",
        settings: { maxInflight: 7, ackMode: "manual" },
        metadata: '{"team":"logistics"}',
        position,
        beginning: position,
        lag: 0,
        isPaused: false,
        isConfigured: true
      })
      assert.deepStrictEqual(yield* shop.store.read(GroupInspection.getGroup(choice)), group)
      assert.deepStrictEqual(yield* shop.store.read(GroupInspection.getSetup(environment, group.key)), {
        filter: "event.data.i > 1",
        settings: { maxInflight: 7, ackMode: "manual" },
        isPaused: false,
        isConfigured: true
      })
    })

    test("the options of a member do not change the configured filter", function* (shop) {
      yield* shop.store.write(GroupInspection.createGroup({ ...created, filter: "event.data.i > 1" }))
      assert.strictEqual((yield* shop.store.write(GroupRows.openGroup(packers))).filter, "event.data.i > 1")
      yield* shop.store.write(GroupInspection.updateGroup(choice, { filter: null }))
      assert.isUndefined(
        (yield* shop.store.write(GroupRows.openGroup({ ...packers, filter: "event.data.i > 5" }))).filter
      )

      const open = { ...packers, name: "printers" }
      yield* shop.store.write(GroupRows.openGroup(open))
      assert.strictEqual(
        (yield* shop.store.write(GroupRows.openGroup({ ...open, filter: "event.data.i > 5" }))).filter,
        "event.data.i > 5"
      )
    })

    test("a group counts its waiting, held, retried and dead events", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      const positions: Array<number> = []
      for (let i = 1; i <= 5; i++) positions.push((yield* shop.emit("order.placed", { i })).position)
      yield* shop.emit("user.created", {})
      const seen = Effect.map(
        shop.store.read(GroupInspection.getGroup(choice)),
        ({ givenUp, inFlight, lag, nextRetryAt, position, retrying }) => [
          position,
          lag,
          inFlight,
          retrying,
          nextRetryAt,
          givenUp
        ]
      )
      assert.deepStrictEqual(yield* seen, [0, 5, 0, 0, undefined, 0])

      yield* claim(shop, key, { anna: 3 })
      assert.deepStrictEqual(yield* seen, [positions[2], 2, 3, 0, undefined, 0])
      yield* shop.store.write(
        DeliveryRows.settleDeliveries(environment, [
          { group: key, position: positions[0]!, holder: "anna" },
          { group: key, position: positions[1]!, holder: "anna", failed: failureDueIn(500) }
        ])
      )
      assert.deepStrictEqual(yield* seen, [positions[2], 2, 1, 1, 500, 0])

      for (let failures = 1; failures <= 3; failures++) {
        yield* TestClock.adjust(500)
        yield* claim(shop, key, { anna: 1 })
        yield* shop.store.write(
          DeliveryRows.settleDeliveries(environment, [
            { group: key, position: positions[1]!, holder: "anna", failed: failureDueIn(500) }
          ])
        )
      }
      yield* TestClock.adjust(500)
      yield* claim(shop, key, { anna: 0 })
      assert.deepStrictEqual(yield* seen, [positions[2], 2, 1, 0, undefined, 1])
    })

    test("a group knows its newest matching event, and whether the filter accepts it", function* (shop) {
      const newest = Effect.map(shop.store.read(GroupInspection.getGroup(choice)), (group) => group.newest)
      yield* shop.store.write(GroupRows.openGroup({ ...packers, filter: "event.data.i > 1" }))
      assert.isUndefined(yield* newest)
      const { position } = yield* shop.emit("order.placed", { i: 1 })
      yield* shop.emit("user.created", {})
      assert.isUndefined(yield* newest, "the newest event is still to come")
      yield* claim(shop, (yield* shop.store.read(GroupInspection.getGroup(choice))).key, { anna: 1 })

      assert.deepInclude(yield* newest, { position, name: "order.placed", passes: false })
    })

    test("a paused group delivers nothing, and continues from the same position", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      yield* shop.emit("order.placed", { i: 1 })
      yield* shop.emit("order.placed", { i: 2 })
      yield* claim(shop, key, { anna: 1 })
      yield* shop.store.write(
        GroupInspection.updateGroup(choice, { paused: { by: "ops", reason: "printer is broken" } })
      )
      const again = yield* shop.store.write(
        GroupInspection.updateGroup(choice, { paused: { by: "somebody else" } })
      )

      assert.deepStrictEqual(again.paused, { by: "ops", at: 0, reason: "printer is broken" })
      yield* TestClock.adjust(30_000)
      assert.deepStrictEqual(yield* claim(shop, key, { ben: 9 }), {
        deliveries: [],
        givenUp: [],
        silentHolders: [],
        mayFindMore: false,
        nextDueAt: Number.POSITIVE_INFINITY
      })

      const { paused } = yield* shop.store.write(GroupInspection.updateGroup(choice, { paused: null }))
      assert.isUndefined(paused)
      assert.deepStrictEqual(describeDeliveries(yield* claim(shop, key, { ben: 9 })), ["ben 1 2", "ben 2 1"])
    })

    test("events held when it is paused may be acked", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      const { position } = yield* shop.emit("order.placed", { i: 1 })
      yield* claim(shop, key, { anna: 1 })
      yield* shop.store.write(GroupInspection.updateGroup(choice, { paused: { by: "ops" } }))

      assert.deepStrictEqual(
        yield* shop.store.write(
          DeliveryRows.settleDeliveries(environment, [{ group: key, position, holder: "anna" }])
        ),
        [true]
      )
    })

    test("settings are changed one by one, and removed", function* (shop) {
      yield* shop.store.write(GroupInspection.createGroup({ ...created, metadata: "{}" }))

      const { metadata, settings } = yield* shop.store.write(
        GroupInspection.updateGroup(choice, {
          settings: { maxInflight: null, maxRedeliveries: 0 },
          metadata: null
        })
      )

      assert.deepStrictEqual([settings, metadata], [{ ackMode: "manual", maxRedeliveries: 0 }, undefined])
    })

    test("when several groups share a name, the pattern is required", function* (shop) {
      const pattern = "topic:news"
      yield* shop.store.write(GroupRows.openGroup(packers))
      yield* shop.store.write(GroupRows.openGroup({ ...packers, pattern, kind: "message", names: "news" }))
      yield* shop.store.write(GroupRows.openGroup({ ...packers, namespace: "other" }))

      const error = yield* Effect.flip(shop.store.read(GroupInspection.getGroup(choice)))
      assert.strictEqual(error.code, "CONSUMER_GROUP_AMBIGUOUS")
      assert.deepStrictEqual(error.details, { patterns: ["events:order.*", "topic:news"] })
      assert.strictEqual(
        (yield* Effect.flip(shop.store.write(GroupInspection.deleteGroup(choice)))).code,
        error.code
      )
      assert.strictEqual(
        (yield* shop.store.read(GroupInspection.getGroup({ ...choice, pattern }))).pattern,
        pattern
      )
      yield* shop.store.write(GroupInspection.deleteGroup({ ...choice, pattern }))
      assert.strictEqual((yield* shop.store.read(GroupInspection.getGroup(choice))).pattern, packers.pattern)
    })

    test("a deleted group leaves nothing behind, and its key is not reused", function* (shop) {
      const { key } = yield* shop.store.write(GroupRows.openGroup(packers))
      const { position } = yield* shop.emit("order.placed", { i: 1 })
      yield* claim(shop, key, { anna: 1 })

      yield* shop.store.write(GroupInspection.deleteGroup(choice))

      assert.isUndefined(yield* shop.store.read(GroupInspection.getSetup(environment, key)))
      assert.strictEqual(
        (yield* Effect.flip(shop.store.read(GroupInspection.getGroup(choice)))).code,
        "CONSUMER_GROUP_NOT_FOUND"
      )
      assert.deepStrictEqual(
        yield* shop.store.write(
          DeliveryRows.settleDeliveries(environment, [{ group: key, position, holder: "anna" }])
        ),
        [false]
      )
      const reopened = yield* shop.store.write(GroupRows.openGroup(packers))
      assert.isAbove(reopened.key, key)
      assert.strictEqual(reopened.cursor, position)
    })

    test("groups are listed in order of creation, by namespace, name and status, in pages", function* (shop) {
      for (const namespace of ["a", "b"]) {
        for (const name of ["packers", "printers"])
          yield* shop.store.write(GroupRows.openGroup({ ...packers, namespace, name }))
      }
      yield* shop.store.write(
        GroupInspection.updateGroup(
          { environment, namespace: "b", name: "packers" },
          { paused: { by: "ops" } }
        )
      )
      const list = (query: Partial<ListGroupsQuery>) =>
        Effect.map(
          GroupInspection.listGroups(shop.store, { environment, after: 0, limit: 10, ...query }),
          ({ groups, totalCount }) => [
            groups.map(({ name, namespace }) => `${namespace}/${name}`).join(" "),
            totalCount
          ]
        )

      assert.deepStrictEqual(yield* list({}), ["a/packers a/printers b/packers b/printers", 4])
      assert.deepStrictEqual(yield* list({ namespace: "a" }), ["a/packers a/printers", 2])
      assert.deepStrictEqual(yield* list({ name: "packers" }), ["a/packers b/packers", 2])
      assert.deepStrictEqual(yield* list({ isPaused: true }), ["b/packers", 1])
      assert.deepStrictEqual(yield* list({ isPaused: false, name: "packers" }), ["a/packers", 1])
      assert.deepStrictEqual(yield* list({ environment: "nowhere" }), ["", 0])
      const { next = 0 } = yield* GroupInspection.listGroups(shop.store, { environment, after: 0, limit: 3 })
      assert.deepStrictEqual(yield* list({ after: next }), ["b/printers", 4])
    })

    test("groups that were created, updated or paused explicitly stay when they are unused", function* (shop) {
      yield* shop.store.write(GroupInspection.createGroup(created))
      for (const name of ["updated", "paused", "resumed"])
        yield* shop.store.write(GroupRows.openGroup({ ...packers, name }))
      yield* shop.store.write(
        GroupInspection.updateGroup({ ...choice, name: "updated" }, { settings: { maxInflight: 5 } })
      )
      yield* shop.store.write(
        GroupInspection.updateGroup({ ...choice, name: "paused" }, { paused: { by: "ops" } })
      )
      yield* shop.store.write(
        GroupInspection.updateGroup({ ...choice, name: "resumed" }, { paused: { by: "ops" } })
      )
      yield* shop.store.write(GroupInspection.updateGroup({ ...choice, name: "resumed" }, { paused: null }))
      yield* TestClock.adjust(1001)

      assert.strictEqual(yield* AbandonedGroups.deleteAbandonedGroups(shop.store, 1000, 10), 1)
      assert.deepStrictEqual(
        (yield* GroupInspection.listGroups(shop.store, { environment, after: 0, limit: 10 })).groups.map(
          ({ name }) => name
        ),
        ["packers", "updated", "paused"]
      )
    })
  })

  describe("topics", () => {
    test("count their messages and the largest lag of a group", function* (shop) {
      const news = { ...packers, pattern: "topic:news", kind: "message", names: "news" } as const
      const { key } = yield* shop.store.write(GroupRows.openGroup(news))
      const first = yield* publish(shop, "news")
      yield* publish(shop, "other")
      const last = yield* publish(shop, "news")
      const lag = Effect.map(TopicRows.getTopic(shop.store, environment, "news"), (topic) => topic.lag)

      assert.deepStrictEqual(yield* TopicRows.getTopic(shop.store, environment, "news"), {
        messageCount: 2,
        firstSeq: first.sequence,
        lastSeq: last.sequence,
        lag: 2
      })
      yield* claim(shop, key, { anna: 9 })
      assert.strictEqual(yield* lag, 2)
      yield* shop.store.write(
        DeliveryRows.settleDeliveries(environment, [{ group: key, position: first.sequence, holder: "anna" }])
      )
      assert.strictEqual(yield* lag, 1)
      assert.deepStrictEqual(
        (yield* shop.store.read(TopicRows.listTopics(environment))).map(({ messageCount, name }) => [
          name,
          messageCount
        ]),
        [
          ["news", 2],
          ["other", 1]
        ]
      )
    })

    test("lose old messages in one environment after another", function* (shop) {
      const publishIn = (environment: string, topic: string) =>
        shop.store.write(Publish.appendMessage({ environment, topic, data: "{}" }))
      for (const environment of ["default", "staging", "test"]) {
        yield* publishIn(environment, "a")
        yield* publishIn(environment, "b")
      }
      yield* TestClock.adjust(1001)
      yield* publishIn("test", "b")

      const limits = { keepMs: 1000, topicBytes: 999 }
      const seen: Array<string> = []
      for (let after: Parameters<typeof TopicRows.sweepMessages>[3]; ;) {
        after = (yield* TopicRows.sweepMessages(shop.store, limits, 1, after)).after
        if (after === undefined) break
        seen.push(`${after.environment} ${after.topic ?? "-"}`)
      }

      assert.deepStrictEqual(
        [...new Set(seen.map((place) => place.split(" ")[0]))],
        ["default", "staging", "test"]
      )
      const counts = yield* Effect.forEach(["default", "staging", "test"], (environment) =>
        Effect.map(
          Effect.forEach(["a", "b"], (topic) => TopicRows.getTopic(shop.store, environment, topic)),
          (topics) => topics.map(({ messageCount }) => messageCount)
        )
      )
      assert.deepStrictEqual(counts, [
        [0, 0],
        [0, 0],
        [0, 1]
      ])
    })

    test("lose their oldest messages by age and by size, but never the newest row of the log", function* (shop) {
      for (const text of ["a", "b", "c", "d"]) yield* publish(shop, "news", text)
      const count = Effect.map(
        TopicRows.getTopic(shop.store, environment, "news"),
        ({ messageCount }) => messageCount
      )

      // {"text":"a"} has 12 bytes
      yield* shop.store.write(TopicRows.deleteOldMessages(environment, { keepMs: 1000, topicBytes: 36 }, 100))
      assert.strictEqual(yield* count, 3)
      yield* TestClock.adjust(1001)
      const { deleted } = yield* shop.store.write(
        TopicRows.deleteOldMessages(environment, { keepMs: 1000, topicBytes: 999 }, 1)
      )
      assert.strictEqual(deleted, 1)
      yield* shop.store.write(
        TopicRows.deleteOldMessages(environment, { keepMs: 1000, topicBytes: 999 }, 100)
      )
      assert.strictEqual(yield* count, 1)
    })
  })
}
