/** One definition of an event, from emitting to projecting, in this process and over HTTP, with Promises and with Effect. */
import {
  createClient,
  createFunction,
  createProjection,
  createSubscriptionClient,
  createWebhook,
  defineEvent,
  createEventDefinitionRegistry,
  type IronflowClient,
  SchemaValidationError,
  type SubscriptionErrorInfo,
  ValidationError
} from "@ironflow/node"
import {
  Client,
  Event,
  IronflowFunction,
  Projection,
  Step,
  Streams,
  Subscriptions,
  Testing
} from "@ironflow/node/effect"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { createHandler } from "@ironflow/node/serve"
import { createTestClient } from "@ironflow/node/test"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest"
import { z } from "zod"

const shippedAt = new Date("2026-01-02T03:04:05.000Z")

const OrderPlaced = defineEvent({
  name: "order.placed",
  version: 2,
  schema: z.object({ orderId: z.string(), items: z.array(z.object({ sku: z.string() })).default([]) })
})
const OrderShipped = Event.define("order.shipped", {
  data: Schema.Struct({ orderId: Schema.String, shippedAt: Schema.Date })
})
const OrderReturned = defineEvent({
  name: "order.returned",
  schema: z.object({ orderId: z.string(), at: z.iso.datetime().transform((text) => new Date(text)) })
})
/** Its schema refuses its own data once that has been JSON. */
const OrderDated = defineEvent({ name: "order.dated", schema: z.object({ at: z.date() }) })
/** Its schema is asynchronous. */
const OrderChecked = defineEvent({
  name: "order.checked",
  schema: z.object({ orderId: z.string().refine(async (id) => id !== "o-0", "o-0 is no order") })
})

const shapeOf = (data: object): Record<string, string> =>
  Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, value instanceof Date ? "Date" : typeof value])
  )

const orders = createFunction(
  { id: "orders", triggers: [OrderPlaced, { event: OrderShipped }] },
  ({ event }) => {
    if (event.name === "order.shipped") return { shipped: event.data.shippedAt.getTime() }
    return {
      placed: event.data.orderId,
      items: event.data.items.length,
      name: event.name,
      version: event.version
    }
  }
)
const effectOrders = IronflowFunction.make({ id: "effect-orders", triggers: [OrderShipped] }, ({ event }) =>
  Effect.succeed({ name: event.name, shape: shapeOf(event.data) })
)
const checks = createFunction({ id: "checks", triggers: [OrderChecked] }, ({ event }) => event.data.orderId)
const waits = createFunction(
  { id: "waits", triggers: [{ event: "wait.wanted" }] },
  async ({ event, step }) => {
    const shipped = await step.waitForEvent("shipped", { event: OrderShipped, match: "data.orderId" })
    const returned = await step.waitForEvent("returned", { event: OrderReturned, match: "data.orderId" })
    return { ...shapeOf(shipped.data), returned: shapeOf(returned.data), of: event.data.orderId }
  }
)
const effectWaits = IronflowFunction.make({ id: "effect-waits", triggers: [{ event: "wait.wanted" }] }, () =>
  Effect.gen(function* () {
    const shipped = yield* Step.waitForEvent("shipped", { event: OrderShipped, match: "data.orderId" })
    const returned = yield* Step.waitForEvent("returned", { event: OrderReturned, match: "data.orderId" })
    return { shipped: shapeOf(shipped.data), returned: shapeOf(returned.data) }
  })
)
const writes = createFunction({ id: "writes", triggers: [{ event: "write.wanted" }] }, ({ event, step }) =>
  step.tx("write", (tx) => {
    const { orderId } = event.data
    tx.emit(OrderShipped, { orderId, shippedAt })
    tx.streams.append(orderId, { event: OrderShipped, data: { orderId, shippedAt }, entityType: "order" })
    tx.streams.appendAll(orderId, {
      entityType: "order",
      events: [
        { event: OrderPlaced, data: { orderId } },
        { name: "order.noted", data: "late" }
      ]
    })
  })
)
const failingWrites = createFunction(
  { id: "failing-writes", triggers: [{ event: "wrong.write.wanted" }] },
  ({ step }) =>
    step.tx("write", (tx) => tx.emit(OrderShipped, { orderId: 7, shippedAt } as never), {
      retry: { maxAttempts: 1 }
    })
)
const seen: Array<unknown> = []
const shipments = createProjection({
  name: "shipments",
  events: [OrderPlaced, OrderShipped],
  initialState: () => ({ placed: 0, lastShipped: "" }),
  handler: (state, event) =>
    event.name === "order.placed"
      ? { ...state, placed: state.placed + 1 + event.data.items.length }
      : { ...state, lastShipped: event.data.shippedAt.toISOString() }
})
const letters = createProjection({
  name: "letters",
  events: [OrderShipped],
  handler: (event) => void seen.push([event.data.orderId, event.data.shippedAt])
})

