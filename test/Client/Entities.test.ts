/** Streams of a defined entity: events are typed, encoded and decoded, and an error says where data does not fit. */
import {
  createClient,
  createEventDefinitionRegistry,
  createFunction,
  createWorker,
  defineEntity,
  defineEvent,
  type EventsOf,
  type IronflowClient,
  type StateOf,
  StreamSchemaError,
  ValidationError,
  VersionConflictError
} from "@ironflow/node"
import {
  Client,
  Engine,
  Entity,
  type Errors,
  Event,
  IronflowFunction,
  Step,
  Store,
  Streams
} from "@ironflow/node/effect"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { afterEach, assert, beforeEach, describe, expectTypeOf, it } from "vitest"
import { z } from "zod"
import { EngineServer } from "./EngineServer.ts"

const ItemAdded = Event.define("item.added", {
  data: Schema.Struct({ sku: Schema.String, qty: Schema.Int, at: Schema.DateFromString })
})
const VoucherUsed = defineEvent({
  name: "voucher.used",
  version: 2,
  schema: z.object({ code: z.string(), percent: z.number().default(10) })
})
const Order = defineEntity({
  type: "order",
  events: [ItemAdded, VoucherUsed],
  initialState: () => ({ items: 0, newest: new Date(0), codes: new Array<string>() }),
  evolve: (order, event) => {
    switch (event.name) {
      case "item.added":
        return { ...order, items: order.items + event.data.qty, newest: event.data.at }
      case "voucher.used":
        return { ...order, codes: [...order.codes, event.data.code] }
    }
  },
  snapshot: Schema.Struct({
    items: Schema.Int,
    newest: Schema.DateFromString,
    codes: Schema.mutable(Schema.Array(Schema.String))
  })
})
const at = new Date("2026-01-02T03:04:05.000Z")
const added = (qty: number) => ({ name: "item.added", data: { sku: "ABC", qty, at } }) as const

const rejected = async (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => assert.fail("it was accepted"),
    (error: unknown) => error
  )

describe("an entity", () => {
  it("types its events and its state", () => {
    type Added = { readonly sku: string; readonly qty: number; readonly at: Date }
    expectTypeOf<EventsOf<typeof Order>["name"]>().toEqualTypeOf<"item.added" | "voucher.used">()
    expectTypeOf<Extract<EventsOf<typeof Order>, { name: "item.added" }>["data"]>().toEqualTypeOf<Added>()
    expectTypeOf<StateOf<typeof Order>>().toEqualTypeOf<{ items: number; newest: Date; codes: string[] }>()
  })

  const events = [ItemAdded]
  it.each<[string, object, RegExp]>([
    ["no type", { events }, /entity type/],
    ["no events", { type: "order", events: [] }, /`events` must be an array of at least one/],
    [
      "a name instead of an event",
      { type: "order", events: ["item.added"] },
      /`events\[0\]` must be the definition/
    ],
    [
      "an event without a schema",
      { type: "order", events: [defineEvent({ name: "a", version: 1 })] },
      /with a schema/
    ],
    ["an event twice", { type: "order", events: [ItemAdded, ItemAdded] }, /"item.added" is there twice/],
    ["a state without `evolve`", { type: "order", events, initialState: () => 0 }, /give both or neither/],
    [
      "a snapshot without a state",
      { type: "order", events, snapshot: Schema.Int },
      /`snapshot` stores the state/
    ],
    ["a misspelled field", { type: "order", events, evolv: () => 0 }, /`evolve`/]
  ])("refuses %s", (_, definition, message) => {
    assert.throws(() => defineEntity(definition as never), ValidationError, message)
  })
})

