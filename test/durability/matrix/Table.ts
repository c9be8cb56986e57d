/** The results of storms: a line of JSON for each, and a table of all. */
import fs from "node:fs"
import { groupBy } from "../Records.ts"
import { allCells, type Fault, impossible, nameOf, type Transport } from "./Cells.ts"
import type { StormFigures, StormViolation } from "./Judge.ts"

export interface StormResult {
  readonly transport: Transport
  readonly fault: Fault | "random"
  readonly seed: number
  readonly leaseMs: number
  readonly seconds: number
  readonly figures: StormFigures | undefined
  readonly violations: ReadonlyArray<StormViolation>
  /** The error that broke the storm off, so that there is nothing to judge. */
  readonly broken?: string
}

export const keyOf = ({
  fault,
  seed,
  transport
}: Pick<StormResult, "fault" | "seed" | "transport">): string => `${transport}:${fault} ${seed}`

/** The results of a file; an incomplete last line is ignored. */
export const readResults = (file: string): ReadonlyArray<StormResult> =>
  fs.existsSync(file)
    ? fs
        .readFileSync(file, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as StormResult)
    : []

export const appendResult = (file: string, result: StormResult): void =>
  fs.appendFileSync(file, `${JSON.stringify(result)}\n`)

const isGreen = ({ broken, violations }: StormResult): boolean =>
  violations.length === 0 && broken === undefined

const seconds = (ms: number | undefined): string => (ms === undefined ? "–" : (ms / 1000).toFixed(1))

/** A Markdown table with a line for each cell, which sums up its storms. */
export const table = (results: ReadonlyArray<StormResult>): string => {
  const lines = [
    "| cell | storms | strikes (hits) | kills worker/engine | runs | steps | violations | takeover p50/max, s | overlap, ms | settled after, s |",
    "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
  ]
  const groups = groupBy(results, ({ fault, transport }) => `${transport}:${fault}`)
  const row = (name: string, storms: ReadonlyArray<StormResult>): string => {
    const figures = storms.flatMap(({ figures }) => (figures === undefined ? [] : [figures]))
    const sum = (of: (figures: StormFigures) => number) => figures.reduce((total, one) => total + of(one), 0)
    const takeovers = figures.flatMap(({ takeovers }) => takeovers).toSorted((a, b) => a - b)
    const broken = storms.filter(({ broken }) => broken !== undefined).length
    const violations = storms.reduce((total, storm) => total + storm.violations.length, 0)
    return `| ${[
      name,
      storms.length,
      `${sum(({ strikes }) => strikes)} (${sum(({ hits }) => hits)})`,
      `${sum(({ workerKills }) => workerKills)}/${sum(({ engineKills }) => engineKills)}`,
      sum(({ runs }) => runs),
      sum(({ steps }) => steps),
      broken === 0 ? violations : `${violations}, ${broken} broken`,
      `${seconds(takeovers[Math.floor((takeovers.length - 1) / 2)])}/${seconds(takeovers.at(-1))}`,
      Math.round(Math.max(0, ...figures.map(({ maxOverlap }) => maxOverlap))),
      figures.some(({ settledAfter }) => settledAfter === undefined)
        ? "never"
        : seconds(Math.max(0, ...figures.map(({ settledAfter }) => settledAfter ?? 0)))
    ].join(" | ")} |`
  }
  for (const [name, storms] of groups) lines.push(row(name, storms))
  lines.push(row("**all**", results))
  const missing = allCells.flatMap((cell) => {
    const reason = impossible(cell)
    return reason === undefined ? [] : [`- \`${nameOf(cell)}\`: ${reason}`]
  })
  return [
    ...lines,
    "",
    `${results.filter(isGreen).length} of ${results.length} storms without a violation.`,
    "",
    "Impossible cells:",
    "",
    ...missing
  ].join("\n")
}

/** The complaints about a storm, a few for each law. */
export const complaintsOf = (result: StormResult): string =>
  [
    ...(result.broken === undefined ? [] : [`  the storm broke off: ${result.broken}`]),
    ...Array.from(
      groupBy(result.violations, ({ law }) => law),
      ([law, violations]) =>
        `  ${law} (${violations.length}):\n${violations
          .slice(0, 3)
          .map(({ complaint }) => `    ${complaint}`)
          .join("\n")}`
    )
  ].join("\n")

export { isGreen }
