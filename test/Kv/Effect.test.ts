/** Keys and configurations as Effect services, in the process and over HTTP. */
import { assert, describe, it } from "@effect/vitest"
import { Client, Engine, IronflowConfig, Kv, Store } from "@ironflow/node/effect"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import { EngineServer } from "../Client/EngineServer.ts"

const inProcess = Engine.layerClient.pipe(
  Layer.provide(Engine.layer),
  Layer.provide(Store.layerSqlite({ filename: ":memory:" }))
)

const overHttp = Layer.unwrap(
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => EngineServer.start()),
      (server) => Effect.promise(() => server[Symbol.asyncDispose]())
    ),
    ({ url }) => Client.layerHttp({ serverUrl: url })
  )
).pipe(Layer.provide(FetchHttpClient.layer))

describe.each([
  ["in process", inProcess],
  ["over HTTP", overHttp]
])("the services %s", (_, layer) => {
  it.live("of keys fail with errors that can be caught by tag", () =>
    Effect.gen(function* () {
      const kv = yield* Kv.Kv
      const bucket = kv.bucket("stock")
      const missing = yield* Effect.flip(bucket.put("a", 1))
      assert.strictEqual(missing._tag, "BucketNotFoundError")
      assert.deepInclude(yield* kv.createBucket({ name: "stock", history: 2 }), { name: "stock", history: 2 })
      const { revision } = yield* bucket.create("a", { left: 3 })

      const outcome = yield* bucket.update("a", { left: 0 }, revision + 1).pipe(
        Effect.as("written"),
        Effect.catchTag("RevisionConflictError", (error) => Effect.succeed(`it is at ${error.actual}`))
      )
      assert.strictEqual(outcome, `it is at ${revision}`)
      const { revisions } = yield* bucket.write([
        { op: "update", key: "a", value: { left: 2 }, revision },
        { op: "put", key: "b", value: new Uint8Array([0, 255]) }
      ])

      assert.deepStrictEqual(revisions, [revision + 1, revision + 2])
      assert.deepStrictEqual((yield* bucket.get("b")).value, new Uint8Array([0, 255]))
      assert.deepStrictEqual(
        (yield* bucket.history("a")).map(({ value }) => value),
        [{ left: 3 }, { left: 2 }]
      )
      assert.deepStrictEqual(yield* bucket.listKeys(), ["a", "b"])
      yield* bucket.delete("a")
      assert.strictEqual((yield* Effect.flip(bucket.get("a")))._tag, "KeyNotFoundError")
    }).pipe(Effect.provide(layer))
  )

  it.live("of keys list more keys than fit on a page", () =>
    Effect.gen(function* () {
      const kv = yield* Kv.Kv
      yield* kv.createBucket({ name: "many" })
      const bucket = kv.bucket("many")
      const keys = Array.from({ length: 2100 }, (_, i) => `key-${String(i).padStart(5, "0")}`)
      for (let i = 0; i < keys.length; i += 100)
        yield* bucket.write(keys.slice(i, i + 100).map((key) => ({ op: "put", key, value: 1 })))

      assert.deepStrictEqual(yield* bucket.listKeys(), keys)
      // these keys are on the last page only
      assert.deepStrictEqual(yield* bucket.listKeys("key-02*"), keys.slice(2000))
    }).pipe(Effect.provide(layer))
  )

  it.live("of keys watch as a stream, which ends with its consumer", () =>
    Effect.gen(function* () {
      const kv = yield* Kv.Kv
      yield* kv.createBucket({ name: "stock" })
      const bucket = kv.bucket("stock")
      const opened = yield* Queue.unbounded<number>()
      const watching = yield* bucket
        .watch({ key: "item.*", onOpen: (revision) => void Queue.offerUnsafe(opened, revision) })
        .pipe(Stream.take(2), Stream.runCollect, Effect.forkChild)
      assert.strictEqual(yield* Queue.take(opened), 0)
      yield* bucket.put("other", 1)
      yield* bucket.put("item.1", 2)
      yield* bucket.delete("item.1")

      assert.deepStrictEqual(
        (yield* Fiber.join(watching)).map(({ operation, revision }) => [operation, revision]),
        [
          ["put", 2],
          ["delete", 3]
        ]
      )
    }).pipe(Effect.provide(layer))
  )

  it.live("of configurations set, patch, list several pages, watch and delete", () =>
    Effect.gen(function* () {
      const config = yield* IronflowConfig.Config
      assert.strictEqual((yield* Effect.flip(config.patch("app", { a: 1 })))._tag, "ConfigNotFoundError")
      yield* config.set("app", { a: 1, b: 1 })
      yield* config.patch("app", { b: 2 })
      assert.deepStrictEqual((yield* config.get("app")).data, { a: 1, b: 2 })
      const names = Array.from({ length: 40 }, (_, i) => `c-${String(i).padStart(2, "0")}`)
      yield* Effect.forEach(names, (name) => config.set(name, { name }), { concurrency: 8 })
      const listed = yield* config.list()
      assert.deepStrictEqual(
        listed.map(({ name }) => name),
        ["app", ...names]
      )
      assert.deepStrictEqual(listed.at(-1)?.data, { name: "c-39" })

      const seen = yield* Queue.unbounded<unknown>()
      const watching = yield* config.watch("app", { fromRevision: 0 }).pipe(
        Stream.take(2),
        Stream.runForEach(({ data }) => Queue.offer(seen, data)),
        Effect.forkChild
      )
      assert.deepStrictEqual(yield* Queue.take(seen), { a: 1, b: 2 })
      yield* config.delete("app")
      yield* Fiber.join(watching)
      assert.strictEqual(yield* Queue.take(seen), undefined)
      assert.strictEqual((yield* Effect.flip(config.get("app")))._tag, "ConfigNotFoundError")
    }).pipe(Effect.provide(layer))
  )
})
