/**
 * The runs that match the filters in the address: as a list, newest first, that is loaded while scrolling; or counted in
 * groups.
 */
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { ListRuns } from "../../Protocol/RunLists.ts"
import { listRuns, type WireRun } from "../../Protocol/Runs.ts"
import { ask, CallError, isRecord } from "../Parts/Calls.ts"
import { useLive } from "../Parts/Live.ts"
import { count, Empty, Failure, Link, Loading, Status } from "../Parts/Elements.tsx"
import { environment, place } from "../Parts/Router.ts"
import { inputSummary } from "../Parts/RunRows.tsx"
import { pathTo } from "../Parts/Rows.tsx"
import { command } from "../Parts/ShellCommand.ts"
import { now } from "../Parts/Clock.ts"
import { duration, Time } from "../Parts/Time.tsx"
import { type Column, VirtualList } from "../Parts/VirtualList.tsx"
import { BulkStart } from "./BulkStart.tsx"
import { checkFilters, Filters, readFilters } from "./RunFilters.tsx"
import { listQuery, RunGroups } from "./RunGroups.tsx"

/** The part of a run that a row keeps. The payloads of a hundred thousand runs would not fit in a browser. */
interface Row {
  readonly id: string
  readonly functionId: string
  readonly status: string
  readonly about: string
  readonly error: string
  readonly createdAt: string
  readonly startedAt: string | undefined
  readonly endedAt: string | undefined
}

/** How many of the newest runs are read every second. */
const PAGE = 50
/** How many older runs are read at once while scrolling. */
const OLDER_PAGE = 500
/** Maximum number of rows of a list. Older runs are found with filters. */
const MAX_ROWS = 100_000

const toRow = (run: WireRun): Row => ({
  id: run.id,
  functionId: run.functionId,
  status: run.state ?? run.status,
  about: inputSummary(run.input),
  error: messageOf(run.error),
  createdAt: run.createdAt,
  startedAt: run.startedAt,
  endedAt: run.endedAt
})

const messageOf = (error: unknown): string => {
  const message = isRecord(error) ? error["message"] : error
  return typeof message === "string" ? message.slice(0, 300) : ""
}

const noIds: ReadonlySet<string> = new Set()

/** The column of checkboxes, which choose runs for an action. */
const checkboxColumn = (
  chosen: ReadonlySet<string>,
  choose: (id: string, isChosen: boolean) => void
): Column<Row> => ({
  title: "",
  width: "1.5rem",
  cell: ({ id }) => (
    <input
      type="checkbox"
      aria-label={`Choose ${id}`}
      checked={chosen.has(id)}
      onChange={(event) => choose(id, event.currentTarget.checked)}
    />
  )
})

const columns: ReadonlyArray<Column<Row>> = [
  { title: "Status", width: "7.5rem", cell: ({ status }) => <Status state={status} /> },
  {
    title: "Run",
    width: "minmax(6rem, 1.45fr)",
    isExtra: true,
    cell: ({ id }) => (
      <Link to={pathTo("runs", id)} class="mono">
        {id}
      </Link>
    )
  },
  {
    title: "Function",
    width: "minmax(5rem, 0.9fr)",
    isExtra: true,
    cell: ({ functionId }) => <span title={functionId}>{functionId}</span>
  },
  {
    title: "Run of",
    width: "minmax(6rem, 1fr)",
    isShort: true,
    cell: ({ about, functionId, id }) => (
      <>
        <Link to={pathTo("runs", id)}>{functionId}</Link> <span class="quiet">{about}</span>
      </>
    )
  },
  {
    title: "About",
    width: "minmax(6rem, 2.2fr)",
    isExtra: true,
    cell: ({ about, error }) => (
      <span title={error === "" ? about : `${error}\n${about}`}>
        {error !== "" && <span class="bad">{error} </span>}
        <span class="quiet">{about}</span>
      </span>
    )
  },
  { title: "Created", width: "5.5rem", isExtra: true, cell: ({ createdAt }) => <Time at={createdAt} /> },
  { title: "Took", width: "5.5rem", isExtra: true, cell: (run) => <RunDuration run={run} /> }
]

