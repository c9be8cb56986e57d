/** What the compiler knows of defined events, and what it refuses. `tsc` checks the assertions; nothing runs. */
import {
  createClient,
  createFunction,
  createProjection,
  createSubscriptionClient,
  createWebhook,
  defineEvent,
  type EventData,
  type EventDefinition,
  type EventInput,
  type EventMap,
  type IronflowClient,
  type IronflowEvent,
  type ProjectionEvent,
  withEvents
} from "@ironflow/node"
import {
  Client,
  Event,
  IronflowFunction,
  Projection,
  Step,
  Streams,
  Subscriptions
} from "@ironflow/node/effect"
import { createTestClient } from "@ironflow/node/test"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { describe, expectTypeOf, test } from "vitest"
import { z } from "zod"

const OrderPlaced = defineEvent({
  name: "order.placed",
  schema: z.object({ orderId: z.string(), amount: z.number().default(0) })
})
const OrderShipped = Event.define("order.shipped", {
  data: Schema.Struct({ orderId: Schema.String, shippedAt: Schema.DateFromString })
})
const OrderCancelled = defineEvent({ name: "order.cancelled", version: 2 })

interface Placed {
  orderId: string
  amount: number
}
interface Shipped {
  readonly orderId: string
  readonly shippedAt: Date
}

/** Compiles, and is never called. */
const compiles = (_: () => unknown): void => undefined

describe("a definition", () => {
  test("types its input and its output", () => {
    expectTypeOf<EventData<typeof OrderPlaced>>().toEqualTypeOf<Placed>()
    expectTypeOf<EventInput<typeof OrderPlaced>>().toEqualTypeOf<{
      orderId: string
      amount?: number | undefined
    }>()
    expectTypeOf<EventData<typeof OrderShipped>>().toEqualTypeOf<Shipped>()
    expectTypeOf<EventInput<typeof OrderShipped>>().toEqualTypeOf<Shipped>()
    expectTypeOf<EventData<typeof OrderCancelled>>().toBeAny()
    expectTypeOf(OrderPlaced.name).toEqualTypeOf<"order.placed">()
  })

  test("of an Effect schema can be made by either function", () => {
    const Same = defineEvent({ name: "order.shipped", schema: OrderShipped.schema })

    expectTypeOf(Same).toEqualTypeOf(OrderShipped)
  })

  test("needs a version, a schema, or both, and nothing else", () => {
    compiles(() => {
      // @ts-expect-error -- neither schema nor version
      defineEvent({ name: "order.placed" })
      // @ts-expect-error -- no schema
      defineEvent({ name: "order.placed", schema: { orderId: "string" } })
      // @ts-expect-error -- misspelled
      defineEvent({ name: "order.placed", schemas: z.string() })
      // @ts-expect-error -- the option of `Event.define` is `data`
      Event.define("order.placed", { schema: Schema.String })
    })
  })
})

