/**
 * One life of the shop: a process with the shop's functions, and with an engine on a file, or a worker and a client of
 * an engine elsewhere. It does its part of the plan, and may be killed at any moment. Start it with `node
 * --conditions=@ironflow/source app.ts '<LifeOptions as JSON>'`.
 *
 * It prints `ready`, `ack <Ack as JSON>` for each acknowledged item, and `idle` when all its runs have ended. The life
 * that finishes the plan then closes the engine and prints `done`.
 */
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"
import { createClient, createWorker, StoreError } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import { type Ack, Customer } from "./Customer.ts"
import { makeEffectFunctions } from "./EffectShop.ts"
import { type Fate, FOREVER, type Item, type Place } from "./Plan.ts"
import { makeFunctions } from "./Shop.ts"
import { type NewLine, openSideLog } from "./SideLog.ts"

export interface LifeOptions {
  readonly life: number
  readonly database: string
  readonly sideLog: string
  /**
   * The items to request in this life: those of the plan up to this life, without most of those that have been
   * acknowledged.
   */
  readonly items: ReadonlyArray<Item>
  /** Runs of the events emitted so far, for cancellations. */
  readonly runIds: Readonly<Record<string, ReadonlyArray<string>>>
  readonly fate: Fate | undefined
  /** Set when the engine is another process; `database` then belongs to that one. */
  readonly remote?: Remote | undefined
}

/** An engine elsewhere, and how the worker of the shop reaches it. */
export interface Remote {
  readonly serverUrl: string
  readonly transport: "polling" | "rpc" | "connect"
}

const options = JSON.parse(process.argv[2] ?? "") as LifeOptions
const { fate } = options

const die = (): never => {
  process.kill(process.pid, "SIGKILL")
  throw new Error("unreachable: nobody survives SIGKILL")
}

let visits = 0
/** Kills the process here if its plan says so. */
const visit = (place: Place): void => {
  if (fate?._tag !== "At" || fate.place !== place || ++visits !== fate.nth) return
  const dieAfter = (turns: number): void => {
    if (turns === 0) die()
    setImmediate(() => dieAfter(turns - 1))
  }
  dieAfter(fate.turns)
}

const placeOf = (line: NewLine): Place | undefined => {
  switch (line.t) {
    case "begin":
      return line.key.startsWith("compensate:") ? "compensation begin" : "begin"
    case "end":
      return line.key.startsWith("compensate:") ? "compensation end" : "end"
    case "fail":
      return "fail"
    case "throw":
      return "throw"
    case "abort":
    case "life":
    case "cancelled":
      return undefined
  }
}

const log = openSideLog(options.sideLog, (line) => {
  const place = placeOf(line)
  if (place !== undefined) visit(place)
})

const say = (line: string): void => void process.stdout.write(`${line}\n`)

log.append({ t: "life", life: options.life })
const workerOptions = {
  functions: [...makeFunctions(log), ...makeEffectFunctions(log)],
  maxConcurrentJobs: 8,
  // it would warn of every kill
  logger: false
} as const

const connect = async ({ serverUrl, transport }: Remote) => {
  // one id for all lives, so that the engine frees what a life held as soon as the next one connects
  const config = { ...workerOptions, serverUrl, workerId: "shop", reconnectDelay: 50 }
  const worker =
    transport === "connect"
      ? createStreamingWorker(config)
      : createWorker({ ...config, transport: transport === "rpc" ? "streaming" : "polling" })
  const stopped = worker.start()
  await worker.ready()
  const client = createClient({ serverUrl })
  const close = async () => {
    await worker.drain()
    await stopped
    await client.close()
  }
  return { client, close }
}

const { remote } = options
const engine = await (
  remote === undefined ? startEngine({ ...workerOptions, filename: options.database }) : connect(remote)
).catch((error: unknown) => {
  if (!(error instanceof StoreError)) throw error
  say(`refused ${error.code}`)
  process.exit(3)
})
const { client } = engine
say("ready")

const acknowledged = (ack: Ack): void => {
  // a remote worker learns of a cancellation a moment later
  for (const [run, status] of ack.op === "cancel" && remote === undefined
    ? Object.entries(ack.statuses)
    : []) {
    if (status === "cancelled") log.append({ t: "cancelled", run })
  }
  say(`ack ${JSON.stringify(ack)}`)
  visit("acknowledgement")
}

const customer = new Customer({ client, runIds: options.runIds, patient: remote !== undefined })
await customer.performAll(options.items, acknowledged)

/** Whether any run has not ended and does not wait for an event of a later life. */
const isBusy = async (): Promise<boolean> => {
  let cursor: string | undefined
  do {
    const query = { limit: 1000, ...(cursor === undefined ? {} : { cursor }) }
    const page = await customer.persist(() => client.listRuns(query))
    for (const run of page.runs) {
      if (run.endedAt !== undefined) continue
      const { code, details } = await customer.persist(() => client.explain(run.id))
      if (code !== "WAITING_FOR_EVENT" || fate === undefined || Number(details.dueInMs) < FOREVER / 2)
        return true
    }
    cursor = page.nextCursor
  } while (cursor !== undefined)
  return false
}

// each look lists all runs
while (await isBusy()) await delay(100)
say("idle")
if (fate === undefined) {
  await engine.close()
  say("done")
}
