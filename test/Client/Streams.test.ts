/**
 * Entity streams and `step.tx` as users see them: with both APIs, in the engine's process and over HTTP, and on legacy
 * servers.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { afterAll, beforeAll } from "vitest"
import { Client, Engine, IronflowFunction, Step, Store, Streams } from "@ironflow/node/effect"
import { startEngine, type IronflowEngine } from "../../src/engine.ts"
import {
  createClient,
  createEventDefinitionRegistry,
  createFunction,
  type IronflowClient,
  IronflowError,
  LimitExceededError,
  StepError,
  type StreamEvent,
  StreamNotFoundError,
  ValidationError,
  VersionConflictError
} from "../../src/index.ts"
import { EngineServer } from "./EngineServer.ts"
import { type Reply, ScriptedServer } from "./ScriptedServer.ts"

const rejection = async (promise: Promise<unknown>): Promise<any> => {
  try {
    await promise
  } catch (error) {
    return error
  }
  return assert.fail("expected a rejection")
}

const item = (n: unknown, entityType = "order") => ({ name: "item.added", data: { n }, entityType })

/** In version 2 `item.added` counts in dozens. */
const eventDefinitions = createEventDefinitionRegistry()
eventDefinitions.register({ name: "item.added", version: 1 })
eventDefinitions.register({
  name: "item.added",
  version: 2,
  upcast: (data) => ({ dozens: Object(data).n / 12 })
})

/** Reserves what the event wants, if the stock has the version that the body expects. */
const reserveStock = (clientOf: () => IronflowClient) =>
  createFunction(
    { id: "reserve-stock", triggers: [{ event: "stock.wanted" }] },
    async ({ event, run, step }) =>
      step.tx(
        "reserve",
        async (tx, { attempt }) => {
          const { totalCount } = await clientOf().streams.read(event.data.sku)
          const expectedVersion = attempt <= event.data.mistakes ? totalCount + 1 : totalCount
          tx.streams.append(
            event.data.sku,
            { name: "stock.reserved", data: { run: run.id }, entityType: "stock" },
            { expectedVersion }
          )
          tx.emit("stock.promised", { run: run.id })
          return attempt
        },
        { retry: { maxAttempts: 3, initialDelayMs: 5 } }
      )
  )

const notePromise = createFunction(
  { id: "note-promise", triggers: [{ event: "stock.promised" }] },
  async ({ event }) => event.data.run
)

const noteReserved = IronflowFunction.make(
  { id: "note-reserved", triggers: [{ event: "stock.reserved" }] },
  Effect.fnUntraced(function* ({ event }) {
    const { value, writes } = yield* Step.tx("note", (tx) =>
      Effect.as(tx.streams.append("notes", { name: "noted", data: event.entity, entityType: "notes" }), "ok")
    )
    return { entity: event.entity, value, version: Object(writes[0]).entityVersion }
  })
)

