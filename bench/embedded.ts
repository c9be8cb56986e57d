/**
 * Our engine behind the harness that measures the limit: in process, through the Promise API, on a real file, with
 * every acknowledgement durable. `npm run bench` starts it.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { createFunction } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { main } from "./limits/lib/harness.mjs"

const stepsInARow = (kind: string, count: number) =>
  createFunction({ id: kind, triggers: [{ event: `bench.${kind}` }] }, async ({ step }) => {
    let last = { ok: true, i: -1 }
    for (let i = 0; i < count; i++) last = await step.run(`step-${i}`, async () => ({ ok: true, i }))
    return last
  })

const oneSecondOfSleep = createFunction(
  { id: "sleep", triggers: [{ event: "bench.sleep" }] },
  async ({ step }) => {
    await step.sleep("nap", 1000)
    return { ok: true }
  }
)

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-"))
process.once("exit", () => fs.rmSync(folder, { recursive: true, force: true }))
let engine: IronflowEngine

await main<string>({
  name: "ironflow-embedded",
  async boot() {
    engine = await startEngine({
      filename: path.join(folder, "bench.db"),
      functions: [stepsInARow("s1", 1), stepsInARow("s3", 3), stepsInARow("s10", 10), oneSecondOfSleep],
      maxConcurrentJobs: 512,
      logger: false
    })
  },
  async start(kind, input) {
    const { runIds } = await engine.client.emit(`bench.${kind}`, input)
    const [runId] = runIds
    if (runId === undefined) throw new Error(`no function is registered for bench.${kind}`)
    return runId
  },
  async result(runId) {
    const run = await engine.client.waitForRun(runId)
    if (run.status !== "completed") throw new Error(`run ${runId} ended ${run.status}: ${run.error?.message}`)
    return run.output
  },
  procs: () => [],
  async disk() {
    const files = fs.readdirSync(folder).map((name) => fs.statSync(path.join(folder, name)).size)
    return { bytes: files.reduce((sum, size) => sum + size, 0) }
  },
  shutdown: () => engine.close()
})
