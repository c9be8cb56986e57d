/**
 * Deliveries to members of a group. An event is settled after the body of its member, its deadline is extended meanwhile, and
 * an event that fails is delivered again or becomes a dead letter.
 */
import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { Client } from "../../src/Client/Client.ts"
import { ConsumerGroups } from "../../src/Client/ConsumerGroups.ts"
import {
  attempt,
  type Delivered,
  make,
  openSession,
  type StreamOptions,
  Subscriptions
} from "../../src/Client/Subscriptions.ts"
import * as Engine from "../../src/Engine/Engine.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { makeWirePair } from "../../src/Engine/PubSub/MemoryWire.ts"
import { NonRetryableError, RetryAfterError } from "../../src/Errors.ts"
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

/** Lets time pass second by second, and lets messages arrive in between. */
const pass = (seconds: number) =>
  Effect.gen(function* () {
    for (let i = 0; i < seconds; i++) {
      yield* TestClock.adjust(1000)
      yield* turns
    }
  })

const publish = (...numbers: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const client = yield* Client
    for (const i of numbers) yield* client.publish("news", { i })
    yield* turns
  })

const group = Effect.flatMap(ConsumerGroups, (groups) => groups.get("printers"))

/** Makes a group that starts before the messages of the test. */
const begin = (settings: object = {}) =>
  Effect.flatMap(ConsumerGroups, (groups) =>
    groups.create({ name: "printers", pattern: "topic:news", ...settings })
  )

/** A member that runs `body` for each event. Its stream ends with the error of the body. */
const member = <E>(
  body: (event: Delivered) => Effect.Effect<void, E>,
  options: StreamOptions = {},
  change: (stream: Stream.Stream<Delivered, unknown>) => Stream.Stream<Delivered, unknown> = (it) => it
) =>
  Effect.gen(function* () {
    const { stream } = yield* Subscriptions
    const fiber = yield* Effect.forkChild(
      Effect.exit(
        Stream.runForEach(change(stream("topic:news", { consumerGroup: "printers", ...options })), body)
      )
    )
    yield* turns
    return fiber
  })

/** Records events. They are settled as the group is configured. */
const recorder = () => {
  const seen: Array<number> = []
  return { seen, hear: (event: Delivered) => void seen.push(event.data.i) }
}

const ten = Array.from({ length: 10 }, (_, i) => i)
const all = { numbers: ten, rest: ten.slice(1) }