describe("emit", () => {
  const client = createClient()

  test("takes the data of the definition", () => {
    compiles(() => client.emit(OrderPlaced, { orderId: "o-1" }))
    compiles(() => client.emit(OrderShipped, { orderId: "o-1", shippedAt: new Date() }))
    compiles(() => client.emitSync(OrderPlaced, { orderId: "o-1" }, { timeout: 5 }))
    compiles(() => client.trigger(OrderPlaced, { orderId: "o-1" }))
    compiles(() => client.emit(OrderCancelled, "anything"))
    compiles(() => client.emit("order.placed", { any: "thing" }, { version: 2 }))
    compiles(() => (name: string, data: unknown) => client.emit(name, data))
    compiles(() => (event: EventDefinition) => client.emit(event, {}))
  })

  test("refuses other data", () => {
    compiles(() => {
      // @ts-expect-error -- a number in place of text
      client.emit(OrderPlaced, { orderId: 7 })
      // @ts-expect-error -- a member is missing
      client.emit(OrderPlaced, {})
      // @ts-expect-error -- a member that does not exist
      client.emit(OrderPlaced, { orderId: "o-1", amonut: 5 })
      // @ts-expect-error -- the encoded date, where a Date goes in
      client.emit(OrderShipped, { orderId: "o-1", shippedAt: "2026-01-02T03:04:05.000Z" })
      // @ts-expect-error -- no data
      client.emit(OrderPlaced)
      // @ts-expect-error -- neither a name nor a definition
      client.emit(7, {})
      // @ts-expect-error -- a number in place of text, as for `emit`
      client.emitSync(OrderPlaced, { orderId: 7 })
    })
  })

  test("of many takes each event with its data", () => {
    compiles(() =>
      client.emitMany([
        { event: OrderPlaced, data: { orderId: "o-1" }, idempotencyKey: "1" },
        { event: OrderShipped, data: { orderId: "o-1", shippedAt: new Date() } },
        { event: "order.noted", data: 5, metadata: { by: "me" } }
      ])
    )
    compiles(() =>
      client.emitMany(["o-1", "o-2"].map((orderId) => ({ event: OrderPlaced, data: { orderId } })))
    )
    compiles(() =>
      client.emitMany([
        { event: OrderPlaced, data: { orderId: "o-1" } },
        // @ts-expect-error -- data of another event
        { event: OrderShipped, data: { orderId: "o-1" } }
      ])
    )
  })

  test("is an Effect with the same types", () => {
    compiles(() =>
      Effect.gen(function* () {
        const client = yield* Client.Client
        yield* client.emit(OrderShipped, { orderId: "o-1", shippedAt: new Date() })
        yield* client.emitMany([{ event: OrderPlaced, data: { orderId: "o-1" } }])
        // @ts-expect-error -- a number in place of text
        yield* client.emit(OrderPlaced, { orderId: 7 })
      })
    )
  })
})

describe("triggers", () => {
  test("by one definition give its event", () => {
    createFunction({ id: "f", triggers: [OrderPlaced] }, async ({ event }) => {
      expectTypeOf(event).toEqualTypeOf<IronflowEvent<Placed, "order.placed">>()
      // @ts-expect-error -- the data has no such member
      return event.data.customer
    })
    createFunction(
      { id: "f", triggers: [{ event: OrderPlaced, expression: "event.data.amount > 5" }] },
      ({ event }) => {
        expectTypeOf(event.data).toEqualTypeOf<Placed>()
      }
    )
    IronflowFunction.make({ id: "f", triggers: [OrderShipped] }, ({ event }) => {
      expectTypeOf(event).toEqualTypeOf<IronflowEvent<Shipped, "order.shipped">>()
      return Effect.void
    })
  })

  test("by several definitions give a union that the name tells apart", () => {
    createFunction({ id: "f", triggers: [OrderPlaced, { event: OrderShipped }] }, ({ event }) => {
      if (event.name === "order.shipped") expectTypeOf(event.data).toEqualTypeOf<Shipped>()
      else expectTypeOf(event.data).toEqualTypeOf<Placed>()
      // @ts-expect-error -- no event of this function
      if (event.name === "order.plaecd") return
      // @ts-expect-error -- only one of them has it
      return event.data.shippedAt
    })
    IronflowFunction.make({ id: "f", triggers: [OrderPlaced, OrderShipped] }, ({ event }) => {
      if (event.name === "order.placed") expectTypeOf(event.data).toEqualTypeOf<Placed>()
      else expectTypeOf(event.data).toEqualTypeOf<Shipped>()
      return Effect.void
    })
  })

  test("by name are unchanged, with and without a schema", () => {
    createFunction({ id: "f", triggers: [{ event: "order.placed" }] }, ({ event }) => {
      expectTypeOf(event).toEqualTypeOf<IronflowEvent<any>>()
    })
    createFunction({ id: "f", triggers: [{ event: "order.*" }], schema: OrderPlaced.schema }, ({ event }) => {
      expectTypeOf(event).toEqualTypeOf<IronflowEvent<Placed>>()
    })
    createFunction({ id: "f", triggers: [] }, ({ event }) => {
      expectTypeOf(event).toEqualTypeOf<IronflowEvent<any>>()
    })
  })

  test("of other kinds beside definitions give the type of the function's schema", () => {
    createFunction(
      { id: "f", triggers: [OrderPlaced, { cron: "0 9 * * *" }], schema: z.object({ day: z.number() }) },
      ({ event }) => {
        expectTypeOf(event).toEqualTypeOf<
          IronflowEvent<Placed, "order.placed"> | IronflowEvent<{ day: number }>
        >()
      }
    )
  })

  test("refuse options that do not exist", () => {
    compiles(() => {
      // @ts-expect-error -- misspelled
      createFunction({ id: "f", triggers: [{ event: "order.placed", expresion: "true" }] }, () => 1)
      // @ts-expect-error -- misspelled
      createFunction({ id: "f", triggers: [{ event: OrderPlaced, expresion: "true" }] }, () => 1)
      // @ts-expect-error -- a name is no trigger
      createFunction({ id: "f", triggers: ["order.placed"] }, () => 1)
      // @ts-expect-error -- a misspelled option of the function
      createFunction({ id: "f", trigers: [OrderPlaced], triggers: [] }, () => 1)
    })
  })
})

