/** Waiting at one engine for something that happens at another engine on the same database. */
import { assert, describe } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Config } from "../../../src/Client/Config.ts"
import { Kv } from "../../../src/Client/Kv.ts"
import { Projections } from "../../../src/Client/Projections.ts"
import { Subscriptions } from "../../../src/Client/Subscriptions.ts"
import { createDeferred } from "../../../src/Deferred.ts"
import { createFunction, createProjection } from "../../../src/index.ts"
import { type Node, taking, withAndWithoutNotifications, until, withTwo } from "./Cluster.ts"

const greet = createFunction(
  { id: "greet", triggers: [{ event: "guest.came" }] },
  async ({ event, step }) => {
    const name = await step.run("name", () => event.data.name)
    await step.sleep("a moment", "20ms")
    return `hello ${name}`
  }
)

const startRun = (node: Node, event: string, data: unknown) =>
  Effect.map(node.client.emit(event, data), ({ runIds: [runId = ""] }) => runId)

const subscribe = (node: Node, pattern: string, options: object = {}) =>
  taking(Context.get(node.services, Subscriptions).stream(pattern, options))

describe("two engines on one database", () => {
  withAndWithoutNotifications(
    "execute runs that the other has started, and notify the other of their end",
    (a, b) =>
      Effect.gen(function* () {
        yield* b.work([greet])
        yield* until(a.client.listFunctions(), (functions) => functions.length === 1)
        const runId = yield* startRun(a, "guest.came", { name: "anna" })
        assert.strictEqual((yield* a.client.waitForRun(runId)).output, "hello anna")
      })
  )

  withAndWithoutNotifications("send turns of each other's workers the outcomes that they wait for", (a, b) =>
    Effect.gen(function* () {
      const waits = createFunction(
        { id: "waits", triggers: [{ event: "order.placed" }] },
        async ({ step }) => {
          const other = step.run("other", () => came.promise)
          const paid = await step.waitForEvent("paid", { event: "order.paid", timeout: "1h" })
          came.resolve(undefined)
          await other
          return paid.data.amount
        }
      )
      const came = createDeferred<undefined>()
      yield* b.work([waits])
      const runId = yield* startRun(b, "order.placed", {})
      yield* until(b.client.getRunSteps(runId), (steps) => steps.some(({ name }) => name === "paid"))
      yield* a.client.emit("order.paid", { amount: 42 })
      assert.strictEqual((yield* a.client.waitForRun(runId)).output, 42)
    })
  )

  withAndWithoutNotifications("stop turns of each other's workers whose runs were cancelled", (a, b) =>
    Effect.gen(function* () {
      const begun = createDeferred<void>()
      const stopped = createDeferred<void>()
      const long = createFunction({ id: "long", triggers: [{ event: "work.given" }] }, ({ step }) =>
        step.run("work", ({ signal }) => {
          begun.resolve()
          return new Promise<void>((resolve) =>
            signal.addEventListener("abort", () => {
              stopped.resolve()
              resolve()
            })
          )
        })
      )
      yield* b.work([long])
      const runId = yield* startRun(b, "work.given", {})
      yield* Effect.promise(() => begun.promise)
      yield* a.client.cancelRun(runId)
      yield* Effect.timeout(
        Effect.promise(() => stopped.promise),
        "10 seconds"
      )
    })
  )

  withAndWithoutNotifications(
    "show each other's changes to watchers of keys, in order and each once",
    (a, b) =>
      Effect.gen(function* () {
        const bucketAt = (node: Node) => Context.get(node.services, Kv).bucket("prices")
        yield* Context.get(a.services, Kv).createBucket({ name: "prices" })
        yield* until(Context.get(b.services, Kv).listBuckets(), (buckets) => buckets.length === 1)
        const next = yield* taking(bucketAt(b).watch({ key: ">", fromRevision: 0 }))
        const keys = Array.from({ length: 10 }, (_, i) => `key-${i}`)
        for (const [i, key] of keys.entries()) yield* bucketAt(i % 2 === 0 ? a : b).put(key, i)
        const seen: Array<string> = []
        for (const _ of keys) seen.push((yield* next).key)
        assert.deepStrictEqual(seen, keys)
      })
  )

  withAndWithoutNotifications("show each other's changes to watchers of configurations", (a, b) =>
    Effect.gen(function* () {
      const config = (node: Node) => Context.get(node.services, Config)
      yield* config(a).set("limits", { most: 1 })
      yield* until(config(b).list(), (all) => all.length === 1)
      const next = yield* taking(config(b).watch("limits", { fromRevision: 0 }))
      assert.deepStrictEqual((yield* next).data, { most: 1 })
      yield* config(a).set("limits", { most: 2 })
      assert.deepStrictEqual((yield* next).data, { most: 2 })
    })
  )

  withAndWithoutNotifications(
    "deliver every message of a topic to subscribers once and in order, wherever it was published",
    (a, b) =>
      Effect.gen(function* () {
        yield* a.client.publish("other", {})
        const next = yield* subscribe(b, "topic:news")
        const later = yield* subscribe(a, "topic:news")
        yield* until(
          Effect.sync(() => a.engine.subscriptions.count() + b.engine.subscriptions.count()),
          (count) => count === 2
        )
        for (let i = 0; i < 20; i++) yield* (i % 2 === 0 ? a : b).client.publish("news", { i })
        for (const take of [next, later]) {
          const seen: Array<number> = []
          for (let i = 0; i < 20; i++) seen.push((yield* take).data.i)
          assert.deepStrictEqual(
            seen,
            Array.from({ length: 20 }, (_, i) => i)
          )
        }
      })
  )

  withAndWithoutNotifications(
    "share the messages of a consumer group among members at both, and deliver each once",
    (a, b) =>
      Effect.gen(function* () {
        yield* a.client.publish("other", {})
        const seen: Array<string> = []
        for (const [name, node] of [
          ["anna", a],
          ["ben", b]
        ] as const) {
          const stream = Context.get(node.services, Subscriptions).stream("topic:parcels", {
            consumerGroup: "packers",
            ackMode: "manual"
          })
          yield* Effect.forkScoped(
            Stream.runForEach(stream, (event) =>
              Effect.andThen(
                Effect.sync(() => void seen.push(`${name} ${event.data.i}`)),
                event.ack
              )
            )
          )
        }
        yield* until(
          Effect.sync(() => a.engine.subscriptions.count() + b.engine.subscriptions.count()),
          (count) => count === 2
        )
        for (let i = 0; i < 20; i++) yield* (i % 2 === 0 ? a : b).client.publish("parcels", { i })
        yield* until(
          Effect.sync(() => seen.length),
          (count) => count >= 20
        )
        assert.deepStrictEqual(
          seen.map((one) => Number(one.split(" ")[1])).toSorted((x, y) => x - y),
          Array.from({ length: 20 }, (_, i) => i)
        )
      })
  )

  withTwo("announce to subscribers of system events what happens at the other", (a, b) =>
    Effect.gen(function* () {
      yield* a.work([greet])
      const next = yield* subscribe(b, "system.run.*.completed")
      yield* until(
        Effect.sync(() => b.engine.subscriptions.count()),
        (count) => count === 1
      )
      const completed = Effect.gen(function* () {
        const runId = yield* startRun(a, "guest.came", { name: "anna" })
        yield* a.client.waitForRun(runId)
        return runId
      })
      const runId = yield* completed
      assert.strictEqual((yield* next).data.id, runId)
    })
  )

  withAndWithoutNotifications(
    "run a projection at one of them, and at the other one when that one stops",
    (a, b) =>
      Effect.gen(function* () {
        const seen: Array<string> = []
        const totals = (where: string) =>
          createProjection({
            name: "totals",
            events: ["order.placed"],
            initialState: () => ({ total: 0 }),
            handler: (state: { total: number }, event) => {
              seen.push(where)
              return { total: state.total + event.data.amount }
            }
          })
        const first = yield* Scope.make()
        yield* Scope.provide(a.work([], { projections: [totals("a")] }), first)
        yield* b.work([], { projections: [totals("b")] })
        const totalAt = (node: Node, position = 0) =>
          Effect.map(
            Context.get(node.services, Projections).get("totals", { after: position }),
            ({ state }) => state
          )
        const { position } = yield* b.client.emit("order.placed", { amount: 1 })
        assert.deepStrictEqual(yield* totalAt(b, position), { total: 1 })
        assert.lengthOf(seen, 1)
        yield* Scope.close(first, Exit.void)
        const next = yield* a.client.emit("order.placed", { amount: 2 })
        assert.deepStrictEqual(yield* totalAt(a, next.position), { total: 3 })
        assert.deepStrictEqual(seen, ["a", "b"])
      })
  )
})
