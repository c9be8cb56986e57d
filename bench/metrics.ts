/** The metrics: how to read each figure from a result of the harness, and whether lower or higher is better. */

/** The line that the harness prints, with the fields that are read here. */
export interface HarnessResult {
  readonly [workload: string]: { readonly [field: string]: unknown } | string | undefined
}

export interface Metric {
  /** The name that `--only` takes. */
  readonly workload: string
  readonly metric: string
  readonly label: string
  readonly better: "lower" | "higher"
  /** The path of the figure in the result of the harness. */
  readonly path: readonly [workload: string, ...fields: Array<string>]
}

export const metrics: ReadonlyArray<Metric> = [
  {
    workload: "W1",
    metric: "p50_ms",
    label: "one-step run, latency p50, ms",
    better: "lower",
    path: ["W1", "p50"]
  },
  {
    workload: "W1",
    metric: "p95_ms",
    label: "one-step run, latency p95, ms",
    better: "lower",
    path: ["W1", "p95"]
  },
  {
    workload: "W2",
    metric: "p50_ms",
    label: "ten-step run, latency p50, ms",
    better: "lower",
    path: ["W2", "p50"]
  },
  {
    workload: "W2",
    metric: "p95_ms",
    label: "ten-step run, latency p95, ms",
    better: "lower",
    path: ["W2", "p95"]
  },
  {
    workload: "W3_64",
    metric: "runs_per_second",
    label: "3-step runs a second, 64 in flight",
    better: "higher",
    path: ["W3_64", "wfPerSec"]
  },
  {
    workload: "W3_256",
    metric: "runs_per_second",
    label: "3-step runs a second, 256 in flight",
    better: "higher",
    path: ["W3_256", "wfPerSec"]
  },
  {
    workload: "W4",
    metric: "starts_per_second",
    label: "5,000 starts: accepted a second",
    better: "higher",
    path: ["W4", "startsPerSec"]
  },
  {
    workload: "W4",
    metric: "done_per_second",
    label: "5,000 starts: completed a second",
    better: "higher",
    path: ["W4", "wfPerSec"]
  },
  {
    workload: "W5",
    metric: "done_seconds",
    label: "2,000 sleeps of 1 s: seconds until all are done",
    better: "lower",
    path: ["W5", "doneSec"]
  }
]

/** What a 3-step run costs the engine with 64 in flight. Counted in separate processes, because counting takes time. */
export const useMetrics = [
  { metric: "statements_per_run", label: "SQL statements a 3-step run", field: "statements" },
  { metric: "commits_per_run", label: "commits a 3-step run", field: "commits" },
  { metric: "bytes_per_run", label: "bytes stored a 3-step run", field: "bytes" },
  { metric: "cpu_ms_per_run", label: "CPU of all processes a 3-step run, ms", field: "cpuMs" }
] as const

/** The same on Postgres, where waiting for answers takes most of the time. */
export const postgresUseMetrics = [
  {
    metric: "statements_per_run",
    label: "statements a 3-step run, reads of the client included",
    field: "statements"
  },
  { metric: "round_trips_per_run", label: "round trips a 3-step run", field: "roundTrips" },
  { metric: "commits_per_run", label: "commits a 3-step run", field: "commits" },
  { metric: "bytes_per_run", label: "bytes stored a 3-step run", field: "bytes" },
  { metric: "cpu_ms_per_run", label: "CPU of the engine's process a 3-step run, ms", field: "cpuMs" }
] as const

/** The same for an engine in a separate process. */
export const serverUseMetrics = [
  ...useMetrics,
  { metric: "requests_per_run", label: "requests (limit: messages) a 3-step run", field: "requests" }
] as const

/** The figure of a metric. Throws an error with the reason if there is none. */
export const readFigure = (metric: Metric, result: HarnessResult): number => {
  const failure = Object(result[metric.path[0]]).error
  if (failure !== undefined) throw new Error(`${result.peer}, ${metric.path[0]}: ${failure}`)
  const figure = metric.path.reduce<unknown>((at, field) => Object(at)[field], result)
  if (typeof figure !== "number") throw new Error(`${result.peer} printed no ${metric.path.join(".")}`)
  return figure
}

/** The median of the figures. */
export const median = (figures: ReadonlyArray<number>): number => {
  const sorted = figures.toSorted((a, b) => a - b)
  const middle = sorted.slice(Math.ceil(sorted.length / 2) - 1, Math.floor(sorted.length / 2) + 1)
  return middle.reduce((sum, figure) => sum + figure, 0) / middle.length
}