test("waits give the event of the definition", () => {
  createFunction({ id: "f", triggers: [OrderPlaced] }, async ({ step }) => {
    const shipped = await step.waitForEvent("shipped", { event: OrderShipped, match: "data.orderId" })
    expectTypeOf(shipped).toEqualTypeOf<IronflowEvent<Shipped, "order.shipped">>()
    expectTypeOf(await step.waitForEvent("any", { event: "order.shipped" })).toEqualTypeOf<
      IronflowEvent<any>
    >()
    expectTypeOf(await step.waitForEvent<Placed>("x", { event: "x" })).toEqualTypeOf<IronflowEvent<Placed>>()
    // @ts-expect-error -- misspelled
    await step.waitForEvent("shipped", { event: OrderShipped, timeuot: "1d" })
  })
  IronflowFunction.make({ id: "f", triggers: [OrderPlaced] }, () =>
    Effect.gen(function* () {
      const shipped = yield* Step.waitForEvent("shipped", { event: OrderShipped })
      expectTypeOf(shipped).toEqualTypeOf<IronflowEvent<Shipped, "order.shipped">>()
      const any = yield* Step.waitForEvent("any", { event: "order.shipped" })
      expectTypeOf(any).toEqualTypeOf<IronflowEvent<any>>()
    })
  )
})

test("appends take the data of the definition", () => {
  const { streams } = createClient()
  compiles(() =>
    streams.append("o-1", {
      event: OrderShipped,
      data: { orderId: "o-1", shippedAt: new Date() },
      entityType: "order"
    })
  )
  compiles(() => streams.append("o-1", { name: "order.noted", data: 1, entityType: "order" }, { version: 2 }))
  compiles(() =>
    streams.appendAll("o-1", {
      entityType: "order",
      events: [
        { event: OrderPlaced, data: { orderId: "o-1" } },
        { name: "order.noted", data: 1, version: 2 }
      ]
    })
  )
  compiles(() => {
    // @ts-expect-error -- a number in place of text
    streams.append("o-1", { event: OrderPlaced, data: { orderId: 1 }, entityType: "order" })
    streams.appendAll("o-1", {
      entityType: "order",
      // @ts-expect-error -- data of another event
      events: [{ event: OrderShipped, data: { orderId: "o-1" } }]
    })
  })
  compiles(() =>
    Effect.gen(function* () {
      const streams = yield* Streams.Streams
      yield* streams.append("o-1", { event: OrderPlaced, data: { orderId: "o-1" }, entityType: "order" })
      // @ts-expect-error -- a number in place of text
      yield* streams.append("o-1", { event: OrderPlaced, data: { orderId: 1 }, entityType: "order" })
    })
  )
  createFunction({ id: "f", triggers: [OrderPlaced] }, async ({ step }) =>
    step.tx("write", (tx) => {
      tx.emit(OrderShipped, { orderId: "o-1", shippedAt: new Date() })
      tx.emit("order.noted", 1)
      tx.streams.append("o-1", { event: OrderPlaced, data: { orderId: "o-1" }, entityType: "order" })
      // @ts-expect-error -- a number in place of text
      tx.emit(OrderPlaced, { orderId: 1 })
      // @ts-expect-error -- a number in place of text
      tx.streams.append("o-1", { event: OrderPlaced, data: { orderId: 1 }, entityType: "order" })
    })
  )
})