let engine: IronflowEngine
let remote: IronflowClient
beforeAll(async () => {
  engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    functions: [orders, checks, effectOrders, waits, effectWaits, writes, failingWrites],
    projections: [shipments, letters]
  })
  remote = createClient({ serverUrl: engine.url! })
})
afterAll(async () => {
  await remote.close()
  await engine.close()
})

const errorOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    (value) => value,
    (error: unknown) => error
  )

describe.each([
  ["in this process", () => engine.client],
  ["over HTTP", () => remote]
] as const)("a client %s", (where, clientOf) => {
  const runOf = async (runId: string | undefined) => clientOf().waitForRun(runId ?? "", { timeout: 20_000 })
  const id = (name: string) => `${name} ${where}`

  test("emits the input of the schema, and the handler gets its output", async () => {
    const { runIds } = await clientOf().emit(OrderPlaced, { orderId: id("o-1") })

    const run = await runOf(runIds[0])
    expect(run.input).toEqual({ orderId: id("o-1") })
    expect(run.output).toEqual({ placed: id("o-1"), items: 0, name: "order.placed", version: 2 })
  })

  test("encodes by an Effect schema, so that dates go in and come out", async () => {
    const { runIds } = await clientOf().emit(OrderShipped, { orderId: id("o-2"), shippedAt })

    const runs = await Promise.all(runIds.map(runOf))
    expect(runs.map(({ input }) => input)).toEqual([
      { orderId: id("o-2"), shippedAt: shippedAt.toISOString() },
      { orderId: id("o-2"), shippedAt: shippedAt.toISOString() }
    ])
    expect(runs.map(({ output }) => output)).toEqual(
      expect.arrayContaining([
        { shipped: shippedAt.getTime() },
        { name: "order.shipped", shape: { orderId: "string", shippedAt: "Date" } }
      ])
    )
  })

  test("waits for a run by definition", async () => {
    const result = await clientOf().emitSync(OrderPlaced, { orderId: id("o-3"), items: [{ sku: "A" }] })

    expect(result).toMatchObject({ status: "completed", output: { items: 1 } })
  })

  test("sends no data that does not fit the schema, and names event, path and reason", async () => {
    const { totalCount } = await clientOf().listRuns()

    const zod = await errorOf(
      clientOf().emit(OrderPlaced, { orderId: "o-1", items: [{ sku: "A" }, { sku: 7 }] } as never)
    )
    const effect = await errorOf(clientOf().emit(OrderShipped, { orderId: "o-1" } as never))
    const many = await errorOf(
      clientOf().emitMany([
        { event: OrderPlaced, data: { orderId: "o-1" } },
        { event: OrderShipped, data: { orderId: 7, shippedAt } as never }
      ])
    )
    const sync = await errorOf(clientOf().emitSync(OrderPlaced, {} as never))

    expect(zod).toBeInstanceOf(SchemaValidationError)
    expect(zod).toMatchObject({
      message:
        'Data of event "order.placed" does not fit its schema: items[1].sku: Invalid input: expected string, received number. Nothing was sent',
      validationErrors: ["items[1].sku: Invalid input: expected string, received number"]
    })
    expect(effect).toBeInstanceOf(SchemaValidationError)
    expect(effect).toMatchObject({
      message: expect.stringMatching(
        /^Data of event "order.shipped" does not fit its schema: shippedAt: .* Nothing was sent$/
      )
    })
    expect(many).toMatchObject({
      message: expect.stringMatching(/"order.shipped" does not fit its schema: orderId: Expected string/)
    })
    expect(sync).toBeInstanceOf(SchemaValidationError)
    expect((await clientOf().listRuns()).totalCount).toBe(totalCount)
  })

  test("refuses at once data that would not fit the schema as JSON", async () => {
    const error = await errorOf(clientOf().emit(OrderDated, { at: shippedAt }))

    expect(error).toBeInstanceOf(SchemaValidationError)
    expect((error as Error).message).toContain("The data fits only before it becomes JSON")
  })

  test("accepts asynchronous schemas", async () => {
    const { runIds } = await clientOf().emit(OrderChecked, { orderId: id("o-4") })
    const error = await errorOf(clientOf().emit(OrderChecked, { orderId: "o-0" }))

    expect((await runOf(runIds[0])).output).toBe(id("o-4"))
    expect(error).toMatchObject({
      message:
        'Data of event "order.checked" does not fit its schema: orderId: o-0 is no order. Nothing was sent'
    })
  })

  test("refuses another version than that of the definition", async () => {
    const error = await errorOf(clientOf().emit(OrderPlaced, { orderId: "o-1" }, { version: 3 }))

    expect(error).toBeInstanceOf(ValidationError)
    expect((error as Error).message).toContain(
      'The definition of event "order.placed" has version 2, but `version` is 3: leave `version` out, or give the definition of version 3'
    )
  })

  test("emits many events in their order, all or none", async () => {
    const { totalCount } = await clientOf().listRuns()
    const results = await clientOf().emitMany([
      { event: OrderPlaced, data: { orderId: id("o-5") } },
      { event: OrderShipped, data: { orderId: id("o-5"), shippedAt } },
      { event: "nobody.cares", data: null, version: 3, metadata: { by: "me" } }
    ])
    const repeated = await clientOf().emitMany([
      { event: OrderPlaced, data: { orderId: id("o-6") }, idempotencyKey: id("k") },
      { event: OrderPlaced, data: { orderId: id("o-6") }, idempotencyKey: id("k") }
    ])
    const none = await errorOf(
      clientOf().emitMany([
        { event: OrderPlaced, data: { orderId: id("o-7") } },
        { event: "no name", data: {} }
      ])
    )
    const empty = await errorOf(clientOf().emitMany([]))

    expect(results.map(({ runIds }) => runIds.length)).toEqual([1, 2, 0])
    const positions = results.map(({ position }) => position ?? 0)
    expect(positions).toEqual(positions.toSorted((a, b) => a - b))
    expect(repeated[0]).toEqual(repeated[1])
    expect(none).toBeInstanceOf(ValidationError)
    expect(empty).toBeInstanceOf(ValidationError)
    expect((await clientOf().listRuns()).totalCount).toBe(totalCount + 4)
  })

  test("refuses more events than a transaction may hold", async () => {
    const { totalCount } = await clientOf().listRuns()
    const event = { event: OrderPlaced, data: { orderId: "o-1" } }
    const large = { event: OrderPlaced, data: { orderId: "x".repeat(1_000_000) } }

    const errors = [
      await errorOf(clientOf().emitMany(Array.from({ length: 1001 }, () => event))),
      await errorOf(clientOf().emitMany(Array.from({ length: 5 }, () => large)))
    ]

    expect(errors).toMatchObject([
      { code: "LIMIT_EXCEEDED", message: expect.stringContaining("1001 events") },
      { code: "LIMIT_EXCEEDED", message: expect.stringContaining("bytes") }
    ])
    expect((await clientOf().listRuns()).totalCount).toBe(totalCount)
  })

  test("appends to streams by definition", async () => {
    const { streams } = clientOf()
    const entityId = id("o-8")
    await streams.append(entityId, { event: OrderPlaced, data: { orderId: entityId }, entityType: "order" })
    await streams.appendAll(entityId, {
      entityType: "order",
      events: [
        { event: OrderShipped, data: { orderId: entityId, shippedAt }, metadata: { by: "me" } },
        { name: "order.noted", data: "late", version: 4 }
      ]
    })
    const refused = await errorOf(
      streams.appendAll(entityId, {
        entityType: "order",
        events: [{ name: "order.noted" }, { event: OrderShipped, data: {} as never }]
      })
    )
    const misspelled = await errorOf(
      streams.append(entityId, {
        event: OrderPlaced,
        date: { orderId: entityId },
        entityType: "order"
      } as never)
    )

    const { events } = await streams.read(entityId)
    expect(events.map(({ data, name, version }) => [name, version, data])).toEqual([
      ["order.placed", 2, { orderId: entityId }],
      ["order.shipped", 1, { orderId: entityId, shippedAt: shippedAt.toISOString() }],
      ["order.noted", 4, "late"]
    ])
    expect(refused).toBeInstanceOf(SchemaValidationError)
    expect(misspelled).toMatchObject({ message: expect.stringContaining("did you mean `data`") })
  })

  test("wakes waits of both APIs with decoded data", async () => {
    const orderId = id("o-9")
    const { runIds } = await clientOf().emit("wait.wanted", { orderId })
    await clientOf().emit(OrderShipped, { orderId, shippedAt })
    await clientOf().emit(OrderReturned, { orderId, at: shippedAt.toISOString() })

    const outputs = (await Promise.all(runIds.map(runOf))).map(({ output }) => output)
    const returned = { orderId: "string", at: "Date" }
    expect(outputs).toEqual(
      expect.arrayContaining([
        { orderId: "string", shippedAt: "Date", returned, of: orderId },
        { shipped: { orderId: "string", shippedAt: "Date" }, returned }
      ])
    )
  })

  test("makes handlers refuse invalid data that others emitted by name", async () => {
    const { runIds } = await clientOf().emit("order.placed", { orderId: 7 })

    expect(await runOf(runIds[0])).toMatchObject({
      status: "failed",
      error: { name: "SchemaValidationError", message: expect.stringContaining("orderId") }
    })
  })
})

