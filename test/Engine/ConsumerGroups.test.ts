/** Managing consumer groups with connected members. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { Client } from "../../src/Client/Client.ts"
import { type ConsumerGroupConfig, ConsumerGroups } from "../../src/Client/ConsumerGroups.ts"
import { Subscriptions } from "../../src/Client/Subscriptions.ts"
import * as Engine from "../../src/Engine/Engine.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import type { SubscribeOptions, Wire } from "../../src/Protocol/Subscriptions.ts"
import { untilQuiet } from "./Quiet.ts"

const live = Engine.layerClientIn("default").pipe(
  Layer.provideMerge(Engine.layer),
  Layer.provide(SqliteStore.layer({ filename: ":memory:" }))
)

/** Lets messages over a connection in this process arrive, which they do in later turns of the event loop. */
const turns = Effect.promise(async () => {
  await untilQuiet()
})

// oxlint-disable-next-line typescript/no-explicit-any -- the tests read fields of the frames
type Frame = any

/** A client that sends its own frames, and keeps those that it receives. */
class Member {
  readonly frames: Array<Frame> = []
  readonly wire: Wire & { backlog: number } = {
    backlog: 0,
    send: (frame) => void this.frames.push(JSON.parse(Buffer.from(frame).toString())),
    close: () => undefined,
    pause: () => undefined,
    resume: () => undefined,
    onText: () => undefined,
    onClose: () => undefined,
    onDrain: () => undefined
  }

  constructor(engine: Engine.EngineService) {
    engine.subscriptions.connect("default", this.wire)
  }

  say(message: object): void {
    this.wire.onText(JSON.stringify(message))
  }

  of(type: string): Array<Frame> {
    return this.frames.filter((frame) => frame.type === type)
  }

  get seen(): Array<number> {
    return this.of("event").map(({ data }) => data.i)
  }
}

const join = (options: SubscribeOptions = {}, { pattern = "topic:news", resume }: Frame = {}) =>
  Effect.gen(function* () {
    const member = new Member(yield* Engine.Engine)
    member.say({
      type: "subscribe",
      subscription: {
        pattern,
        options: { consumerGroup: "printers", ackMode: "manual", ...options },
        ...(resume === undefined ? {} : { resume })
      }
    })
    yield* turns
    return member
  })

const publish = (...numbers: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const client = yield* Client
    for (const i of numbers) yield* client.publish("news", { i })
    yield* turns
  })

const news: ConsumerGroupConfig = { name: "printers", pattern: "topic:news" }

it.effect("a group shows its members, and explains why it receives nothing", () =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    yield* publish(0)
    const reason = Effect.map(groups.get("printers"), ({ message }) => message)
    const created = yield* groups.create({ ...news, metadata: { team: "media" }, maxInflight: 2 })
    assert.deepStrictEqual(created, {
      id: created.id,
      namespace: "default",
      name: "printers",
      pattern: "topic:news",
      status: "active",
      message:
        'No member is connected; 0 events wait. The newest event that matches "topic:news" is news at position 1. The group gets no event up to position 1, where it began.',
      position: 1,
      lag: 0,
      inFlight: 0,
      retrying: 0,
      givenUp: 0,
      deadLetters: 0,
      memberCount: 0,
      members: [],
      ackMode: "auto",
      backpressure: "buffer",
      buffer: {},
      maxInflight: 2,
      maxRedeliveries: 10,
      redeliverDelayMs: 5000,
      metadata: { team: "media" },
      createdAt: "1970-01-01T00:00:00.000Z",
      updatedAt: "1970-01-01T00:00:00.000Z",
      usedAt: "1970-01-01T00:00:00.000Z"
    })

    yield* publish(1)
    assert.strictEqual(yield* reason, "No member is connected; 1 event waits.")

    const member = yield* join()
    yield* publish(2, 3)
    assert.deepStrictEqual(member.seen, [1, 2])
    const group = yield* groups.get("printers")
    assert.deepInclude(group, { position: 3, lag: 1, inFlight: 2, memberCount: 1 })
    assert.deepStrictEqual(
      group.members.map(({ id: _, ...member }) => member),
      [{ ackMode: "manual", inFlight: 2, isSlow: false, joinedAt: "1970-01-01T00:00:00.000Z" }]
    )
    assert.strictEqual(
      group.message,
      "1 member is connected, and can take no more before 2 events that it holds are acked; 1 event waits."
    )

    for (const { eventId } of member.of("event")) member.say({ type: "ack", eventId, ackType: "ack" })
    yield* turns
    const { eventId } = member.of("event")[2]
    member.say({ type: "ack", eventId, ackType: "nak", redeliverDelay: 1000 })
    yield* turns
    assert.strictEqual(
      yield* reason,
      'Up to date, with 1 member connected. 1 event that failed is delivered again, the first at 1970-01-01T00:00:01.000Z. The newest event that matches "topic:news" is news at position 4, of 1970-01-01T00:00:00.000Z.'
    )

    yield* groups.update("printers", { filter: "event.data.i > 100" })
    assert.match(yield* reason, /position 4, which the filter event\.data\.i > 100 leaves out\.$/)
    member.wire.onClose(1006, "")
    yield* turns
    assert.match(yield* reason, /^No member is connected; 1 event waits\.$/)
  }).pipe(Effect.provide(live))
)

