/**
 * `npm run bench`: our engine compared with the limit of the machine (see limits/README.md), both in the same harness.
 *
 * Every measurement is a new process, and the engine and the limit take turns, so that neither profits from a warm cache or a
 * quiet minute. A figure is the median of the rounds.
 */
import { spawn } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import { startOwnServer } from "../test/postgres/Server.ts"
import {
  type HarnessResult,
  median,
  metrics,
  postgresUseMetrics,
  readFigure,
  serverUseMetrics,
  useMetrics
} from "./metrics.ts"
import { compareCpu } from "./cpu/main.ts"
import { isWorkload } from "./cpu/workloads.ts"
import { slowerThan } from "./slower.ts"
import { cpuFile, type EngineUse } from "./usage.ts"

const usage = `npm run bench -- [options]
  --mode embedded,postgres,postgres-3,postgres-server,server,rpc,connect
                  embedded: engine, worker and client in one process, on SQLite; postgres: the same on a Postgres server that
                  is started for it; postgres-3: three such processes on one Postgres, to compare with one (W3_64: 64 runs in
                  flight in all, W3_256: 85 each); the others: engine, worker and client in separate processes, with a worker
                  that polls (server, postgres-server), or streams over effect/rpc (rpc) or ConnectRPC (connect)
  --only W1,W3    only some workloads: W1 one step, W2 ten steps, W3 throughput (W3_64, W3_256), W4 starts, W5 sleeps
  --rounds 3      the number of rounds; the median counts
  --runs 2000     the number of runs in W3. The first 2,000 of a process mostly compile its code: --runs 20000 shows what lasts
  --quick         one round of W1 and W3_64 for a smoke test, embedded by default
  --compare FILE  compares the ratios with a FILE of earlier output of --json, prints what is worse by more than a tenth,
                  and exits with 1 if anything is
  --cpu           measures the CPU time and the garbage of a run instead, which can be compared on a busy machine too;
                  --against DIR measures the tree in DIR in turns, --profile shows what takes the time, --cold measures the
                  first runs, without a warm-up
  --json          one object a line: {workload, mode, metric, value, limit, ratio}; ratio is value / limit`

const file = (...parts: Array<string>): string => path.join(import.meta.dirname, ...parts)

/** Engine, worker and client in separate processes. */
const served = (title: string, transport: string) =>
  ({
    title: `server, ${title} (limit: WebSocket), SQLite, every acknowledgement durable`,
    limit: file("limits", "adapters", "ceiling-ws.mjs"),
    ironflow: file("server", "main.ts"),
    use: serverUseMetrics,
    env: { WORKER_TRANSPORT: transport }
  }) as const

const modes = {
  embedded: {
    title: "embedded, SQLite, every acknowledgement durable",
    limit: file("limits", "adapters", "ceiling-embedded.mjs"),
    ironflow: file("embedded.ts"),
    use: useMetrics,
    env: {}
  },
  postgres: {
    title: "embedded, Postgres, every acknowledgement durable",
    limit: file("limits", "adapters", "ceiling-embedded.mjs"),
    ironflow: file("postgres.ts"),
    use: postgresUseMetrics,
    env: { MODE: "pg" }
  },
  "postgres-3": {
    title: "three engines on one Postgres, every acknowledgement durable",
    limit: file("limits", "adapters", "ceiling-embedded.mjs"),
    ironflow: file("postgres-3.ts"),
    use: [],
    env: { MODE: "pg" }
  },
  "postgres-server": {
    title: "server, a worker that polls (limit: embedded), Postgres, every acknowledgement durable",
    limit: file("limits", "adapters", "ceiling-embedded.mjs"),
    ironflow: file("server", "main.ts"),
    use: [],
    env: { MODE: "pg", STORE: "postgres", WORKER_TRANSPORT: "polling" }
  },
  server: served("a worker that polls", "polling"),
  rpc: served("a worker over effect/rpc", "rpc"),
  connect: served("a worker over ConnectRPC", "connect")
} as const
type Mode = keyof typeof modes
type Subject = "limit" | "ironflow"

