/** The app that `main.ts` starts: one function behind an HTTP handler. `node app.ts <port> <engine URL>`. */
import http from "node:http"
import process from "node:process"
import { createFunction, serve } from "@ironflow/node"

const [port, serverUrl] = process.argv.slice(2)

const processOrder = createFunction(
  { id: "process-order", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => {
    const receipt = await step.run("charge", () => report("charge", `receipt-${event.data.orderId}`))
    const parcel = await step.run("pack", () => {
      // the first process of the app ends here
      if (process.env.DIE === "yes") process.kill(process.pid, "SIGKILL")
      return report("pack", `parcel-${event.data.orderId}`)
    })
    await step.sleep("let it settle", "200ms")
    return step.run("ship", () => report("ship", { receipt, parcel }))
  }
)

/** Prints which step runs, and in which process. */
const report = <T>(step: string, result: T): T => {
  console.log(`  ${step} runs in process ${process.pid}`)
  return result
}

// the signing key comes from IRONFLOW_SIGNING_KEY; since it has the engine's URL, the handler reports each step when the step ends
const handler = serve({ functions: [processOrder], serverUrl })
http
  .createServer((request, response) => void handler(request, response))
  .listen(Number(port), "127.0.0.1", () => process.send?.("ready"))
