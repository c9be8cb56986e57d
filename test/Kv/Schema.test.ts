/** Buckets with a schema: values are decoded on read and encoded on write, and an error says where a value does not fit. */
import {
  createClient,
  createFunction,
  createWorker,
  type IronflowClient,
  KVClient,
  type KVEntry,
  type KVWatchEvent,
  KeySchemaError,
  SchemaValidationError,
  ValidationError
} from "@ironflow/node"
import { Client, Engine, type Errors, IronflowFunction, Kv, Step, Store } from "@ironflow/node/effect"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { afterEach, assert, beforeEach, describe, expectTypeOf, it } from "vitest"
import { z } from "zod"
import { EngineServer } from "../Client/EngineServer.ts"

/** In the store, the dates are texts. */
const Session = Schema.Struct({ user: Schema.String, at: Schema.DateFromString, visits: Schema.Int })
const ZodSession = z.object({
  user: z.string(),
  at: z.iso.datetime().transform((text) => new Date(text)),
  role: z.enum(["admin", "guest"]).default("guest")
})
const at = new Date("2026-01-02T03:04:05.000Z")

const rejected = async (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => assert.fail("it was accepted"),
    (error: unknown) => error
  )

describe.each(["in process", "over HTTP"])("a bucket with a schema %s", (where) => {
  let engine: IronflowEngine
  let client: IronflowClient
  beforeEach(async () => {
    engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    client = where === "in process" ? engine.client : createClient({ serverUrl: engine.url })
    await client.kv().createBucket({ name: "sessions", history: 5 })
  })
  afterEach(async () => {
    await client.close()
    await engine.close()
  })

  it("encodes and decodes with an Effect schema", async () => {
    const sessions = client.kv().bucket("sessions", { schema: Session })
    const session = { user: "ada", at, visits: 1 }

    const { revision } = await sessions.create("ada", session)
    await sessions.update("ada", { ...session, visits: 2 }, revision)
    await sessions.put("bob", session)
    const { revisions } = await sessions.write([
      { op: "put", key: "cyd", value: session },
      { op: "delete", key: "bob" }
    ])

    const entry = await sessions.get("ada")
    expectTypeOf(entry).toEqualTypeOf<
      KVEntry<{ readonly user: string; readonly at: Date; readonly visits: number }>
    >()
    assert.deepStrictEqual(entry.value, { user: "ada", at, visits: 2 })
    assert.strictEqual(revisions.length, 2)
    const history = await sessions.history("ada")
    assert.deepStrictEqual(
      history.map((it) => (it.operation === "put" ? it.value.at.getTime() + it.value.visits : undefined)),
      [at.getTime() + 1, at.getTime() + 2]
    )
    assert.deepStrictEqual((await client.kv().bucket("sessions").get("cyd")).value, {
      user: "ada",
      at: at.toISOString(),
      visits: 1
    })
  })

  it("stores the input of a Standard Schema, and returns its output", async () => {
    const sessions = client.kv().bucket("sessions", { schema: ZodSession })

    await sessions.put("ada", { user: "ada", at: at.toISOString() })
    const { value } = await sessions.get("ada")

    expectTypeOf(value).toEqualTypeOf<{ user: string; at: Date; role: "admin" | "guest" }>()
    assert.deepStrictEqual(value, { user: "ada", at, role: "guest" })
    assert.deepStrictEqual((await client.kv().bucket("sessions").get("ada")).value, {
      user: "ada",
      at: at.toISOString()
    })
  })

  it("waits for asynchronous schemas", async () => {
    const Known = z.string().refine(async (name) => name === "ada", "is nobody")
    const names = client.kv().bucket("sessions", { schema: Known })

    await names.put("a", "ada")
    const error = await rejected(names.put("b", "eve"))

    assert.strictEqual((await names.get("a")).value, "ada")
    assert.instanceOf(error, KeySchemaError)
    assert.deepStrictEqual(error.validationErrors, ["$: is nobody"])
  })

  it("keeps bytes as bytes", async () => {
    const files = client.kv().bucket("sessions", { schema: Schema.Uint8Array })
    const others = client.kv().bucket("sessions", { schema: z.instanceof(Uint8Array) })

    await files.put("a", new Uint8Array([0, 255]))
    await others.put("b", new Uint8Array([1]))

    assert.deepStrictEqual((await files.get("a")).value, new Uint8Array([0, 255]))
    assert.deepStrictEqual(new Uint8Array((await others.get("b")).value), new Uint8Array([1]))
    assert.instanceOf((await client.kv().bucket("sessions").get("a")).value, Uint8Array)
  })

  it("refuses to write a value that does not fit the schema, and writes nothing", async () => {
    const sessions = client.kv().bucket("sessions", { schema: ZodSession })
    const wrong = { user: "ada", at: at.toISOString(), role: "root" }

    const calls = [
      // @ts-expect-error -- "root" is not a role
      () => sessions.put("ada", wrong),
      // @ts-expect-error -- "root" is not a role
      () => sessions.create("ada", wrong),
      // @ts-expect-error -- "root" is not a role
      () => sessions.update("ada", wrong, 1),
      () =>
        sessions.write([
          { op: "put", key: "bob", value: { user: "bob", at: at.toISOString() } },
          // @ts-expect-error -- "root" is not a role
          { op: "put", key: "ada", value: wrong }
        ])
    ]
    for (const call of calls) {
      const error = await rejected(call())
      assert.instanceOf(error, KeySchemaError)
      assert.instanceOf(error, SchemaValidationError)
      assert.deepInclude(error, { bucket: "sessions", key: "ada", revision: undefined })
      assert.match(
        error.message,
        /^The value for key "ada" in bucket "sessions" .*nothing was written: role: /
      )
    }
    assert.deepStrictEqual(await sessions.listKeys(), [])
    assert.strictEqual((await client.kv().getBucketInfo("sessions")).revision, 0)
  })

  it("refuses to write a value that could not be read again", async () => {
    // in JSON a date is a text
    const dates = client.kv().bucket("sessions", { schema: z.object({ at: z.date() }) })

    const error = await rejected(dates.put("ada", { at }))

    assert.instanceOf(error, KeySchemaError)
    assert.match(error.message, /nothing was written: at: .*expected date/)
    const notStored = await rejected(
      client.kv().bucket("sessions", { schema: z.unknown() }).put("ada", { of: 1n })
    )
    assert.instanceOf(notStored, ValidationError)
  })

  it("says where stored data does not fit the schema", async () => {
    const untyped = client.kv().bucket("sessions")
    await untyped.put("ada", { user: "ada", at: at.toISOString(), visits: 1 })
    const { revision } = await untyped.put("ada", { user: "ada", at: "yesterday", visits: 1.5 })
    const sessions = client.kv().bucket("sessions", { schema: Session })

    for (const call of [() => sessions.get("ada"), () => sessions.history("ada")]) {
      const error = await rejected(call())
      assert.instanceOf(error, KeySchemaError)
      assert.deepInclude(error, { bucket: "sessions", key: "ada", revision, retryable: false })
      assert.match(error.message, /^The value at revision 2 of key "ada" in bucket "sessions" .*visits: /)
      assert.deepStrictEqual(error.details, { bucket: "sessions", key: "ada", revision })
    }
  })

  it("decodes the values of a watch, and ends the watch at a value that does not fit", async () => {
    const sessions = client.kv().bucket("sessions", { schema: Session })
    await sessions.put("ada", { user: "ada", at, visits: 1 })
    await sessions.delete("ada")
    const { revision } = await client.kv().bucket("sessions").put("bob", 5)

    const seen: Array<KVWatchEvent<typeof Session.Type>> = []
    const watching = async () => {
      for await (const event of sessions.watch(undefined, { fromRevision: 0 })) seen.push(event)
    }
    const error = await rejected(watching())

    assert.instanceOf(error, KeySchemaError)
    assert.deepInclude(error, { key: "bob", revision })
    assert.deepStrictEqual(
      seen.map(({ operation, value }) => [operation, value?.at]),
      [
        ["put", at],
        ["delete", undefined]
      ]
    )
    await using after = sessions.watch(undefined, { fromRevision: revision })
    await after.ready
    await sessions.put("cyd", { user: "cyd", at, visits: 3 })
    for await (const event of after) {
      if (event.operation !== "put") assert.fail(event.operation)
      assert.strictEqual(event.value.at.getTime(), at.getTime())
      break
    }
  })

  it("is available from a KV client too", async () => {
    await using kv = new KVClient({ serverUrl: engine.url! })
    const sessions = kv.bucket("sessions", { schema: Session })
    await sessions.put("ada", { user: "ada", at, visits: 1 })
    assert.deepStrictEqual((await sessions.get("ada")).value, { user: "ada", at, visits: 1 })
  })

  it("refuses an invalid schema", () => {
    // @ts-expect-error -- a text is not a schema
    assert.throws(() => client.kv().bucket("sessions", { schema: "Session" }), ValidationError, /schema/)
    // @ts-expect-error -- a misspelled option
    assert.throws(() => client.kv().bucket("sessions", { scheme: Session }), ValidationError, /`schema`/)
  })

  it("types a bucket without a schema as unknown", async () => {
    const bucket = client.kv().bucket("sessions")
    await bucket.put("any", { thing: true })
    expectTypeOf((await bucket.get("any")).value).toEqualTypeOf<unknown>()
  })
})