test("a transaction emits and appends by definition, and fails for invalid data", async () => {
  const orderId = "o-tx"
  const [run] = await Promise.all(
    (await engine.client.emit("write.wanted", { orderId })).runIds.map((id) => engine.client.waitForRun(id))
  )
  const [failed] = await Promise.all(
    (await engine.client.emit("wrong.write.wanted", {})).runIds.map((id) => engine.client.waitForRun(id))
  )

  expect(run?.status).toBe("completed")
  const { events } = await engine.client.streams.read(orderId)
  expect(events.map(({ data, name, version }) => [name, version, data])).toEqual([
    ["order.shipped", 1, { orderId, shippedAt: shippedAt.toISOString() }],
    ["order.placed", 2, { orderId }],
    ["order.noted", 1, "late"]
  ])
  expect(failed).toMatchObject({
    status: "failed",
    error: {
      message: expect.stringContaining('Data of event "order.shipped" does not fit its schema: orderId')
    }
  })
})

test("projections of both kinds get decoded data", async () => {
  const { position } = await engine.client.emit(OrderShipped, { orderId: "o-projected", shippedAt })

  const { state } = await engine.client.projections.get("shipments", { after: position! })
  expect(state).toMatchObject({ lastShipped: shippedAt.toISOString() })
  await vi.waitFor(() => expect(seen).toContainEqual(["o-projected", shippedAt]))
})

