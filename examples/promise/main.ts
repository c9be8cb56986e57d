/** A durable function in the Promise API. Run it: `node --conditions=@ironflow/source examples/promise/main.ts`. */
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

const config = { id: "process-order", triggers: [{ event: "order.placed" }] }
const processOrder = createFunction(config, async ({ event, step }) => {
  const receipt = await step.run("charge", () => `receipt-${event.data.orderId}`)
  await step.sleep("let it settle", "100ms")
  return step.run("ship", () => ({ shipped: event.data.orderId, receipt }))
})
const engine = await startEngine({ filename: ":memory:", functions: [processOrder] })
const { runIds } = await engine.client.emit("order.placed", { orderId: "order-7" })
for (const runId of runIds) console.log((await engine.client.waitForRun(runId)).output)
await engine.close()
