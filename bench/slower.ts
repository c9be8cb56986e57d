/**
 * What got slower since earlier figures were saved. Machines and their load differ, so it compares ratios: each figure divided by
 * the limit of the same run.
 */
import fs from "node:fs"
import { metrics } from "./metrics.ts"

export interface Compared {
  readonly workload: string
  readonly mode: string
  readonly metric: string
  /** The figure divided by the limit. */
  readonly ratio: number
}

/** Reads the output of `--json`, by mode, workload and metric. */
const readFigures = (file: string): ReadonlyMap<string, Compared> =>
  new Map(
    fs
      .readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => line.startsWith("{"))
      // this benchmark has written the lines
      .map((line) => JSON.parse(line) as Compared)
      .map((figure) => [nameOf(figure), figure])
  )

const nameOf = ({ metric, mode, workload }: Compared): string => `${mode} ${workload} ${metric}`

/** Whether a higher figure is better. `false` for counts such as statements and bytes, which are not in `metrics`. */
const isMoreBetter = ({ metric, workload }: Compared): boolean =>
  metrics.some((one) => one.workload === workload && one.metric === metric && one.better === "higher")

/** A line for each figure that is worse than in the file by more than `slack` (0.1 is a tenth). */
export const slowerThan = (
  file: string,
  slack: number,
  figures: ReadonlyArray<Compared>
): ReadonlyArray<string> => {
  const before = readFigures(file)
  return figures.flatMap((figure) => {
    const base = before.get(nameOf(figure))
    if (base === undefined) return []
    const worse = isMoreBetter(figure) ? base.ratio / figure.ratio : figure.ratio / base.ratio
    return worse <= 1 + slack
      ? []
      : [
          `${nameOf(figure)}: ${figure.ratio.toFixed(3)} of the limit, and ${base.ratio.toFixed(3)} before: worse by ${Math.round((worse - 1) * 100)} %`
        ]
  })
}