describe("subscriptions by definition", () => {
  test.each(["in this process", "over HTTP"])(
    "get decoded data %s, and an error for data that does not fit",
    async (where) => {
      const client = createSubscriptionClient(where === "over HTTP" ? { serverUrl: engine.url! } : { engine })
      const events: Array<unknown> = []
      const errors: Array<SubscriptionErrorInfo> = []
      const orderId = `o-${where}`
      try {
        await client.connect()
        const subscription = await client.subscribe(OrderShipped, {
          filter: `event.data.orderId == "${orderId}" || event.data.orderId == 7`,
          onEvent: ({ data, topic }) => void events.push([topic, data.shippedAt]),
          onError: (error) => void errors.push(error)
        })

        await engine.client.emit("order.shipped", { orderId: 7 })
        await engine.client.emit(OrderShipped, { orderId, shippedAt })

        await vi.waitFor(() => expect(events).toEqual([["order.shipped", shippedAt]]))
        expect(errors).toMatchObject([
          {
            code: "VALIDATION_ERROR",
            message: expect.stringContaining('Data of event "order.shipped" does not fit')
          }
        ])

        subscription.unsubscribe()
        for await (const event of client.stream(OrderShipped, { replay: 1 })) {
          expect(event.data).toEqual({ orderId, shippedAt })
          break
        }
      } finally {
        client.close()
      }
    }
  )
})