test("projections get the events of their definitions", () => {
  createProjection({
    name: "totals",
    events: [OrderPlaced, OrderShipped],
    initialState: () => ({ placed: 0, last: "" }),
    handler: (state, event) => {
      expectTypeOf(state).toEqualTypeOf<{ placed: number; last: string }>()
      if (event.name === "order.placed") {
        expectTypeOf(event).toEqualTypeOf<ProjectionEvent<Placed, "order.placed">>()
        return { ...state, placed: state.placed + event.data.amount }
      }
      expectTypeOf(event.data).toEqualTypeOf<Shipped>()
      return { ...state, last: event.data.shippedAt.toISOString() }
    },
    partitionKey: (event) => event.data.orderId
  })
  createProjection({
    name: "letters",
    events: [OrderPlaced],
    handler: async (event) => {
      expectTypeOf(event.data).toEqualTypeOf<Placed>()
      // @ts-expect-error -- the data has no such member
      return event.data.email
    }
  })
  createProjection({
    name: "mixed",
    events: [OrderPlaced, "order.noted", "system.*"],
    handler: (event) => {
      if (event.name === "order.noted") expectTypeOf(event.data).toBeAny()
    }
  })
  createProjection({
    name: "by-name",
    events: ["order.placed"],
    initialState: () => 0,
    handler: (state, event: ProjectionEvent<Placed>) => state + event.data.amount
  })
  Projection.make({
    name: "totals",
    events: [OrderPlaced, OrderShipped],
    initialState: () => 0,
    handler: (state, event) => {
      if (event.name === "order.shipped") expectTypeOf(event.data).toEqualTypeOf<Shipped>()
      return state + 1
    }
  })
  compiles(() =>
    createProjection({
      name: "totals",
      events: [OrderPlaced],
      initialState: () => 0,
      // @ts-expect-error -- the state is a number
      handler: (_, event) => event.data.orderId
    })
  )
})

test("subscriptions give the data of the definition", () => {
  const client = createSubscriptionClient({})
  compiles(async () => {
    await client.subscribe(OrderShipped, {
      onEvent: ({ data }) => expectTypeOf(data).toEqualTypeOf<Shipped>()
    })
    await client.subscribe("events:order.*", { onEvent: ({ data }) => expectTypeOf(data).toBeAny() })
    const manual = await client.subscribe(OrderShipped, { ackMode: "manual", onEvent: () => undefined })
    expectTypeOf(manual.ack).toBeFunction()
    for await (const event of client.stream(OrderPlaced)) expectTypeOf(event.data).toEqualTypeOf<Placed>()
    // @ts-expect-error -- the data has no such member
    await client.subscribe(OrderPlaced, { onEvent: ({ data }) => data.customer })
  })
  compiles(() =>
    Effect.gen(function* () {
      const { stream } = yield* Subscriptions.Subscriptions
      yield* Stream.runForEach(stream(OrderShipped), ({ data }) => {
        expectTypeOf(data).toEqualTypeOf<Shipped>()
        return Effect.void
      })
    })
  )
})

test("webhooks and the test kit take the data of the definition", () => {
  createWebhook({
    id: "shop",
    verify: () => undefined,
    transform: (payload: { id: string }) => ({ event: OrderPlaced, data: { orderId: payload.id } })
  })
  compiles(() => {
    const t = createTestClient({ functions: [] })
    t.sendEvent(OrderShipped, { orderId: "o-1", shippedAt: new Date() })
    t.sendEvent("order.noted", 1)
    // @ts-expect-error -- a number in place of text
    t.sendEvent(OrderPlaced, { orderId: 1 })
    // @ts-expect-error -- a number in place of text
    return t.emit(OrderPlaced, { orderId: 1 })
  })
})