describe.each(["in the engine's process", "over HTTP"] as const)("entity streams %s", (where) => {
  let engine: IronflowEngine
  let client: IronflowClient
  beforeAll(async () => {
    engine = await startEngine({
      filename: ":memory:",
      functions: [reserveStock(() => client), notePromise, noteReserved],
      logger: false,
      listen: { port: 0 }
    })
    client = where === "over HTTP" ? createClient({ serverUrl: engine.url }) : engine.client
  })
  afterAll(async () => {
    await client.close()
    await engine.close()
  })
  const connected = (options: { eventDefinitions?: typeof eventDefinitions } = {}) =>
    createClient(where === "over HTTP" ? { serverUrl: engine.url, ...options } : { engine, ...options })

  it("append, read and describe", async () => {
    const first = await client.streams.append("o-1", item(1), { metadata: { by: "me" }, version: 2 })
    const second = await client.streams.append("o-1", item(2), { expectedVersion: 1 })

    assert.deepStrictEqual([first.entityVersion, second.entityVersion], [1, 2])
    assert.isAbove(second.position, first.position)
    const { events, totalCount } = await client.streams.read("o-1")
    assert.strictEqual(totalCount, 2)
    assert.deepStrictEqual(
      events.map(({ timestamp, ...event }) => event),
      [
        {
          id: first.eventId,
          name: "item.added",
          data: { n: 1 },
          entityVersion: 1,
          version: 2,
          metadata: { by: "me" }
        },
        { id: second.eventId, name: "item.added", data: { n: 2 }, entityVersion: 2, version: 1 }
      ]
    )
    const { createdAt, updatedAt, ...info } = await client.streams.getInfo("o-1")
    assert.deepStrictEqual(await client.streams.findInfo("o-1"), { createdAt, updatedAt, ...info })
    assert.deepStrictEqual(info, { entityId: "o-1", entityType: "order", version: 2, eventCount: 2 })
    assert.deepStrictEqual(
      [createdAt, updatedAt],
      [events[0]?.timestamp, events[1]?.timestamp],
      "a stream was created with its first event, and updated with its last"
    )
  })

  it("reject a conflict with the stack of the caller, and keep the stacks of other errors", async () => {
    await client.streams.append("asked", item(1))
    const limit = Error.stackTraceLimit
    const appendWrongly = async () => await client.streams.append("asked", item(2), { expectedVersion: 7 })

    const conflict = await rejection(appendWrongly())

    assert.instanceOf(conflict, VersionConflictError)
    assert.match(conflict.stack ?? "", /^VersionConflictError: Version conflict on stream "asked"/)
    assert.include(conflict.stack ?? "", "appendWrongly")
    assert.notInclude(conflict.stack ?? "", "StreamRows")
    assert.strictEqual(Error.stackTraceLimit, limit)
  })

  it("store any JSON as data, and missing data as an empty object", async () => {
    for (const data of [null, "text", 5, [1, 2], { __proto__: null, constructor: 1 }, undefined]) {
      await client.streams.append("any", { name: "x", data, entityType: "any" })
    }

    const { events } = await client.streams.read("any")
    assert.deepStrictEqual(
      events.map(({ data }) => data),
      [null, "text", 5, [1, 2], { constructor: 1 }, {}]
    )
  })

  it("let one of many writers that expect the same version succeed, and tell the others both versions", async () => {
    await client.streams.append("contested", item(0))

    const outcomes = await Promise.allSettled(
      Array.from({ length: 16 }, (_, n) =>
        client.streams.append("contested", item(n), { expectedVersion: 1 })
      )
    )

    const errors = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []))
    assert.strictEqual(errors.length, 15)
    for (const error of errors) {
      assert.instanceOf(error, VersionConflictError)
      assert.deepInclude(error, { entityId: "contested", expectedVersion: 1, actualVersion: 2 })
      assert.strictEqual(error.retryable, true)
    }
  })

  it("accept NO_STREAM and STREAM_EXISTS as expected versions", async () => {
    const { streams } = client
    const missing = await rejection(
      streams.append("words", item(1), { expectedVersion: "STREAM_EXISTS", idempotencyKey: "k" })
    )
    await streams.append("words", item(1), { expectedVersion: "NO_STREAM" })
    const taken = await rejection(streams.append("words", item(2), { expectedVersion: "NO_STREAM" }))
    const appended = await streams.append("words", item(2), { expectedVersion: "STREAM_EXISTS" })

    assert.instanceOf(missing, VersionConflictError)
    assert.deepInclude(missing, { expectedVersion: "STREAM_EXISTS", actualVersion: 0 })
    assert.instanceOf(taken, VersionConflictError)
    assert.deepInclude(taken, { expectedVersion: "NO_STREAM", actualVersion: 1 })
    assert.strictEqual(appended.entityVersion, 2)
  })

  it("accept several events at once, either all or none", async () => {
    const events = [{ name: "a", data: 1 }, { name: "b", version: 2 }, { name: "c" }]
    const appended = await client.streams.appendAll(
      "batch",
      { entityType: "order", events },
      { expectedVersion: 0, idempotencyKey: "k" }
    )
    const again = await client.streams.appendAll(
      "batch",
      { entityType: "order", events },
      { expectedVersion: 0, idempotencyKey: "k" }
    )
    const refused = await rejection(
      client.streams.appendAll("batch", { entityType: "order", events }, { expectedVersion: 1 })
    )

    assert.deepStrictEqual(
      appended.events.map(({ entityVersion }) => entityVersion),
      [1, 2, 3]
    )
    assert.deepStrictEqual(
      [appended.entityVersion, appended.position],
      [3, appended.events[2]?.position ?? 0]
    )
    assert.deepStrictEqual(again, appended)
    assert.instanceOf(refused, VersionConflictError)
    assert.strictEqual((await client.streams.getInfo("batch")).version, 3)
  })

  it("are read event by event, however long, in both directions and until the reader stops", async () => {
    await client.streams.appendAll("long", {
      entityType: "order",
      events: Array.from({ length: 25 }, (_, n) => ({ name: "x", data: n }))
    })
    const versions = async (events: AsyncIterable<StreamEvent>, enough = Number.POSITIVE_INFINITY) => {
      const seen: Array<number> = []
      for await (const { entityVersion } of events) {
        seen.push(entityVersion)
        if (seen.length === enough) break
      }
      return seen
    }
    const upTo25 = Array.from({ length: 25 }, (_, i) => i + 1)

    const { streams } = client
    assert.deepStrictEqual(await versions(streams.events("long", { pageSize: 10 })), upTo25)
    assert.deepStrictEqual(await versions(streams.events("long", { pageSize: 5 })), upTo25)
    assert.deepStrictEqual(
      await versions(streams.events("long", { pageSize: 1, direction: "backward" })),
      upTo25.toReversed()
    )
    assert.deepStrictEqual(await versions(streams.events("long", { fromVersion: 24 })), [24, 25])
    assert.deepStrictEqual(await versions(streams.events("long", { pageSize: 2 }), 3), [1, 2, 3])
    assert.deepStrictEqual(await versions(streams.events("nobody")), [])
    assert.instanceOf(await rejection(versions(streams.events("long", { pageSize: 0 }))), ValidationError)
    const aborted = AbortSignal.abort(new Error("enough"))
    assert.strictEqual(
      (await rejection(versions(streams.events("long", { signal: aborted })))).message,
      "enough"
    )
  })

  it("have snapshots and a list", async () => {
    const { streams } = client
    await streams.append("snap", item(1, "snapped"))
    await streams.append("snap", item(2, "snapped"))
    const { snapshotId } = await streams.createSnapshot("snap", {
      entityType: "snapped",
      entityVersion: 1,
      state: { n: 1 }
    })

    const found = await streams.getSnapshot("snap")
    assert.deepInclude(found, {
      snapshotId,
      entityId: "snap",
      entityType: "snapped",
      entityVersion: 1,
      state: { n: 1 }
    })
    assert.isUndefined(await streams.getSnapshot("snap", { beforeVersion: 1 }))
    assert.isUndefined(await streams.getSnapshot("nobody"))
    const listed = await streams.listStreams({ entityType: "snapped" })
    assert.strictEqual(listed.totalCount, 1)
    assert.deepInclude(listed.streams[0], { entityId: "snap", version: 2, eventCount: 2 })
  })

  it("reject with an error that names what is missing", async () => {
    const error = await rejection(client.streams.getInfo("nobody"))
    assert.instanceOf(error, StreamNotFoundError)
    assert.deepInclude(error, { code: "STREAM_NOT_FOUND", entityId: "nobody", retryable: false })
    assert.isNull(await client.streams.findInfo("nobody"))
    assert.deepStrictEqual(await client.streams.read("nobody"), { events: [], totalCount: 0 })
    const snapshot = client.streams.createSnapshot("nobody", {
      entityType: "order",
      entityVersion: 0,
      state: 1
    })
    assert.instanceOf(await rejection(snapshot), StreamNotFoundError)
  })

  it("refuse invalid input without changes", async () => {
    const { streams } = client
    const cyclic: Record<string, unknown> = {}
    cyclic.self = cyclic
    const mistakes: ReadonlyArray<
      readonly [() => Promise<unknown>, typeof ValidationError | typeof LimitExceededError]
    > = [
      [() => streams.append("", item(1)), ValidationError],
      [() => streams.append(5 as never, item(1)), ValidationError],
      [() => streams.append("x".repeat(300), item(1)), LimitExceededError],
      [() => streams.append("bad", item(1, "")), ValidationError],
      [() => streams.append("bad", item(1, "a\nb")), ValidationError],
      [() => streams.append("bad", undefined as never), ValidationError],
      [() => streams.append("bad", { ...item(1), name: "item.>" }), ValidationError],
      [() => streams.append("bad", item(1n)), ValidationError],
      [() => streams.append("bad", item(cyclic)), ValidationError],
      [
        () =>
          streams.append(
            "bad",
            item(() => 1)
          ),
        ValidationError
      ],
      [() => streams.append("bad", item("x".repeat(1024 * 1024))), LimitExceededError],
      [() => streams.append("bad", item(1), { expectedVersion: -2 }), ValidationError],
      [() => streams.append("bad", item(1), { expectedVersion: 0.5 }), ValidationError],
      [() => streams.append("bad", item(1), { expectedVersion: "1" as never }), ValidationError],
      [() => streams.append("bad", item(1), { expectedVersion: null as never }), ValidationError],
      [() => streams.append("bad", item(1), { idempotencyKey: "" }), ValidationError],
      [() => streams.append("bad", item(1), { version: 0 }), ValidationError],
      [() => streams.append("bad", item(1), { metadata: [] as never }), ValidationError],
      [() => streams.appendAll("bad", { entityType: "order", events: [] }), ValidationError],
      [() => streams.appendAll("bad", { entityType: "order", events: "all" as never }), ValidationError],
      [
        () => streams.appendAll("bad", { entityType: "order", events: Array(1001).fill({ name: "x" }) }),
        LimitExceededError
      ],
      [
        () =>
          streams.appendAll("bad", {
            entityType: "order",
            events: Array(5).fill({ name: "x", data: "x".repeat(1000 * 1000) })
          }),
        LimitExceededError
      ],
      [() => streams.read("bad", { limit: -1 }), ValidationError],
      [() => streams.read("bad", { fromVersion: 1.5 }), ValidationError],
      [() => streams.read("bad", { direction: "up" as never }), ValidationError],
      [() => streams.getInfo(" "), ValidationError],
      [() => streams.listStreams({ limit: 0 }), ValidationError],
      [() => streams.listStreams({ offset: -1 }), ValidationError],
      [
        () => streams.createSnapshot("bad", { entityType: "order", entityVersion: -1, state: 1 }),
        ValidationError
      ],
      [() => streams.createSnapshot("bad", undefined as never), ValidationError],
      [() => streams.getSnapshot("bad", { beforeVersion: -1 }), ValidationError]
    ]

    for (const [mistake, Class] of mistakes) {
      assert.instanceOf(await rejection(mistake()), Class, mistake.toString())
    }
    assert.instanceOf(await rejection(streams.getInfo("bad")), StreamNotFoundError)
    await streams.append("typed", item(1))
    const wrongType = await rejection(streams.append("typed", item(1, "cart")))
    assert.deepInclude(wrongType, { code: "INVALID_STATE" })
    assert.strictEqual((await streams.append("typed", item(2))).entityVersion, 2)
  })

  it("are upcast for a client with upcasters", async () => {
    await client.streams.append("old", item(24))
    await client.streams.append("old", { ...item(0), data: { dozens: 3 } }, { version: 2 })
    await using upcasting = connected({ eventDefinitions })

    const { events } = await upcasting.streams.read("old")
    assert.deepStrictEqual(
      events.map(({ data, version }) => [data, version]),
      [
        [{ dozens: 2 }, 1],
        [{ dozens: 3 }, 2]
      ]
    )
    for await (const { data } of upcasting.streams.events("old")) assert.property(data, "dozens")
    assert.deepStrictEqual((await client.streams.read("old")).events[0]?.data, { n: 24 })
  })

  it("reject with code CLOSED once the client is closed", async () => {
    const closing = connected()
    await closing.streams.read("o-1")
    await closing.close()

    assert.deepInclude(await rejection(closing.streams.read("o-1")), { code: "CLOSED" })
  })

  it("start functions, also from the transaction of a step, which runs again after a conflict", async () => {
    const { runIds } = await client.emit("stock.wanted", { sku: `sku-${where}`, mistakes: 2 })
    const run = await client.waitForRun(runIds[0] ?? "", { timeout: 10_000 })

    assert.strictEqual(run.status, "completed", run.error?.message ?? "")
    const { value, writes } = run.output as {
      value: number
      writes: ReadonlyArray<{ _tag: string; entityVersion: number; runIds: [string] }>
    }
    assert.strictEqual(value, 3, "two attempts conflict, and the third succeeds")
    const [reserved, promised] = writes
    assert.deepInclude(reserved, { _tag: "append", entityVersion: 1 })
    const promise = await client.waitForRun(promised?.runIds[0] ?? "", { timeout: 10_000 })
    assert.strictEqual(promise.output, run.id)
    assert.strictEqual((await client.streams.read(`sku-${where}`)).totalCount, 1)
    const { runs } = await client.listRuns({ functionId: "note-reserved" })
    const noted = await client.waitForRun(runs[0]?.id ?? "", { timeout: 10_000 })
    assert.deepInclude(noted.output, {
      entity: { id: `sku-${where}`, type: "stock", version: 1 },
      value: "ok"
    })
  })

  it("store nothing of a transaction whose every attempt conflicts", async () => {
    const { runIds } = await client.emit("stock.wanted", { sku: "never", mistakes: 9 })
    const run = await client.waitForRun(runIds[0] ?? "", { timeout: 10_000 })

    assert.strictEqual(run.status, "failed")
    assert.deepInclude(run.error, { name: StepError.name, code: "STEP_FAILED" })
    assert.deepInclude(run.error?.cause, { name: "VersionConflictError", code: "VERSION_CONFLICT" })
    assert.strictEqual((await client.streams.read("never")).totalCount, 0)
  })
})

