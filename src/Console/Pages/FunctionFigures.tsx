/** Statistics of a function's runs in a period: how many there were, how long they took, and which errors they had. */
import { countRuns, type RunCounts } from "../../Protocol/RunCounts.ts"
import { ask } from "../Parts/Calls.ts"
import { Chart } from "../Parts/Chart.tsx"
import { count, Failure, Link, Loading } from "../Parts/Elements.tsx"
import { useLive } from "../Parts/Live.ts"
import { place, setQuery } from "../Parts/Router.ts"
import { Facts, Table } from "../Parts/Rows.tsx"
import { now } from "../Parts/Clock.ts"
import { duration, exactTime, isUtc } from "../Parts/Time.tsx"
import { filterFor } from "./RunGroups.tsx"

const MINUTE = 60_000
const HOUR = 60 * MINUTE

interface Span {
  readonly title: string
  /** What runs are grouped by: the minute or the hour in which they were created. */
  readonly by: string
  /** The length of that minute or hour. */
  readonly sizeMs: number
  /** The period at the time `now`: its begin and its end. All three times are epoch milliseconds. */
  readonly periodAt: (now: number) => readonly [from: number, to: number]
}

/**
 * The current night, or during the day the last night: from eight in the evening to eight in the morning, in the
 * displayed time zone. The current night ends at `now`.
 */
const nightOf = (now: number): readonly [number, number] => {
  const date = new Date(now)
  const hour = isUtc.value ? date.getUTCHours() : date.getHours()
  const evening = new Date(now - (hour < 20 ? 24 * HOUR : 0))
  if (isUtc.value) evening.setUTCHours(20, 0, 0, 0)
  else evening.setHours(20, 0, 0, 0)
  return [evening.getTime(), Math.min(now, evening.getTime() + 12 * HOUR)]
}

const spans: { readonly [name: string]: Span } = {
  hour: { title: "Last hour", by: "minute", sizeMs: MINUTE, periodAt: (now) => [now - HOUR, now] },
  day: { title: "Last day", by: "hour", sizeMs: HOUR, periodAt: (now) => [now - 24 * HOUR, now] },
  night: { title: "Last night", by: "hour", sizeMs: HOUR, periodAt: nightOf },
  week: { title: "Last 7 days", by: "hour", sizeMs: HOUR, periodAt: (now) => [now - 7 * 24 * HOUR, now] }
}

/** How long the engine may count for each statistic. */
const TIME_LIMIT_MS = 500
/** How often the statistics are requested. */
const REFRESH_MS = 15_000

export const FunctionFigures = ({ id }: { readonly id: string }) => {
  const name = place.value.query.get("span") ?? "day"
  const span = spans[name] ?? spans["day"]!
  // rounded to the minute, so that the request stays the same for a minute
  const [from, to] = span.periodAt(Math.ceil(now.value / MINUTE) * MINUTE)
  const period = {
    createdFrom: new Date(from - (from % span.sizeMs)).toISOString(),
    createdTo: new Date(to).toISOString()
  }
  const live = useLive(
    `figures ${id} ${name} ${isUtc.value}`,
    async (signal) => {
      const filters = { functionId: id, ...period }
      const [times, errors] = await Promise.all([
        ask(countRuns, {
          body: { by: span.by, filters, durations: true, timeLimit: TIME_LIMIT_MS },
          signal
        }),
        ask(countRuns, { body: { by: "error", filters, limit: 10, timeLimit: TIME_LIMIT_MS }, signal })
      ])
      return { times, errors, ...period }
    },
    { everyMs: REFRESH_MS }
  )
  return (
    <section>
      <div class="title">
        <h2>What it did</h2>
        <div class="actions" role="group" aria-label="Span">
          {Object.entries(spans).map(([one, { title }]) => (
            <button
              type="button"
              key={one}
              aria-pressed={spans[one] === span}
              onClick={() => setQuery({ span: one === "day" ? undefined : one })}
            >
              {title}
            </button>
          ))}
        </div>
      </div>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      {live.value === undefined ? (
        live.error === undefined && <Loading />
      ) : (
        <Figures id={id} span={span} {...live.value} />
      )}
    </section>
  )
}