it.effect("a group reports that the connections of its members are full", () =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    const member = yield* join({ buffer: { maxBytes: 2048 } })
    member.wire.backlog = 2047
    yield* publish(1)
    member.wire.backlog = 2048
    yield* publish(2)

    assert.deepStrictEqual(member.seen, [1])
    const { members, message } = yield* groups.get("printers")
    assert.strictEqual(message, "1 member is connected, but reads too slowly; 1 event waits.")
    assert.isTrue(members[0]?.isSlow)

    member.wire.backlog = 0
    member.wire.onDrain()
    yield* turns
    assert.deepStrictEqual(member.seen, [1, 2])
    member.wire.onClose(1006, "")

    // the mode `drop` drops no events of a group
    const dropping = yield* join({ backpressure: "drop" })
    dropping.wire.backlog = 64 * 1024
    yield* publish(3)
    assert.notInclude(dropping.seen, 3)
    dropping.wire.backlog = 0
    dropping.wire.onDrain()
    yield* turns
    assert.include(dropping.seen, 3)
  }).pipe(Effect.provide(live))
)

it.effect("a group with a mistyped pattern reports that no event ever matched", () =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    yield* join({}, { pattern: "topic:nwes" })
    yield* publish(1)

    assert.strictEqual(
      (yield* groups.get("printers")).message,
      'Up to date, with 1 member connected. Nothing in the log matches "topic:nwes" so far.'
    )
  }).pipe(Effect.provide(live))
)

it.effect("a paused group delivers nothing, and continues from the same position when it is resumed", () =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    const member = yield* join()
    yield* publish(1)
    const paused = yield* groups.pause("printers", { by: "ops", reason: "no paper" })
    yield* publish(2)
    const other = yield* join()
    yield* TestClock.adjust(60_000)
    yield* turns

    assert.deepStrictEqual([member.seen, other.seen], [[1], []])
    assert.deepInclude(paused, {
      status: "paused",
      pausedBy: "ops",
      pauseReason: "no paper",
      pausedAt: "1970-01-01T00:00:00.000Z"
    })
    assert.strictEqual(
      (yield* groups.get("printers")).message,
      "Paused by ops at 1970-01-01T00:00:00.000Z (no paper); 1 event waits."
    )

    const { pausedBy, status } = yield* groups.resume("printers")
    yield* turns
    assert.deepStrictEqual([status, pausedBy], ["active", undefined])
    // event 1 is delivered again, because its deadline passed meanwhile
    assert.deepStrictEqual([...member.seen, ...other.seen].toSorted(), [1, 1, 2])
  }).pipe(Effect.provide(live))
)

