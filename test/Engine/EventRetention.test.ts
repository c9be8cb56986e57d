/** Retention of events by age and size, and what makes the engine keep them longer. */
import { assert, describe, it } from "@effect/vitest"
import { startEngine } from "@ironflow/node/engine"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { expect } from "vitest"
import { Client } from "../../src/Client/Client.ts"
import { ConsumerGroups } from "../../src/Client/ConsumerGroups.ts"
import { Projections } from "../../src/Client/Projections.ts"
import { Streams } from "../../src/Client/Streams.ts"
import * as Engine from "../../src/Engine/Engine.ts"
import { EventRetention } from "../../src/Engine/Events/EventSweep.ts"
import { RunRetention } from "../../src/Engine/Runs/RunSweep.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { untilQuiet } from "./Quiet.ts"

const layerKeeping = (age: Duration.Duration, bytes: number) =>
  Engine.layerClientIn("default").pipe(
    Layer.provideMerge(Engine.layer),
    Layer.provide(SqliteStore.layer({ filename: ":memory:" })),
    Layer.provide(Layer.succeed(EventRetention, { age, bytes })),
    Layer.provide(Layer.succeed(RunRetention, Duration.hours(2)))
  )

/** Waits for the sweep, which works in later turns of the event loop. */
const quiet = Effect.promise(async () => {
  await untilQuiet()
})
const hours = (count: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, i) => i),
    () => Effect.andThen(TestClock.adjust("1 hour"), quiet),
    { discard: true }
  )
const names = Effect.gen(function* () {
  yield* quiet
  const { events } = yield* (yield* Client).listEvents({ order: "oldest" })
  return events.map(({ name }) => name)
})
const fn = (id: string, event: string) => ({
  id,
  name: id,
  triggers: [{ event }],
  retry: { maxAttempts: 1, initialDelayMs: 1000, backoffFactor: 2, maxDelayMs: 1000 },
  timeoutMs: 30_000,
  mode: "pull" as const,
  secrets: [],
  codeHash: "1"
})