const RunDuration = ({ run: { endedAt, startedAt } }: { readonly run: Row }) => {
  if (startedAt === undefined) return <span class="quiet">–</span>
  const end = endedAt === undefined ? now.value : Date.parse(endedAt)
  return <span class="number">{duration(Math.max(0, end - Date.parse(startedAt)))}</span>
}

export const Runs = () => {
  const error = checkFilters(place.value.query)
  if (error === undefined) return place.value.query.has("by") ? <CountedRuns /> : <RunList />
  return (
    <>
      <h1>Runs</h1>
      <Filters />
      <Failure error={error} />
    </>
  )
}

/** The runs counted in groups, with a link to the list of the same runs. */
const CountedRuns = () => (
  <>
    <div class="title">
      <h1>Runs</h1>
      <div class="actions">
        <Link to="runs" query={listQuery({})}>
          As a list
        </Link>
      </div>
    </div>
    <Filters />
    <RunGroups filters={readFilters(place.value.query)} by={place.value.query.get("by") ?? ""} />
  </>
)

const RunList = () => {
  const { query } = place.value
  const filterText = JSON.stringify(readFilters(query))
  const key = `${environment.value} ${filterText}`
  const filters = JSON.parse(filterText) as ListRuns
  const list = useRunList(key, filters)
  const [chosen, setChosen] = useState<{ readonly key: string; readonly ids: ReadonlySet<string> }>()
  const ids = chosen?.key === key ? chosen.ids : noIds
  const choose = (id: string, isChosen: boolean): void => {
    const next = new Set(ids)
    if (isChosen) next.add(id)
    else next.delete(id)
    setChosen({ key, ids: next })
  }
  const hasFilters = filterText !== "{}"
  return (
    <>
      <div class="title">
        <h1>Runs</h1>
        <div class="actions">
          {ids.size > 0 && (
            <button type="button" onClick={() => setChosen(undefined)}>
              Clear the choice
            </button>
          )}
          <BulkStart filters={filters} ids={[...ids]} />
          <Link to="bulk">Bulk operations</Link>
        </div>
      </div>
      <Filters />
      {list.error !== undefined && <Failure error={list.error} retry={list.refresh} />}
      {list.rows === undefined ? (
        list.error === undefined && <Loading />
      ) : list.rows.length === 0 ? (
        hasFilters ? (
          <Empty>
            No run matches these filters{list.isWhole ? "" : " among those searched so far"}.{" "}
            {!list.isWhole && (
              <button type="button" onClick={list.more}>
                Look further back
              </button>
            )}
          </Empty>
        ) : (
          <Empty command={command("emit order.placed", `'{"orderId":"o-1"}'`, "--wait")}>
            There are no runs in this environment yet. An event starts one run of each function that it
            triggers:
          </Empty>
        )
      ) : (
        <>
          <VirtualList
            key={key}
            label="Runs"
            items={list.rows}
            keyOf={({ id }) => id}
            columns={[checkboxColumn(ids, choose), ...columns]}
            total={list.isTotalExact ? list.total : undefined}
            onEnd={list.more}
            onTop={list.setTop}
          />
          <div class="below" role="status">
            <span>
              {count(list.rows.length)} of{" "}
              {list.isTotalExact ? count(list.total) : `${count(list.total)} or more`}
            </span>
            {list.newer > 0 && (
              <button type="button" class="small" onClick={list.showNewer}>
                {count(list.newer)} newer: show
              </button>
            )}
            {list.rows.length >= MAX_ROWS && <span>The list ends here: use filters to find older runs.</span>}
            {list.damaged > 0 && (
              <span>
                {count(list.damaged)} more cannot be read:{" "}
                {list.damaged === 1 ? "its row is" : "their rows are"} damaged.
              </span>
            )}
          </div>
        </>
      )}
    </>
  )
}

