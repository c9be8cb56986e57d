/**
 * The metrics of an engine, as families of samples, for `/metrics` and for exporters of Effect's metrics. Counters count since
 * the engine started. Values that need queries are measured when somebody reads the metrics, at most every 15 seconds, and less
 * often when the queries take long.
 *
 * A series has at most these labels: `environment`, the name of a function, projection or group, and one of a few fixed words. At
 * most 200 functions, 200 projections and 200 groups have their own series. Further functions are counted together under the name
 * `other`. Further projections and groups are left out.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { StoreError } from "../Errors.ts"
import type { HistogramData } from "../Histogram.ts"
import { GuaranteeCheck } from "./Guarantees/GuaranteeCheck.ts"
import { Access } from "./Access/Access.ts"
import { Hooks } from "./Hooks/Hooks.ts"
import { type LogLag, readLogLag } from "./LogLag.ts"
import type { Labels, MetricFamily } from "./MetricFamily.ts"
import { makeRegistry } from "./MetricRegistry.ts"
import { Subscriptions } from "./PubSub/Subscriptions.ts"
import { type Backlog, countBacklog } from "./Runs/Backlog.ts"
import { countFailedRuns, type FailedRuns } from "./Runs/FailedRuns.ts"
import { waitKinds } from "./Runs/WaitKinds.ts"
import { Runs } from "./Runs/Runs.ts"
import {
  countedEvents,
  MAX_FUNCTIONS,
  type MinuteStats,
  readMinutes,
  readRunStats,
  type RunStats
} from "./Runs/RunStats.ts"
import { Counters } from "./Store/Counters.ts"
import { type CommitFigures, Store } from "./Store/Store.ts"
import { Workers } from "./Workers/Workers.ts"

/** The shortest time, in milliseconds, for which queried values are used before they are queried again. */
const REUSE_MS = 15_000
/** Queried values are used for at least this many times as long as their queries took. */
const REUSE_FACTOR = 20

/**
 * The numbers of failed runs are used for at least this many times as long as it took to count these runs. Failed runs are kept for
 * weeks, and there may be very many.
 */
const REUSE_FAILED_FACTOR = 100

export interface MetricsService {
  /** All metrics, measured now or a short time ago. */
  readonly families: Effect.Effect<ReadonlyArray<MetricFamily>, StoreError>
  /** The minutes of the last day in which anything happened, oldest first. */
  readonly minutes: Effect.Effect<ReadonlyArray<MinuteStats>, StoreError>
}

export class Metrics extends Context.Service<Metrics, MetricsService>()("@ironflow/node/Engine/Metrics") {}

/** The values that need queries. */
interface QueriedValues {
  readonly backlog: Backlog
  readonly stuck: number
  readonly lag: LogLag
}

export const layer: Layer.Layer<
  Metrics,
  StoreError,
  Store | Runs | Workers | Subscriptions | Counters | Access | GuaranteeCheck | Hooks
