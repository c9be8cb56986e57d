/**
 * Costs that grow with the amount of data. Each figure is compared with the first figure of the same process, so only the ratio
 * counts.
 *
 * `node --conditions=@ironflow/source bench/growth.ts [--only W7,W8,W9] [--runs 1000,20000]` prints a JSON line for each:
 * - W7: emits, runs of one step, and lists, with each number of ended runs in `--runs` in the database.
 * - W8: 50 functions with one run at a time for each key, compared with the same functions without keys.
 * - W9: a run of 5,000 steps, and a run that sleeps 300 times: the last tenth of each compared with the first.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { parseArgs } from "node:util"
import { createFunction, type IronflowFunction } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { median } from "./metrics.ts"

const { values: options } = parseArgs({
  options: { only: { type: "string", default: "W7,W8,W9" }, runs: { type: "string", default: "1000,20000" } }
})

const print = (line: { readonly [name: string]: unknown }): void => console.log(JSON.stringify(line))
const round = (value: number, digits = 2): number => Number(value.toFixed(digits))

/** Calls `use` with an engine on a new file. */
const withEngine = async (
  functions: ReadonlyArray<IronflowFunction>,
  use: (engine: IronflowEngine) => Promise<void>
): Promise<void> => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bench-growth-"))
  const engine = await startEngine({
    filename: path.join(folder, "bench.db"),
    functions,
    maxConcurrentJobs: 512,
    logger: false
  })
  try {
    await use(engine)
  } finally {
    await engine.close()
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

const emitAndWait = async ({ client }: IronflowEngine, event: string, data: unknown): Promise<void> => {
  const { runIds } = await client.emit(event, data)
  for (const run of runIds) {
    const { status } = await client.waitForRun(run)
    if (status !== "completed") throw new Error(`run ${run} ended ${status}`)
  }
}

/** Calls `f` with each number from 0 to `count - 1`, `atOnce` calls at a time. */
const inFlight = async (atOnce: number, count: number, f: (i: number) => Promise<void>): Promise<void> => {
  let next = 0
  const one = async (): Promise<void> => {
    while (next < count) await f(next++)
  }
  await Promise.all(Array.from({ length: atOnce }, one))
}

/** The median and the longest time of a call, in milliseconds. */
const timesOf = async (
  count: number,
  f: (i: number) => Promise<unknown>
): Promise<{ readonly p50: number; readonly worst: number }> => {
  const times: Array<number> = []
  for (let i = 0; i < count; i++) {
    const began = performance.now()
    await f(i)
    times.push(performance.now() - began)
  }
  return { p50: median(times), worst: Math.max(...times) }
}

const measureHistory = async (): Promise<void> => {
  const one = createFunction({ id: "one", triggers: [{ event: "bench.one" }] }, ({ step }) =>
    step.run("step", async () => ({ ok: true }))
  )
  await withEngine([one], async (engine) => {
    const { client } = engine
    const calls: { readonly [name: string]: (i: number) => Promise<unknown> } = {
      emit: (i) => client.emit("bench.none", { i }),
      "run of one step": (i) => emitAndWait(engine, "bench.one", { i }),
      "list of runs": () => client.listRuns({ limit: 50 }),
      "list of runs that failed": () => client.listRuns({ limit: 50, status: "failed" })
    }
    const first = new Map<string, number>()
    let runs = 0
    for (const wanted of options.runs.split(",").map(Number)) {
      await inFlight(256, wanted - runs, (i) => emitAndWait(engine, "bench.one", { i }))
      runs = Math.max(runs, wanted)
      for (const [name, call] of Object.entries(calls)) {
        await timesOf(100, call)
        const delay = monitorEventLoopDelay({ resolution: 1 })
        delay.enable()
        const { p50, worst } = await timesOf(300, call)
        delay.disable()
        if (!first.has(name)) first.set(name, p50)
        print({
          workload: "W7",
          runs: wanted,
          call: name,
          p50_ms: round(p50, 3),
          worst_ms: round(worst),
          loop_worst_ms: round(delay.max / 1e6),
          ratio: round(p50 / first.get(name)!)
        })
      }
      print({ workload: "W7", runs: wanted, rss_mb: Math.round(process.memoryUsage.rss() / 1e6) })
    }
  })
}

const measureKeys = async (): Promise<void> => {
  const count = 4000
  const functionsWith = (keys: boolean) =>
    Array.from({ length: 50 }, (_, n) =>
      createFunction(
        {
          id: `f${n}`,
          triggers: [{ event: `bench.f${n}` }],
          ...(keys ? { concurrency: { limit: 1, key: "event.data.customer" } } : {})
        },
        ({ step }) => step.run("step", async () => ({ ok: true }))
      )
    )
  let first: number | undefined
  for (const keys of [false, true]) {
    await withEngine(functionsWith(keys), async (engine) => {
      const run = (i: number) => emitAndWait(engine, `bench.f${i % 50}`, { customer: `c${i % 7}` })
      await inFlight(256, count / 4, run)
      const began = performance.now()
      await inFlight(256, count, run)
      const perSecond = (count * 1000) / (performance.now() - began)
      first ??= perSecond
      print({
        workload: "W8",
        functions: 50,
        keys: keys ? 7 : 0,
        runs_per_second: Math.round(perSecond),
        ratio: round(perSecond / first)
      })
    })
  }
}

const measureLongRuns = async (): Promise<void> => {
  const marks: Array<number> = []
  const steps = createFunction({ id: "steps", triggers: [{ event: "bench.steps" }] }, async ({ step }) => {
    for (let i = 0; i < 5000; i++) await step.run(`step-${i}`, async () => void marks.push(performance.now()))
  })
  const sleeps = createFunction({ id: "sleeps", triggers: [{ event: "bench.sleeps" }] }, async ({ step }) => {
    for (let i = 0; i < 300; i++) {
      await step.sleep(`nap-${i}`, 1)
      await step.run(`step-${i}`, async () => void marks.push(performance.now()))
    }
  })
  await withEngine([steps, sleeps], async (engine) => {
    for (const kind of ["steps", "sleeps"]) {
      await emitAndWait(engine, `bench.${kind}`, {})
      marks.length = 0
      await emitAndWait(engine, `bench.${kind}`, {})
      const tenth = Math.floor(marks.length / 10)
      const perPiece = (from: number) => (marks[from + tenth - 1]! - marks[from]!) / (tenth - 1)
      const [early, late] = [perPiece(0), perPiece(marks.length - tenth)]
      print({
        workload: "W9",
        run: kind,
        pieces: marks.length,
        first_tenth_ms: round(early, 3),
        last_tenth_ms: round(late, 3),
        ratio: round(late / early)
      })
    }
  })
}

const workloads: { readonly [name: string]: () => Promise<void> } = {
  W7: measureHistory,
  W8: measureKeys,
  W9: measureLongRuns
}
for (const name of options.only.split(",")) {
  const run = workloads[name]
  if (run === undefined)
    throw new Error(`There is no workload "${name}": use ${Object.keys(workloads).join(", ")}`)
  await run()
}
