/**
 * Entity streams compared with the limit of the machine: `node --conditions=@ironflow/source bench/streams.ts [--rounds 3]
 * [--json]`.
 *
 * Every measurement is a new process with a new file, and every acknowledgement is durable. The engine and the limit
 * (limits/limits/streams.mjs) take turns, and a figure is the median of the rounds.
 */
import { spawn } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { performance } from "node:perf_hooks"
import { parseArgs } from "node:util"
import { VersionConflictError } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { input, pool } from "./limits/lib/harness.mjs"
import { openStreams } from "./limits/limits/streams.mjs"
import { median } from "./metrics.ts"

/** The operations that are measured, of the engine or of the limit. `append` resolves to `undefined` on a conflict. */
interface Subject {
  append(entity: string, data: unknown, expected?: number): Promise<unknown>
  versionOf(entity: string): Promise<number>
  /** Resolves to the number of events read. */
  read(entity: string, limit: number): Promise<number>
  close(): unknown
}

const openEngine = async (folder: string): Promise<Subject> => {
  const engine = await startEngine({ filename: path.join(folder, "bench.db"), logger: false })
  const { streams } = engine.client
  return {
    append: (entity, data, expected) =>
      streams
        .append(
          entity,
          { name: "item.added", data, entityType: "order" },
          expected === undefined ? {} : { expectedVersion: expected }
        )
        .catch((error: unknown) => {
          if (!(error instanceof VersionConflictError)) throw error
          return undefined
        }),
    versionOf: async (entity) => (await streams.getInfo(entity)).version,
    read: async (entity, limit) => (await streams.read(entity, { limit })).events.length,
    close: () => engine.close()
  }
}

const openLimit = (folder: string): Subject => {
  const streams = openStreams(folder)
  return {
    append: streams.append,
    versionOf: streams.versionOf,
    read: async (entity, limit) => (await streams.read(entity, 1, limit)).length,
    close: () => streams.close()
  }
}

type Figures = Readonly<Record<keyof typeof labels, number>>

const labels = {
  append_p50_ms: "append, one at a time, latency p50, ms",
  appends_per_second: "appends a second, 64 in flight, 64 entities",
  contended_per_second: "64 writers on one entity, each at the version it read: stored a second",
  conflicts_per_append: "the same: conflicts for each that is stored",
  reads_per_second: "reads of 100 events a second, 64 in flight"
}

const inFlight = 64

/** Makes `n` calls, and returns how many were made per second. */
const perSecond = async (n: number, call: (i: number) => Promise<unknown>): Promise<number> => {
  const begun = performance.now()
  await pool(n, inFlight, call)
  return (n * 1000) / (performance.now() - begun)
}

const measure = async (subject: Subject): Promise<Figures> => {
  const entityOf = (i: number) => `order-${i % inFlight}`
  await pool(2000, inFlight, (i) => subject.append(entityOf(i), input()))

  const latencies: Array<number> = []
  for (let i = 0; i < 300; i++) {
    const begun = performance.now()
    await subject.append(entityOf(i), input())
    latencies.push(performance.now() - begun)
  }
  const appends_per_second = await perSecond(20_000, (i) => subject.append(entityOf(i), input()))

  await subject.append("contested", input())
  let conflicts = 0
  const stored = 500
  const contended_per_second = await perSecond(stored, async () => {
    while ((await subject.append("contested", input(), await subject.versionOf("contested"))) === undefined) {
      conflicts++
    }
  })

  let events = 0
  const reads = 5000
  const reads_per_second = await perSecond(reads, async (i) => {
    const read = await subject.read(entityOf(i), 100)
    events += read
  })
  if (events !== reads * 100) throw new Error(`${reads} reads found ${events} events`)
  return {
    append_p50_ms: median(latencies),
    appends_per_second,
    contended_per_second,
    conflicts_per_append: conflicts / stored,
    reads_per_second
  }
}

/** Measures one subject in a new process. */
const measureInProcess = (name: "limit" | "ironflow"): Promise<Figures> =>
  new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      ["--conditions=@ironflow/source", import.meta.filename, "--subject", name],
      { stdio: ["ignore", "pipe", "inherit"] }
    )
    let printed = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => (printed += text))
    child.on("error", reject)
    child.on("close", (code) => {
      if (code === 0) resolve(JSON.parse(printed))
      else reject(new Error(`${name} ended with ${code}`))
    })
  })

const round = (figure: number): number => Number(figure.toPrecision(4))

const compare = async (rounds: number, asJson: boolean): Promise<void> => {
  const results: { readonly limit: Array<Figures>; readonly ironflow: Array<Figures> } = {
    limit: [],
    ironflow: []
  }
  for (let i = 0; i < rounds; i++) {
    const turns = i % 2 === 0 ? (["limit", "ironflow"] as const) : (["ironflow", "limit"] as const)
    for (const name of turns) results[name].push(await measureInProcess(name))
  }
  for (const [metric, label] of Object.entries(labels)) {
    // sound, because `labels` has the same keys as the figures
    const medianOf = (name: "limit" | "ironflow") =>
      median(results[name].map((figures) => figures[metric as keyof Figures]))
    const [value, limit] = [medianOf("ironflow"), medianOf("limit")]
    if (asJson) {
      const figure = {
        workload: "streams",
        mode: "embedded",
        metric,
        value: round(value),
        limit: round(limit)
      }
      console.log(JSON.stringify({ ...figure, ratio: round(value / limit) }))
    } else {
      const numbers = [value, limit].map((figure) => round(figure).toLocaleString("en").padStart(9))
      console.log(`${label.padEnd(72)} ${numbers.join(" ")}  ${(value / limit).toFixed(2)} x`)
    }
  }
}

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
    subject: { type: "string" }
  }
})
if (options.subject === undefined) {
  await compare(Number(options.rounds), options.json)
} else {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-"))
  try {
    const subject = options.subject === "limit" ? openLimit(folder) : await openEngine(folder)
    console.log(JSON.stringify(await measure(subject)))
    await subject.close()
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}