describe.each(["in process", "over HTTP"])("streams.of() %s", (where) => {
  let engine: IronflowEngine
  let client: IronflowClient
  beforeEach(async () => {
    engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    client = where === "in process" ? engine.client : createClient({ serverUrl: engine.url })
  })
  afterEach(async () => {
    await client.close()
    await engine.close()
  })

  it("appends, reads and folds its events", async () => {
    const orders = client.streams.of(Order)

    const first = await orders.append("order-1", added(2), { expectedVersion: "NO_STREAM" })
    await orders.appendAll("order-1", [
      { name: "voucher.used", data: { code: "SPRING" }, metadata: { by: "ada" } },
      added(3)
    ])

    const { events, totalCount } = await orders.read("order-1")
    assert.deepStrictEqual(
      events.map(({ data, entityVersion, version }) => [entityVersion, version, data]),
      [
        [1, 1, { sku: "ABC", qty: 2, at }],
        [2, 2, { code: "SPRING", percent: 10 }],
        [3, 1, { sku: "ABC", qty: 3, at }]
      ]
    )
    assert.deepStrictEqual([first.entityVersion, totalCount, events[1]?.metadata], [1, 3, { by: "ada" }])
    for await (const event of orders.events("order-1", { pageSize: 2 })) {
      if (event.name === "item.added") expectTypeOf(event.data.at).toEqualTypeOf<Date>()
      else expectTypeOf(event.data).toEqualTypeOf<{ code: string; percent: number }>()
    }
    assert.deepStrictEqual(await orders.state("order-1"), {
      state: { items: 5, newest: at, codes: ["SPRING"] },
      entityVersion: 3
    })
    // stored data is in the encoding of the schemas
    const stored = await client.streams.read("order-1")
    assert.deepStrictEqual(stored.events[0]?.data, { sku: "ABC", qty: 2, at: at.toISOString() })
    assert.strictEqual((await client.streams.getInfo("order-1")).entityType, "order")
  })

  it("has the first state of an entity without events, at version 0", async () => {
    const { entityVersion, state } = await client.streams.of(Order).state("order-1")
    assert.deepStrictEqual([entityVersion, state.items], [0, 0])
  })

  it("lets one of two writers with the same state succeed", async () => {
    const orders = client.streams.of(Order)
    const { entityVersion } = await orders.state("order-1")

    const outcomes = await Promise.allSettled(
      [1, 2].map((qty) => orders.append("order-1", added(qty), { expectedVersion: entityVersion }))
    )

    const [lost] = outcomes.flatMap((it) => (it.status === "rejected" ? [it.reason] : []))
    assert.instanceOf(lost, VersionConflictError)
    assert.strictEqual((await orders.read("order-1")).totalCount, 1)
  })

  it("begins with the newest snapshot, unless an option says otherwise", async () => {
    const orders = client.streams.of(Order)
    await orders.appendAll("order-1", [added(1), added(1)])
    const state = { items: 100, newest: at, codes: [] }
    await orders.createSnapshot("order-1", { state, entityVersion: 2 })
    await orders.append("order-1", added(1))

    assert.deepInclude(await orders.getSnapshot("order-1"), { state, entityVersion: 2, entityType: "order" })
    assert.strictEqual((await orders.state("order-1")).state.items, 101)
    assert.strictEqual((await orders.state("order-1", { fromSnapshot: false })).state.items, 3)
    assert.strictEqual(await orders.getSnapshot("order-2"), undefined)

    await client.streams.createSnapshot("order-1", {
      entityType: "order",
      entityVersion: 3,
      state: { items: "3" }
    })
    const error = await rejected(orders.state("order-1"))
    assert.instanceOf(error, StreamSchemaError)
    assert.deepInclude(error, { entityId: "order-1", event: undefined, entityVersion: 3 })
    assert.match(error.message, /^The snapshot at version 3 of entity "order-1" .*: items: /)
  })

  it("refuses to append an event that does not fit its schema, and stores nothing", async () => {
    const orders = client.streams.of(Order)
    const calls = [
      // @ts-expect-error -- a text is not a quantity
      () => orders.append("order-1", { name: "item.added", data: { sku: "ABC", qty: "2", at } }),
      // @ts-expect-error -- a text is not a quantity
      () => orders.appendAll("order-1", [added(1), { name: "item.added", data: { sku: "A", qty: "2", at } }])
    ]
    for (const call of calls) {
      const error = await rejected(call())
      assert.instanceOf(error, StreamSchemaError)
      assert.deepInclude(error, { entityId: "order-1", event: "item.added", entityVersion: undefined })
      assert.match(error.message, /^Event "item.added" for entity "order-1" .*nothing was stored: qty: /)
    }
    // @ts-expect-error -- there is no such event
    const unknown = await rejected(orders.append("order-1", { name: "item.lost", data: {} }))
    assert.instanceOf(unknown, StreamSchemaError)
    assert.match(unknown.message, /the definition of entity "order" has no event of this name/)
    // @ts-expect-error -- a misspelled field
    assert.instanceOf(await rejected(orders.append("order-1", { ...added(1), metadta: {} })), ValidationError)
    assert.strictEqual((await orders.read("order-1")).totalCount, 0)
  })

  it("names the event that does not fit its schema", async () => {
    const orders = client.streams.of(Order)
    await orders.append("order-1", added(1))
    const entityType = "order"
    await client.streams.append("order-1", { name: "item.added", data: { sku: 5 }, entityType })
    await client.streams.append("order-2", { name: "voucher.used", data: 5, entityType })
    await client.streams.append("order-3", { name: "item.lost", entityType })

    const mismatch = await rejected(orders.read("order-1"))
    assert.instanceOf(mismatch, StreamSchemaError)
    assert.deepInclude(mismatch, {
      entityId: "order-1",
      event: "item.added",
      entityVersion: 2,
      retryable: false
    })
    assert.match(mismatch.message, /^Event "item.added" at version 2 of entity "order-1" .*qty: /)
    const old = await rejected(orders.state("order-2"))
    assert.match(String(old), /the event was appended with version 1, and the definition has version 2/)
    const unknown = await rejected(orders.read("order-3"))
    assert.match(
      String(unknown),
      /Event "item.lost" at version 1 of entity "order-3" .*no event of this name/
    )
  })

  it("reads old events in the version of the definition when the client has the upcasters", async () => {
    const eventDefinitions = createEventDefinitionRegistry()
    eventDefinitions.register(defineEvent({ name: "voucher.used", version: 1 }))
    eventDefinitions.register(
      defineEvent({ name: "voucher.used", version: 2, upcast: (code) => ({ code, percent: 5 }) })
    )
    await client.streams.append("order-1", { name: "voucher.used", data: "OLD", entityType: "order" })
    await using knowing = createClient({ serverUrl: engine.url, eventDefinitions })

    const { events } = await knowing.streams.of(Order).read("order-1")

    assert.deepInclude(events[0], { data: { code: "OLD", percent: 5 }, version: 1 })
  })

  it("has no state for an entity without `evolve`", async () => {
    const events = client.streams.of(defineEntity({ type: "order", events: [ItemAdded] }))
    await events.append("order-1", added(1))
    // @ts-expect-error -- without `evolve` there is no state
    assert.match(String(await rejected(events.state("order-1"))), /has no `evolve`/)
    // @ts-expect-error -- without `snapshot` there is no snapshot
    assert.match(String(await rejected(events.getSnapshot("order-1"))), /has no `snapshot`/)
  })
})