describe("an invoked function with definitions", () => {
  test("gets the event that its input fits, and fails for an input that fits none", async () => {
    const calls = createFunction(
      { id: "calls", triggers: [{ event: "call.wanted" }] },
      async ({ step, event }) => {
        const placed: unknown = await step.invoke("orders", { orderId: "o-1" })
        const shipped: unknown = await step.invoke("orders", { orderId: "o-1", shippedAt: event.data.at })
        const wrong: unknown = await step.invoke("orders", { id: 1 }).catch((error: Error) => error.message)
        return { placed, shipped, wrong }
      }
    )
    // each input fits one definition only
    const Strict = defineEvent({ name: "order.placed", schema: z.strictObject({ orderId: z.string() }) })
    const called = createFunction({ id: "orders", triggers: [Strict, OrderShipped] }, ({ event }) =>
      event.name === "order.placed"
        ? [event.name, event.source]
        : [event.name, event.data.shippedAt instanceof Date]
    )
    await using own = await startEngine({ filename: ":memory:", logger: false, functions: [calls, called] })
    const { runIds } = await own.client.emit("call.wanted", { at: shippedAt })

    const { output: returned } = await own.client.waitForRun(runIds[0]!)
    const output = returned as { wrong: string }

    expect(output).toMatchObject({ placed: ["order.placed", "invoke"], shipped: ["order.shipped", true] })
    expect(output.wrong).toContain('The input of function "orders" fits none of its events')
    expect(output.wrong).toContain('Data of event "order.shipped" does not fit its schema: orderId')
  })
})

test("events of an earlier version are upcast to the version of the definition before they are checked", async () => {
  const definitions = createEventDefinitionRegistry()
  const V2 = defineEvent({
    name: "order.priced",
    version: 2,
    schema: z.object({ amount: z.number(), currency: z.string() }),
    upcast: (data) => ({ currency: "EUR", ...(data as { amount: number }) })
  })
  definitions.register(defineEvent({ name: "order.priced", version: 1 }))
  definitions.register(V2)
  const prices = createFunction({ id: "prices", triggers: [V2] }, ({ event }) => event.data)
  await using own = await startEngine({
    filename: ":memory:",
    logger: false,
    functions: [prices],
    eventDefinitions: definitions
  })

  const { output } = await own.client.emitSync("order.priced", { amount: 5 })

  expect(output).toEqual({ amount: 5, currency: "EUR" })
})

