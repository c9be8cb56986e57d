/**
 * What an operator sees of a function that fails: the lines of the engine, the lines of the run, and the metrics. One function is in
 * the Promise API, the other in the Effect API; both are seen alike.
 */
import { createFunction, type LogFields, type Logger } from "@ironflow/node"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"

const triggers = [{ event: "order.placed" }]
const retry = { maxAttempts: 2, initialDelayMs: 100 }

const charge = createFunction({ id: "charge", triggers, retry }, async ({ event, logger, step }) => {
  logger.info("an order has come", { orderId: event.data.orderId })
  await step.run("reserve", async () => "reserved")
  await step.run("pay", async () => {
    logger.warn("the bank is asked")
    throw new Error("card declined")
  })
})

const ship = IronflowFunction.make({ id: "ship", triggers }, () =>
  Effect.gen(function* () {
    yield* Effect.logInfo("looking for a parcel")
    yield* Step.run("pack", Effect.as(Effect.logInfo("packing"), "packed"))
  })
)

// the engine says what goes wrong, and with which run, function, step and attempt
const line =
  (level: string) =>
  (message: string, _data?: unknown, fields?: LogFields): void => {
    if (fields?.run !== undefined) console.log(`${level}: ${message.replaceAll(fields.run, "<run>")}`)
  }
const logger: Logger = { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") }

const engine = await startEngine({
  filename: ":memory:",
  functions: [charge, ship],
  logger,
  listen: { port: 0 }
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

await engine.close()
