/** Overview of the engine: its activity in the last hour or day, what waits, and what needs attention. */
import type { ComponentChildren } from "preact"
import { listConsumerGroups } from "../../Protocol/ConsumerGroups.ts"
import { listProjections } from "../../Protocol/Projections.ts"
import { listRuns } from "../../Protocol/Runs.ts"
import { info, type Minute, minutes as readMinutes } from "../../Protocol/Server.ts"
import { restWorkers, type WorkerInfo } from "../../Protocol/Workers.ts"
import { ask } from "../Parts/Calls.ts"
import { Chart } from "../Parts/Chart.tsx"
import { count, Empty, Failure, Link, Loading, Status } from "../Parts/Elements.tsx"
import { reportedError } from "../Parts/ErrorView.tsx"
import { useLive } from "../Parts/Live.ts"
import { readMetrics, type Sample, sumOf } from "../Parts/Metrics.ts"
import { askAll } from "../Parts/CompleteList.ts"
import { environment, place, type Query, setQuery } from "../Parts/Router.ts"
import { pathTo } from "../Parts/Rows.tsx"
import { command } from "../Parts/ShellCommand.ts"
import { engineNow, now } from "../Parts/Clock.ts"
import { ago, duration } from "../Parts/Time.tsx"
import { thrownError } from "../../DescribeError.ts"

/**
 * How each of the two periods is drawn: its number of points, and how many minutes each point covers. `ago` is how long
 * ago the period begins, in the form that filters of runs use.
 */
const spans = {
  hour: { points: 60, minutes: 1, title: "Last hour", ago: "1h" },
  day: { points: 144, minutes: 10, title: "Last day", ago: "24h" }
} as const
type Span = keyof typeof spans

/** How many failed runs are read to find the functions that fail. */
const MAX_FAILED_RUNS = 200

export const Overview = () => {
  const span: Span = place.value.query.get("span") === "day" ? "day" : "hour"
  const figures = useLive(
    "overview",
    async (signal) => {
      const [{ minutes }, samples, startedAt] = await Promise.all([
        ask(readMinutes, { signal }),
        readMetrics(signal),
        ask(info, { body: {}, signal }).then(
          (about) => Date.parse(about.startedAt),
          () => undefined
        )
      ])
      return { minutes, startedAt, samples: samples.filter(({ name }) => shownMetrics.has(name)) }
    },
    { everyMs: 2000 }
  )
  return (
    <>
      <div class="title">
        <h1>Overview</h1>
        <div class="actions" role="group" aria-label="Span">
          {(Object.keys(spans) as Array<Span>).map((name) => (
            <button
              type="button"
              key={name}
              aria-pressed={name === span}
              onClick={() => setQuery({ span: name === "hour" ? undefined : name })}
            >
              {spans[name].title}
            </button>
          ))}
        </div>
      </div>
      {figures.error !== undefined && <Failure error={figures.error} retry={figures.refresh} />}
      {figures.value === undefined ? (
        figures.error === undefined && <Loading />
      ) : (
        <Figures {...figures.value} span={span} />
      )}
      <Attention samples={figures.value?.samples ?? []} span={span} />
      <Workers />
    </>
  )
}

/**
 * The metrics that this page shows. Only these metrics are compared after each request: to compare all metrics would be
 * wasted work.
 */
const shownMetrics: ReadonlySet<string> = new Set([
  "ironflow_runs_ready",
  "ironflow_runs_ready_oldest_age_seconds",
  "ironflow_runs_running",
  "ironflow_runs_paused",
  "ironflow_runs_waiting",
  "ironflow_runs_stuck",
  "ironflow_dead_letters",
  "ironflow_workers"
])

