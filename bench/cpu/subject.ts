/**
 * One measurement of the engine whose sources are in `TREE`, embedded or behind a server (`MODE`): makes the runs of `WORKLOAD`
 * after a warm-up, or without a warm-up if `COLD` is set. Prints the cost for each process. `npm run bench -- --cpu` starts it.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { createInterface } from "node:readline"
import { pathToFileURL } from "node:url"
import type { IronflowClient } from "@ironflow/node"
import { input, pool } from "../limits/lib/harness.mjs"
import { resultOfRun, startRun } from "../runs.ts"
import { begin, type Cost, end, type Profiled } from "./probe.ts"
import { cold, isWorkload, workloads } from "./workloads.ts"

const {
  COLD,
  MODE = "embedded",
  PROFILE,
  TREE = path.join(import.meta.dirname, "../.."),
  WORKLOAD = "W3_64"
} = process.env
if (!isWorkload(WORKLOAD)) throw new Error(`WORKLOAD must be one of ${Object.keys(workloads).join(", ")}`)
const { inFlight, kind } = workloads[WORKLOAD]
const { runs, warm } = COLD === undefined ? workloads[WORKLOAD] : cold

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-"))
const filename = path.join(folder, "bench.db")
process.once("exit", () => fs.rmSync(folder, { recursive: true, force: true }))
const load = (file: string) => import(pathToFileURL(path.join(TREE, file)).href)

interface Subject {
  readonly client: IronflowClient
  readonly processes: ReadonlyArray<{ readonly name: string; readonly child: ChildProcess }>
  readonly close: () => Promise<void>
}

const startEmbedded = async (): Promise<Subject> => {
  const { startEngine } = await load("src/engine.ts")
  const { functions } = await load("bench/functions.ts")
  const engine = await startEngine({ filename, functions, maxConcurrentJobs: 512, logger: false })
  return { client: engine.client, processes: [], close: () => engine.close() }
}

const startServed = async (transport: string): Promise<Subject> => {
  const processes: Array<{ readonly name: string; readonly child: ChildProcess }> = []
  const start = (name: string, env: Record<string, string>): Promise<string> => {
    const probe = path.join(import.meta.dirname, "probe.ts")
    const file = path.join(TREE, "bench", "server", `${name}.ts`)
    const child = spawn(process.execPath, ["--conditions=@ironflow/source", "--import", probe, file], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "inherit", "ipc"]
    })
    process.once("exit", () => child.kill("SIGKILL"))
    processes.push({ name, child })
    return new Promise((resolve, reject) => {
      child.once("exit", (code, signal) => reject(new Error(`${name} ended with ${signal ?? code}`)))
      createInterface({ input: child.stdout! }).once("line", resolve)
    })
  }
  const serverUrl = await start("engine", { FILENAME: filename })
  await start("worker", { IRONFLOW_SERVER_URL: serverUrl, WORKER_TRANSPORT: transport })
  const { createClient } = await load("src/index.ts")
  const client: IronflowClient = createClient({ serverUrl })
  const close = async () => {
    await client.close()
    for (const { child } of processes.toReversed()) {
      const ended = once(child, "exit")
      child.kill("SIGTERM")
      await ended
    }
  }
  return { client, processes, close }
}

const ask = async (child: ChildProcess, message: "end" | { readonly begin: Profiled }): Promise<Cost> => {
  const answered = once(child, "message")
  child.send(message)
  const [answer] = await answered
  return answer
}

const { client, close, processes } =
  MODE === "embedded" ? await startEmbedded() : await startServed(MODE === "server" ? "polling" : MODE)
const work = (n: number) =>
  pool(n, inFlight, async () => resultOfRun(client, await startRun(client, kind, input())))

await work(warm)
const beganAt = performance.now()
const profiled = PROFILE === "time" || PROFILE === "allocations" ? PROFILE : "none"
for (const { child } of processes) await ask(child, { begin: profiled })
await begin(profiled)
await work(runs)
const ownCost = await end()
const costs: Record<string, Cost> = { [processes.length === 0 ? "all" : "client"]: ownCost }
for (const { child, name } of processes) costs[name] = await ask(child, "end")
const ms = performance.now() - beganAt
await close()
// a profile is more than a pipe holds, so exit only after the write
process.stdout.write(`${JSON.stringify({ runs, ms, costs })}\n`, () => process.exit(0))
