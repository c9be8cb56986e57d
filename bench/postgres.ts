/**
 * Our engine in the harness that also measures the limit: embedded, through the Promise API, on the Postgres server at
 * `PGURL`. `npm run bench -- --mode postgres` starts the server and this program.
 */
import fs from "node:fs"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { traffic } from "../src/Engine/Store/Postgres/Postgres.ts"
import { functions } from "./functions.ts"
import { main } from "./limits/lib/harness.mjs"
import { freshDb, tools } from "./limits/lib/pg.mjs"
import { resultOfRun, startRun } from "./runs.ts"
import { cpuFile } from "./usage.ts"

const databaseUrl = await freshDb("bench_ironflow")
const database = await tools(databaseUrl)
let engine: IronflowEngine

await main<string>({
  name: "ironflow-postgres",
  async boot() {
    engine = await startEngine({ databaseUrl, functions, maxConcurrentJobs: 512, logger: false })
  },
  start: (kind, input) => startRun(engine.client, kind, input),
  result: (runId) => resultOfRun(engine.client, runId),
  procs: () => [],
  disk: () => database.disk(),
  shutdown: async () => {
    await engine.close()
    const { bytes } = await database.disk()
    await database.end()
    const file = process.env.USE_FILE ?? ""
    if (file === "") return
    const { system, user } = process.cpuUsage()
    fs.writeFileSync(file, JSON.stringify({ ...traffic, bytes, requests: 0 }))
    fs.writeFileSync(cpuFile(file), `${(user + system) / 1000}\n`)
  }
})