const Figures = ({
  minutes,
  samples,
  span,
  startedAt
}: {
  readonly minutes: ReadonlyArray<Minute>
  readonly samples: ReadonlyArray<Sample>
  /**
   * When the engine was started, in epoch milliseconds. The figures cover the time since then, since the engine
   * counts in memory.
   */
  readonly startedAt: number | undefined
  readonly span: Span
}) => {
  const points = pointsOf(minutes, span, now.value)
  const times = points.map(({ at }) => at)
  const sum = (valueOf: (point: Point) => number): number =>
    points.reduce((all, point) => all + valueOf(point), 0)
  const oldestSeconds = Math.max(
    0,
    ...samples
      .filter(({ name }) => name === "ironflow_runs_ready_oldest_age_seconds")
      .map(({ value }) => value)
  )
  const periodText =
    startedAt !== undefined && startedAt > (times[0] ?? 0)
      ? `since the engine started ${ago(startedAt, now.value)}`
      : spans[span].title.toLowerCase()
  const unit = spans[span].minutes === 1 ? "a minute" : `in ${spans[span].minutes} minutes`
  return (
    <>
      <dl class="tiles">
        <Tile
          name="Ready"
          value={count(sumOf(samples, "ironflow_runs_ready"))}
          note={oldestSeconds > 0 ? `the oldest for ${duration(oldestSeconds * 1000)}` : ""}
        />
        <Tile
          name="Running"
          value={count(sumOf(samples, "ironflow_runs_running"))}
          to="runs"
          query={{ status: "running" }}
        />
        <Tile
          name="Waiting"
          value={count(sumOf(samples, "ironflow_runs_waiting"))}
          to="runs"
          query={{ status: "waiting" }}
        />
        <Tile name="Completed" value={count(sum(({ completed }) => completed))} note={periodText} />
        <Tile
          name="Failed"
          value={count(sum(({ failed }) => failed))}
          note={periodText}
          to="runs"
          query={{ status: "failed", "ended-from": spans[span].ago }}
        />
        <Tile name="Tried again" value={count(sum(({ retried }) => retried))} note={periodText} />
      </dl>
      <div class="two">
        <Chart
          label={`Runs ${unit}`}
          times={times}
          format={(value) => count(Math.round(value * 10) / 10)}
          lines={[
            {
              title: "started",
              color: "--quiet",
              isDashed: true,
              values: points.map(({ started }) => started)
            },
            { title: "completed", color: "--accent", values: points.map(({ completed }) => completed) },
            { title: "failed", color: "--bad", values: points.map(({ failed }) => failed) }
          ]}
        />
        <Chart
          label="Longest wait for a worker, and longest run"
          times={times}
          format={(value) => (value === 0 ? "0" : duration(value))}
          lines={[
            {
              title: "wait",
              color: "--wait",
              isDashed: true,
              values: points.map(({ longestWaitMs }) => longestWaitMs)
            },
            { title: "run", color: "--accent", values: points.map(({ longestRunMs }) => longestRunMs) }
          ]}
        />
      </div>
      <p class="quiet">These figures are of all environments together.</p>
    </>
  )
}

interface Point {
  readonly at: number
  readonly started: number
  readonly completed: number
  readonly failed: number
  readonly retried: number
  readonly longestWaitMs: number
  readonly longestRunMs: number
}

/** All points of the period, also those without activity. */
const pointsOf = (minutes: ReadonlyArray<Minute>, span: Span, until: number): ReadonlyArray<Point> => {
  const { minutes: size, points } = spans[span]
  const widthMs = size * 60_000
  const last = Math.floor(until / widthMs) * widthMs
  const minutesAt = new Map<number, Array<Minute>>()
  for (const minute of minutes) {
    const at = Math.floor(Date.parse(minute.at) / widthMs) * widthMs
    minutesAt.set(at, [...(minutesAt.get(at) ?? []), minute])
  }
  return Array.from({ length: points }, (_, i) => {
    const at = last - (points - 1 - i) * widthMs
    const minutesOfPoint = minutesAt.get(at) ?? []
    const sum = (valueOf: (minute: Minute) => number): number =>
      minutesOfPoint.reduce((all, minute) => all + valueOf(minute), 0)
    return {
      at,
      started: sum(({ started }) => started),
      completed: sum(({ completed }) => completed),
      failed: sum(({ failed }) => failed),
      retried: sum(({ retried }) => retried),
      longestWaitMs: Math.max(0, ...minutesOfPoint.map(({ longestWaitMs }) => longestWaitMs)),
      longestRunMs: Math.max(0, ...minutesOfPoint.map(({ longestRunMs }) => longestRunMs))
    }
  })
}