interface List {
  readonly rows: ReadonlyArray<Row>
  /** The cursor of the next page; `undefined` when there is none. */
  readonly cursor: string | undefined
}

/**
 * The runs that were read so far. The newest page is read again every second; older pages are read while scrolling.
 */
const useRunList = (key: string, filters: ListRuns) => {
  const [list, setList] = useState<(List & { readonly key: string }) | undefined>(undefined)
  const [newer, setNewer] = useState<ReadonlyArray<Row>>([])
  const [moreError, setMoreError] = useState<CallError | undefined>(undefined)
  const isTop = useRef(true)
  const isReading = useRef(false)
  const first = useLive(`runs ${key}`, (signal) => readPage(filters, undefined, signal))
  const current = list?.key === key ? list : undefined

  useEffect(() => {
    const page = first.value
    if (page === undefined) return
    if (current === undefined) {
      setList({ key, rows: page.rows, cursor: page.cursor })
      setNewer([])
      return
    }
    const rowOfId = new Map(page.rows.map((row) => [row.id, row]))
    const knownIds = new Set(current.rows.map(({ id }) => id))
    const newRows = page.rows.filter(({ id }) => !knownIds.has(id))
    // when all runs of the newest page are new, there may be runs between that page and the list that were not read, so
    // the list starts anew
    const hasGap = page.rows.length > 0 && newRows.length === page.rows.length && current.rows.length > 0
    if (isTop.current && (hasGap || current.rows.length <= PAGE)) {
      setList({ key, rows: page.rows, cursor: page.cursor })
      return setNewer([])
    }
    const rows = current.rows.map((row) => rowOfId.get(row.id) ?? row)
    if (isTop.current) {
      setList({ ...current, rows: [...newRows, ...rows] })
      return setNewer([])
    }
    setList({ ...current, rows })
    setNewer(newRows)
  }, [first.value, key])

  const more = async (): Promise<void> => {
    const cursor = current?.cursor
    if (current === undefined || cursor === undefined || isReading.current || current.rows.length >= MAX_ROWS)
      return
    isReading.current = true
    try {
      const page = await readPage(filters, cursor)
      setMoreError(undefined)
      setList((before) => {
        if (before === undefined || before.key !== key || before.cursor !== cursor) return before
        const knownIds = new Set(before.rows.map(({ id }) => id))
        return {
          key,
          cursor: page.cursor,
          rows: [...before.rows, ...page.rows.filter(({ id }) => !knownIds.has(id))]
        }
      })
    } catch (cause) {
      setMoreError(cause instanceof CallError ? cause : new CallError(String(cause), 0, "BUG"))
    } finally {
      isReading.current = false
    }
  }

  const total = first.value?.total ?? 0
  return useMemo(
    () => ({
      rows: current?.rows,
      isWhole: current !== undefined && current.cursor === undefined,
      total: Math.max(total, current?.rows.length ?? 0),
      isTotalExact: first.value?.isTotalExact === true || current?.cursor === undefined,
      damaged: first.value?.damaged ?? 0,
      newer: newer.length,
      error: first.error ?? moreError,
      refresh: first.refresh,
      more: () => void more(),
      setTop: (top: boolean) => {
        isTop.current = top
      },
      showNewer: () => {
        setList(undefined)
        setNewer([])
        isTop.current = true
        first.refresh()
      }
    }),
    [current, first.value, first.error, newer, moreError, key]
  )
}

const readPage = async (filters: ListRuns, cursor: string | undefined, signal?: AbortSignal) => {
  const page = await ask(listRuns, {
    body: {
      ...filters,
      limit: cursor === undefined ? PAGE : OLDER_PAGE,
      ...(cursor === undefined ? {} : { cursor })
    },
    ...(signal === undefined ? {} : { signal })
  })
  return {
    rows: page.runs.map(toRow),
    cursor: page.nextCursor,
    total: page.totalCount,
    // a server that does not send `isTotalExact` has counted all runs
    isTotalExact: page.isTotalExact ?? true,
    damaged: page.damaged?.length ?? 0
  }
}