const Figures = ({
  createdFrom,
  createdTo,
  errors,
  id,
  span,
  times
}: {
  readonly id: string
  readonly span: Span
  readonly times: RunCounts
  readonly errors: RunCounts
  readonly createdFrom: string
  readonly createdTo: string
}) => {
  const query = { function: id, "created-from": createdFrom, "created-to": createdTo }
  if (times.count === 0)
    return (
      <p class="quiet">
        No run of this function was created from {exactTime(Date.parse(createdFrom))} to{" "}
        {exactTime(Date.parse(createdTo))}.
      </p>
    )
  const groups = new Map(times.groups.map((group) => [Date.parse(group.value ?? ""), group]))
  const startTimes: Array<number> = []
  for (let time = Date.parse(createdFrom); time < Date.parse(createdTo); time += span.sizeMs)
    startTimes.push(time)
  const countsOf = (status: string): ReadonlyArray<number> =>
    startTimes.map((time) => groups.get(time)?.statuses[status] ?? 0)
  const durationsOf = (percentile: "p50" | "p95"): ReadonlyArray<number> =>
    startTimes.map((time) => groups.get(time)?.durations?.[percentile] ?? 0)
  const { completed = 0, failed = 0, cancelled = 0 } = times.statuses
  const unfinished = times.count - completed - failed - cancelled
  return (
    <>
      <Facts
        facts={[
          [
            "Created",
            <Link to="runs" query={query}>
              {count(times.count)}
            </Link>
          ],
          ["Completed", count(completed)],
          [
            "Failed",
            failed === 0 ? (
              "0"
            ) : (
              <Link to="runs" query={{ ...query, status: "failed" }}>
                {count(failed)}
              </Link>
            )
          ],
          ["Cancelled", cancelled === 0 ? undefined : count(cancelled)],
          ["Not ended", unfinished === 0 ? undefined : count(unfinished)],
          ["More than one attempt", times.retried === 0 ? undefined : count(times.retried)],
          ["Half took at most", times.durations === undefined ? undefined : duration(times.durations.p50)],
          ["95 % took at most", times.durations === undefined ? undefined : duration(times.durations.p95)]
        ]}
      />
      {times.lookedBackTo !== undefined && (
        <p class="quiet">
          These figures only count runs since {exactTime(Date.parse(times.lookedBackTo))}: there are too many
          runs to count all of them.
        </p>
      )}
      <div class="two">
        <Chart
          label={`Runs by the ${span.by} in which they were created`}
          times={startTimes}
          format={count}
          lines={[
            { title: "Completed", color: "--good", values: countsOf("completed") },
            { title: "Failed", color: "--bad", isDashed: true, values: countsOf("failed") }
          ]}
        />
        <Chart
          label="How long runs took"
          times={startTimes}
          format={duration}
          lines={[
            { title: "Half", color: "--accent", values: durationsOf("p50") },
            { title: "95 %", color: "--quiet", isDashed: true, values: durationsOf("p95") }
          ]}
        />
      </div>
      {errors.count > 0 && (
        <>
          <h3>Errors</h3>
          <Table
            label="Errors"
            items={errors.groups}
            keyOf={({ value }) => value ?? ""}
            columns={[
              {
                title: "Error",
                width: "",
                cell: (group) => (
                  <Link to="runs" query={{ ...query, ...filterFor("error", group, new Set()) }}>
                    {group.value ?? "none"}
                  </Link>
                )
              },
              { title: "Runs", width: "", cell: (group) => <span class="number">{count(group.count)}</span> }
            ]}
          />
        </>
      )}
    </>
  )
}