/** A client that sends its own frames. */
class Peer {
  // oxlint-disable-next-line typescript/no-explicit-any -- the tests read fields of the frames
  readonly frames: Array<any> = []
  readonly wire: Wire = {
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

  subscribe(options: SubscribeOptions, more: object = {}): void {
    this.say({
      type: "subscribe",
      subscription: { pattern: "topic:news", options: { consumerGroup: "printers", ...options }, ...more }
    })
  }

  get events() {
    return this.frames.filter(({ type }) => type === "event")
  }

  get seen(): Array<number> {
    return this.events.map(({ data }) => data.i)
  }
}

it.effect.each<readonly [string, "taken" | "failed", (i: number) => Effect.Effect<void, Error>, boolean]>([
  ["takes one and ends", "taken", () => Effect.void, true],
  ["fails in the body", "failed", () => Effect.fail(new Error("no paper")), false],
  ["dies in the body", "failed", () => Effect.die(new Error("a bug")), false]
])(
  "a stream that %s settles the events that its body has finished, and the rest goes to other members at once",
  ([, outcome, body, takesOne]) =>
    Effect.gen(function* () {
      yield* begin()
      yield* publish(...all.numbers)
      const first = yield* member(
        (event) => body(event.data.i),
        {},
        takesOne ? (stream) => Stream.take(stream, 1) : (stream) => stream
      )
      yield* Fiber.await(first)
      yield* turns

      const { hear, seen } = recorder()
      yield* member((event) => Effect.sync(() => hear(event)))
      yield* turns
      assert.deepStrictEqual(seen, all.rest)

      yield* pass(5)
      assert.deepStrictEqual(seen, outcome === "taken" ? all.rest : [...all.rest, 0])
      assert.deepInclude(yield* group, { inFlight: 0, retrying: 0, lag: 0, givenUp: 0 })
    }).pipe(Effect.provide(live))
)

it.effect("an interrupted stream gives its events back at once, which does not count as a failure", () =>
  Effect.gen(function* () {
    yield* begin({ maxRedeliveries: 0 })
    const first = yield* member(() => Effect.never)
    yield* publish(...all.numbers)
    assert.strictEqual((yield* group).inFlight, 10)
    yield* Fiber.interrupt(first)
    yield* turns

    const { hear, seen } = recorder()
    yield* member((event) => Effect.sync(() => hear(event)))
    yield* turns

    assert.deepStrictEqual(seen, all.numbers)
    assert.deepInclude(yield* group, { inFlight: 0, givenUp: 0 })
  }).pipe(Effect.provide(live))
)

it.effect("an event is settled only after its body, and one settled in the body is settled once", () =>
  Effect.gen(function* () {
    yield* begin()
    const gate = yield* Deferred.make<void>()
    yield* member((event) => (event.data.i === 0 ? Deferred.await(gate) : event.ack.pipe(Effect.orDie)))
    yield* publish(0, 1)
    assert.deepInclude(yield* group, { inFlight: 2 })

    yield* Deferred.succeed(gate, undefined)
    yield* turns

    assert.deepInclude(yield* group, { inFlight: 0, retrying: 0, givenUp: 0 })
    const { metrics } = yield* Engine.Engine
    assert.strictEqual(metrics().staleAcks, 0)
  }).pipe(Effect.provide(live))
)

it.effect.each(["auto", "manual"] as const)(
  "a stream with acks by %s keeps its events while its body runs, however long, and no event is delivered twice",
  (ackMode) =>
    Effect.gen(function* () {
      yield* begin()
      const { hear, seen } = recorder()
      yield* member(
        (event) =>
          Effect.sync(() => hear(event)).pipe(
            Effect.andThen(Effect.sleep(34_000)),
            Effect.andThen(ackMode === "manual" ? Effect.orDie(event.ack) : Effect.void)
          ),
        { ackMode }
      )
      yield* publish(1, 2, 3, 4)
      const other = recorder()
      yield* member((event) => Effect.sync(() => other.hear(event)))
      assert.deepInclude(yield* group, { inFlight: 4 })

      yield* pass(34 * 4 + 1)

      assert.deepStrictEqual([seen, other.seen], [[1, 2, 3, 4], []])
      assert.deepInclude(yield* group, { inFlight: 0, retrying: 0, givenUp: 0 })
    }).pipe(Effect.provide(live))
)

it.effect.each(["auto", "manual"] as const)(
  "a handler of 34 seconds with acks by %s runs once, and an event on which it fails is delivered again",
  (ackMode) =>
    Effect.gen(function* () {
      yield* begin({ redeliverDelayMs: 1000 })
      const session = yield* openSession(
        yield* Effect.map(Engine.Engine, (engine) => ({
          wire: () => {
            const [clientWire, engineWire] = makeWirePair()
            engine.subscriptions.connect("default", engineWire)
            return clientWire
          }
        }))
      )
      yield* attempt(() => session.connect())
      const seen: Array<number> = []
      const errors: Array<string> = []
      const fork = Effect.runForkWith(yield* Effect.context<never>())
      const subscription = yield* attempt(() =>
        session.subscribe(
          "topic:news",
          { consumerGroup: "printers", ackMode },
          {
            onError: ({ code }) => errors.push(code),
            onEvent: ({ data, eventId }) => {
              seen.push(data.i)
              return new Promise((resolve, reject) => {
                fork(
                  Effect.andThen(
                    Effect.sleep(34_000),
                    Effect.sync(() => {
                      if (ackMode === "manual") resolve(session.settle(subscription, eventId!, "ack"))
                      else if (seen.length > 2) resolve(undefined)
                      else reject(new Error("no paper"))
                    })
                  )
                )
              })
            }
          }
        )
      )
      yield* publish(1, 2)

      yield* pass(36)
      assert.deepStrictEqual(seen, ackMode === "manual" ? [1, 2] : [1, 2, 1, 2])
      assert.deepStrictEqual(errors, ackMode === "manual" ? [] : ["HANDLER_ERROR", "HANDLER_ERROR"])
      yield* pass(36)
      assert.lengthOf(seen, ackMode === "manual" ? 2 : 4)
      assert.deepInclude(yield* group, { inFlight: 0, retrying: 0, givenUp: 0 })
    }).pipe(Effect.provide(live), Effect.scoped)
)

it.effect("a stream holds few events, so that other members get the rest", () =>
  Effect.gen(function* () {
    yield* begin()
    yield* member(() => Effect.never)
    yield* publish(...Array.from({ length: 40 }, (_, i) => i))
    const { hear, seen } = recorder()
    yield* member((event) => Effect.sync(() => hear(event)))
    yield* turns

    assert.strictEqual((yield* group).inFlight, 16)
    assert.lengthOf(seen, 24)
  }).pipe(Effect.provide(live))
)

it.effect("a fast stream holds more events, up to the limit of the group, until it is slow", () =>
  Effect.gen(function* () {
    yield* begin({ maxInflight: 50 })
    let isSlow = false
    yield* member(() => (isSlow ? Effect.sleep(2000) : Effect.void))
    yield* publish(...Array.from({ length: 60 }, (_, i) => i))
    assert.deepInclude(yield* group, { inFlight: 0, lag: 0 })

    isSlow = true
    yield* publish(...Array.from({ length: 80 }, (_, i) => i))
    assert.deepInclude(yield* group, { inFlight: 50, lag: 30 })
    // the member first finishes what exceeds its new limit, and gets nothing new meanwhile
    yield* pass(2 * 30)
    assert.strictEqual((yield* group).lag, 30)
    yield* pass(2 * 10)
    assert.strictEqual((yield* group).inFlight, 16)
  }).pipe(Effect.provide(live))
)

it.effect(
  "with manual acks a member has the ackWait after the body, and longer when it calls inProgress",
  () =>
    Effect.gen(function* () {
      yield* begin()
      const { hear, seen } = recorder()
      const held: Array<Delivered> = []
      yield* member(
        (event) =>
          Effect.sync(() => {
            hear(event)
            held.push(event)
          }).pipe(Effect.andThen(event.data.i === 2 ? Effect.sleep(100_000) : Effect.void)),
        { ackMode: "manual", ackWait: "10s" }
      )
      yield* publish(1, 2)
      yield* pass(8)
      yield* held[0]!.inProgress
      yield* pass(9)
      assert.deepStrictEqual(seen, [1, 2])
      yield* pass(2)
      // the body of event 2 still runs
      assert.deepInclude(yield* group, { inFlight: 2, givenUp: 0 })
      yield* pass(82)
      assert.deepStrictEqual(seen.slice(0, 3), [1, 2, 1])
      const other = recorder()
      yield* member((event) => Effect.sync(() => other.hear(event)))
      const { code } = yield* Effect.flip(Effect.andThen(pass(20), held[1]!.inProgress))
      assert.strictEqual(code, "NOT_HELD")
      assert.deepStrictEqual(other.seen.toSorted(), [1, 2])
    }).pipe(Effect.provide(live))
)

it.effect("with manual acks a member has the whole ackWait after a body, whenever the body ends", () =>
  Effect.gen(function* () {
    yield* begin({ redeliverDelayMs: 0 })
    const { hear, seen } = recorder()
    const held: Array<Delivered> = []
    yield* member(
      (event) =>
        Effect.sync(() => {
          hear(event)
          held.push(event)
        }).pipe(Effect.andThen(Effect.sleep(6000))),
      { ackMode: "manual", ackWait: "10s" }
    )
    const other = recorder()
    yield* member((event) => Effect.sync(() => other.hear(event)))
    yield* publish(1)
    const holder = seen.length === 1 ? seen : other.seen
    assert.deepStrictEqual(holder, [1])

    // the body ends after 6 s
    yield* pass(6 + 9)
    assert.deepStrictEqual([seen, other.seen], [[1], []])
    yield* held[0]!.ack
    yield* pass(30)
    assert.deepStrictEqual([seen, other.seen], [[1], []])

    // events that are never acked are delivered again
    yield* publish(2, 3)
    yield* pass(6 + 10 + 10)
    assert.deepStrictEqual(other.seen.toSorted(), [2, 3])
    assert.deepInclude(yield* group, { inFlight: 0, givenUp: 0 })
  }).pipe(Effect.provide(live))
)

it.effect(
  "a member that cannot reach the server drops its events after their ackWait, with one log line",
  () =>
    Effect.gen(function* () {
      yield* begin()
      const engine = yield* Engine.Engine
      let isStill = false
      const { stream } = make({
        wire: () => {
          const [clientWire, engineWire] = makeWirePair()
          engine.subscriptions.connect("default", engineWire)
          const send = clientWire.send.bind(clientWire)
          return Object.assign(clientWire, { send: (frame: string) => (isStill ? undefined : send(frame)) })
        }
      })
      const gate = yield* Deferred.make<void>()
      const { hear, seen } = recorder()
      const lines: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel} ${String(message)}`))
      const body = (event: Delivered) =>
        Effect.andThen(
          Effect.sync(() => hear(event)),
          Deferred.await(gate)
        )
      yield* Effect.forkChild(
        Stream.runForEach(stream("topic:news", { consumerGroup: "printers", ackWait: "10s" }), body)
      ).pipe(Effect.provide(Logger.layer([logger])))
      yield* turns
      yield* publish(1, 2, 3, 4)
      const other = recorder()
      yield* member((event) => Effect.sync(() => other.hear(event)))
      yield* pass(35)
      assert.deepStrictEqual([seen, other.seen, lines], [[1], [], []])

      isStill = true
      yield* pass(15)
      assert.deepStrictEqual(other.seen.toSorted(), [1, 2, 3, 4])
      isStill = false
      yield* Deferred.succeed(gate, undefined)
      yield* turns

      assert.deepStrictEqual(seen, [1])
      const droppedLines = lines.filter((line) => line.includes("Dropped 3 events"))
      assert.lengthOf(droppedLines, 1)
      assert.match(
        droppedLines[0]!,
        /^Warn.*Dropped 3 events of "topic:news" that waited in this process.*10000ms/
      )
      yield* publish(5, 6)
      assert.deepStrictEqual([...seen, ...other.seen.slice(4)].toSorted(), [1, 5, 6])
      assert.deepInclude(yield* group, { inFlight: 0, retrying: 0, givenUp: 0 })
    }).pipe(Effect.provide(live))
)

it.effect.each<readonly [string, unknown, number]>([
  ["is honoured", new RetryAfterError("busy", "700ms"), 700],
  ["wins when it is longer", new RetryAfterError("busy", "20s"), 20_000],
  ["is honoured on any error", Object.assign(new Error("busy"), { retryAfter: "2" }), 2000],
  ["is shortened to a day", new RetryAfterError("busy", "3d"), 86_400_000],
  ["is ignored when it is invalid", Object.assign(new Error("busy"), { retryAfter: "soon" }), 5000]
])("a delay that an error asks for in a group %s", ([, error, delayMs]) =>
  Effect.gen(function* () {
    yield* begin()
    yield* member(() => Effect.fail(error))
    yield* publish(1)
    const { hear, seen } = recorder()
    yield* member((event) => Effect.sync(() => hear(event)))
    assert.deepInclude(yield* group, { retrying: 1 })

    yield* TestClock.adjust(delayMs - 1)
    yield* turns
    assert.deepStrictEqual(seen, [])
    yield* TestClock.adjust(1)
    yield* turns
    assert.deepStrictEqual(seen, [1])
  }).pipe(Effect.provide(live))
)

it.effect(
  "a member that never acks gets its events again after the deadline, even when its buffer is full",
  () =>
    Effect.gen(function* () {
      yield* begin({ maxInflight: 1, maxRedeliveries: 1 })
      const peer = new Peer(yield* Engine.Engine)
      peer.subscribe({ ackMode: "manual" })
      yield* turns
      yield* publish(1, 2)
      assert.deepStrictEqual(peer.seen, [1])

      yield* pass(30)
      assert.deepStrictEqual(peer.seen, [1, 1])
      yield* pass(30)
      assert.deepStrictEqual(peer.seen, [1, 1, 2])
      yield* pass(30)
      assert.deepStrictEqual(peer.seen, [1, 1, 2, 2])
    }).pipe(Effect.provide(live))
)

it.effect(
  "a failed event is delivered again ten times, after 5 seconds and then twice as long up to 5 minutes, and becomes a dead letter",
  () =>
    Effect.gen(function* () {
      yield* begin()
      const at: Array<number> = []
      const peer = new Peer(yield* Engine.Engine)
      peer.subscribe({}, { resume: {} })
      yield* turns
      yield* publish(7)
      for (let second = 0; second < 2000; second++) {
        if (peer.events.length > at.length) {
          at.push(second)
          const { eventId } = peer.events.at(-1)
          peer.say({ type: "ack", eventId, ackType: "nak", reason: "no paper", requestId: 1 })
          yield* turns
        }
        yield* TestClock.adjust(1000)
        if (peer.frames.some(({ code }) => code === "REDELIVERIES_EXHAUSTED")) break
        yield* turns
      }

      const delays = at.slice(1).map((second, i) => second - at[i]!)
      assert.lengthOf(delays, 10)
      for (const [i, delay] of delays.entries()) {
        assert.approximately(delay, Math.min(5 * 2 ** i, 300), 1, `delay ${i}`)
      }
      const groups = yield* ConsumerGroups
      const info = yield* group
      assert.deepInclude(info, { givenUp: 1, deadLetters: 1, inFlight: 0, retrying: 0, maxRedeliveries: 10 })
      assert.match(info.message, /1 event is a dead letter/)
      const [letter] = yield* groups.deadLetters("printers")
      assert.deepInclude(letter, { attempts: 11, reason: "no paper" })
      assert.deepInclude(letter?.event, { name: "news", data: { i: 7 } })
    }).pipe(Effect.provide(live))
)

it.effect(
  "a member that has missed its deadline gets events after the others, until it sends something",
  () =>
    Effect.gen(function* () {
      yield* begin()
      const engine = yield* Engine.Engine
      const peers = [new Peer(engine), new Peer(engine)] as const
      peers[0].subscribe({ ackMode: "manual" })
      yield* turns
      yield* publish(1)
      yield* pass(1)
      peers[1].subscribe({ ackMode: "manual", ackWait: "24h" })
      yield* turns
      yield* pass(29)
      yield* publish(2, 3)
      assert.deepStrictEqual([peers[0].seen, peers[1].seen], [[1], [1, 2, 3]])

      // the ack is too late, but it shows that the member is alive
      peers[0].say({ type: "ack", eventId: peers[0].events[0].eventId, ackType: "ack" })
      yield* turns
      assert.strictEqual(peers[0].frames.at(-1).code, "NOT_HELD")
      yield* publish(4, 5)
      assert.deepStrictEqual([peers[0].seen.length, peers[1].seen.length], [2, 4])
    }).pipe(Effect.provide(live))
)

it.effect("a frozen client gets no more events, and continues with its events when it is back", () =>
  Effect.gen(function* () {
    yield* begin()
    const peer = new Peer(yield* Engine.Engine)
    peer.subscribe({}, { resume: {} })
    yield* turns
    yield* publish(1)
    for (let i = 0; i < 12; i++) yield* pass(31)
    yield* publish(2)
    assert.deepStrictEqual(peer.seen, [1])
    assert.match(
      (yield* group).message,
      /missed the ack deadline of an event and sent nothing since; 1 event waits\.$/
    )

    peer.say({ type: "in_progress", subscriptionId: peer.frames[0].results[0].subscriptionId })
    yield* turns
    assert.deepStrictEqual(peer.seen, [1, 2])
    for (const { eventId } of peer.events) peer.say({ type: "ack", eventId, ackType: "ack" })
    yield* turns
    assert.deepInclude(yield* group, { inFlight: 0, retrying: 0, givenUp: 0 })
  }).pipe(Effect.provide(live))
)

it.effect("a configured delay does not grow", () =>
  Effect.gen(function* () {
    yield* begin({ redeliverDelayMs: 2000, maxRedeliveries: 3 })
    const { hear, seen } = recorder()
    for (let attempt = 1; attempt <= 4; attempt++) {
      yield* member((event) =>
        Effect.andThen(
          Effect.sync(() => hear(event)),
          Effect.fail("no paper")
        )
      )
      if (attempt === 1) yield* publish(1)
      yield* turns
      assert.lengthOf(seen, attempt)
      yield* pass(2)
    }
    assert.deepInclude(yield* group, { redeliverDelayMs: 2000, maxRedeliveries: 3 })
    yield* member(() => Effect.void)
    assert.deepInclude(yield* group, { deadLetters: 1, retrying: 0 })
  }).pipe(Effect.provide(live))
)

it.effect(
  "an event that can never be handled is a dead letter at once, and is counted once when it is retried",
  () =>
    Effect.gen(function* () {
      yield* begin()
      const groups = yield* ConsumerGroups
      yield* member((event) =>
        event.data.i === 1
          ? event.term.pipe(Effect.orDie)
          : event.data.i === 2
            ? Effect.fail(new NonRetryableError("torn"))
            : Effect.void
      )
      yield* publish(1, 2)

      const letters = yield* groups.deadLetters("printers")
      assert.deepStrictEqual(
        letters.map(({ attempts, event, reason }) => [(event.data as { i: number }).i, attempts, reason]),
        [
          [1, 1, undefined],
          [2, 1, "torn"]
        ]
      )
      assert.deepInclude(yield* group, { givenUp: 2, deadLetters: 2 })
      assert.lengthOf(yield* groups.deadLetters("printers", { after: letters[0]!.position, limit: 1 }), 1)

      const { hear, seen } = recorder()
      yield* member((event) => Effect.sync(() => hear(event)))
      yield* groups.retryDeadLetter("printers", letters[1]!.position)
      yield* turns
      assert.deepStrictEqual(seen, [2])
      const error = yield* Effect.flip(groups.retryDeadLetter("printers", letters[1]!.position))
      assert.strictEqual(error.code, "INVALID_STATE")
      assert.strictEqual(yield* groups.retryDeadLetters("printers"), 1)
      yield* turns
      assert.deepStrictEqual(seen, [2, 1])
      assert.deepInclude(yield* group, { givenUp: 0, deadLetters: 0 })
      assert.strictEqual(yield* groups.retryDeadLetters("printers"), 0)
    }).pipe(Effect.provide(live))
)

it.effect("the auto mode of a legacy client still settles each event as it is sent", () =>
  Effect.gen(function* () {
    yield* begin()
    const peer = new Peer(yield* Engine.Engine)
    peer.subscribe({})
    yield* turns
    yield* publish(1, 2)

    assert.deepStrictEqual(peer.seen, [1, 2])
    assert.notProperty(peer.frames[0].results[0], "ackWait")
    assert.deepInclude(yield* group, { inFlight: 0, retrying: 0 })
  }).pipe(Effect.provide(live))
)

it.effect.each<readonly [string, object, object, RegExp]>([
  ["a short ackWait", { ackWait: 10 }, {}, /`ackWait` must be from 1 second to 24 hours, got 10/],
  ["a long ackWait", { ackWait: "25h" }, {}, /`ackWait` must be from 1 second to 24 hours/],
  ["an invalid ackWait", { ackWait: "soon" }, {}, /Invalid `ackWait`: "soon" is not a duration/],
  ["a capacity of zero", {}, { capacity: 0 }, /`capacity` must be an integer from 1 to 1000, got 0/]
])("%s is refused", ([, options, more, message]) =>
  Effect.gen(function* () {
    const peer = new Peer(yield* Engine.Engine)
    peer.subscribe(options, more)
    yield* turns
    const [result] = peer.frames[0].results
    assert.deepInclude(result, { status: "error", code: "VALIDATION_ERROR" })
    assert.match(result.message, message)
  }).pipe(Effect.provide(live))
)

it.effect("a frame `in_progress` extends all events that a subscription holds, all but some, or one", () =>
  Effect.gen(function* () {
    const peer = new Peer(yield* Engine.Engine)
    peer.say({
      type: "subscribe",
      subscription: { pattern: "topic:news", options: { ackMode: "manual" }, resume: {} }
    })
    yield* turns
    yield* publish(1, 2)
    const { ackWait, subscriptionId } = peer.frames[0].results[0]
    assert.strictEqual(ackWait, 30_000)
    const [one, two] = peer.events

    yield* pass(20)
    peer.say({ type: "in_progress", subscriptionId, except: [two.eventId] })
    peer.say({ type: "in_progress", subscriptionId, eventId: "nothing", requestId: 1 })
    peer.say({ type: "in_progress", requestId: 2 })
    yield* pass(20)

    assert.deepStrictEqual(
      peer.seen,
      [1, 2, 2],
      "event 2 was not extended, and is delivered again even without a group"
    )
    assert.deepStrictEqual(
      peer.frames.filter(({ type }) => type === "ack_result").map(({ code }) => code),
      ["NOT_HELD", "INVALID_MESSAGE"]
    )
    peer.say({ type: "in_progress", subscriptionId, eventId: one.eventId, requestId: 3 })
    yield* turns
    assert.deepInclude(peer.frames.at(-1), { requestId: 3, status: "ok" })
  }).pipe(Effect.provide(live))
)
