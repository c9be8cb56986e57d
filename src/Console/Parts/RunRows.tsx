/** Runs on pages of other things: a short table of the newest runs, and a link to all of them. */
import type { ListRuns } from "../../Protocol/RunLists.ts"
import { listRuns, type WireRun } from "../../Protocol/Runs.ts"
import { ask, isRecord } from "./Calls.ts"
import { Failure, Link, Loading, Status } from "./Elements.tsx"
import { type Live, useLive } from "./Live.ts"
import type { Query } from "./Router.ts"
import { oneLine, pathTo, Table } from "./Rows.tsx"
import { now } from "./Clock.ts"
import { duration, Time } from "./Time.tsx"
import type { Column } from "./VirtualList.tsx"

/** What a row shows of a run. */
export interface RunRow extends Pick<
  WireRun,
  "id" | "functionId" | "createdAt" | "startedAt" | "endedAt" | "workerId" | "eventId"
> {
  readonly status: string
  readonly error: string
  readonly about: string
}

/** What a run is about, on one line: those members of its input that are no objects. */
export const inputSummary = (input: unknown): string =>
  (isRecord(input)
    ? Object.entries(input)
        .filter(([, value]) => value !== null && typeof value !== "object")
        .slice(0, 8)
        .map(([name, value]) => `${name} ${String(value).slice(0, 60)}`)
        .join(", ")
    : oneLine(input ?? undefined)
  ).slice(0, 200)

export const toRunRow = (run: WireRun): RunRow => ({
  id: run.id,
  functionId: run.functionId,
  eventId: run.eventId,
  status: run.state ?? run.status,
  error: isRecord(run.error) ? String(run.error["message"] ?? "").slice(0, 300) : "",
  about: inputSummary(run.input),
  createdAt: run.createdAt,
  ...(run.startedAt === undefined ? {} : { startedAt: run.startedAt }),
  ...(run.endedAt === undefined ? {} : { endedAt: run.endedAt }),
  ...(run.workerId === undefined ? {} : { workerId: run.workerId })
})

export interface NewestRuns {
  readonly runs: ReadonlyArray<RunRow>
  readonly total: number
  readonly isTotalExact: boolean
}

/** The newest runs that match, kept up to date. */
export const useRuns = (key: string, filters: ListRuns): Live<NewestRuns> =>
  useLive(
    `some runs ${key}`,
    async (signal) => {
      const page = await ask(listRuns, { body: { limit: 10, ...filters }, signal })
      return {
        runs: page.runs.map(toRunRow),
        total: page.totalCount,
        isTotalExact: page.isTotalExact ?? true
      }
    },
    { everyMs: 2000 }
  )

const columns: ReadonlyArray<Column<RunRow> & { readonly isFunction?: true; readonly isError?: true }> = [
  { title: "Status", width: "", cell: ({ status }) => <Status state={status} /> },
  {
    title: "Run",
    width: "",
    isExtra: true,
    cell: ({ id }) => (
      <Link to={pathTo("runs", id)} class="mono">
        {id}
      </Link>
    )
  },
  {
    title: "Function",
    width: "",
    isFunction: true,
    isExtra: true,
    cell: ({ functionId }) => <Link to={pathTo("functions", functionId)}>{functionId}</Link>
  },
  {
    title: "Run of",
    width: "",
    isShort: true,
    cell: ({ functionId, id }) => <Link to={pathTo("runs", id)}>{functionId}</Link>
  },
  { title: "About", width: "", cell: ({ about }) => <span class="quiet">{about}</span> },
  { title: "Created", width: "", isExtra: true, cell: ({ createdAt }) => <Time at={createdAt} /> },
  {
    title: "Took",
    width: "",
    isExtra: true,
    cell: ({ endedAt, startedAt }) =>
      startedAt === undefined
        ? "–"
        : duration(
            Math.max(0, (endedAt === undefined ? now.value : Date.parse(endedAt)) - Date.parse(startedAt))
          )
  },
  { title: "Error", width: "", isError: true, cell: ({ error }) => <span class="quiet">{error}</span> }
]

/** A table of the runs, or a text when there are none. */
export const RunTable = ({
  all,
  children,
  isOfOneFunction = false,
  label,
  live
}: {
  readonly label: string
  readonly live: Live<NewestRuns>
  readonly isOfOneFunction?: boolean
  /** The filters with which the page of runs shows all of these runs. */
  readonly all?: Query
  /** The text that is shown when there are no runs. */
  readonly children: string
}) => {
  const page = live.value
  if (page === undefined)
    return live.error === undefined ? <Loading /> : <Failure error={live.error} retry={live.refresh} />
  if (page.runs.length === 0) return <p class="quiet">{children}</p>
  const hasErrors = page.runs.some(({ error }) => error !== "")
  return (
    <>
      <Table
        label={label}
        items={page.runs}
        keyOf={({ id }) => id}
        columns={columns.filter(
          ({ isError, isFunction }) =>
            (isError !== true || hasErrors) && (isFunction !== true || !isOfOneFunction)
        )}
      />
      {all !== undefined && (
        <p>
          <Link to="runs" query={all}>
            All of these runs
          </Link>
        </p>
      )}
    </>
  )
}
