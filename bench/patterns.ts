/**
 * What it costs a projection to follow patterns instead of exact names, in a log in which one event in a thousand matches.
 *
 * `node --conditions=@ironflow/source bench/patterns.ts [events]` prints a JSON line for each way to name the events. `ms` is
 * the time that a new projection takes to catch up, and `cpuMs` its processor time. `wakeUs` is the processor time for each
 * later event that does not match, including the emit. `ratio` compares the figures with those in the first line.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { createProjection } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

const events = Number(process.argv[2] ?? 200_000)
const rare = 1000
const later = 2000
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-patterns-"))
process.once("exit", () => fs.rmSync(folder, { recursive: true, force: true }))
const filename = path.join(folder, "bench.db")

const cpuMs = (): number => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1000
}

const nameOf = (i: number): string =>
  i % rare === 0 ? (i % (2 * rare) === 0 ? "order.placed" : "order.cancelled") : `page.${i % 50}`

const filling = await startEngine({ filename, logger: false })
for (let i = 0; i < events; i += 1000) {
  await Promise.all(
    Array.from({ length: Math.min(1000, events - i) }, (_, j) =>
      filling.client.emit(nameOf(i + j), { amount: 1, note: "x".repeat(150) })
    )
  )
}
await filling.close()

let end = events
const follow = async (name: string, patterns: ReadonlyArray<string>) => {
  const projection = createProjection({
    name,
    events: [...patterns],
    initialState: () => ({ count: 0 }),
    handler: ({ count }) => ({ count: count + 1 })
  })
  const cpu = cpuMs()
  const started = performance.now()
  const engine = await startEngine({ filename, projections: [projection], logger: false })
  const { state } = await engine.client.projections.get(name, { after: end, timeout: 600_000 })
  const ms = performance.now() - started
  const cpuForAll = cpuMs() - cpu
  if (state.count !== Math.ceil(events / rare)) throw new Error(`${name} has seen ${state.count} events`)
  const before = cpuMs()
  for (let i = 0; i < later; i++) await engine.client.emit("page.0", { amount: 1 })
  const wakeUs = ((cpuMs() - before) / later) * 1000
  end += later
  await engine.close()
  return { ms, cpuMs: cpuForAll, wakeUs }
}

// the first projection also pays for compiling code and reading from disk
await follow("warm-up", ["order.placed", "order.cancelled"])
const exact = await follow("names", ["order.placed", "order.cancelled"])
const round = (value: number): number => Number(value.toFixed(value < 10 ? 2 : 0))
for (const [way, patterns] of [
  ["names", ["order.placed", "order.cancelled"]],
  ["order.*", ["order.*"]],
  ["*.placed, *.cancelled", ["*.placed", "*.cancelled"]]
] as const) {
  const it = way === "names" ? exact : await follow(way.replace(/[*,. ]/g, "-"), patterns)
  console.log(
    JSON.stringify({
      workload: "sparse projection",
      events,
      way,
      ms: round(it.ms),
      cpuMs: round(it.cpuMs),
      wakeUs: round(it.wakeUs),
      ratio: {
        ms: round(it.ms / exact.ms),
        cpu: round(it.cpuMs / exact.cpuMs),
        wake: round(it.wakeUs / exact.wakeUs)
      }
    })
  )
}