const apis = {
  Promise: createFunction({ id: "open", triggers: [{ event: "opened" }] }, ({ event, step }) =>
    step.tx(
      "open",
      (tx) => {
        const sessions = tx.kv("sessions", { schema: ZodSession })
        sessions.create("ada", { user: "ada", at: at.toISOString() })
        if (event.data.role !== undefined) sessions.put("eve", { user: "eve", ...event.data })
        // @ts-expect-error -- a session has a user
        assert.throws(() => sessions.put("nobody", { at: at.toISOString() }), KeySchemaError)
      },
      { retry: { maxAttempts: 1 } }
    )
  ),
  Effect: IronflowFunction.make({ id: "open", triggers: [{ event: "opened" }] }, ({ event }) =>
    Step.tx(
      "open",
      (tx) =>
        Effect.gen(function* () {
          const sessions = tx.kv("sessions", { schema: ZodSession })
          yield* sessions.create("ada", { user: "ada", at: at.toISOString() })
          if (event.data.role !== undefined) yield* sessions.put("eve", { user: "eve", ...event.data })
          // @ts-expect-error -- a session has a user
          assert.instanceOf(yield* Effect.flip(sessions.put("bob", { at: "" })), KeySchemaError)
        }),
      { retry: { maxAttempts: 1 } }
    )
  )
}

