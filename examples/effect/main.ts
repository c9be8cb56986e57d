/**
 * The function of `examples/promise/main.ts` in the Effect API. Run it: `node --conditions=@ironflow/source
 * examples/effect/main.ts`.
 */
import {
  Client,
  Engine,
  Event,
  IronflowFunction,
  Step,
  Store,
  Worker,
  WorkerTransport
} from "@ironflow/node/effect"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

const OrderPlaced = Event.define("order.placed", { data: Schema.Struct({ orderId: Schema.String }) })

const processOrder = IronflowFunction.make(
  { id: "process-order", triggers: [OrderPlaced] },
  Effect.fnUntraced(function* ({ event }) {
    const payment = yield* Step.run("charge", Effect.succeed({ receipt: `receipt-${event.data.orderId}` }))
    yield* Step.sleep("let it settle", "100 millis")
    return yield* Step.run("ship", Effect.succeed({ shipped: event.data.orderId, receipt: payment.receipt }))
  })
)

const Main = Worker.layer({ functions: [processOrder] }).pipe(
  Layer.provide(WorkerTransport.layerMemory),
  Layer.merge(Engine.layerClient),
  Layer.provide(Engine.layer),
  Layer.provide(Store.layerSqlite({ filename: ":memory:" }))
)

const program = Effect.gen(function* () {
  const client = yield* Client.Client
  const { runIds } = yield* client.emit("order.placed", { orderId: "order-7" })
  for (const runId of runIds) {
    const run = yield* client.waitForRun(runId, { timeout: 10_000 })
    yield* Console.log(run.status, run.output)
  }
})

NodeRuntime.runMain(Effect.provide(program, Main))