describe("an event of another version than the definition", () => {
  const PaidV1 = defineEvent({ name: "order.paid", schema: z.object({ ref: z.string() }) })
  const PaidV2 = defineEvent({
    name: "order.paid",
    version: 2,
    schema: z.object({ receipt: z.object({ id: z.string() }) }),
    upcast: (data) => ({ receipt: { id: (data as { ref: string }).ref } })
  })
  const PaidV3 = defineEvent({
    name: "order.paid",
    version: 3,
    schema: z.object({ receiptId: z.string() }),
    upcast: (data) => ({ receiptId: (data as { receipt: { id: string } }).receipt.id })
  })

  test("is upcast by the definition, though the definition is not registered", async () => {
    const pays = createFunction({ id: "pays", triggers: [PaidV2] }, ({ event }) => event.data.receipt.id)
    const receipts = createProjection({
      name: "receipts",
      events: [PaidV2],
      initialState: () => ({ ids: [] as Array<string> }),
      handler: (state, event) => ({ ids: [...state.ids, event.data.receipt.id] })
    })
    await using own = await startEngine({
      filename: ":memory:",
      logger: false,
      functions: [pays],
      projections: [receipts]
    })
    const subscriber = createSubscriptionClient({ engine: own })
    await subscriber.connect()
    const seen: Array<string> = []
    await subscriber.subscribe(PaidV2, { onEvent: ({ data }) => void seen.push(data.receipt.id) })

    const { output } = await own.client.emitSync(PaidV1, { ref: "r-1" })
    const { position } = await own.client.emit(PaidV2, { receipt: { id: "r-2" } })

    expect(output).toBe("r-1")
    await vi.waitFor(() => expect(seen).toEqual(["r-1", "r-2"]), 10_000)
    expect((await own.client.projections.get("receipts", { after: position! })).state).toEqual({
      ids: ["r-1", "r-2"]
    })
    subscriber.close()
  })

  test("that is two versions away fails with a message that names the versions, and what to register", async () => {
    const pays = createFunction({ id: "pays", triggers: [PaidV3] }, ({ event }) => event.data.receiptId)
    await using own = await startEngine({ filename: ":memory:", logger: false, functions: [pays] })

    const { runIds } = await own.client.emit(PaidV1, { ref: "r-1" })

    expect((await own.client.waitForRun(runIds[0]!)).error?.message).toContain(
      "The event has version 1, and the definition has version 3: register the versions from 2, each with its `upcast`, as `eventDefinitions`"
    )
  })

  test("that is newer pauses a run, is retried by a projection, and is reported to a subscriber", async () => {
    const pays = createFunction({ id: "pays", triggers: [PaidV1] }, ({ event }) => event.data.ref)
    const receipts = createProjection({
      name: "receipts",
      events: [PaidV1],
      maxRetries: 1,
      initialState: () => ({ refs: 0 }),
      handler: (state) => ({ refs: state.refs + 1 })
    })
    await using own = await startEngine({
      filename: ":memory:",
      logger: false,
      functions: [pays],
      projections: [receipts]
    })
    const subscriber = createSubscriptionClient({ engine: own })
    await subscriber.connect()
    const errors: Array<SubscriptionErrorInfo> = []
    await subscriber.subscribe(PaidV1, { onError: (error) => void errors.push(error) })

    const { position, runIds } = await own.client.emit(PaidV2, { receipt: { id: "r-2" } })

    await vi.waitFor(async () => {
      const reason = await own.client.explain(runIds[0]!)
      expect(reason).toMatchObject({ code: "PAUSED", details: { code: "EVENT_TOO_NEW" } })
      expect(reason.message).toContain("deploy code with version 2 wherever the event is read")
    }, 10_000)
    await own.client.projections.waitForCatchup("receipts", { after: position! })
    const [letter] = await own.client.projections.deadLetters("receipts")
    expect([letter?.attempts, letter?.error.code]).toEqual([2, "EVENT_TOO_NEW"])
    await vi.waitFor(
      () =>
        expect(errors[0]).toMatchObject({
          code: "EVENT_TOO_NEW",
          message: expect.stringContaining(
            "The event has version 2, and the newest definition in this process has version 1"
          ) as unknown
        }),
      10_000
    )
    subscriber.close()
  })
})

test("definitions of one event in two versions are refused among triggers, and among events of a projection", () => {
  const V1 = defineEvent({ name: "order.placed", schema: z.string() })

  expect(() => createFunction({ id: "f", triggers: [V1, OrderPlaced] }, () => 1)).toThrow(
    'Function "f": `triggers` has two definitions of event "order.placed"'
  )
  const Paid = defineEvent({ name: "order.paid", schema: z.string() })
  expect(() => createFunction({ id: "f", triggers: [Paid, Paid, V1, OrderPlaced] }, () => 1)).toThrow(
    'Function "f": `triggers` has two definitions of event "order.placed"'
  )
  expect(() => createProjection({ name: "p", events: [V1, OrderPlaced], handler: () => 1 })).toThrow(
    'Projection "p": `events` has two definitions of event "order.placed"'
  )
})

test("the event of a schedule is not checked by a definition beside it", async () => {
  const fn = createFunction(
    { id: "nightly", triggers: [OrderPlaced, { cron: "0 9 * * *" }] },
    ({ event }) => event.name
  )
  const run = await Effect.runPromise(
    Effect.gen(function* () {
      const engine = yield* Testing.TestEngine
      const client = yield* Client.Client
      yield* engine.advance("25h")
      return (yield* client.listRuns()).runs[0]
    }).pipe(Effect.provide(Testing.layer({ functions: [fn] })))
  )

  expect(run).toMatchObject({ status: "completed", output: "cron.nightly" })
})

