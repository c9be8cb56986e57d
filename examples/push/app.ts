/** The app of this example: one function behind an HTTP handler. `node app.ts <port> <server URL>`. */
import http from "node:http"
import process from "node:process"
import { createFunction, serve } from "@ironflow/node"

const [port, serverUrl] = process.argv.slice(2)

const processOrder = createFunction(
  { id: "process-order", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => {
    const receipt = await step.run("charge", () => say("charge", `receipt-${event.data.orderId}`))
    const parcel = await step.run("pack", () => {
      // the first app does not survive this
      if (process.env.DIE === "yes") process.kill(process.pid, "SIGKILL")
      return say("pack", `parcel-${event.data.orderId}`)
    })
    await step.sleep("let it settle", "200ms")
    return step.run("ship", () => say("ship", { receipt, parcel }))
  }
)

/** What really ran, and where. */
const say = <T>(step: string, result: T): T => {
  console.log(`  ${step} runs in process ${process.pid}`)
  return result
}

// the signing key comes from IRONFLOW_SIGNING_KEY; with the server's URL each step is reported as it finishes
const handler = serve({ functions: [processOrder], serverUrl })
http
  .createServer((request, response) => void handler(request, response))
  .listen(Number(port), "127.0.0.1", () => process.send?.("ready"))
