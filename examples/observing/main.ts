/**
 * What an operator sees of a function that fails: log lines of the engine, log lines of the run, and metrics. And what the
 * engine does by itself: it runs the function's `onFailure`, and calls a hook. One function uses the Promise API, the other
 * the Effect API; an operator sees no difference.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { buffer } from "node:stream/consumers"
import {
  createFunction,
  type FailedRun,
  type HookCall,
  type LogFields,
  type Logger,
  verifyHook
} from "@ironflow/node"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"

const triggers = [{ event: "order.placed" }]
const retry = { maxAttempts: 2, initialDelayMs: 100 }

const onFailure = ({ event }: { readonly event: { readonly data: FailedRun } }) => {
  const { error, event: order, steps } = event.data
  return `order ${order.data.orderId}: ${error.message}, after ${steps.map(({ name }) => name).join(" and ")}`
}

const charge = createFunction(
  { id: "charge", triggers, retry, onFailure },
  async ({ event, logger, step }) => {
    logger.info("an order has come", { orderId: event.data.orderId })
    await step.run("reserve", async () => "reserved")
    await step.run("pay", async () => {
      logger.warn("the bank is asked")
      throw new Error("card declined")
    })
  }
)

const ship = IronflowFunction.make({ id: "ship", triggers }, () =>
  Effect.gen(function* () {
    yield* Effect.logInfo("looking for a parcel")
    yield* Step.run("pack", Effect.as(Effect.logInfo("packing"), "packed"))
  })
)

// the engine logs what goes wrong, with the run, function, step and attempt
const line =
  (level: string) =>
  (message: string, _data?: unknown, fields?: LogFields): void => {
    if (fields?.run !== undefined) console.log(`${level}: ${message.replaceAll(fields.run, "<run>")}`)
  }
const logger: Logger = { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") }

// another service, which the engine tells of each failed run
const secret = "a-secret-of-both-of-them"
let receive: (call: HookCall) => void = () => undefined
const called = new Promise<HookCall>((resolve) => (receive = resolve))
const alarms = createServer(async (request, response) => {
  receive(verifyHook({ headers: request.headers, body: await buffer(request) }, secret))
  response.writeHead(204).end()
})
await new Promise<void>((resolve) => void alarms.listen(0, "127.0.0.1", resolve))
const alarmsUrl = `http://127.0.0.1:${(alarms.address() as AddressInfo).port}/`

const engine = await startEngine({
  filename: ":memory:",
  functions: [charge, ship],
  logger,
  listen: { port: 0 },
  hooks: [{ url: alarmsUrl, secret, on: ["run.failed"] }],
  push: { allowPrivateNetworks: true }
})
const { client } = engine

const { runIds } = await client.emit("order.placed", { orderId: "o-1" })
const runs = await Promise.all(runIds.map((runId) => client.waitForRun(runId)))

console.log("\nWhat the code of the runs has logged:")
for (const { functionId, id, status } of runs) {
  console.log(`${functionId} has ${status}`)
  for (const { attempt, data, level, message, step } of await client.getRunLogs(id)) {
    const where = step === undefined ? "" : ` (step ${step}, attempt ${attempt})`
    console.log(`  ${level} ${message}${where}${data === undefined ? "" : ` ${JSON.stringify(data)}`}`)
  }
}

console.log("\nWhat an alert would be about:")
const metrics = await (await fetch(`${engine.url}/metrics`)).text()
for (const sample of metrics.split("\n")) {
  if (/^ironflow_function_runs_total.*what="(completed|failed|retried)"/.test(sample))
    console.log(`  ${sample}`)
}

console.log("\nWhat the engine did by itself:")
const { runs: handlers } = await client.listRuns({ functionId: "charge/on-failure" })
for (const { id } of handlers) console.log(`  onFailure: ${(await client.waitForRun(id)).output}`)
const { data, type } = await called
console.log(`  the hook was told of ${type}: ${data.functionId}, ${data.error?.message}`)

await engine.close()
alarms.close()