> = Layer.effect(
  Metrics,
  Effect.gen(function* () {
    const store = yield* Store
    const runs = yield* Runs
    const workers = yield* Workers
    const subscriptions = yield* Subscriptions
    const counters = yield* Counters
    const access = yield* Access
    const guarantees = yield* GuaranteeCheck
    const hooks = yield* Hooks
    const clock = yield* Clock.Clock
    const oneAtATime = yield* Semaphore.make(1)
    const loop = yield* eventLoop
    const scope = yield* Scope.Scope
    const run = Effect.runForkWith(yield* Effect.context<never>())
    let measuredAt = Number.NEGATIVE_INFINITY
    const publish = yield* makeRegistry(() => {
      // an exporter gets the last measurement, and its read starts a new measurement when the last one is too old
      if (clock.currentTimeMillisUnsafe() - measuredAt < REUSE_MS) return
      measuredAt = clock.currentTimeMillisUnsafe()
      Fiber.runIn(run(Effect.ignore(families)), scope)
    })

    let queriedValues: QueriedValues | undefined
    let queryAgainAt = Number.NEGATIVE_INFINITY
    const query = Effect.gen(function* () {
      const beganAt = clock.currentTimeMillisUnsafe()
      if (beganAt < queryAgainAt) return queriedValues
      const backlog = yield* countBacklog(store)
      const stuck = yield* runs.countStuck
      queriedValues = { backlog, stuck, lag: yield* store.read(readLogLag()) }
      const now = clock.currentTimeMillisUnsafe()
      queryAgainAt = now + Math.max(REUSE_MS, REUSE_FACTOR * (now - beganAt))
      return queriedValues
    })
    let failed: ReadonlyArray<FailedRuns> = []
    let countFailedAgainAt = Number.NEGATIVE_INFINITY
    const countFailed = Effect.gen(function* () {
      const beganAt = clock.currentTimeMillisUnsafe()
      if (beganAt < countFailedAgainAt) return failed
      failed = yield* countFailedRuns(store)
      const now = clock.currentTimeMillisUnsafe()
      countFailedAgainAt = now + Math.max(REUSE_MS, REUSE_FAILED_FACTOR * (now - beganAt))
      return failed
    })
    // when damaged rows make one query fail, the other metrics are still given
    const unlessDamaged = <A>(read: Effect.Effect<A, StoreError>) =>
      Effect.catchIf(
        read,
        (error) => error.code === "STORE_CORRUPT",
        () => Effect.succeed(undefined)
      )

    /** The values that need no queries. */
    const familiesWithoutQueries = (stats: RunStats) => [
      ...countersOf({
        ...counters.read(),
        policyConditionFailures: access.conditionFailures,
        invariantViolations: guarantees.violations()
      }),
      ...functionCountersOf(stats),
      ...durationsOf(stats),
      hooks.family(),
      ...commitsOf(store.commitFigures?.()),
      ...loadOf({ ...workers.load(), subscriptions: subscriptions.count() })
    ]
    const families = oneAtATime.withPermits(1)(
      Effect.gen(function* () {
        const measured = yield* unlessDamaged(query)
        const failed = yield* unlessDamaged(countFailed)
        const stats = yield* store.read(readRunStats())
        const all = [
          ...familiesWithoutQueries(stats),
          ...(measured === undefined ? [] : familiesOfQueried(measured, clock.currentTimeMillisUnsafe())),
          ...(failed === undefined ? [] : [failedRunsOf(failed, stats)]),
          ...loop()
        ]
        measuredAt = clock.currentTimeMillisUnsafe()
        publish(all)
        return all
      })
    )
    publish(familiesWithoutQueries(yield* store.read(readRunStats())))
    return Metrics.of({ families, minutes: store.read(readMinutes()) })
  })
)

const singleSample = (
  name: string,
  kind: "counter" | "gauge",
  help: string,
  value: number
): MetricFamily => ({
  name,
  kind,
  help,
  samples: [{ labels: {}, value }]
})

const countersOf = (
  counts: ReturnType<(typeof Counters)["Service"]["read"]> & {
    readonly policyConditionFailures: number
    readonly invariantViolations: number
  }
): ReadonlyArray<MetricFamily> => [
  singleSample("ironflow_events_emitted_total", "counter", "Events stored.", counts.events),
  singleSample("ironflow_runs_started_total", "counter", "Runs created.", counts.started),
  singleSample("ironflow_runs_completed_total", "counter", "Runs that completed.", counts.completed),
  singleSample("ironflow_runs_failed_total", "counter", "Runs that failed for good.", counts.failed),
  singleSample("ironflow_runs_cancelled_total", "counter", "Runs that were cancelled.", counts.cancelled),
  singleSample(
    "ironflow_store_commits_total",
    "counter",
    "Transactions that changed something; many operations share one.",
    counts.commits
  ),
  singleSample(
    "ironflow_policy_condition_failures_total",
    "counter",
    "Calls that were refused because the condition of a policy failed.",
    counts.policyConditionFailures
  ),
  singleSample(
    "ironflow_invariant_violations_total",
    "counter",
    "Violations of guarantees that were found in the database; 0 unless something is damaged or has a bug.",
    counts.invariantViolations
  ),
  {
    name: "ironflow_stale_writes_refused_total",
    kind: "counter",
    help: "Writes that were refused because the writer no longer held the lease, the projection or the delivery.",
    samples: [
      { labels: { kind: "report" }, value: counts.staleReports },
      { labels: { kind: "renewal" }, value: counts.staleRenewals },
      { labels: { kind: "projection" }, value: counts.staleSaves },
      { labels: { kind: "ack" }, value: counts.staleAcks }
    ]
  }
]

/** The labels of the series that all functions without a series of their own share. */
const otherLabels: Labels = { environment: "other", function: "other" }

