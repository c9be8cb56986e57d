/** Runs on other pages: a short table, and a link to all of them. */
import type { ListRuns } from "../../Protocol/RunLists.ts"
import { listRuns, type WireRun } from "../../Protocol/Runs.ts"
import { ask, isRecord } from "./Calls.ts"
import { Failure, Link, Loading, Status } from "./Elements.tsx"
import { type Live, useLive } from "./Live.ts"
import type { Query } from "./Router.ts"
import { pathTo, Table } from "./Rows.tsx"
import { duration, now, Time } from "./Time.tsx"
import type { Column } from "./VirtualList.tsx"

/** The data of a row. */
interface RunRow extends Pick<
  WireRun,
  "id" | "functionId" | "createdAt" | "startedAt" | "endedAt" | "workerId" | "eventId"
> {
  readonly status: string
  readonly error: string
}

export interface SomeRuns {
  readonly runs: ReadonlyArray<RunRow>
  readonly total: number
  readonly isTotalExact: boolean
}

/** The newest matching runs, kept up to date. */
export const useRuns = (key: string, filters: ListRuns): Live<SomeRuns> =>
  useLive(`some runs ${key}`, async (signal) => {
    const page = await ask(listRuns, { body: { limit: 10, ...filters }, signal })
    return {
      runs: page.runs.map((run) => ({
        id: run.id,
        functionId: run.functionId,
        eventId: run.eventId,
        status: run.state ?? run.status,
        error: isRecord(run.error) ? String(run.error["message"] ?? "").slice(0, 300) : "",
        createdAt: run.createdAt,
        ...(run.startedAt === undefined ? {} : { startedAt: run.startedAt }),
        ...(run.endedAt === undefined ? {} : { endedAt: run.endedAt }),
        ...(run.workerId === undefined ? {} : { workerId: run.workerId })
      })),
      total: page.totalCount,
      isTotalExact: page.isTotalExact ?? true
    }
  })

const columns: ReadonlyArray<Column<RunRow> & { readonly isFunction?: true; readonly isError?: true }> = [
  { title: "Status", width: "", cell: ({ status }) => <Status of={status} /> },
  {
    title: "Run",
    width: "",
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
    cell: ({ functionId }) => <Link to={pathTo("functions", functionId)}>{functionId}</Link>
  },
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

/** The runs, or a placeholder. */
export const RunTable = ({
  all,
  children,
  isOfOneFunction = false,
  label,
  live
}: {
  readonly label: string
  readonly live: Live<SomeRuns>
  readonly isOfOneFunction?: boolean
  /** The filters of the complete list. */
  readonly all?: Query
  /** The placeholder for an empty list. */
  readonly children: string
}) => {
  const found = live.value
  if (found === undefined)
    return live.error === undefined ? <Loading /> : <Failure error={live.error} again={live.refresh} />
  if (found.runs.length === 0) return <p class="quiet">{children}</p>
  const hasErrors = found.runs.some(({ error }) => error !== "")
  return (
    <>
      <Table
        label={label}
        items={found.runs}
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
