/**
 * Our engine as a server in the harness that also measures the limit: the engine with its HTTP server in one process, the worker
 * in another, the client in this one. With `STORE=postgres` the engine uses the Postgres server at `PGURL`. `npm run bench` starts it.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { createInterface } from "node:readline"
import { createClient, type IronflowClient } from "@ironflow/node"
import { main } from "../limits/lib/harness.mjs"
import { freshDb, tools } from "../limits/lib/pg.mjs"
import { bytesIn, resultOfRun, startRun } from "../runs.ts"

/** How many runs the client waits for at once when it waits for all: as many as the harness starts at once. */
const waiters = 64

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-"))
const processes: Array<{ readonly name: string; readonly child: ChildProcess }> = []
process.once("exit", () => {
  for (const { child } of processes) child.kill("SIGKILL")
  fs.rmSync(folder, { recursive: true, force: true })
})

/** Starts a process and resolves to the first line that it prints. */
const startProcess = (name: string, env: Record<string, string>): Promise<string> => {
  const file = path.join(import.meta.dirname, `${name}.ts`)
  const child = spawn(process.execPath, ["--conditions=@ironflow/source", file], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"]
  })
  processes.push({ name, child })
  return new Promise((resolve, reject) => {
    child.once("error", reject)
    child.once("exit", (code, signal) => reject(new Error(`${name} ended with ${signal ?? code}`)))
    createInterface({ input: child.stdout }).once("line", resolve)
  })
}

const stop = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, "exit")
  child.kill("SIGTERM")
  await ended
}

const databaseUrl = process.env.STORE === "postgres" ? await freshDb("bench_ironflow") : undefined
const database = databaseUrl === undefined ? undefined : await tools(databaseUrl)
let client: IronflowClient

await main<string>({
  name: "ironflow-server",
  async boot() {
    const serverUrl = await startProcess("engine", {
      FILENAME: path.join(folder, "bench.db"),
      ...(databaseUrl === undefined ? {} : { DATABASE_URL: databaseUrl })
    })
    await startProcess("worker", { IRONFLOW_SERVER_URL: serverUrl })
    client = createClient({ serverUrl })
  },
  start: (kind, input) => startRun(client, kind, input),
  result: (runId) => resultOfRun(client, runId),
  async waitAll(runIds) {
    const waiting = runIds.values()
    await Promise.all(
      Array.from({ length: waiters }, async () => {
        for (const runId of waiting) await resultOfRun(client, runId)
      })
    )
  },
  procs: () => processes.map(({ name, child }) => ({ name, pid: child.pid ?? 0 })),
  disk: async () => database?.disk() ?? { bytes: bytesIn(folder) },
  async shutdown() {
    await client.close()
    for (const { child } of processes.toReversed()) await stop(child)
    await database?.end()
  }
})