const functionCountersOf = ({ functions }: RunStats): ReadonlyArray<MetricFamily> => {
  // the sums over the functions that have no series of their own
  const sums = Object.fromEntries(
    countedEvents.map((what) => [
      what,
      functions.reduce((sum, fn) => (fn.identity === undefined ? sum + fn[what] : sum), 0)
    ])
  )
  return [
    {
      name: "ironflow_function_runs_total",
      kind: "counter",
      help: "Runs by function, and by what happened to them: started, completed, failed, cancelled; attempts that were retried, leases that were lost, and reports that came too late (stale).",
      samples: [
        ...functions.flatMap((fn) =>
          fn.identity === undefined
            ? []
            : countedEvents.map((what) => ({
                labels: { environment: fn.identity!.environment, function: fn.identity!.functionId, what },
                value: fn[what]
              }))
        ),
        ...(functions.every((fn) => fn.identity !== undefined)
          ? []
          : countedEvents.map((what) => ({ labels: { ...otherLabels, what }, value: sums[what] ?? 0 })))
      ]
    }
  ]
}

const histogram = (name: string, help: string, data: HistogramData): MetricFamily => ({
  name,
  kind: "histogram",
  help,
  histogram: data
})

const durationsOf = ({ durations }: RunStats): ReadonlyArray<MetricFamily> => [
  histogram(
    "ironflow_run_wait_to_start_seconds",
    "From the creation of a run to its first turn.",
    durations.waitToStart
  ),
  histogram("ironflow_turn_duration_seconds", "From the lease of a turn to its last report.", durations.turn),
  histogram(
    "ironflow_step_duration_seconds",
    "The last attempt of each step that a worker ran and reported as ended; not those of step.tx.",
    durations.step
  ),
  histogram(
    "ironflow_run_duration_seconds",
    "From the creation of a run to its end, waits included.",
    durations.run
  ),
  histogram(
    "ironflow_timer_lateness_seconds",
    "How long after their time sleeps, retries and timeouts were fired.",
    durations.timerLateness
  )
]

const commitsOf = (commits: CommitFigures | undefined): ReadonlyArray<MetricFamily> =>
  commits === undefined
    ? []
    : [
        singleSample(
          "ironflow_store_operations_total",
          "counter",
          "Operations in transactions. Divided by the count of ironflow_store_commit_seconds, this is how many share a transaction.",
          commits.programs
        ),
        histogram(
          "ironflow_store_commit_seconds",
          "Groups of operations: from the first of them to the end of the commit.",
          commits.durations
        )
      ]

const loadOf = (load: {
  readonly workers: number
  readonly activeJobs: number
  readonly credit: number
  readonly subscriptions: number
}): ReadonlyArray<MetricFamily> => [
  singleSample("ironflow_workers", "gauge", "Workers connected now.", load.workers),
  singleSample("ironflow_active_jobs", "gauge", "Turns that workers hold now.", load.activeJobs),
  singleSample(
    "ironflow_worker_credit",
    "gauge",
    "Turns that workers have room for besides those that they hold.",
    load.credit
  ),
  singleSample("ironflow_subscriptions", "gauge", "Subscriptions that are open now.", load.subscriptions)
]

