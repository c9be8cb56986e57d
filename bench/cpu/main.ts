/**
 * `npm run bench -- --cpu`: the CPU time, the garbage and the clock time of a run, with these sources, or with these
 * and those of another folder in turns. CPU time can be compared even if other processes make clock time meaningless.
 */
import { spawn } from "node:child_process"
import path from "node:path"
import { median } from "../metrics.ts"
import type { Cost } from "./probe.ts"
import type { Share } from "./shares.ts"

interface Measured {
  readonly runs: number
  readonly ms: number
  readonly costs: Readonly<Record<string, Cost>>
}

const measure = (env: Record<string, string>): Promise<Measured> =>
  new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      ["--conditions=@ironflow/source", path.join(import.meta.dirname, "subject.ts")],
      { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "inherit"] }
    )
    let printed = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => (printed += text))
    child.on("error", reject)
    child.on("close", (code, signal) => {
      const line = printed.trim().split("\n").at(-1)
      if (code === 0 && line) resolve(JSON.parse(line))
      else reject(new Error(`The measurement ended with ${signal ?? code} and no result`))
    })
  })

/** The figures of one run, by name. */
const figuresOf = ({ costs, ms, runs }: Measured): ReadonlyMap<string, number> => {
  const figures = new Map<string, number>()
  const add = (name: string, value: number) => figures.set(name, (figures.get(name) ?? 0) + value)
  for (const [name, { allocatedBytes, cpuMs, gcMs, promotedBytes }] of Object.entries(costs)) {
    add("CPU, ms", cpuMs / runs)
    if (name !== "all") add(`  of the ${name}`, cpuMs / runs)
    add("of it collecting garbage, ms", gcMs / runs)
    add("allocated, KB", allocatedBytes / runs / 1024)
    add("promoted, KB", promotedBytes / runs / 1024)
  }
  add("on the clock, ms", ms / runs)
  return figures
}

const printShares = (name: string, shares: ReadonlyArray<Share>): void => {
  for (const [kind, most] of [
    ["place", 14],
    ["file", 30],
    ["function", 60]
  ] as const) {
    console.log(`\n${name}, by ${kind}`)
    for (const { name, share } of shares.filter((one) => one.kind === kind).slice(0, most)) {
      console.log(`${(share * 100).toFixed(1).padStart(6)} %  ${name}`)
    }
  }
}

export interface CpuOptions {
  readonly modes: ReadonlyArray<string>
  readonly workloads: ReadonlyArray<string>
  readonly rounds: number
  /** The folder of other sources, which are measured in turns with these. */
  readonly against?: string
  /** Whether to print a profile of these sources instead. */
  readonly profile: boolean
  /** Whether to measure the first runs of a process, before it has warmed up. */
  readonly cold: boolean
}

export const compareCpu = async (options: CpuOptions): Promise<void> => {
  const here = path.join(import.meta.dirname, "../..")
  const trees = options.against === undefined ? [here] : [here, path.resolve(options.against)]
  for (const mode of options.modes) {
    for (const workload of options.workloads) {
      const env = { MODE: mode, WORKLOAD: workload, ...(options.cold ? { COLD: "1" } : {}) }
      if (options.profile) {
        for (const profiled of ["time", "allocations"]) {
          const { costs } = await measure({ ...env, TREE: here, PROFILE: profiled })
          for (const [name, { shares }] of Object.entries(costs)) {
            printShares(`${mode}, ${workload}, ${name}: ${profiled}`, shares ?? [])
          }
        }
        continue
      }
      const rounds: Array<ReadonlyArray<ReadonlyMap<string, number>>> = []
      for (let i = 0; i < options.rounds; i++) {
        const measured = new Map<string, ReadonlyMap<string, number>>()
        for (const tree of i % 2 === 0 ? trees : trees.toReversed()) {
          measured.set(tree, figuresOf(await measure({ ...env, TREE: tree })))
        }
        rounds.push(trees.map((tree) => measured.get(tree) ?? new Map<string, number>()))
      }
      console.log(`${mode}, ${workload}, medians of ${options.rounds}`)
      for (const name of rounds[0]?.[0]?.keys() ?? []) {
        const figuresOfTree = (tree: number) => rounds.map((round) => round[tree]?.get(name) ?? NaN)
        const cells = [name.padEnd(32), median(figuresOfTree(0)).toFixed(3).padStart(10)]
        if (trees.length > 1) {
          const ratios = rounds.map((round) => (round[0]?.get(name) ?? NaN) / (round[1]?.get(name) ?? NaN))
          cells.push(median(figuresOfTree(1)).toFixed(3).padStart(10), `${median(ratios).toFixed(3)} x`)
        }
        console.log(cells.join("  "))
      }
    }
  }
}
