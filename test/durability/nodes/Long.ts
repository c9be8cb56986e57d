/** Many storms over three engines, one after the other: a line of JSON for each, and a summary of all. */
import fs from "node:fs"
import path from "node:path"
import { groupBy } from "../Records.ts"
import { judgeNodes, type NodeFigures, type NodeViolation } from "./Judge.ts"
import { runNodeStorm } from "./NodeStorm.ts"
import { makeNodePlan, type Strike } from "./Plan.ts"

export interface LongOptions {
  readonly folder: string
  readonly cache: string
  /** The file of results: storms that have a line there are not run again. */
  readonly file: string
  readonly seed: number
  readonly seeds: number
  /** About how many runs each has. */
  readonly runs: number
  readonly leaseMs: number
  readonly settleMs: number
  /** No storm begins after this time of `performance.now()`. */
  readonly until: number
  readonly keep: boolean
}

interface Result {
  readonly seed: number
  readonly seconds: number
  readonly figures?: NodeFigures
  readonly violations: ReadonlyArray<NodeViolation>
  readonly strikes: ReadonlyArray<Strike>
  /** Errors after which clients have repeated a request, and how often. */
  readonly errors: ReadonlyArray<readonly [what: string, count: number]>
  /** The error that broke the storm off. */
  readonly broken?: string
}

const isGreen = ({ broken, violations }: Result): boolean => broken === undefined && violations.length === 0

const readResults = (file: string): ReadonlyArray<Result> =>
  fs.existsSync(file)
    ? fs
        .readFileSync(file, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Result)
    : []

/** Runs them; returns whether all of them were run and none had a violation. */
export const runNodeStorms = async (options: LongOptions): Promise<boolean> => {
  const { cache, file, folder, keep, leaseMs, seed, seeds, settleMs } = options
  const done = new Set(readResults(file).map((result) => result.seed))
  const left = Array.from({ length: seeds }, (_, i) => seed + i).filter((one) => !done.has(one))
  console.log(`${seeds} storms over three engines, ${left.length} of them still to run, results in ${file}`)
  for (const one of left) {
    if (performance.now() > options.until) break
    const stormFolder = fs.mkdtempSync(path.join(folder, "storm-"))
    const begun = performance.now()
    const plan = makeNodePlan(one, options.runs, leaseMs)
    const outcome = await runNodeStorm(plan, { folder: stormFolder, cache, settleMs }).then(
      (evidence) => {
        for (const { by, log } of evidence.processes) {
          if (log !== undefined) fs.writeFileSync(path.join(stormFolder, `${by}.log`), log)
        }
        return {
          ...judgeNodes(evidence),
          errors: Array.from(evidence.errors, ([what, { count }]) => [what, count] as const)
        }
      },
      (error: unknown) => ({
        violations: [],
        errors: [],
        broken: error instanceof Error ? (error.stack ?? error.message) : String(error)
      })
    )
    const result: Result = {
      seed: one,
      seconds: Math.round((performance.now() - begun) / 1000),
      strikes: plan.strikes,
      ...outcome
    }
    fs.appendFileSync(file, `${JSON.stringify(result)}\n`)
    if (isGreen(result) || !keep) fs.rmSync(stormFolder, { recursive: true, force: true })
    console.log(describe(result) + (isGreen(result) || !keep ? "" : `\n  kept in ${stormFolder}`))
  }
  const results = readResults(file)
  const sum = (of: (figures: NodeFigures) => number): number =>
    results.reduce((total, { figures }) => total + (figures === undefined ? 0 : of(figures)), 0)
  console.log(
    `${results.filter(isGreen).length} of ${results.length} storms without a violation: ${sum(({ runs }) => runs)} runs, ${sum(({ steps }) => steps)} steps, ${sum(({ repeated }) => repeated)} bodies repeated, ${sum(({ strikes }) => strikes)} strikes (${sum(({ hits }) => hits)} hits)`
  )
  return results.length >= seeds && results.every(isGreen)
}

const describe = (result: Result): string => {
  const { broken, figures, seconds, seed, violations } = result
  const verdict = isGreen(result) ? "ok" : `${violations.length} violations`
  return [
    `seed ${seed}: ${verdict} (${seconds} s) ${JSON.stringify(figures)}`,
    ...(broken === undefined ? [] : [`  the storm broke off: ${broken}`]),
    ...Array.from(
      groupBy(violations, ({ law }) => law),
      ([law, some]) =>
        `  ${law} (${some.length}):\n${some
          .slice(0, 3)
          .map(({ complaint }) => `    ${complaint}`)
          .join("\n")}`
    )
  ].join("\n")
}
