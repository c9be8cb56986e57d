/**
 * Our engine in the harness that also measures the limit: embedded, through the Promise API, on a real file, with every
 * acknowledgement durable. `npm run bench` starts it.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { functions } from "./functions.ts"
import { main } from "./limits/lib/harness.mjs"
import { bytesIn, resultOfRun, startRun } from "./runs.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-"))
process.once("exit", () => fs.rmSync(folder, { recursive: true, force: true }))
let engine: IronflowEngine

await main<string>({
  name: "ironflow-embedded",
  async boot() {
    engine = await startEngine({
      filename: path.join(folder, "bench.db"),
      functions,
      maxConcurrentJobs: 512,
      logger: false
    })
  },
  start: (kind, input) => startRun(engine.client, kind, input),
  result: (runId) => resultOfRun(engine.client, runId),
  procs: () => [],
  disk: async () => ({ bytes: bytesIn(folder) }),
  shutdown: () => engine.close()
})