const triggers = [{ event: "order.wanted" }]
const once = { retry: { maxAttempts: 1 } }
const apis = {
  Promise: createFunction({ id: "order", triggers }, ({ event, step }) =>
    step.tx(
      "order",
      (tx) => {
        const orders = tx.streams.of(Order)
        orders.append("order-1", added(event.data.qty), { expectedVersion: 0 })
        orders.appendAll("order-1", [{ name: "voucher.used", data: { code: "SPRING" } }], {
          expectedVersion: 1
        })
        // @ts-expect-error -- there is no such event
        assert.throws(() => orders.append("order-1", { name: "item.lost", data: {} }), StreamSchemaError)
      },
      once
    )
  ),
  Effect: IronflowFunction.make({ id: "order", triggers }, ({ event }) =>
    Step.tx(
      "order",
      (tx) =>
        Effect.gen(function* () {
          const orders = tx.streams.of(Order)
          yield* orders.append("order-1", added(event.data.qty), { expectedVersion: 0 })
          yield* orders.appendAll("order-1", [{ name: "voucher.used", data: { code: "SPRING" } }], {
            expectedVersion: 1
          })
          // @ts-expect-error -- there is no such event
          const lost = orders.append("order-1", { name: "item.lost", data: {} })
          assert.instanceOf(yield* Effect.flip(lost), StreamSchemaError)
        }),
      once
    )
  )
}

describe.each(["Promise", "Effect"] as const)("step.tx of the %s API with an entity", (api) => {
  it.each(["in process", "over HTTP"])("appends events that fit, all or none, %s", async (where) => {
    await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    const worker =
      where === "in process"
        ? engine.createWorker({ functions: [apis[api]], logger: false })
        : createWorker({ serverUrl: engine.url!, functions: [apis[api]], logger: false })
    const ended = worker.start()
    await worker.ready()
    const orders = engine.client.streams.of(Order)

    const refused = await rejected(engine.client.emitSync("order.wanted", { qty: 1.5 }))
    assert.match(String(refused), /Event "item.added" for entity "order-1" .*qty: /)
    assert.strictEqual((await orders.read("order-1")).totalCount, 0)
    await engine.client.emitSync("order.wanted", { qty: 2 })

    assert.deepStrictEqual((await orders.state("order-1")).state, { items: 2, newest: at, codes: ["SPRING"] })
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
])("the service of streams %s", (_, layer) => {
  it("appends, reads, folds and fails according to the definition of an entity", () =>
    Effect.gen(function* () {
      const streams = yield* Streams.Streams
      const Basket = Entity.define({
        type: "basket",
        events: [ItemAdded],
        initialState: () => 0,
        evolve: (items, event) => items + event.data.qty
      })
      const baskets = streams.of(Basket)
      yield* baskets.appendAll("basket-1", [added(1), added(2)])

      const events = yield* Stream.runCollect(baskets.events("basket-1"))
      assert.deepStrictEqual(
        events.map(({ data }) => data.at.getTime() + data.qty),
        [at.getTime() + 1, at.getTime() + 2]
      )
      assert.deepStrictEqual(yield* baskets.state("basket-1"), { state: 3, entityVersion: 2 })

      const wrong = { name: "item.added", data: { sku: "ABC", qty: "1", at } } as const
      // @ts-expect-error -- a text is not a quantity
      const refused = yield* Effect.flip(baskets.append("basket-1", wrong))
      assert.instanceOf(refused, StreamSchemaError)
      yield* streams.append("basket-1", { name: "item.added", data: 5, entityType: "basket" })
      const mismatch = yield* Effect.flip(baskets.state("basket-1"))
      expectTypeOf<Errors.StreamSchemaError>().toExtend<typeof mismatch>()
      assert.deepInclude(mismatch, { entityId: "basket-1", event: "item.added", entityVersion: 3 })
    }).pipe(Effect.provide(layer), Effect.scoped, Effect.runPromise))
})
