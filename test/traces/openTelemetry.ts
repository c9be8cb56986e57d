/** A program that is traced with `@opentelemetry/api`, in which an HTTP request starts a run. It prints its spans. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import {
  createClient,
  createFunction,
  createProjection,
  createSubscriptionClient,
  createWorker,
  RetryAfterError
} from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { context, propagation, ROOT_CONTEXT, trace } from "@opentelemetry/api"
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-node"

const exporter = new InMemorySpanExporter()
new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register()
const tracer = trace.getTracer("shop")

const engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
  await step.run("charge", async () => tracer.startActiveSpan("ask the bank", (span) => span.end()))
  await step.run("mail", async () => {
    await new Promise(setImmediate)
    tracer.startActiveSpan("send", (span) => span.end())
  })
})
const totals = createProjection({
  name: "totals",
  events: ["order.placed"],
  initialState: () => ({ count: 0 }),
  handler: ({ count }) => ({ count: count + 1 })
})
const worker = createWorker({
  serverUrl: engine.url!,
  functions: [order],
  projections: [totals],
  logger: false
})
const stopped = worker.start()
await worker.ready()
const client = createClient({ serverUrl: engine.url! })
const subscriptions = createSubscriptionClient({ serverUrl: engine.url! })
await subscriptions.connect()
let tries = 0
await subscriptions.subscribe("events:order.placed", {
  consumerGroup: "packers",
  onEvent: async () => {
    if (++tries === 1) throw new RetryAfterError("the box is too small", "1ms")
    await new Promise(setImmediate)
    tracer.startActiveSpan("pack", (span) => span.end())
  }
})
const inProcess = createSubscriptionClient({ engine })
await inProcess.connect()
const listed = (async () => {
  for await (const event of inProcess.stream("events:order.placed", { replay: 1 })) {
    event.within(() => tracer.startActiveSpan("list", (span) => span.end()))
    break
  }
})()
const web = createServer((request, response) => {
  context.with(propagation.extract(ROOT_CONTEXT, request.headers), () =>
    tracer.startActiveSpan("POST /orders", async (span) => {
      const { runIds } = await client.emit("order.placed", {})
      span.end()
      response.end(runIds[0])
    })
  )
})
await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve))

const traceId = "0af7651916cd43dd8448eb211c80319c"
const answer = await fetch(`http://127.0.0.1:${(web.address() as AddressInfo).port}/orders`, {
  method: "POST",
  headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` }
})
await client.waitForRun(await answer.text())
await listed
const expectedSpans = ["run order", "project totals", "pack", "list"]
const isFinished = (name: string) => exporter.getFinishedSpans().some((span) => span.name === name)
while (!expectedSpans.every(isFinished)) await new Promise((resolve) => setTimeout(resolve, 20))

subscriptions.close()
inProcess.close()
await worker.stop()
await stopped
web.close()
web.closeAllConnections()
await client.close()
await engine.close()
const spans = exporter.getFinishedSpans().map((span) => ({
  name: span.name,
  ...span.spanContext(),
  parentSpanId: span.parentSpanContext?.spanId,
  failed: span.status.code === 2,
  group: span.attributes["ironflow.group"],
  attempt: span.attributes["ironflow.delivery.attempt"]
}))
process.stdout.write(JSON.stringify({ traceId, spans }))