describe("the Effect API of entity streams", () => {
  const scenario = Effect.gen(function* () {
    const streams = yield* Streams.Streams
    yield* streams.appendAll("o-1", { entityType: "order", events: Array(7).fill({ name: "x" }) })
    const versions = yield* streams.events("o-1", { pageSize: 3 }).pipe(
      Stream.map(({ entityVersion }) => entityVersion),
      Stream.runCollect
    )
    const backward = yield* streams.events("o-1", { pageSize: 3, direction: "backward" }).pipe(
      Stream.map(({ entityVersion }) => entityVersion),
      Stream.take(4),
      Stream.runCollect
    )
    const conflict = yield* streams.append("o-1", item(1), { expectedVersion: 3 }).pipe(
      Effect.catchTag("VersionConflictError", (error) => {
        return error instanceof VersionConflictError
          ? Effect.succeed(error.actualVersion)
          : Effect.fail(error)
      })
    )
    const missing = yield* streams
      .getInfo("nobody")
      .pipe(Effect.catchTag("StreamNotFoundError", ({ details }) => Effect.succeed(details)))
    const bad = yield* Effect.flip(Stream.runDrain(streams.events("o-1", { pageSize: -1 })))
    return [[...versions], [...backward], conflict, missing, bad.code] as ReadonlyArray<unknown>
  })
  const expected = [[1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4], 7, { entityId: "nobody" }, "VALIDATION_ERROR"]

  it.effect("streams events and types failures, in the engine's process", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* scenario, expected)
    }).pipe(
      Effect.provide(
        Engine.layerClient.pipe(
          Layer.provide(Engine.layer),
          Layer.provide(Store.layerSqlite({ filename: ":memory:" }))
        )
      )
    )
  )

  it("streams events and types failures, over HTTP", async () => {
    await using server = await EngineServer.start()

    const result = await Effect.runPromise(
      Effect.provide(
        scenario,
        Client.layerHttp({ serverUrl: server.url }).pipe(Layer.provide(FetchHttpClient.layer))
      )
    )

    assert.deepStrictEqual(result, expected)
  })
})