describe("a map of events", () => {
  interface Events {
    "order.placed": { orderId: string; amount: number }
    "order.noted": string
  }

  test("types a client by names", () => {
    const client = createClient<Events>()

    compiles(() => client.emit("order.placed", { orderId: "o-1", amount: 5 }))
    compiles(() => client.emit("order.noted", "late"))
    compiles(() => client.emit(OrderShipped, { orderId: "o-1", shippedAt: new Date() }))
    compiles(() => client.emitMany([{ event: "order.noted", data: "late" }]))
    compiles(() => {
      // @ts-expect-error -- no such event
      client.emit("order.plaecd", {})
      // @ts-expect-error -- data of another event
      client.emit("order.noted", { orderId: "o-1", amount: 5 })
      // @ts-expect-error -- no such event
      client.emitMany([{ event: "order.plaecd", data: "late" }])
      // @ts-expect-error -- data of another event
      client.emitMany([{ event: "order.noted", data: 5 }])
    })
  })

  test("types the Effect client by names", () => {
    compiles(() =>
      Effect.gen(function* () {
        const client = yield* Client.withEvents<Events>()
        yield* client.emit("order.noted", "late")
        // @ts-expect-error -- no such event
        yield* client.emit("order.plaecd", {})
      })
    )
  })

  test("is made of definitions, with the data as it is stored", () => {
    expectTypeOf<EventMap<typeof OrderPlaced | typeof OrderShipped>>().toEqualTypeOf<{
      readonly "order.placed": { orderId: string; amount?: number | undefined }
      readonly "order.shipped": { readonly orderId: string; readonly shippedAt: string }
    }>()
  })

  test("has the JSON form of values that are not JSON", () => {
    const Measured = Event.define("measured", {
      data: Schema.Struct({
        at: Schema.Date,
        total: Schema.BigInt,
        bytes: Schema.Uint8Array,
        dates: Schema.Array(Schema.Date),
        by: Schema.ReadonlyMap(Schema.String, Schema.Date),
        last: Schema.optionalKey(Schema.Date)
      })
    })
    expectTypeOf<EventMap<typeof Measured>["measured"]>().toEqualTypeOf<{
      readonly at: string
      readonly total: string
      readonly bytes: string
      readonly dates: ReadonlyArray<string>
      readonly by: ReadonlyArray<readonly [string, string]>
      readonly last?: string
    }>()
  })

  test("does not change the type of a client without one", () => {
    expectTypeOf<ReturnType<typeof createClient>>().toEqualTypeOf<IronflowClient>()
    expectTypeOf(createClient()).toEqualTypeOf<IronflowClient>()
  })

  test("types functions and projections by names", () => {
    const { createFunction, createProjection } = withEvents<Events>()

    createFunction({ id: "f", triggers: [{ event: "order.placed" }] }, async ({ event, step }) => {
      expectTypeOf(event).toEqualTypeOf<IronflowEvent<Events["order.placed"], "order.placed">>()
      const noted = await step.waitForEvent("noted", { event: "order.noted" })
      expectTypeOf(noted.data).toEqualTypeOf<string>()
      return step.run("charge", () => event.data.amount)
    })
    createFunction(
      { id: "f", triggers: [{ event: "order.placed" }, { event: "order.noted" }] },
      ({ event }) => {
        if (event.name === "order.noted") expectTypeOf(event.data).toEqualTypeOf<string>()
      }
    )
    createProjection({
      name: "p",
      events: ["order.placed"],
      initialState: () => 0,
      handler: (total, event) => total + event.data.amount
    })
    compiles(() => {
      // @ts-expect-error -- no such event
      createFunction({ id: "f", triggers: [{ event: "order.plaecd" }] }, () => 1)
      // @ts-expect-error -- no such event
      createProjection({ name: "p", events: ["order.plaecd"], handler: () => 1 })
    })
  })
})