const familiesOfQueried = (
  { backlog, lag, stuck }: QueriedValues,
  at: number
): ReadonlyArray<MetricFamily> => {
  const sortedByCount = [...backlog.ready].sort((a, b) => b.count - a.count)
  const withoutSeries = sortedByCount.slice(MAX_FUNCTIONS)
  const ready = [
    ...sortedByCount.slice(0, MAX_FUNCTIONS).map(({ environment, functionId, ...run }) => ({
      labels: { environment, function: functionId },
      ...run
    })),
    ...(withoutSeries.length === 0
      ? []
      : [
          {
            labels: otherLabels,
            count: withoutSeries.reduce((sum, { count }) => sum + count, 0),
            oldestAt: Math.min(...withoutSeries.map(({ oldestAt }) => oldestAt))
          }
        ])
  ]
  return [
    {
      name: "ironflow_runs_ready",
      kind: "gauge",
      help: "Runs that wait for a worker.",
      samples: ready.map(({ count, labels }) => ({ labels, value: count }))
    },
    {
      name: "ironflow_runs_ready_oldest_age_seconds",
      kind: "gauge",
      help: "How long the oldest run has waited for a worker.",
      samples: ready.map(({ labels, oldestAt }) => ({ labels, value: Math.max(0, at - oldestAt) / 1000 }))
    },
    singleSample("ironflow_runs_running", "gauge", "Runs that a worker holds.", backlog.leased),
    singleSample(
      "ironflow_runs_paused",
      "gauge",
      "Runs that are paused until somebody resumes them.",
      backlog.paused
    ),
    {
      name: "ironflow_runs_waiting",
      kind: "gauge",
      help: "Open waits of runs by kind; a run may have several.",
      samples: waitKinds.map((kind) => ({ labels: { kind }, value: backlog.waiting[kind] }))
    },
    singleSample(
      "ironflow_runs_stuck",
      "gauge",
      "Unfinished runs that nothing will ever continue; always 0 unless the engine has a bug.",
      stuck
    ),
    {
      name: "ironflow_projection_lag_rows",
      kind: "gauge",
      help: "How many positions of the log follow that of a projection, whether their rows match or not.",
      samples: lag.projections.map(({ environment, name, positions }) => ({
        labels: { environment, projection: name },
        value: positions
      }))
    },
    {
      name: "ironflow_group_lag_rows",
      kind: "gauge",
      help: "How many positions of the log follow that of a consumer group, whether their rows match or not.",
      samples: lag.groups.map(({ environment, name, positions }) => ({
        labels: { environment, group: name },
        value: positions
      }))
    },
    {
      name: "ironflow_dead_letters",
      kind: "gauge",
      help: "Events that projections and consumer groups have given up.",
      samples: [
        { labels: { kind: "projection" }, value: lag.deadLetters.projection },
        { labels: { kind: "group" }, value: lag.deadLetters.group }
      ]
    },
    singleSample(
      "ironflow_database_bytes",
      "gauge",
      "The size of the database, without its write-ahead log.",
      lag.databaseBytes
    )
  ]
}

/** The failed runs of each function. A function without failed runs gets a sample of 0, since it may have had some before. */
const failedRunsOf = (failed: ReadonlyArray<FailedRuns>, { functions }: RunStats): MetricFamily => {
  const name = ({ environment, functionId }: { readonly environment: string; readonly functionId: string }) =>
    `${environment}\n${functionId}`
  const withFailedRuns = new Set(failed.map(name))
  const all = [
    ...[...failed].sort((a, b) => b.count - a.count),
    ...functions.flatMap(({ identity }) =>
      identity === undefined || withFailedRuns.has(name(identity)) ? [] : [{ ...identity, count: 0 }]
    )
  ]
  const withoutSeries = all.slice(MAX_FUNCTIONS)
  return {
    name: "ironflow_failed_runs",
    kind: "gauge",
    help: "Runs that have failed and are kept: fewer when they are retried, or deleted.",
    samples: [
      ...all.slice(0, MAX_FUNCTIONS).map(({ count, environment, functionId }) => ({
        labels: { environment, function: functionId },
        value: count
      })),
      ...(withoutSeries.length === 0
        ? []
        : [{ labels: otherLabels, value: withoutSeries.reduce((sum, { count }) => sum + count, 0) }])
    ]
  }
}

/**
 * The delays of the event loop: how late work runs that is due. They are measured once the metrics have been read for the first
 * time.
 */
const eventLoop: Effect.Effect<() => ReadonlyArray<MetricFamily>, never, Scope.Scope> = Effect.gen(
  function* () {
    let delays: ReturnType<typeof monitorEventLoopDelay> | undefined
    yield* Effect.addFinalizer(() => Effect.sync(() => delays?.disable()))
    return () => {
      if (delays === undefined) {
        delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
        delays.enable()
      }
      const seconds = (ns: number) => (Number.isFinite(ns) ? Math.max(0, ns / 1e9 - RESOLUTION_MS / 1000) : 0)
      const samples = [
        { labels: { quantile: "0.5" }, value: seconds(delays.percentile(50)) },
        { labels: { quantile: "0.99" }, value: seconds(delays.percentile(99)) },
        { labels: { quantile: "1" }, value: seconds(delays.max) }
      ]
      delays.reset()
      return [
        {
          name: "ironflow_event_loop_delay_seconds",
          kind: "gauge",
          help: "Delays of the event loop since the metrics were last read: the median, the 99th percentile and the longest.",
          samples
        }
      ]
    }
  }
)

/** How often the delay of the event loop is sampled, in milliseconds. */
const RESOLUTION_MS = 50
