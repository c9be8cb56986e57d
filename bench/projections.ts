/**
 * How fast a managed projection catches up, compared with the limit in the same process: a plain fold over rows of
 * `node:sqlite`.
 *
 * `node --conditions=@ironflow/source bench/projections.ts [events]` prints a JSON line for each batch size. The engine uses a
 * file, and every save is durable. `cpuUs` is the processor time for an event, which depends less on other work of the
 * machine. `writerMs` is how long an emit takes while the projection catches up, and while nothing else happens.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { createProjection } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

const events = Number(process.argv[2] ?? 100_000)
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-projections-"))
process.once("exit", () => fs.rmSync(folder, { recursive: true, force: true }))
const filename = path.join(folder, "bench.db")

interface Totals {
  readonly count: number
  readonly total: number
}
const fold = ({ count, total }: Totals, amount: number): Totals => ({
  count: count + 1,
  total: total + amount
})
const first: Totals = { count: 0, total: 0 }
const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
const mebibytes = (bytes: number): number => Math.round(bytes / 1024 / 1024)

// the log is filled through the engine, so that its rows are real ones
const filling = await startEngine({ filename, logger: false })
for (let i = 0; i < events; i += 1000) {
  await Promise.all(
    Array.from({ length: Math.min(1000, events - i) }, (_, j) =>
      filling.client.emit("order.placed", { amount: (i + j) % 100, note: "x".repeat(150) })
    )
  )
}
const emitMs = async (client: typeof filling.client): Promise<number> => {
  const started = performance.now()
  await client.emit("user.created", {})
  return performance.now() - started
}
const quiet: Array<number> = []
for (let i = 0; i < 50; i++) quiet.push(await emitMs(filling.client))
await filling.close()

const cpuUs = (): number => {
  const { system, user } = process.cpuUsage()
  return system + user
}

const limit = () => {
  const cpu = cpuUs()
  const db = new DatabaseSync(filename, { readOnly: true })
  const started = performance.now()
  let state = first
  for (const row of db
    .prepare("SELECT data FROM events WHERE name = 'order.placed' ORDER BY position")
    .iterate()) {
    state = fold(state, JSON.parse(String(row.data)).amount)
  }
  db.close()
  return {
    state,
    perSecond: (events / (performance.now() - started)) * 1000,
    cpuUs: (cpuUs() - cpu) / events
  }
}

const catchUp = async (batchSize: number) => {
  const projection = createProjection({
    name: `totals-${batchSize}`,
    events: ["order.placed"],
    batchSize,
    initialState: () => first,
    handler: (state, event) => fold(state, event.data.amount)
  })
  const before = process.memoryUsage().rss
  let peak = before
  const cpu = cpuUs()
  const started = performance.now()
  const engine = await startEngine({ filename, projections: [projection], logger: false })
  const busy: Array<number> = []
  let done = false
  const writing = (async () => {
    while (!done) {
      busy.push(await emitMs(engine.client))
      peak = Math.max(peak, process.memoryUsage().rss)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })()
  const { state } = await engine.client.projections.get(projection.config.name, {
    after: events,
    timeout: 600_000
  })
  const perSecond = (events / (performance.now() - started)) * 1000
  const cpuPerEvent = (cpuUs() - cpu) / events
  done = true
  await writing
  await engine.close()
  return {
    state,
    perSecond,
    cpuUs: cpuPerEvent,
    busyMs: median(busy),
    worstMs: Math.max(...busy),
    grownMiB: mebibytes(peak - before)
  }
}

const raw = limit()
for (const batchSize of [100, 1000]) {
  const ironflow = await catchUp(batchSize)
  if (JSON.stringify(ironflow.state) !== JSON.stringify(raw.state)) throw new Error("the two folds differ")
  console.log(
    JSON.stringify({
      workload: "projection catch-up",
      events,
      batchSize,
      value: Math.round(ironflow.perSecond),
      limit: Math.round(raw.perSecond),
      ratio: Number((ironflow.perSecond / raw.perSecond).toFixed(3)),
      cpuUs: {
        value: Number(ironflow.cpuUs.toFixed(2)),
        limit: Number(raw.cpuUs.toFixed(2)),
        ratio: Number((raw.cpuUs / ironflow.cpuUs).toFixed(3))
      },
      writerMs: {
        quiet: Number(median(quiet).toFixed(2)),
        busy: Number(ironflow.busyMs.toFixed(2)),
        worst: Number(ironflow.worstMs.toFixed(1))
      },
      grownMiB: ironflow.grownMiB
    })
  )
}
