/**
 * The matrix of storms: `npm run storm -- --cells all --seeds 10 --minutes 60 --resume storm.jsonl`.
 *
 * Runs each of the cells once, and then storms of random faults, one for each seed. Each storm adds a line to the file that
 * `--resume` names; storms that have a line there are not run again. At the end, or when the time is over, it prints a table.
 *
 * - `--cells`: `all` (the default), `none`, or a list such as `rpc:engine-sigterm,connect:*`
 * - `--seed`: the seed of the cells, and the first one of the random storms; 1 by default
 * - `--seeds`: how many random storms; none by default
 * - `--minutes`: no storm begins after that time; no limit by default
 * - `--resume`: the file of results; a new one in the folder for temporary files by default
 * - `--parallel`: how many storms run at once; 2 by default
 * - `--lease`: the term of a lease in milliseconds; 5000 by default, and 10000 with `--nodes`
 * - `--settle`: seconds within which all runs have to end after a storm; 60 by default
 * - `--nodes`: runs storms with three engines on one Postgres and six workers instead, one for each of `--seeds`
 * - `--runs`: about how many runs all storms with `--nodes` have together; 5000 by default
 * - `--help`: prints this
 * - `--keep`: keeps the files of storms with violations, and prints where
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { parseArgs } from "node:util"
import { killAll } from "./Actor.ts"
import { cellsNamed, type Fault, impossible, type Transport, transports } from "./Cells.ts"
import { judgeStorm } from "./Judge.ts"
import { makeStormPlan } from "./Plan.ts"
import { runNodeStorms } from "../nodes/Long.ts"
import { runStorm } from "./Storm.ts"
import { appendResult, complaintsOf, isGreen, keyOf, readResults, type StormResult, table } from "./Table.ts"

const { values } = parseArgs({
  options: {
    cells: { type: "string", default: "all" },
    seed: { type: "string", default: "1" },
    seeds: { type: "string", default: "0" },
    minutes: { type: "string", default: "Infinity" },
    resume: { type: "string" },
    parallel: { type: "string", default: "2" },
    lease: { type: "string" },
    settle: { type: "string", default: "60" },
    nodes: { type: "boolean", default: false },
    runs: { type: "string", default: "5000" },
    keep: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false }
  }
})

if (values.help) {
  const [comment = ""] = /\/\*\*\n([^]*?)\n \*\//.exec(fs.readFileSync(import.meta.filename, "utf8")) ?? []
  console.log(
    comment
      .split("\n")
      .slice(1, -1)
      .map((line) => line.replace(/^ \* ?/, ""))
      .join("\n")
  )
  process.exit(0)
}

interface Task {
  readonly transport: Transport
  readonly fault: Fault | "random"
  readonly seed: number
}

const number = (name: "seed" | "seeds" | "minutes" | "parallel" | "lease" | "settle" | "runs"): number => {
  const value = Number(values[name] ?? (values.nodes ? 10_000 : 5000))
  if (Number.isNaN(value)) throw new Error(`--${name} must be a number, got "${values[name]}"`)
  return value
}

const seed = number("seed")
const leaseMs = number("lease")
const until = performance.now() + number("minutes") * 60_000
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-matrix-"))
const cache = path.join(os.tmpdir(), "ironflow-matrix-cache")
const file = values.resume ?? path.join(os.tmpdir(), `ironflow-matrix-${process.pid}.jsonl`)

// frozen processes react to nothing else
process.once("exit", killAll)
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1))

if (values.nodes) {
  const seeds = Math.max(1, number("seeds"))
  const isGreen = await runNodeStorms({
    folder,
    cache,
    file,
    seed,
    seeds,
    runs: Math.ceil(number("runs") / seeds),
    leaseMs,
    settleMs: number("settle") * 1000,
    until,
    keep: values.keep
  })
  if (!values.keep) fs.rmSync(folder, { recursive: true, force: true })
  process.exit(isGreen ? 0 : 1)
}

const tasks: ReadonlyArray<Task> = [
  ...(values.cells === "none" ? [] : cellsNamed(values.cells))
    .filter((cell) => impossible(cell) === undefined)
    .map((cell) => ({ ...cell, seed })),
  ...Array.from({ length: number("seeds") }, (_, i) => ({
    transport: transports[(seed + i) % transports.length]!,
    fault: "random" as const,
    seed: seed + i
  }))
]

const carryOut = async (task: Task): Promise<StormResult> => {
  const stormFolder = fs.mkdtempSync(path.join(folder, "storm-"))
  const begun = performance.now()
  const settings = { folder: stormFolder, cache, settleMs: number("settle") * 1000 }
  const result = await runStorm(makeStormPlan(task.transport, task.fault, task.seed, leaseMs), settings).then(
    (evidence) => judgeStorm(evidence),
    (error: unknown) => ({
      violations: [],
      figures: undefined,
      broken: error instanceof Error ? (error.stack ?? error.message) : String(error)
    })
  )
  const done = { ...task, leaseMs, seconds: Math.round((performance.now() - begun) / 1000), ...result }
  if (isGreen(done) || !values.keep) fs.rmSync(stormFolder, { recursive: true, force: true })
  else console.log(`${keyOf(task)} is kept in ${stormFolder}`)
  return done
}

const done = new Set(readResults(file).map(keyOf))
const left = tasks.filter((task) => !done.has(keyOf(task)))
console.log(`${tasks.length} storms, ${left.length} of them still to run, seed ${seed}, results in ${file}`)
const queue = left.values()
let nth = 0
const work = async (): Promise<void> => {
  for (const task of queue) {
    if (performance.now() > until) return
    const result = await carryOut(task)
    appendResult(file, result)
    const verdict = isGreen(result) ? "ok" : `${result.violations.length} violations`
    console.log(`${++nth}/${left.length} ${keyOf(task)}: ${verdict} (${result.seconds} s)`)
    if (!isGreen(result)) console.log(complaintsOf(result))
  }
}
await Promise.all(Array.from({ length: number("parallel") }, work))

if (!values.keep) fs.rmSync(folder, { recursive: true, force: true })
const wanted = new Set(tasks.map(keyOf))
const results = readResults(file).filter((result) => wanted.has(keyOf(result)))
console.log(`\n${table(results)}`)
if (results.length < tasks.length)
  console.log(`\n${tasks.length - results.length} storms are left: --resume ${file}`)
process.exitCode = results.length === tasks.length && results.every(isGreen) ? 0 : 1