describe.each(["Promise", "Effect"] as const)("step.tx of the %s API with the schema of a bucket", (api) => {
  it.each(["in process", "over HTTP"])("writes values that fit, all or none, %s", async (where) => {
    await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    const { client } = engine
    await client.kv().createBucket({ name: "sessions" })
    const worker =
      where === "in process"
        ? engine.createWorker({ functions: [apis[api]], logger: false })
        : createWorker({ serverUrl: engine.url!, functions: [apis[api]], logger: false })
    const ended = worker.start()
    await worker.ready()

    const refused = await rejected(client.emitSync("opened", { at: at.toISOString(), role: "root" }))
    assert.match(String(refused), /The value for key "eve" in bucket "sessions".*role: /)
    assert.deepStrictEqual(await client.kv().bucket("sessions").listKeys(), [])
    await client.emitSync("opened", {})

    const { value } = await client.kv().bucket("sessions", { schema: ZodSession }).get("ada")
    assert.deepStrictEqual(value, { user: "ada", at, role: "guest" })
    await worker.stop()
    await ended
  })
})

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
])("the service of keys %s", (_, layer) => {
  it("encodes, decodes and fails according to the schema of a bucket", () =>
    Effect.gen(function* () {
      const kv = yield* Kv.Kv
      yield* kv.createBucket({ name: "sessions" })
      const sessions = kv.bucket("sessions", { schema: Session })
      expectTypeOf(sessions).toEqualTypeOf<
        Kv.KvBucket<typeof Session.Type, typeof Session.Type, Errors.KeySchemaError>
      >()
      expectTypeOf(kv.bucket("sessions")).toEqualTypeOf<Kv.KvBucket<unknown, unknown, never>>()

      const watching = yield* Effect.forkChild(Stream.runHead(sessions.watch({ fromRevision: 0 })), {
        startImmediately: true
      })
      yield* sessions.put("ada", { user: "ada", at, visits: 1 })
      assert.deepStrictEqual((yield* sessions.get("ada")).value, { user: "ada", at, visits: 1 })
      const first = yield* Fiber.join(watching)
      assert.deepInclude(first, { _tag: "Some" })

      // @ts-expect-error -- a text is not a number of visits
      const refused = yield* Effect.flip(sessions.put("bob", { user: "bob", at, visits: "one" }))
      assert.instanceOf(refused, KeySchemaError)
      assert.strictEqual((yield* Effect.flip(sessions.get("bob")))._tag, "KeyNotFoundError")
      const { revision } = yield* kv.bucket("sessions").put("bob", { user: "bob" })
      const mismatch = yield* Effect.flip(sessions.get("bob"))
      assert.deepInclude(mismatch, { bucket: "sessions", key: "bob", revision })
    }).pipe(Effect.provide(layer), Effect.scoped, Effect.runPromise))
})
