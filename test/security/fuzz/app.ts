/** A user's app with `serve()`, as a process: a function and a webhook behind one handler, with and without signatures. */
import http from "node:http"
import process from "node:process"
import { createFunction, createWebhook, serve } from "@ironflow/node"

const [port, serverUrl] = process.argv.slice(2)

const pack = createFunction(
  { id: "pack-order", triggers: [{ event: "order.packed" }] },
  async ({ event, step }) => {
    const parcel = await step.run("pack", () => ({ of: event.data }))
    await step.sleep("settle", "10ms")
    return parcel
  }
)

const paid = createWebhook({
  id: "stripe",
  verify: () => undefined,
  transform: (payload: any) => ({ name: "webhook.paid", data: payload, idempotencyKey: payload?.id })
})

const options = { functions: [pack], webhooks: [paid], serverUrl: serverUrl ?? "", logger: false } as const
const signed = serve({ ...options, signingKey: "key of the app" })
const open = serve({ ...options, skipVerification: true })

http
  .createServer((request, response) => {
    if (request.url === "/health") return void response.end("ok")
    void (request.url?.startsWith("/signed") === true ? signed : open)(request, response)
  })
  .listen(Number(port), "127.0.0.1", () => console.log("The app listens"))
