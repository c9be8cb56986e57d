/**
 * `npm run bench`: our engine beside the limit of the machine (see limits/README.md), both through the same harness.
 *
 * Every measurement is a process of its own, and the two take turns, so that neither profits from a warm cache or a
 * quiet minute. A figure is the median over the rounds.
 */
import { spawn } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { parseArgs } from "node:util"
import { type HarnessResult, median, metrics, readFigure, storageMetrics } from "./metrics.ts"
import type { StorageUse } from "./storage.ts"

const usage = `npm run bench -- [options]
  --only W1,W3    some workloads: W1 one step, W2 ten steps, W3 throughput (W3_64, W3_256), W4 starts, W5 sleeps
  --rounds 3      measure so many times and take the median
  --quick         one round of W1 and W3_64, for a smoke test
  --json          one object a line: {workload, mode, metric, value, limit, ratio}; ratio is value / limit`

interface Figure {
  readonly workload: string
  readonly mode: "embedded"
  readonly metric: string
  readonly value: number
  readonly limit: number
  readonly ratio: number
}

const subjects = {
  limit: [path.join(import.meta.dirname, "limits/adapters/ceiling-embedded.mjs")],
  ironflow: ["--conditions=@ironflow/source", path.join(import.meta.dirname, "embedded.ts")]
}
type Subject = keyof typeof subjects

/** Runs one subject in a process of its own and returns the line that it prints. */
const measure = (
  subject: Subject,
  only: ReadonlyArray<string>,
  extra: { readonly args: ReadonlyArray<string>; readonly env: Record<string, string> } = {
    args: [],
    env: {}
  }
): Promise<HarnessResult> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...extra.args, ...subjects[subject]], {
      env: { ...process.env, ...extra.env, ONLY: only.join(",") },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let printed = ""
    let progress = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => (printed += text))
    child.stderr.setEncoding("utf8").on("data", (text: string) => (progress += text))
    child.on("error", reject)
    child.on("close", (code, signal) => {
      const line = printed.trim().split("\n").at(-1)
      if (code === 0 && line) resolve(JSON.parse(line))
      else reject(new Error(`${subject} ended with ${signal ?? code} and no result:\n${progress}`))
    })
  })

const measureStorage = async (subject: Subject, workload: string) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-"))
  const file = path.join(folder, "storage.json")
  const preload = path.join(import.meta.dirname, "storage.ts")
  try {
    const result = await measure(subject, [workload], {
      args: ["--import", preload],
      env: { STORAGE_FILE: file }
    })
    const use: StorageUse = JSON.parse(fs.readFileSync(file, "utf8"))
    return { use, runs: Number(Object(result[workload]).n) }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** What one 3-step run costs SQLite: with the runs, less without any. */
const storagePerRun = async (subject: Subject): Promise<StorageUse> => {
  const { use: empty } = await measureStorage(subject, "NONE")
  const { use, runs } = await measureStorage(subject, "W3_64")
  const perRun = (field: keyof StorageUse): number => (use[field] - empty[field]) / runs
  return { statements: perRun("statements"), commits: perRun("commits"), bytes: perRun("bytes") }
}

const round = (figure: number): number => Number(figure.toPrecision(4))

const makeFigure = (workload: string, metric: string, value: number, limit: number): Figure => ({
  workload,
  mode: "embedded",
  metric,
  value: round(value),
  limit: round(limit),
  ratio: round(value / limit)
})

const compare = async (workloads: ReadonlyArray<string>, rounds: number): Promise<Array<Figure>> => {
  const results: Record<Subject, Array<HarnessResult>> = { limit: [], ironflow: [] }
  for (let i = 0; i < rounds; i++) {
    const turns: Array<Subject> = i % 2 === 0 ? ["limit", "ironflow"] : ["ironflow", "limit"]
    for (const subject of turns) results[subject].push(await measure(subject, workloads))
  }

  const figures = metrics
    .filter((metric) => workloads.includes(metric.workload))
    .map((metric) => {
      const of = (subject: Subject) => median(results[subject].map((result) => readFigure(metric, result)))
      return makeFigure(metric.workload, metric.metric, of("ironflow"), of("limit"))
    })

  if (workloads.includes("W3_64")) {
    const [limit, ironflow] = [await storagePerRun("limit"), await storagePerRun("ironflow")]
    for (const { metric, field } of storageMetrics) {
      figures.push(makeFigure("W3_64", metric, ironflow[field], limit[field]))
    }
  }
  return figures
}

const labelOf = (figure: Figure): string =>
  metrics.find(({ workload, metric }) => workload === figure.workload && metric === figure.metric)?.label ??
  storageMetrics.find(({ metric }) => metric === figure.metric)?.label ??
  figure.metric

const printTable = (figures: ReadonlyArray<Figure>): void => {
  const rows = figures.map((figure) => [
    figure.workload,
    labelOf(figure),
    figure.value.toLocaleString("en"),
    figure.limit.toLocaleString("en"),
    `${figure.ratio.toFixed(2)} x`
  ])
  const table = [
    ["", "embedded, SQLite, every acknowledgement durable", "ironflow", "limit", "ratio"],
    ...rows
  ]
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)))
  for (const row of table) {
    const cells = row.map((cell, column) =>
      column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)
    )
    console.log(cells.join("  ").trimEnd())
  }
}

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "W1,W2,W3,W4,W5" },
    rounds: { type: "string", default: "3" },
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

const known = [...new Set(metrics.map((metric) => metric.workload))]
const asked = (options.quick ? "W1,W3_64" : options.only).split(",").map((name) => name.trim().toUpperCase())
const workloads = known.filter((workload) =>
  asked.some((name) => workload === name || workload.startsWith(`${name}_`))
)
const rounds = options.quick ? 1 : Number(options.rounds)

if (options.help || workloads.length === 0 || !Number.isInteger(rounds) || rounds < 1) {
  console.log(usage)
  process.exitCode = options.help ? 0 : 1
} else {
  const figures = await compare(workloads, rounds)
  if (options.json) for (const figure of figures) console.log(JSON.stringify(figure))
  else printTable(figures)
}
