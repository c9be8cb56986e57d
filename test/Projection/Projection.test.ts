/** Definitions of projections: which values are defaults, and what is refused. */
import { assert, describe, expectTypeOf, it } from "vitest"
import { createProjection, createWorker, type IronflowProjection, ValidationError } from "@ironflow/node"
import { Event, Projection } from "@ironflow/node/effect"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const handler = (state: unknown) => state

describe("createProjection", () => {
  it("has defaults for mode, retries and batch size", () => {
    const managed = createProjection({
      name: "totals",
      events: ["order.*"],
      initialState: () => 0,
      handler: (n) => n
    })
    const external = createProjection({ name: "mails", events: ["order.*"], handler: () => undefined })

    assert.deepInclude(managed.config, { mode: "managed", maxRetries: 3, batchSize: 100 })
    assert.deepInclude(external.config, { mode: "external", maxRetries: 3, batchSize: 100 })
  })

  it("types state and event", () => {
    const totals = createProjection({
      name: "totals",
      events: ["order.placed"],
      initialState: () => ({ total: 0 }),
      handler: (state, event) => {
        expectTypeOf(state).toEqualTypeOf<{ total: number }>()
        return { total: state.total + event.data.amount }
      }
    })
    expectTypeOf(totals).toExtend<IronflowProjection<{ total: number }>>()
  })

  it.for<[name: string, config: unknown]>([
    ["no configuration", undefined],
    ["no name", { events: ["a"], handler }],
    ["a blank name", { name: " ", events: ["a"], handler }],
    ["a name with white space", { name: "order totals", events: ["a"], handler }],
    ["a name that is too long", { name: "x".repeat(257), events: ["a"], handler }],
    ["no events", { name: "totals", handler }],
    ["an empty list of events", { name: "totals", events: [], handler }],
    ["an event that is not a string", { name: "totals", events: [1], handler }],
    ["a bad pattern", { name: "totals", events: ["order.>.x"], handler }],
    ["no handler", { name: "totals", events: ["a"] }],
    ["an unknown mode", { name: "totals", events: ["a"], handler, mode: "magic" }],
    [
      "an `initialState` that is not a function",
      { name: "totals", events: ["a"], handler, initialState: {} }
    ],
    ["negative retries", { name: "totals", events: ["a"], handler, maxRetries: -1 }],
    ["an empty batch", { name: "totals", events: ["a"], handler, batchSize: 0 }],
    ["a batch that is too large", { name: "totals", events: ["a"], handler, batchSize: 1001 }],
    [
      "partitions without an initial state",
      { name: "totals", events: ["a"], handler, partitionKey: "data.x" }
    ],
    [
      "an invalid `partitionKey`",
      { name: "totals", events: ["a"], handler, initialState: () => 0, partitionKey: "a b" }
    ]
  ])("refuses %s", ([, config]) => {
    assert.throws(() => createProjection(config as never), ValidationError)
  })

  it("refuses two projections of one name in one worker, and values that are not projections", () => {
    const totals = createProjection({
      name: "totals",
      events: ["order.*"],
      initialState: () => 0,
      handler: (n) => n
    })

    assert.throws(
      () => createWorker({ functions: [], projections: [totals, totals] }),
      /two projections have the name/
    )
    assert.throws(() => createWorker({ functions: [], projections: [{} as never] }), ValidationError)
    assert.throws(() => createWorker({ functions: [], projections: {} as never }), ValidationError)
  })
})

describe("Projection.make", () => {
  class Mailer extends Context.Service<
    Mailer,
    { readonly send: (to: string) => Effect.Effect<void, "down"> }
  >()("Mailer") {}
  const OrderPlaced = Event.define("order.placed", { data: Schema.Struct({ email: Schema.String }) })

  it("keeps failures and requirements in the type, and takes event names from definitions", () => {
    const mails = Projection.make({
      name: "mails",
      events: [OrderPlaced],
      handler: (event) => {
        expectTypeOf(event.data.email).toEqualTypeOf<string>()
        return Effect.flatMap(Mailer, ({ send }) => send(event.data.email))
      }
    })

    assert.deepInclude(mails.config, { mode: "external", events: ["order.placed"] })
    expectTypeOf<Projection.ProjectionRequirements<typeof mails>>().toEqualTypeOf<Mailer>()
  })

  it("accepts a plain reducer", () => {
    const totals = Projection.make({
      name: "totals",
      events: [OrderPlaced],
      initialState: () => ({ count: 0 }),
      handler: ({ count }) => ({ count: count + 1 })
    })

    assert.strictEqual(totals.config.mode, "managed")
    expectTypeOf<Projection.ProjectionRequirements<typeof totals>>().toEqualTypeOf<never>()
  })
})