const isMode = (name: string): name is Mode => Object.hasOwn(modes, name)

interface Figure {
  readonly workload: string
  readonly mode: Mode
  readonly metric: string
  readonly value: number
  readonly limit: number
  readonly ratio: number
}

/** Runs one subject in a new process and returns the line that it prints. */
const measure = (
  mode: Mode,
  subject: Subject,
  only: ReadonlyArray<string>,
  env: Record<string, string> = {}
): Promise<HarnessResult> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--conditions=@ironflow/source", modes[mode][subject]], {
      env: { ...process.env, ...modes[mode].env, ...env, ONLY: only.join(",") },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let printed = ""
    let progress = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => (printed += text))
    child.stderr.setEncoding("utf8").on("data", (text: string) => (progress += text))
    child.on("error", reject)
    // "close" also waits for the processes that the child has started, because they share its standard error
    child.on("close", (code, signal) => {
      const line = printed.trim().split("\n").at(-1)
      if (code === 0 && line) resolve(JSON.parse(line))
      else reject(new Error(`${subject}, ${mode}, ended with ${signal ?? code} and no result:\n${progress}`))
    })
  })

const measureUse = async (mode: Mode, subject: Subject, workloads: ReadonlyArray<string>) => {
  // the limit does not count its use of Postgres
  if (mode === "postgres" && subject === "limit") return { use: uncounted, runs: 1 }
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-"))
  const useFile = path.join(folder, "use.json")
  try {
    // on Postgres the engine counts for itself
    const preload =
      mode === "postgres" ? {} : { NODE_OPTIONS: `--import=${pathToFileURL(file("use.ts")).href}` }
    const result = await measure(mode, subject, workloads, { ...preload, USE_FILE: useFile })
    const use: EngineUse = JSON.parse(fs.readFileSync(useFile, "utf8"))
    const cpu = fs.readFileSync(cpuFile(useFile), "utf8").trim().split("\n").map(Number)
    return {
      use: { ...use, cpuMs: cpu.reduce((sum, ms) => sum + ms, 0) },
      runs: Number(Object(result.W3_64).n)
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

const uncounted = { statements: NaN, roundTrips: NaN, commits: NaN, bytes: NaN, requests: NaN, cpuMs: NaN }

/**
 * What one 3-step run costs an engine: the difference between a measurement with such runs and one without them. Other
 * runs come first in both measurements, so that the loading of modules with the first call does not count: it takes
 * longer for our sources, which are TypeScript, than for those of the limit.
 */
const usePerRun = async (mode: Mode, subject: Subject): Promise<EngineUse & { readonly cpuMs: number }> => {
  const { use: empty } = await measureUse(mode, subject, ["W1"])
  const { use, runs } = await measureUse(mode, subject, ["W1", "W3_64"])
  const perRun = (field: keyof EngineUse | "cpuMs"): number =>
    ((use[field] ?? 0) - (empty[field] ?? 0)) / runs
  return {
    statements: perRun("statements"),
    roundTrips: perRun("roundTrips"),
    commits: perRun("commits"),
    bytes: perRun("bytes"),
    requests: perRun("requests"),
    cpuMs: perRun("cpuMs")
  }
}

const round = (figure: number): number => Number(figure.toPrecision(4))

const compare = async (
  mode: Mode,
  workloads: ReadonlyArray<string>,
  rounds: number
): Promise<Array<Figure>> => {
  const results: Record<Subject, Array<HarnessResult>> = { limit: [], ironflow: [] }
  for (let i = 0; i < rounds; i++) {
    const turns: Array<Subject> = i % 2 === 0 ? ["limit", "ironflow"] : ["ironflow", "limit"]
    for (const subject of turns) results[subject].push(await measure(mode, subject, workloads))
  }

  const makeFigure = (workload: string, metric: string, value: number, limit: number): Figure => ({
    workload,
    mode,
    metric,
    value: round(value),
    limit: round(limit),
    ratio: round(value / limit)
  })
  const figures = metrics
    .filter((metric) => workloads.includes(metric.workload))
    .map((metric) => {
      const medianOf = (subject: Subject) =>
        median(results[subject].map((result) => readFigure(metric, result)))
      return makeFigure(metric.workload, metric.metric, medianOf("ironflow"), medianOf("limit"))
    })

  if (workloads.includes("W3_64") && modes[mode].use.length > 0) {
    const [limit, ironflow] = [await usePerRun(mode, "limit"), await usePerRun(mode, "ironflow")]
    for (const { metric, field } of modes[mode].use) {
      figures.push(makeFigure("W3_64", metric, ironflow[field] ?? 0, limit[field] ?? 0))
    }
  }
  return figures
}

const labelOf = (figure: Figure): string =>
  metrics.find(({ workload, metric }) => workload === figure.workload && metric === figure.metric)?.label ??
  modes[figure.mode].use.find(({ metric }) => metric === figure.metric)?.label ??
  figure.metric

const printTable = (mode: Mode, figures: ReadonlyArray<Figure>): void => {
  const rows = figures.map((figure) => [
    figure.workload,
    labelOf(figure),
    figure.value.toLocaleString("en"),
    Number.isNaN(figure.limit) ? "" : figure.limit.toLocaleString("en"),
    Number.isNaN(figure.ratio) ? "" : `${figure.ratio.toFixed(2)} x`
  ])
  const table = [["", modes[mode].title, "ironflow", "limit", "ratio"], ...rows]
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
    mode: { type: "string" },
    only: { type: "string", default: "W1,W2,W3,W4,W5" },
    rounds: { type: "string", default: "3" },
    runs: { type: "string" },
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    compare: { type: "string" },
    cpu: { type: "boolean", default: false },
    against: { type: "string" },
    profile: { type: "boolean", default: false },
    cold: { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

const known = [...new Set(metrics.map((metric) => metric.workload))]
const requestedWorkloads = (options.quick ? "W1,W3_64" : options.only)
  .split(",")
  .map((name) => name.trim().toUpperCase())
const workloads = known.filter((workload) =>
  requestedWorkloads.some((name) => workload === name || workload.startsWith(`${name}_`))
)
const rounds = options.quick ? 1 : Number(options.rounds)
if (options.runs !== undefined) process.env.N3 = options.runs
const requestedModes = (options.mode ?? (options.quick ? "embedded" : "embedded,server")).split(",")
const chosen = requestedModes.map((name) => name.trim()).filter(isMode)

const isAcceptable =
  workloads.length > 0 &&
  chosen.length === requestedModes.length &&
  Number.isInteger(rounds) &&
  rounds >= 1 &&
  /^[1-9]\d*$/.test(options.runs ?? "1")
if (options.help || !isAcceptable) {
  console.log(usage)
  process.exitCode = options.help ? 0 : 1
} else if (options.cpu) {
  await compareCpu({
    modes: chosen.filter((mode) => mode !== "postgres"),
    workloads: workloads.filter(isWorkload),
    rounds,
    profile: options.profile,
    cold: options.cold,
    ...(options.against === undefined ? {} : { against: options.against })
  })
} else {
  const server = chosen.some((mode) => mode.startsWith("postgres"))
    ? await startOwnServer({ durable: true })
    : undefined
  if (server !== undefined) process.env.PGURL = server.url.slice(0, server.url.lastIndexOf("/"))
  const all: Array<Figure> = []
  for (const [i, mode] of chosen.entries()) {
    const figures = await compare(mode, workloads, rounds)
    all.push(...figures)
    if (options.json) {
      for (const figure of figures) console.log(JSON.stringify(figure))
      continue
    }
    if (i > 0) console.log()
    printTable(mode, figures)
  }
  await server?.stop()
  const slower = options.compare === undefined ? [] : slowerThan(options.compare, 0.1, all)
  for (const line of slower) console.error(line)
  if (slower.length > 0) process.exitCode = 1
}