const Tile = ({
  note = "",
  name,
  query,
  to,
  value
}: {
  readonly name: string
  readonly value: string
  readonly note?: string
  readonly to?: string
  readonly query?: Query
}) => (
  <div>
    <dt>{name}</dt>
    <dd>
      {to === undefined ? (
        <span class="big">{value}</span>
      ) : (
        <Link to={to} class="big" {...(query === undefined ? {} : { query })}>
          {value}
        </Link>
      )}
      {note !== "" && <span class="quiet"> {note}</span>}
    </dd>
  </div>
)

interface FailingFunction {
  readonly functionId: string
  readonly runs: number
  /** The message of the newest failure of the function. */
  readonly message: string
}

/** Problems that somebody should look at: those of this environment, and the stuck runs of all environments. */
const Attention = ({ samples, span }: { readonly samples: ReadonlyArray<Sample>; readonly span: Span }) => {
  const { ago: from, title } = spans[span]
  const live = useLive(
    `failing ${span}`,
    async (signal) => {
      const since = new Date(
        Math.floor(engineNow() / 60_000) * 60_000 - spans[span].points * spans[span].minutes * 60_000
      )
      const [failed, paused] = await Promise.all([
        ask(listRuns, {
          body: { statuses: ["failed"], endedFrom: since.toISOString(), limit: MAX_FAILED_RUNS },
          signal
        }),
        ask(listRuns, { body: { status: "paused", limit: 1 }, signal })
      ])
      const byFunction = new Map<string, FailingFunction>()
      for (const { error, functionId } of failed.runs) {
        const reported = reportedError(error)
        const previous = byFunction.get(functionId)
        byFunction.set(functionId, {
          functionId,
          runs: (previous?.runs ?? 0) + 1,
          message:
            previous?.message ?? (reported === undefined ? "" : thrownError(reported).message.slice(0, 300))
        })
      }
      return {
        failing: [...byFunction.values()].sort((one, other) => other.runs - one.runs),
        isMore: failed.nextCursor !== undefined,
        paused: paused.totalCount
      }
    },
    { everyMs: 5000 }
  )
  const deadLetterCounts = useDeadLetters(samples)
  const stuck = sumOf(samples, "ironflow_runs_stuck")
  const waitingLong = samples.filter(
    ({ labels, name, value }) =>
      name === "ironflow_runs_ready_oldest_age_seconds" &&
      value > OLD_SECONDS &&
      labels["environment"] === environment.value
  )
  const hasNoProblem =
    live.value !== undefined &&
    live.value.failing.length === 0 &&
    live.value.paused === 0 &&
    stuck === 0 &&
    deadLetterCounts.length === 0 &&
    waitingLong.length === 0
  return (
    <section aria-label="What needs attention">
      <h2>Needs attention</h2>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      {live.value === undefined && live.error === undefined && <Loading />}
      {hasNoProblem && (
        <Empty>
          Nothing: no run failed in the {title.toLowerCase()}, none is paused, and none has waited long for a
          worker.
        </Empty>
      )}
      {live.value !== undefined && !hasNoProblem && (
        <ul class="attention">
          {stuck > 0 && (
            <li>
              <Status state="failed">
                {stuck === 1 ? "1 run is stuck" : `${count(stuck)} runs are stuck`}
              </Status>{" "}
              <code>{command("doctor")}</code>
            </li>
          )}
          {waitingLong.map(({ labels, value }) => (
            <li key={labels["function"]}>
              <Status state="waiting">
                <Link to="runs" query={{ function: labels["function"], status: "pending" }}>
                  {labels["function"]}
                </Link>
              </Status>{" "}
              has runs that have waited for a worker for {duration(value * 1000)}
            </li>
          ))}
          {live.value.failing.map(({ functionId, message, runs }) => (
            <li key={functionId}>
              <Status state="failed">
                <Link to="runs" query={{ function: functionId, status: "failed", "ended-from": from }}>
                  {functionId}
                </Link>
              </Status>{" "}
              <span class="number">
                {count(runs)}
                {live.value?.isMore === true ? " or more" : ""} failed
              </span>{" "}
              <span class="quiet">{message}</span>
            </li>
          ))}
          {deadLetterCounts.map(({ count: many, name, query, to }) => (
            <li key={to}>
              <Status state="dead">
                <Link to={to} query={query}>
                  {name}
                </Link>
              </Status>{" "}
              has given up {count(many)} {many === 1 ? "event" : "events"}
            </li>
          ))}
          {live.value.paused > 0 && (
            <li>
              <Status state="paused">
                <Link to="runs" query={{ status: "paused" }}>
                  {count(live.value.paused)} paused
                </Link>
              </Status>{" "}
              until somebody resumes {live.value.paused === 1 ? "it" : "them"}
            </li>
          )}
        </ul>
      )}
    </section>
  )
}

