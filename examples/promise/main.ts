/** A durable function in the Promise API. Run it: `node --conditions=@ironflow/source examples/promise/main.ts`. */
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

const processOrder = createFunction(
  { id: "process-order", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => {
    const payment = await step.run("charge", async () => ({ receipt: `receipt-${event.data.orderId}` }))
    await step.sleep("let it settle", "100ms")
    return step.run("ship", async () => ({ shipped: event.data.orderId, receipt: payment.receipt }))
  }
)

const engine = await startEngine({ filename: ":memory:", functions: [processOrder] })
const { runIds } = await engine.client.emit("order.placed", { orderId: "order-7" })
for (const runId of runIds) {
  const run = await engine.client.waitForRun(runId, { timeout: 10_000 })
  console.log(run.status, run.output)
}
await engine.close()
