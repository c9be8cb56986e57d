/** One definition of an event, used from emit to projection, in the Effect API. */
import {
  Client,
  Engine,
  Event,
  IronflowFunction,
  Projection,
  Projections,
  Step,
  Store,
  Worker,
  WorkerTransport
} from "@ironflow/node/effect"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

const OrderPlaced = Event.define("order.placed", {
  data: Schema.Struct({ orderId: Schema.String, amount: Schema.Number })
})
const OrderShipped = Event.define("order.shipped", {
  data: Schema.Struct({ orderId: Schema.String, shippedAt: Schema.Date })
})

const followOrder = IronflowFunction.make(
  { id: "follow-order", triggers: [OrderPlaced] },
  Effect.fnUntraced(function* ({ event }) {
    const shipped = yield* Step.waitForEvent("shipped", { event: OrderShipped, match: "data.orderId" })
    return `${event.data.orderId}: ${event.data.amount}, shipped in ${shipped.data.shippedAt.getUTCFullYear()}`
  })
)

const totals = Projection.make({
  name: "totals",
  events: [OrderPlaced, OrderShipped],
  initialState: () => ({ revenue: 0, lastShipped: "" }),
  handler: (state, event) =>
    event.name === "order.placed"
      ? { ...state, revenue: state.revenue + event.data.amount }
      : { ...state, lastShipped: event.data.shippedAt.toISOString() }
})

const Main = Worker.layer({ functions: [followOrder], projections: [totals] }).pipe(
  Layer.provide(WorkerTransport.layerMemory),
  Layer.merge(Engine.layerClient),
  Layer.provide(Engine.layer),
  Layer.provide(Store.layerSqlite({ filename: ":memory:" }))
)

const program = Effect.gen(function* () {
  const client = yield* Client.Client
  const projections = yield* Projections.Projections

  const { runIds } = yield* client.emit(OrderPlaced, { orderId: "o-1", amount: 30 })
  const { position } = yield* client.emit(OrderShipped, {
    orderId: "o-1",
    shippedAt: new Date("2026-11-28T12:00:00Z")
  })
  const run = yield* client.waitForRun(runIds[0]!)
  console.log("run:", run.output)
  const { state } = yield* projections.get("totals", { after: position! })
  console.log("projected:", state)

  // without `as never`, the compiler would refuse this data already
  const refused = yield* Effect.flip(client.emit(OrderPlaced, { orderId: "o-2", amount: "a lot" as never }))
  console.log("refused:", refused.message)
})

await Effect.runPromise(Effect.provide(program, Main))
