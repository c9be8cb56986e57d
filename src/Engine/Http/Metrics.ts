/** What the engine counts, in the text format of Prometheus. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import type { EngineMetrics, EngineService } from "../Engine.ts"

/** Counting stuck runs reads every unfinished run: it is done at most this often. */
const STUCK_EVERY_MS = 15_000

type Kind = "counter" | "gauge"

const families: ReadonlyArray<{
  readonly name: string
  readonly kind: Kind
  readonly help: string
  readonly value: (metrics: EngineMetrics) => number
}> = [
  {
    name: "ironflow_events_emitted_total",
    kind: "counter",
    help: "Events stored.",
    value: ({ events }) => events
  },
  {
    name: "ironflow_runs_started_total",
    kind: "counter",
    help: "Runs created.",
    value: ({ started }) => started
  },
  {
    name: "ironflow_runs_completed_total",
    kind: "counter",
    help: "Runs that completed.",
    value: ({ completed }) => completed
  },
  {
    name: "ironflow_runs_failed_total",
    kind: "counter",
    help: "Runs that failed for good.",
    value: ({ failed }) => failed
  },
  {
    name: "ironflow_runs_cancelled_total",
    kind: "counter",
    help: "Runs that were cancelled.",
    value: ({ cancelled }) => cancelled
  },
  {
    name: "ironflow_store_commits_total",
    kind: "counter",
    help: "Transactions that changed something; many operations share one.",
    value: ({ commits }) => commits
  },
  {
    name: "ironflow_policy_condition_failures_total",
    kind: "counter",
    help: "Calls that were refused because the condition of a policy failed.",
    value: ({ policyConditionFailures }) => policyConditionFailures
  },
  {
    name: "ironflow_workers",
    kind: "gauge",
    help: "Workers connected now.",
    value: ({ workers }) => workers
  },
  {
    name: "ironflow_active_jobs",
    kind: "gauge",
    help: "Turns that workers hold now.",
    value: ({ activeJobs }) => activeJobs
  }
]

/** Who did not hold what it wrote about, by the label `kind`. */
const stale: ReadonlyArray<readonly [kind: string, value: (metrics: EngineMetrics) => number]> = [
  ["report", ({ staleReports }) => staleReports],
  ["renewal", ({ staleRenewals }) => staleRenewals],
  ["projection", ({ staleSaves }) => staleSaves],
  ["ack", ({ staleAcks }) => staleAcks]
]

const head = (name: string, kind: Kind, help: string): string =>
  `# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n`

const family = (name: string, kind: Kind, help: string, value: number): string =>
  `${head(name, kind, help)}${name} ${value}\n`

const staleWrites = (metrics: EngineMetrics): string => {
  const name = "ironflow_stale_writes_refused_total"
  return (
    head(
      name,
      "counter",
      "Writes that were refused because whoever wrote did not hold what it wrote about."
    ) + stale.map(([kind, value]) => `${name}{kind="${kind}"} ${value(metrics)}\n`).join("")
  )
}

/** The text of `/metrics`. Counters start at 0 with the engine. `openPolls` counts the polls of workers now. */
export const make = (engine: EngineService, openPolls: () => number): Effect.Effect<string, StoreError> => {
  let stuck: { readonly count: number; readonly at: number } | undefined
  const countStuck = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    stuck !== undefined && now - stuck.at < STUCK_EVERY_MS
      ? Effect.succeed(stuck.count)
      : Effect.map(engine.countStuckRuns, (count) => {
          stuck = { count, at: now }
          return count
        })
  )
  // where runs are damaged they cannot be counted; the other figures are as good as ever
  const counted = Effect.catchIf(
    countStuck,
    (error) => error.code === "STORE_CORRUPT",
    () => Effect.succeed(undefined)
  )
  return Effect.map(counted, (count) => {
    const metrics = engine.metrics()
    return (
      families.map(({ name, kind, help, value }) => family(name, kind, help, value(metrics))).join("") +
      staleWrites(metrics) +
      family("ironflow_open_polls", "gauge", "Polls of workers that are open now.", openPolls()) +
      (count === undefined
        ? ""
        : family(
            "ironflow_runs_stuck",
            "gauge",
            "Unfinished runs that nothing will ever move; always 0 in a sound engine.",
            count
          ))
    )
  })
}
