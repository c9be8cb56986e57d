/**
 * One life of a worker that gets a parcel whose step kills it: a process with its own engine on `database`, or with a
 * worker for the engine at `serverUrl`. `node --conditions=@ironflow/source app.ts '<AppOptions as JSON>'`. Prints
 * `ready`.
 */
import fs from "node:fs"
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"
import { createFunction, createWorker } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"

export interface AppOptions {
  /** A file that gets a line for every step that begins: the name of its parcel. */
  readonly log: string
  readonly database?: string
  /** The port of its own engine. */
  readonly port?: number
  readonly serverUrl?: string
  readonly transport?: "polling" | "rpc" | "connect"
}

export interface Parcel {
  readonly name: string
  readonly kills: boolean
  /** How long its step takes, milliseconds. */
  readonly takes: number
}

const { database, log, port = 0, serverUrl, transport } = JSON.parse(process.argv[2] ?? "") as AppOptions

const weigh = createFunction(
  { id: "weigh", triggers: [{ event: "parcel.sent" }] },
  async ({ event, step }) => {
    const parcel = event.data as Parcel
    return step.run("weigh", async () => {
      fs.appendFileSync(log, `${parcel.name}\n`)
      if (parcel.kills) process.kill(process.pid, "SIGKILL")
      await delay(parcel.takes)
      return parcel.name
    })
  }
)

const config = { functions: [weigh], maxConcurrentJobs: 16, logger: false } as const

if (database !== undefined) {
  await startEngine({ filename: database, ...config, listen: { port } })
} else {
  const server = { serverUrl: serverUrl ?? "", reconnectDelay: 50, ...config }
  const worker =
    transport === "connect"
      ? createStreamingWorker(server)
      : createWorker({ ...server, ...(transport === "rpc" ? { transport: "streaming" as const } : {}) })
  void worker.start()
  await worker.ready()
}
process.stdout.write("ready\n")