it.effect("updated settings apply to connected members", () =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    yield* groups.create({ ...news, maxInflight: 1, redeliverDelayMs: 0, maxRedeliveries: 0 })
    const member = yield* join()
    yield* publish(1, 2, 3)
    assert.deepStrictEqual(member.seen, [1])

    yield* groups.update("printers", { maxInflight: 2 })
    yield* turns
    assert.deepStrictEqual(member.seen, [1, 2])
    member.say({ type: "ack", eventId: member.of("event")[0].eventId, ackType: "nak" })
    yield* turns
    assert.deepStrictEqual(member.seen, [1, 2, 3], "a failed event is given up at once")
    assert.strictEqual(member.of("subscription_error")[0].code, "REDELIVERIES_EXHAUSTED")
    assert.strictEqual((yield* groups.get("printers")).givenUp, 1)

    yield* groups.update("printers", { maxInflight: null, filter: "event.data.i > 5" })
    yield* publish(4, 6)
    assert.deepStrictEqual(member.seen, [1, 2, 3, 6])
    // a wider filter wakes the group, and its member receives the next event
    yield* groups.update("printers", { filter: null })
    yield* publish(5)
    assert.deepStrictEqual(member.seen, [1, 2, 3, 6, 5])
  }).pipe(Effect.provide(live))
)

it.effect("a member uses its own settings, and the settings of the group otherwise", () =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    yield* groups.create({ ...news, ackMode: "manual", backpressure: "block", filter: "event.data.i > 1" })
    const engine = yield* Engine.Engine
    const member = new Member(engine)
    const ask = (options: object, resume?: object) =>
      member.say({
        type: "subscribe",
        subscription: { pattern: "topic:news", options: { consumerGroup: "printers", ...options }, resume }
      })
    ask({}, {})
    yield* turns
    const eager = new Member(engine)
    eager.say({
      type: "subscribe",
      subscription: { pattern: "topic:news", options: { consumerGroup: "printers", ackMode: "auto" } }
    })
    yield* turns
    assert.strictEqual(member.of("subscription_result")[0].results[0].ackMode, "manual")
    assert.notProperty(eager.of("subscription_result")[0].results[0], "ackMode")

    yield* publish(1, 2, 3)
    assert.deepStrictEqual([...member.seen, ...eager.seen].toSorted(), [2, 3])
    const { inFlight, members } = yield* groups.get("printers")
    assert.deepStrictEqual([inFlight, members.map(({ ackMode }) => ackMode)], [1, ["manual", "auto"]])

    const odd = yield* join({ filter: "event.data.i > 2" })
    const [refused] = odd.of("subscription_result")[0].results
    assert.deepInclude(refused, { status: "error", code: "CONSUMER_GROUP_CONFLICT" })
    assert.include(refused.message, "event.data.i > 1")
    const same = yield* join({ filter: "event.data.i > 1" })
    assert.strictEqual(same.of("subscription_result")[0].results[0].status, "ok")
  }).pipe(Effect.provide(live))
)

it.effect("a client of this package does not ack automatically when the group requires acks", () =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    const { stream } = yield* Subscriptions
    yield* groups.create({ ...news, ackMode: "manual" })
    const first = yield* Effect.forkChild(
      Stream.runHead(
        Stream.mapEffect(stream("topic:news", { consumerGroup: "printers" }), (event) =>
          Effect.andThen(turns, Effect.as(groups.get("printers"), event)).pipe(
            Effect.tap(() =>
              Effect.map(groups.get("printers"), ({ inFlight }) => assert.strictEqual(inFlight, 1))
            ),
            Effect.tap((event) => event.ack),
            Effect.tap(() =>
              Effect.map(groups.get("printers"), ({ inFlight }) => assert.strictEqual(inFlight, 0))
            )
          )
        )
      )
    )
    yield* turns
    yield* publish(1)
    yield* turns

    assert.isTrue((yield* Fiber.join(first))._tag === "Some")
  }).pipe(Effect.provide(live))
)

it.effect("events that come one by one are delivered to the members in turn", () =>
  Effect.gen(function* () {
    const members = [yield* join(), yield* join(), yield* join()]
    for (let i = 1; i <= 6; i++) yield* publish(i)

    assert.deepStrictEqual(
      members.map(({ seen }) => seen),
      [
        [1, 4],
        [2, 5],
        [3, 6]
      ]
    )
  }).pipe(Effect.provide(live))
)