describe("entity streams of a legacy server", () => {
  const service = "/ironflow.v1.EntityStreamService"
  const scripted = async (answers: Record<string, Reply>) => {
    const server = await ScriptedServer.start(
      ({ path }) => answers[path.split("?")[0] ?? ""] ?? { status: 404, body: "404 page not found" }
    )
    const client = createClient({ serverUrl: server.url })
    const dispose = async () => {
      await client.close()
      await server.stop()
    }
    return { server, client, [Symbol.asyncDispose]: dispose }
  }

  it("receive every field, and their answers are read leniently", async () => {
    await using here = await scripted({
      [`${service}/AppendEvent`]: { body: { entityVersion: "7", eventId: "e-1" } },
      [`${service}/ReadStream`]: {
        body: {
          events: [
            {
              id: "e-1",
              name: "item.added",
              entityVersion: "7",
              version: 1,
              timestamp: "2026-01-02T03:04:05Z"
            },
            { id: "e-2", name: "x", data: { n: 1 }, entity_version: 8 }
          ]
        }
      },
      [`${service}/GetStreamInfo`]: { body: { entityId: "o-1", entityType: "order", version: "8" } }
    })
    const { streams } = here.client

    assert.deepStrictEqual(await streams.append("o-1", item(1)), {
      entityVersion: 7,
      eventId: "e-1",
      position: 0
    })
    assert.deepStrictEqual(here.server.asked[0]?.body, {
      entity_id: "o-1",
      entity_type: "order",
      event_name: "item.added",
      data: { n: 1 },
      expected_version: -1,
      idempotency_key: "",
      version: 1
    })
    const { events, totalCount } = await streams.read("o-1")
    assert.deepStrictEqual([events[0]?.data, events[1]?.entityVersion, totalCount], [{}, 8, 0])
    assert.deepStrictEqual(here.server.asked[1]?.body, {
      entity_id: "o-1",
      from_version: 0,
      limit: 0,
      direction: "forward"
    })
    assert.deepStrictEqual(await streams.getInfo("o-1"), {
      entityId: "o-1",
      entityType: "order",
      version: 8,
      eventCount: 0,
      createdAt: "",
      updatedAt: ""
    })
  })

  it.each([
    ["version conflict: expected 3, actual 8", 8],
    ["optimistic concurrency: version mismatch, current version is 8", 8],
    ["version conflict: the expected version is 3, found 8", 8],
    ["version conflict", 8]
  ])("conflict when the status is 409 and the message is %j", async (message, actual) => {
    await using here = await scripted({
      [`${service}/AppendEvent`]: { status: 409, body: { code: "aborted", message } },
      [`${service}/GetStreamInfo`]: { body: { entityId: "o-1", entityType: "order", version: "8" } }
    })

    const error = await rejection(here.client.streams.append("o-1", item(1), { expectedVersion: 3 }))

    assert.instanceOf(error, VersionConflictError)
    assert.deepInclude(error, { expectedVersion: 3, actualVersion: actual })
    assert.strictEqual(Object(error.cause).message, message)
  })

  it("take the version from a conflict in plain text, and not from the id of the entity", async () => {
    await using here = await scripted({
      [`${service}/AppendEvent`]: { status: 409, body: "version conflict: expected 3, actual 8" }
    })

    const error = await rejection(here.client.streams.append("now-5", item(1), { expectedVersion: 3 }))

    assert.instanceOf(error, VersionConflictError)
    assert.deepInclude(error, { expectedVersion: 3, actualVersion: 8 })
  })

  it("reject with other errors of the server unchanged", async () => {
    await using here = await scripted({
      [`${service}/AppendEvent`]: { status: 409, body: { code: "already_exists", message: "duplicate" } }
    })

    const error = await rejection(here.client.streams.append("o-1", item(1)))

    assert.deepInclude(error, { code: "CONFLICT", message: "duplicate" })
    assert.notInstanceOf(error, VersionConflictError)
  })

  it("do not exist when the server answers so in plain text", async () => {
    const missing = { status: 404, body: { code: "not_found", message: "stream not found" } }
    await using here = await scripted({
      [`${service}/GetStreamInfo`]: missing,
      [`${service}/ReadStream`]: missing
    })

    const error = await rejection(here.client.streams.getInfo("o-1"))
    assert.instanceOf(error, StreamNotFoundError)
    assert.deepStrictEqual(await here.client.streams.read("o-1"), { events: [], totalCount: 0 })
    const conflict = await rejection(
      here.client.streams.append("o-1", item(1), { expectedVersion: "STREAM_EXISTS" })
    )
    assert.instanceOf(conflict, VersionConflictError)
  })

  it("lack features of this engine, which is an error with code UNIMPLEMENTED", async () => {
    await using here = await scripted({})
    const { streams } = here.client

    for (const call of [
      () => streams.appendAll("o-1", { entityType: "order", events: [{ name: "x" }] }),
      () => streams.listStreams(),
      () => streams.createSnapshot("o-1", { entityType: "order", entityVersion: 1, state: 1 }),
      () => streams.getSnapshot("o-1")
    ]) {
      const error = await rejection(call())
      assert.instanceOf(error, IronflowError)
      assert.strictEqual(error.code, "UNIMPLEMENTED")
    }
  })
})
