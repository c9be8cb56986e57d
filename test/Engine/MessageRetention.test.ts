/** How long the engine keeps messages, and how many bytes of a topic. */
import { assert, it } from "@effect/vitest"
import { startEngine } from "@ironflow/node/engine"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { expect } from "vitest"
import { Client } from "../../src/Client/Client.ts"
import * as Engine from "../../src/Engine/Engine.ts"
import { MessageRetention } from "../../src/Engine/PubSub/MessageSweep.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { untilQuiet } from "./Quiet.ts"

const layerKeeping = (age: Duration.Duration, topicBytes: number) =>
  Engine.layerClientIn("default").pipe(
    Layer.provideMerge(Engine.layer),
    Layer.provide(SqliteStore.layer({ filename: ":memory:" })),
    Layer.provide(Layer.succeed(MessageRetention, { age, topicBytes }))
  )

const counts = Effect.gen(function* () {
  // the sweep deletes in later turns of the event loop
  yield* Effect.promise(async () => {
    await untilQuiet()
  })
  const topics = yield* (yield* Client).listTopics()
  return topics.map(({ messageCount, name }) => [name, messageCount])
})

it.effect("messages of all topics are deleted when they are too old, and events are not", () =>
  Effect.gen(function* () {
    const client = yield* Client
    yield* client.publish("news", { i: 1 })
    yield* client.publish("jobs", { i: 2 })
    yield* TestClock.adjust("20 hours")
    yield* client.publish("news", { i: 3 })
    yield* client.emit("order.placed", {})
    assert.deepStrictEqual(yield* counts, [
      ["jobs", 1],
      ["news", 2]
    ])

    for (let hour = 0; hour < 6; hour++) {
      yield* TestClock.adjust("1 hour")
      yield* counts
    }

    assert.deepStrictEqual(yield* counts, [
      ["jobs", 0],
      ["news", 1]
    ])
  }).pipe(Effect.provide(layerKeeping(Duration.days(1), 1e9)))
)

it.effect("the oldest messages of a topic are deleted when it is too large, and others stay", () =>
  Effect.gen(function* () {
    const client = yield* Client
    for (let i = 0; i < 10; i++) yield* client.publish("news", { text: "x".repeat(100) })
    yield* client.publish("jobs", { i: 1 })
    yield* TestClock.adjust("1 hour")

    assert.deepStrictEqual(yield* counts, [
      ["jobs", 1],
      ["news", 4]
    ])
  }).pipe(Effect.provide(layerKeeping(Duration.infinity, 500)))
)

it.each([
  [{ keepMessages: "soon" }, /keepMessages/],
  [{ keepMessages: -1 }, /keepMessages/],
  [{ maxTopicBytes: 0 }, /maxTopicBytes/],
  [{ maxTopicBytes: 1.5 }, /maxTopicBytes/]
] as const)("an engine does not start with %j", async (options, complaint) => {
  await expect(
    // oxlint-disable-next-line typescript/no-explicit-any -- the types refuse these options
    startEngine({ filename: ":memory:", logger: false, ...(options as any) })
  ).rejects.toMatchObject({ code: "VALIDATION_ERROR", message: expect.stringMatching(complaint) })
})