describe("events", () => {
  it.effect("are deleted when they are too old, also if they were erased", () =>
    Effect.gen(function* () {
      const client = yield* Client
      yield* client.emit("old", { email: "jane" })
      const begun = yield* client.erase({ events: { where: 'event.data.email == "jane"' } })
      const { kinds } = yield* client.waitForBulk(begun.id)
      assert.deepStrictEqual(kinds, { events: 1 })
      yield* client.emit("newest", {})
      assert.deepStrictEqual(yield* names, ["old", "newest"])
      yield* hours(4)
      assert.deepStrictEqual(yield* names, ["newest"])
    }).pipe(Effect.provide(layerKeeping(Duration.hours(3), Number.POSITIVE_INFINITY)))
  )

  it.effect("are deleted when they are too old, except events of entity streams and messages", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const streams = yield* Streams
      yield* client.emit("old", {})
      yield* streams.append("order-1", { entityType: "order", name: "order.placed", data: {} })
      yield* client.publish("news", {})
      yield* TestClock.adjust("20 hours")
      yield* client.emit("young", {})
      yield* client.emit("newest", {})
      assert.deepStrictEqual(yield* names, ["old", "order.placed", "young", "newest"])
      yield* hours(6)
      assert.deepStrictEqual(yield* names, ["order.placed", "young", "newest"])
      assert.strictEqual((yield* streams.read("order-1", {})).events.length, 1)
      assert.strictEqual((yield* client.getTopicStats("news")).messageCount, 1)
    }).pipe(Effect.provide(layerKeeping(Duration.days(1), Number.POSITIVE_INFINITY)))
  )

  it.effect("are deleted oldest first when all together are too large, and the newest one stays", () =>
    Effect.gen(function* () {
      const client = yield* Client
      for (let i = 0; i < 10; i++) yield* client.emit(`event-${i}`, { text: "x".repeat(1000) })
      yield* hours(1)
      assert.deepStrictEqual(yield* names, ["event-7", "event-8", "event-9"])
      yield* client.emit("large", { text: "x".repeat(10_000) })
      yield* hours(1)
      assert.deepStrictEqual(yield* names, ["large"])
    }).pipe(Effect.provide(layerKeeping(Duration.infinity, 3500)))
  )

  it.effect(
    "are kept as long as a run that they started, and so are later events for which the run may wait",
    () =>
      Effect.gen(function* () {
        const client = yield* Client
        const engine = yield* Engine.Engine
        yield* engine.functions.register("default", [fn("ship", "order.placed")])
        yield* client.emit("before", {})
        const { runIds } = yield* client.emit("order.placed", { orderId: "o-1" })
        yield* client.emit("after", {})
        yield* client.emit("newest", {})
        yield* hours(30)
        assert.deepStrictEqual(yield* names, ["order.placed", "after", "newest"])
        assert.deepStrictEqual((yield* client.getRun(runIds[0]!)).input, { orderId: "o-1" })
        yield* client.cancelRun(runIds[0]!)
        yield* client.emit("order.placed", {})
        // the run is deleted two hours after its end, and then its event
        yield* hours(4)
        assert.deepStrictEqual(yield* names, ["order.placed"])
      }).pipe(Effect.provide(layerKeeping(Duration.days(1), Number.POSITIVE_INFINITY)))
  )

  it.effect("are deleted in the same sweep as their runs", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const engine = yield* Engine.Engine
      yield* engine.functions.register("default", [fn("ship", "order.placed")])
      const { runIds } = yield* client.emit("order.placed", { orderId: "o-1" })
      yield* client.cancelRun(runIds[0]!)
      // the newest run is never deleted
      yield* client.emit("order.placed", { orderId: "o-2" })
      yield* hours(2)
      assert.deepStrictEqual(yield* names, ["order.placed", "order.placed"])
      yield* hours(1)
      assert.deepStrictEqual(yield* names, ["order.placed"])
    }).pipe(Effect.provide(layerKeeping(Duration.hours(1), Number.POSITIVE_INFINITY)))
  )

  it.effect(
    "are kept until every projection has passed them, and a rebuilt projection reports deleted ones",
    () =>
      Effect.gen(function* () {
        const client = yield* Client
        const engine = yield* Engine.Engine
        const projections = yield* Projections
        const totals = { name: "totals", events: ["order.*"], mode: "managed" as const }
        const claim = engine.projections.claim(
          {
            environment: "default",
            registration: totals,
            workerId: "w-1"
          },
          0
        )
        const claimed = yield* claim
        assert.strictEqual(claimed._tag, "Granted")
        yield* client.emit("order.placed", {})
        yield* client.emit("order.paid", {})
        yield* hours(30)
        assert.deepStrictEqual(yield* names, ["order.placed", "order.paid"])
        assert.notInclude((yield* projections.status("totals")).message, "not all kept")
        yield* projections.delete("totals")
        yield* hours(2)
        assert.deepStrictEqual(yield* names, ["order.paid"])
        yield* claim
        assert.include(
          (yield* projections.status("totals")).message,
          "Some events up to 1970-01-01T00:00:00.000Z have been deleted"
        )
      }).pipe(Effect.provide(layerKeeping(Duration.days(1), Number.POSITIVE_INFINITY)))
  )

  it.effect("are kept until every consumer group has received them", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const groups = yield* ConsumerGroups
      yield* groups.create({ name: "printers", pattern: "events:order.*" })
      yield* client.emit("order.placed", {})
      yield* client.emit("order.paid", {})
      yield* hours(30)
      assert.deepStrictEqual(yield* names, ["order.placed", "order.paid"])
      yield* groups.delete("printers")
      yield* hours(2)
      assert.deepStrictEqual(yield* names, ["order.paid"])
    }).pipe(Effect.provide(layerKeeping(Duration.days(1), Number.POSITIVE_INFINITY)))
  )

  it.effect("are all kept by default", () =>
    Effect.gen(function* () {
      yield* (yield* Client).emit("old", {})
      yield* (yield* Client).emit("newest", {})
      yield* hours(30)
      assert.deepStrictEqual(yield* names, ["old", "newest"])
    }).pipe(Effect.provide(layerKeeping(Duration.infinity, Number.POSITIVE_INFINITY)))
  )
})

it.each([
  [{ keepEvents: "soon" }, /keepEvents/],
  [{ keepEvents: -1 }, /keepEvents/],
  [{ maxEventBytes: 0 }, /maxEventBytes/],
  [{ maxEventBytes: "big" }, /maxEventBytes/]
] as const)("an engine does not start with %j", async (options, complaint) => {
  await expect(
    // oxlint-disable-next-line typescript/no-explicit-any -- the types refuse these options
    startEngine({ filename: ":memory:", logger: false, ...(options as any) })
  ).rejects.toMatchObject({ code: "VALIDATION_ERROR", message: expect.stringMatching(complaint) })
})