interface DeadLetterCount {
  readonly name: string
  readonly to: string
  readonly query: Query
  readonly count: number
}

/**
 * The projections and consumer groups of this environment that have dead letters. These projections and groups are only
 * requested when the metrics report dead letters in some environment.
 */
const useDeadLetters = (samples: ReadonlyArray<Sample>): ReadonlyArray<DeadLetterCount> => {
  const has = (kind: string): boolean => sumOf(samples, "ironflow_dead_letters", { kind }) > 0
  const [projectionsHaveLetters, groupsHaveLetters] = [has("projection"), has("group")]
  const live = useLive(
    `given up ${projectionsHaveLetters} ${groupsHaveLetters}`,
    async (signal): Promise<ReadonlyArray<DeadLetterCount>> => {
      // a list that the user may not see counts as empty
      const [projections, groups] = await Promise.all([
        projectionsHaveLetters ? askAll(listProjections, { signal }).catch(() => []) : [],
        groupsHaveLetters
          ? ask(listConsumerGroups, { body: { limit: 1000 }, signal }).then(
              (answer) => answer.groups,
              () => []
            )
          : []
      ])
      return [
        ...projections.map(({ deadLetters, name }) => ({
          name,
          to: pathTo("projections", name),
          query: {},
          count: deadLetters
        })),
        ...groups.map(({ deadLetters, name, namespace, pattern }) => ({
          name,
          to: pathTo("topics", "groups", name),
          query: { namespace, pattern },
          count: deadLetters
        }))
      ].filter((item) => item.count > 0)
    },
    { everyMs: 5000 }
  )
  return live.value ?? []
}

/** How long runs may wait for a worker before this is reported. */
const OLD_SECONDS = 30

const Workers = () => {
  const live = useLive("overview workers", (signal) => ask(restWorkers, { signal }), { everyMs: 3000 })
  return (
    <section aria-label="Workers">
      <h2>Workers</h2>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      {live.value !== undefined && <WorkerList workers={live.value.workers} />}
    </section>
  )
}

const WorkerList = ({ workers }: { readonly workers: ReadonlyArray<WorkerInfo> }): ComponentChildren =>
  workers.length === 0 ? (
    <Empty command={command("worker ./functions.ts")}>No worker is connected: runs wait for a worker.</Empty>
  ) : (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>Worker</th>
            <th>Host</th>
            <th class="number">Runs</th>
            <th class="number">Functions</th>
          </tr>
        </thead>
        <tbody>
          {workers
            .slice(0, MAX_WORKERS)
            .map(({ activeJobs, functionIds, hostname, id, maxConcurrentJobs }) => (
              <tr key={id}>
                <td>
                  <Link to={pathTo("workers", id)} class="mono">
                    {id}
                  </Link>
                </td>
                <td>{hostname}</td>
                <td class="number">
                  {activeJobs} of {maxConcurrentJobs}
                </td>
                <td class="number" title={functionIds.join(", ")}>
                  {functionIds.length}
                </td>
              </tr>
            ))}
        </tbody>
      </table>
      {workers.length > MAX_WORKERS && <p class="quiet">and {workers.length - MAX_WORKERS} more</p>}
    </div>
  )

const MAX_WORKERS = 20
