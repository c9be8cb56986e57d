/**
 * One life of the shop: a process with an engine on a file and the shop's functions, or with a worker and a client for an
 * engine elsewhere, which does its part of the plan and may be killed at any moment. `node --conditions=@ironflow/source app.ts '<LifeOptions as JSON>'`.
 *
 * It says on stdout what it has been told: `ready`, `ack <Ack as JSON>` for each item, `idle` when everything that it
 * started has ended. The life that finishes the plan then closes the engine and says `done`.
 */
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"
import { ConnectionError, createClient, createWorker, StoreError, TimeoutError } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import { makeEffectFunctions } from "./EffectShop.ts"
import { type Fate, FOREVER, type Item, type Place } from "./Plan.ts"
import { makeFunctions } from "./Shop.ts"
import { type NewLine, openSideLog } from "./SideLog.ts"

export interface LifeOptions {
  readonly life: number
  readonly database: string
  readonly sideLog: string
  /** What to ask for in this life: the plan so far, without some of what has been acknowledged. */
  readonly items: ReadonlyArray<Item>
  /** Runs of the events emitted so far, for what is to be cancelled. */
  readonly runIds: Readonly<Record<string, ReadonlyArray<string>>>
  readonly fate: Fate | undefined
  /** The engine is another process: `database` is its own. */
  readonly remote?: Remote | undefined
}

/** An engine elsewhere, and how the worker of the shop reaches it. */
export interface Remote {
  readonly serverUrl: string
  readonly transport: "polling" | "rpc" | "connect"
}

/** What the client was told. */
export type Ack =
  | {
      readonly op: "emit"
      readonly key: string
      readonly eventId: string
      readonly runIds: ReadonlyArray<string>
    }
  | { readonly op: "publish"; readonly key: string; readonly eventId: string }
  | { readonly op: "cancel"; readonly key: string; readonly statuses: Readonly<Record<string, string>> }

const options = JSON.parse(process.argv[2] ?? "") as LifeOptions
const { fate } = options

const die = (): never => {
  process.kill(process.pid, "SIGKILL")
  throw new Error("unreachable: nobody survives SIGKILL")
}

let visits = 0
/** Dies here if the fate says so. */
const visit = (place: Place): void => {
  if (fate?._tag !== "At" || fate.place !== place || ++visits !== fate.nth) return
  const after = (turns: number): void => {
    if (turns === 0) die()
    setImmediate(() => after(turns - 1))
  }
  after(fate.turns)
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
  // its warnings belong to the deaths of others
  logger: false
} as const

const connect = async ({ serverUrl, transport }: Remote) => {
  // one id for all lives: what a life held is free as soon as the next one comes
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
  say(`ack ${JSON.stringify(ack)}`)
  visit("acknowledgement")
}

/** Asks again while the engine is away. */
const persist = async <A>(ask: () => Promise<A>): Promise<A> => {
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      const isAway =
        error instanceof ConnectionError ||
        error instanceof TimeoutError ||
        Object(error).status >= 500 ||
        Object(error).code === "CLOSING"
      if (remote === undefined || !isAway) throw error
      await delay(20)
    }
  }
}

const emitted = new Map(Object.entries(options.runIds))
const perform = async (item: Item): Promise<void> => {
  switch (item.op) {
    case "emit": {
      const { eventId, runIds } = await persist(() =>
        client.emit(item.name, item.data, { idempotencyKey: item.key })
      )
      emitted.set(item.key, runIds)
      return acknowledged({ op: "emit", key: item.key, eventId, runIds })
    }
    case "publish": {
      const { eventId } = await persist(() =>
        client.publish(item.topic, item.data, { idempotencyKey: item.key })
      )
      return acknowledged({ op: "publish", key: item.key, eventId })
    }
    case "cancel": {
      const statuses: Record<string, string> = {}
      for (const runId of emitted.get(item.of) ?? []) {
        const { status } = await persist(() => client.cancelRun(runId))
        statuses[runId] = status
        // a worker elsewhere hears of it a moment later
        if (status === "cancelled" && remote === undefined) log.append({ t: "cancelled", run: runId })
      }
      return acknowledged({ op: "cancel", key: item.key, statuses })
    }
  }
}

// a few at a time, so that runs are at all sorts of places when the end comes
for (let i = 0; i < options.items.length; i += 4) {
  const group = options.items.slice(i, i + 4)
  await Promise.all(group.filter(({ op }) => op !== "cancel").map(perform))
  await Promise.all(group.filter(({ op }) => op === "cancel").map(perform))
  await delay(5)
}

/** Runs that have not ended, and do not wait for what a later life will emit. */
const countBusy = async (): Promise<number> => {
  let busy = 0
  let cursor: string | undefined
  do {
    const asked = { limit: 1000, ...(cursor === undefined ? {} : { cursor }) }
    const page = await persist(() => client.listRuns(asked))
    for (const run of page.runs) {
      if (run.endedAt !== undefined) continue
      const { code, details } = await persist(() => client.explain(run.id))
      if (code !== "WAITING_FOR_EVENT" || fate === undefined || Number(details.dueInMs) < FOREVER / 2) busy++
    }
    cursor = page.nextCursor
  } while (cursor !== undefined)
  return busy
}

while ((await countBusy()) > 0) await delay(10)
say("idle")
if (fate === undefined) {
  await engine.close()
  say("done")
}
