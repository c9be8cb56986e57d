/** One definition of an event, used from emit to projection: what goes in, what comes out, and what is refused. */
import {
  createFunction,
  createProjection,
  createSubscriptionClient,
  defineEvent,
  SchemaValidationError
} from "@ironflow/node"
import { Event } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import * as Schema from "effect/Schema"
import { z } from "zod"

// any schema library works: data is checked when it is emitted, and the default is filled in when it is handled
const OrderPlaced = defineEvent({
  name: "order.placed",
  schema: z.object({
    orderId: z.string(),
    amount: z.number().positive(),
    currency: z.string().default("EUR")
  })
})
// an Effect schema also encodes, so that code emits and receives dates
const OrderShipped = Event.define("order.shipped", {
  data: Schema.Struct({ orderId: Schema.String, shippedAt: Schema.Date })
})

const followOrder = createFunction(
  { id: "follow-order", triggers: [OrderPlaced] },
  async ({ event, step }) => {
    const { amount, currency, orderId } = event.data
    const shipped = await step.waitForEvent("shipped", { event: OrderShipped, match: "data.orderId" })
    return `${orderId}: ${amount.toFixed(2)} ${currency}, shipped in ${shipped.data.shippedAt.getUTCFullYear()}`
  }
)

const totals = createProjection({
  name: "totals",
  events: [OrderPlaced, OrderShipped],
  initialState: () => ({ revenue: 0, lastShipped: "" }),
  handler: (state, event) =>
    event.name === "order.placed"
      ? { ...state, revenue: state.revenue + event.data.amount }
      : { ...state, lastShipped: event.data.shippedAt.toISOString() }
})

const engine = await startEngine({
  filename: ":memory:",
  functions: [followOrder],
  projections: [totals],
  logger: false
})
const { client } = engine
const subscriptions = createSubscriptionClient({ engine })
await subscriptions.connect()
await subscriptions.subscribe(OrderShipped, {
  onEvent: ({ data }) => console.log(`subscribed: ${data.orderId} on ${data.shippedAt.toDateString()}`)
})

const [placed] = await client.emitMany([
  { event: OrderPlaced, data: { orderId: "o-1", amount: 30 } },
  { event: OrderPlaced, data: { orderId: "o-2", amount: 12, currency: "CHF" } }
])
const { position } = await client.streams.append("o-1", {
  event: OrderShipped,
  data: { orderId: "o-1", shippedAt: new Date("2026-11-28T12:00:00Z") },
  entityType: "order"
})
const run = await client.waitForRun(placed!.runIds[0]!, { timeout: 10_000 })
console.log("run:", run.output)

const { state } = await client.projections.get("totals", { after: position })
console.log("projected:", state)

try {
  // without `as never`, the compiler would refuse this data already
  await client.emit(OrderPlaced, { orderId: "o-3", amount: "a lot" as never })
} catch (error) {
  if (!(error instanceof SchemaValidationError)) throw error
  console.log("refused:", error.message)
}
subscriptions.close()
await engine.close()