describe("the test kit", () => {
  test("accepts definitions, and encodes and checks their data", async () => {
    const t = createTestClient({ functions: [waits, effectWaits, orders] })
    t.sendEvent(OrderShipped, { orderId: "o-1", shippedAt })
    t.sendEvent(OrderReturned, { orderId: "o-1", at: shippedAt.toISOString() })

    const run = await t.emit("wait.wanted", { orderId: "o-1" })
    const placed = await t.emit(OrderPlaced, { orderId: "o-1" })

    expect(run.output).toMatchObject({ shippedAt: "Date", returned: { at: "Date" } })
    expect(placed.output).toMatchObject({ name: "order.placed", version: 2 })
    expect(() => t.sendEvent(OrderShipped, {} as never)).toThrow(SchemaValidationError)
    await expect(t.emit(OrderPlaced, {} as never)).rejects.toThrow(SchemaValidationError)
    await expect(t.emit(OrderChecked, { orderId: "o-1" })).rejects.toThrow(ValidationError)
  })
})

test("a webhook makes events by definition", async () => {
  const shop = createWebhook({
    id: "shop",
    verify: () => undefined,
    transform: (payload: { id: unknown }) => [
      {
        event: OrderShipped,
        data: { orderId: payload.id as string, shippedAt },
        idempotencyKey: String(payload.id)
      }
    ]
  })
  const handler = createHandler({
    functions: [],
    webhooks: [shop],
    serverUrl: engine.url!,
    skipVerification: true,
    logger: false
  })
  const send = (body: unknown) =>
    handler(
      new Request("http://localhost/webhooks/shop", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body)
      })
    )

  const taken = await send({ id: "o-webhook" })
  const refused = await send({ id: 7 })

  expect(taken.status).toBe(200)
  expect(refused.status).toBe(400)
  expect(await refused.text()).toContain("orderId")
  await vi.waitFor(() => expect(seen).toContainEqual(["o-webhook", shippedAt]))
})

describe("with Effect", () => {
  const program = Effect.gen(function* () {
    const client = yield* Client.Client
    const streams = yield* Streams.Streams
    const { stream } = yield* Subscriptions.Subscriptions
    const orderId = "o-effect"
    const first = yield* Deferred.make<unknown>()
    const ready = yield* Effect.forkChild(
      Stream.runForEach(Stream.take(stream(OrderShipped, { replay: 1000 }), 1000), ({ data }) =>
        data.orderId === orderId ? Deferred.succeed(first, data) : Effect.void
      )
    )
    yield* client.emit(OrderShipped, { orderId, shippedAt })
    const received = yield* Deferred.await(first)
    const failure = yield* Effect.flip(client.emit(OrderShipped, { orderId: 7, shippedAt } as never))
    const many = yield* client.emitMany([{ event: OrderPlaced, data: { orderId } }])
    yield* streams.append(orderId, { event: OrderPlaced, data: { orderId }, entityType: "order" })
    const { events } = yield* streams.read(orderId)
    ready.interruptUnsafe()
    return { received, failure, many: many.length, appended: events.map(({ data }) => data) }
  })
  const expected = {
    received: { orderId: "o-effect", shippedAt },
    failure: expect.any(SchemaValidationError),
    many: 1,
    appended: [{ orderId: "o-effect" }]
  }

  test("the client does the same over HTTP", async () => {
    const services = Client.layerHttp({ serverUrl: engine.url! }).pipe(Layer.provide(FetchHttpClient.layer))

    // events of other tests that do not fit are logged
    const quiet = Layer.merge(services, Logger.layer([]))

    expect(await Effect.runPromise(Effect.provide(program, quiet))).toEqual(expected)
  })

  test("the client, waits and projections do the same on virtual time", async () => {
    const totals = Projection.make({
      name: "totals",
      events: [OrderPlaced, OrderShipped],
      initialState: () => ({ shipped: 0 }),
      handler: (state, event) =>
        event.name === "order.shipped" && event.data.shippedAt instanceof Date
          ? { shipped: state.shipped + 1 }
          : state
    })

    const result = await Effect.runPromise(
      Effect.provide(
        program,
        Testing.layer({ functions: [effectOrders, effectWaits], projections: [totals] })
      )
    )

    expect(result).toEqual(expected)
  })
})
