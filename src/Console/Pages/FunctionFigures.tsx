/** Statistics of a function's runs in a period: how many, how long they took, and with which errors. */
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
  /** The path by which runs are grouped. */
  readonly by: string
  /** The length of a group, in milliseconds. */
  readonly size: number
  /** The period that ends at `now`, in epoch milliseconds. */
  readonly of: (now: number) => readonly [from: number, to: number]
}

/**
 * The night: from eight in the evening to eight in the morning, in the displayed time zone. It is the current
 * night, or else the last one.
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
  hour: { title: "Last hour", by: "minute", size: MINUTE, of: (now) => [now - HOUR, now] },
  day: { title: "Last day", by: "hour", size: HOUR, of: (now) => [now - 24 * HOUR, now] },
  night: { title: "Last night", by: "hour", size: HOUR, of: nightOf },
  week: { title: "Last 7 days", by: "hour", size: HOUR, of: (now) => [now - 7 * 24 * HOUR, now] }
}

/** How long the engine may count for each statistic, in milliseconds. */
const LOOK_MS = 500
/** How often the statistics are requested, in milliseconds. */
const EVERY_MS = 15_000

export const FunctionFigures = ({ id }: { readonly id: string }) => {
  const name = place.value.query.get("span") ?? "day"
  const span = spans[name] ?? spans["day"]!
  // rounded to the minute, so that the request stays the same for a minute
  const [from, to] = span.of(Math.ceil(now.value / MINUTE) * MINUTE)
  const between = {
    createdFrom: new Date(from - (from % span.size)).toISOString(),
    createdTo: new Date(to).toISOString()
  }
  const live = useLive(
    `figures ${id} ${name} ${isUtc.value}`,
    async (signal) => {
      const filters = { functionId: id, ...between }
      const [times, errors] = await Promise.all([
        ask(countRuns, {
          body: { by: span.by, filters, durations: true, timeLimit: LOOK_MS },
          signal
        }),
        ask(countRuns, { body: { by: "error", filters, limit: 10, timeLimit: LOOK_MS }, signal })
      ])
      return { times, errors, ...between }
    },
    { everyMs: EVERY_MS }
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
      {live.error !== undefined && <Failure error={live.error} again={live.refresh} />}
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
  const at: Array<number> = []
  for (let time = Date.parse(createdFrom); time < Date.parse(createdTo); time += span.size) at.push(time)
  const ofStatus = (status: string): ReadonlyArray<number> =>
    at.map((time) => groups.get(time)?.statuses[status] ?? 0)
  const tookOf = (which: "p50" | "p95"): ReadonlyArray<number> =>
    at.map((time) => groups.get(time)?.durations?.[which] ?? 0)
  const { completed = 0, failed = 0, cancelled = 0 } = times.statuses
  const rest = times.count - completed - failed - cancelled
  return (
    <>
      <Facts
        of={[
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
          ["Not ended", rest === 0 ? undefined : count(rest)],
          ["More than one attempt", times.retried === 0 ? undefined : count(times.retried)],
          ["Half took at most", times.durations === undefined ? undefined : duration(times.durations.p50)],
          ["95 % took at most", times.durations === undefined ? undefined : duration(times.durations.p95)]
        ]}
      />
      {times.lookedBackTo !== undefined && (
        <p class="quiet">
          These figures are of runs since {exactTime(Date.parse(times.lookedBackTo))} only: there are too many
          to look at all at once.
        </p>
      )}
      <div class="two">
        <Chart
          label={`Runs by the ${span.by} in which they were created`}
          times={at}
          format={count}
          lines={[
            { title: "Completed", color: "--good", values: ofStatus("completed") },
            { title: "Failed", color: "--bad", isDashed: true, values: ofStatus("failed") }
          ]}
        />
        <Chart
          label="How long they took"
          times={at}
          format={duration}
          lines={[
            { title: "Half", color: "--accent", values: tookOf("p50") },
            { title: "95 %", color: "--quiet", isDashed: true, values: tookOf("p95") }
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