it.effect(
  "members of a deleted group are notified, and only a new subscription creates the group again",
  () =>
    Effect.gen(function* () {
      const groups = yield* ConsumerGroups
      const member = yield* join()
      const { stream } = yield* Subscriptions
      const streaming = yield* Effect.forkChild(
        Effect.flip(Stream.runDrain(stream("topic:news", { consumerGroup: "printers", ackMode: "manual" })))
      )
      yield* turns
      yield* publish(1, 2)

      yield* groups.delete("printers")
      yield* turns

      const [told] = member.of("subscription_error")
      assert.deepInclude(told, { code: "CONSUMER_GROUP_DELETED", retrying: false })
      const error = yield* Fiber.join(streaming)
      assert.deepStrictEqual([error._tag, error.code], ["SubscriptionError", "CONSUMER_GROUP_DELETED"])
      yield* publish(3)
      assert.notInclude(member.seen, 3)
      assert.strictEqual(
        (yield* Effect.flip(groups.get("printers"))).code,
        "CONSUMER_GROUP_NOT_FOUND",
        "the group does not come back by itself"
      )
      member.say({
        type: "subscribe",
        subscription: {
          pattern: "topic:news",
          options: { consumerGroup: "printers", ackMode: "manual" },
          resume: { after: "1" }
        }
      })
      yield* turns
      assert.deepInclude(member.of("subscription_result")[1].results[0], {
        status: "error",
        code: "CONSUMER_GROUP_DELETED"
      })

      const next = yield* join()
      yield* publish(4)
      assert.deepStrictEqual(next.seen, [4])
    }).pipe(Effect.provide(live))
)

it.effect("a member that joins while the group is deleted ends up in an existing group", () =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    for (let between = 0; between < 8; between++) {
      const before = yield* join()
      const deleting = yield* Effect.forkChild(groups.delete("printers"))
      for (let i = 0; i < between; i++)
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      const after = yield* join()
      yield* Fiber.join(deleting)
      yield* turns
      yield* publish(between)

      const isTold = after.of("subscription_error").length === 1
      assert.deepStrictEqual(after.seen, isTold ? [] : [between], `after ${between} turns`)
      assert.deepStrictEqual(before.of("subscription_error").length, 1)
      assert.lengthOf(yield* groups.list(), isTold ? 0 : 1)
      after.wire.onClose(1006, "")
      if (!isTold) yield* groups.delete("printers")
    }
  }).pipe(Effect.provide(live))
)

it.effect(
  "groups are listed by namespace, name and status, and temporary ones with the time of their expiry",
  () =>
    Effect.gen(function* () {
      const groups = yield* ConsumerGroups
      yield* groups.create({ ...news, namespace: "b", filter: "event.data.i > 1" })
      yield* join({ namespace: "a" })
      const member = yield* join({ namespace: "c" })
      member.wire.onClose(1000, "")
      yield* turns
      yield* groups.pause("printers", { namespace: "b" })
      const names = (options?: Parameters<typeof groups.list>[0]) =>
        Effect.map(groups.list(options), (found) =>
          found.map(({ expiresAt, namespace }) => [namespace, expiresAt])
        )

      assert.deepStrictEqual(yield* names(), [
        ["b", undefined],
        ["a", undefined],
        ["c", "1970-01-31T00:00:00.000Z"]
      ])
      assert.deepStrictEqual(yield* names({ status: "paused" }), [["b", undefined]])
      assert.deepStrictEqual(yield* names({ name: "printers", namespace: "a" }), [["a", undefined]])
      assert.deepStrictEqual(yield* names({ name: "nobody" }), [])
    }).pipe(Effect.provide(live))
)

it.effect.each<readonly [string, object, string | RegExp]>([
  ["a group without a name", { pattern: "topic:news" }, /must be a string, got undefined/],
  ["a blank name", { ...news, name: " " }, /must not be empty/],
  ["a group without a pattern", { name: "printers" }, /must be a string such as/],
  ["system events", { ...news, pattern: "system.run.>" }, /system events are not/],
  ["entities", { ...news, pattern: "entity:order.>" }, /cannot subscribe to `entity:` patterns/],
  ["a bad pattern", { ...news, pattern: "topic:a..b" }, /empty token/],
  ["a bad filter", { ...news, filter: "event.data.(" }, /event\.data\.\(/],
  ["a bad ack mode", { ...news, ackMode: "later" }, /`ackMode` must be one of auto, manual, got "later"/],
  ["dropping", { ...news, backpressure: "drop" }, /`backpressure` must be one of buffer, block, got "drop"/],
  [
    "no deliveries at all",
    { ...news, maxInflight: 0 },
    /`maxInflight` must be an integer from 1 to 1000, got 0/
  ],
  ["a fraction", { ...news, maxRedeliveries: 1.5 }, /from 0 to 1000, got 1\.5/],
  ["a long delay", { ...news, redeliverDelayMs: 1e9 }, /from 0 to 86400000/],
  ["a small buffer", { ...news, buffer: { maxBytes: 1 } }, /`buffer\.maxBytes` must be an integer from 1024/],
  ["an invalid buffer", { ...news, buffer: 5 }, /`buffer` must be an object/],
  ["null", { ...news, maxInflight: null }, /got null/],
  ["invalid metadata", { ...news, metadata: "x" }, /must be an object/],
  ["too much metadata", { ...news, metadata: { x: "x".repeat(16_384) } }, /16384 bytes|allowed/]
])("%s: refused", ([, config, message]) =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    // the types refuse some of these
    const error = yield* Effect.flip(groups.create(config as ConsumerGroupConfig))
    assert.match(error.message, message as RegExp)
    assert.deepStrictEqual(yield* groups.list(), [])
  }).pipe(Effect.provide(live))
)

it.effect("an invalid operation on a group is refused, and changes nothing", () =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    yield* groups.create(news)
    yield* groups.create({ ...news, pattern: "topic:other" })
    const codes = yield* Effect.forEach(
      [
        groups.create(news),
        groups.get("printers"),
        groups.get("nobody"),
        groups.get("printers", { namespace: "nowhere" }),
        groups.pause("printers", { pattern: "topic:third" }),
        groups.pause("printers", { pattern: "topic:news", reason: "x".repeat(1025) }),
        groups.delete("printers"),
        groups.update("printers", { maxInflight: 0 }, { pattern: "topic:news" }),
        groups.resume("printers", { pattern: "nonsense:x" })
      ],
      (call) =>
        Effect.map(Effect.flip(call as Effect.Effect<unknown, { readonly code: string }>), ({ code }) => code)
    )

    assert.deepStrictEqual(codes, [
      "CONSUMER_GROUP_EXISTS",
      "CONSUMER_GROUP_AMBIGUOUS",
      "CONSUMER_GROUP_NOT_FOUND",
      "CONSUMER_GROUP_NOT_FOUND",
      "CONSUMER_GROUP_NOT_FOUND",
      "LIMIT_EXCEEDED",
      "CONSUMER_GROUP_AMBIGUOUS",
      "VALIDATION_ERROR",
      "VALIDATION_ERROR"
    ])
    assert.lengthOf(yield* groups.list(), 2)
  }).pipe(Effect.provide(live))
)

it.effect("a group without settings is kept while a member is connected, and for 30 days afterwards", () =>
  Effect.gen(function* () {
    const groups = yield* ConsumerGroups
    const member = yield* join()
    // unused groups are looked for every hour
    const days = (count: number) =>
      Effect.gen(function* () {
        for (let hour = 0; hour < count * 24; hour += 12) {
          yield* TestClock.adjust("12 hours")
          yield* turns
        }
      })
    const names = Effect.map(groups.list(), (found) => found.map(({ name }) => name))
    yield* days(40)
    assert.deepStrictEqual(yield* names, ["printers"])

    member.wire.onClose(1000, "")
    yield* days(29)
    assert.deepStrictEqual(yield* names, ["printers"])
    yield* days(2)
    assert.deepStrictEqual(yield* names, [])
  }).pipe(Effect.provide(live))
)
