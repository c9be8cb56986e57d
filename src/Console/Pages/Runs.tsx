/** Runs, newest first: those that fit filters which are in the address, as many as one scrolls to. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { ListRuns } from "../../Protocol/RunLists.ts"
import { listRuns, type WireRun } from "../../Protocol/Runs.ts"
import { runStatuses } from "../../RunStatus.ts"
import { ask, CallError, isRecord } from "../Parts/Calls.ts"
import { useLive } from "../Parts/Live.ts"
import { Copy, count, Empty, Failure, Link, Loading, Status } from "../Parts/Elements.tsx"
import { environment, place, setQuery } from "../Parts/Router.ts"
import { command, shellQuoted } from "../Parts/Shell.ts"
import { duration, now, Time } from "../Parts/Time.tsx"
import { type Column, VirtualList } from "../Parts/VirtualList.tsx"
import { BulkStart } from "./BulkStart.tsx"

/** What a row shows: the payloads of a hundred thousand runs have no place in a browser. */
interface Row {
  readonly id: string
  readonly functionId: string
  readonly status: string
  readonly attempt: number
  readonly error: string
  readonly createdAt: string
  readonly startedAt: string | undefined
  readonly endedAt: string | undefined
}

const PAGE = 50
/** Runs that are read at once further down, where one comes by scrolling. */
const MORE = 500
/** Rows that a list has at most; what is older is found by filters. */
const MOST = 100_000

const toRow = (run: WireRun): Row => ({
  id: run.id,
  functionId: run.functionId,
  status: run.state ?? run.status,
  attempt: run.attempt,
  error: messageOf(run.error),
  createdAt: run.createdAt,
  startedAt: run.startedAt,
  endedAt: run.endedAt
})

const messageOf = (error: unknown): string => {
  const message = isRecord(error) ? error["message"] : error
  return typeof message === "string" ? message.slice(0, 300) : ""
}

/** The filters of the address, in the words of the call. Several of a kind are given as the parameter several times. */
const filtersIn = (query: URLSearchParams): ListRuns => {
  const one = (name: string): string | undefined => query.get(name) ?? undefined
  const attributes = query.getAll("attribute").flatMap((text) => {
    const at = text.indexOf("=")
    return at < 1 ? [] : [[text.slice(0, at), valueOf(text.slice(at + 1))] as const]
  })
  const all: { [K in keyof ListRuns]: ListRuns[K] | undefined } = {
    functionIds: query.getAll("function"),
    statuses: query.getAll("status"),
    createdFrom: timeOf(one("created-from")),
    createdTo: timeOf(one("created-to")),
    endedFrom: timeOf(one("ended-from")),
    endedTo: timeOf(one("ended-to")),
    eventName: one("event"),
    entityId: one("entity"),
    idempotencyKey: one("idempotency-key"),
    error: one("error"),
    where: one("where"),
    ...(attributes.length === 0 ? {} : { attributes: Object.fromEntries(attributes) })
  }
  return Object.fromEntries(
    Object.entries(all).filter(
      ([, value]) => value !== undefined && (!Array.isArray(value) || value.length > 0)
    )
  ) as ListRuns // the members of `all` that are there
}

/** `12` and `true` are what they look like; `"12"` is a text. */
const valueOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** A point in time, or so long ago: `30m`, `12h`, `7d`. What is neither goes to the engine, which says so. */
const timeOf = (text: string | undefined): string | undefined => {
  const [, amount, unit] = /^(\d{1,6})([mhd])$/.exec(text ?? "") ?? []
  if (amount === undefined) return text
  const size = unit === "m" ? 60_000 : unit === "h" ? 3_600_000 : 86_400_000
  // to the minute, so that the list is the same one with every refresh
  return new Date(Math.floor((Date.now() - Number(amount) * size) / 60_000) * 60_000).toISOString()
}

const columns: ReadonlyArray<Column<Row>> = [
  { title: "Status", width: "8rem", cell: ({ status }) => <Status of={status} /> },
  {
    title: "Run",
    width: "minmax(8rem, 1.4fr)",
    cell: ({ id }) => (
      <Link to={`runs/${encodeURIComponent(id)}`} class="mono">
        {id}
      </Link>
    )
  },
  {
    title: "Function",
    width: "minmax(6rem, 1fr)",
    cell: ({ functionId }) => <span title={functionId}>{functionId}</span>
  },
  { title: "Created", width: "6rem", isExtra: true, cell: ({ createdAt }) => <Time at={createdAt} /> },
  { title: "Took", width: "6rem", isExtra: true, cell: (run) => <Took run={run} /> },
  {
    title: "Error",
    width: "minmax(6rem, 1.6fr)",
    isExtra: true,
    cell: ({ error }) => (
      <span class="quiet" title={error}>
        {error}
      </span>
    )
  }
]

const Took = ({ run: { endedAt, startedAt } }: { readonly run: Row }) => {
  if (startedAt === undefined) return <span class="quiet">–</span>
  const end = endedAt === undefined ? now.value : Date.parse(endedAt)
  return <span class="number">{duration(Math.max(0, end - Date.parse(startedAt)))}</span>
}

/** What is no filter is not left out: the list would be another one than was asked for. */
const checkFilters = (query: URLSearchParams): CallError | undefined => {
  const wrong = query.getAll("attribute").find((text) => text.indexOf("=") < 1)
  return wrong === undefined
    ? undefined
    : new CallError(
        `The attribute ${JSON.stringify(wrong.slice(0, 100))} has no value: write it like event.data.customerId=c-7`,
        400,
        "VALIDATION_ERROR"
      )
}

export const Runs = () => {
  const error = checkFilters(place.value.query)
  if (error === undefined) return <RunList />
  return (
    <>
      <h1>Runs</h1>
      <Filters />
      <Failure error={error} />
    </>
  )
}

const RunList = () => {
  const { query } = place.value
  const filterText = JSON.stringify(filtersIn(query))
  const key = `${environment.value} ${filterText}`
  const filters = JSON.parse(filterText) as ListRuns
  const list = useRunList(key, filters)
  const hasFilters = filterText !== "{}"
  return (
    <>
      <div class="title">
        <h1>Runs</h1>
        <div class="actions">
          <BulkStart filters={filters} />
          <Link to="bulk">Bulk operations</Link>
        </div>
      </div>
      <Filters />
      {list.error !== undefined && <Failure error={list.error} again={list.refresh} />}
      {list.rows === undefined ? (
        list.error === undefined && <Loading />
      ) : list.rows.length === 0 ? (
        hasFilters ? (
          <Empty>
            No run fits these filters{list.isWhole ? "" : " among those that were looked at so far"}.{" "}
            {!list.isWhole && (
              <button type="button" onClick={list.more}>
                Look further back
              </button>
            )}
          </Empty>
        ) : (
          <Empty command={command("emit order.placed", `'{"orderId":"o-1"}'`, "--wait")}>
            There are no runs in this environment yet. An event starts those of the functions that it
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
            columns={columns}
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
            {list.rows.length >= MOST && <span>The list ends here: filters find what is older.</span>}
            {list.damaged > 0 && (
              <span>{count(list.damaged)} more cannot be read: their rows are damaged.</span>
            )}
          </div>
        </>
      )}
    </>
  )
}

interface List {
  readonly rows: ReadonlyArray<Row>
  /** Where the next page begins. */
  readonly cursor: string | undefined
}

/** The runs that were read so far. The newest page is read again once a second; others as one comes to them. */
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
    const fresh = new Map(page.rows.map((row) => [row.id, row]))
    const known = new Set(current.rows.map(({ id }) => id))
    const unknown = page.rows.filter(({ id }) => !known.has(id))
    // more than a page has come since: what is in between is not known, and the list begins anew
    const hasGap = page.rows.length > 0 && unknown.length === page.rows.length && current.rows.length > 0
    if (isTop.current && (hasGap || current.rows.length <= PAGE)) {
      setList({ key, rows: page.rows, cursor: page.cursor })
      return setNewer([])
    }
    const rows = current.rows.map((row) => fresh.get(row.id) ?? row)
    if (isTop.current) {
      setList({ ...current, rows: [...unknown, ...rows] })
      return setNewer([])
    }
    setList({ ...current, rows })
    setNewer(unknown)
  }, [first.value, key])

  const more = async (): Promise<void> => {
    const cursor = current?.cursor
    if (current === undefined || cursor === undefined || isReading.current || current.rows.length >= MOST)
      return
    isReading.current = true
    try {
      const page = await readPage(filters, cursor)
      setMoreError(undefined)
      setList((before) => {
        if (before === undefined || before.key !== key || before.cursor !== cursor) return before
        const known = new Set(before.rows.map(({ id }) => id))
        return {
          key,
          cursor: page.cursor,
          rows: [...before.rows, ...page.rows.filter(({ id }) => !known.has(id))]
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
      limit: cursor === undefined ? PAGE : MORE,
      ...(cursor === undefined ? {} : { cursor })
    },
    ...(signal === undefined ? {} : { signal })
  })
  return {
    rows: page.runs.map(toRow),
    cursor: page.nextCursor,
    total: page.totalCount,
    // older servers count all of them always
    isTotalExact: page.isTotalExact ?? true,
    damaged: page.damaged?.length ?? 0
  }
}

/** The filters that are always seen; the others are shown when one of them is set, or asked for. */
const Filters = () => {
  const { query } = place.value
  const [isOpen, setOpen] = useState(false)
  const isMore = isOpen || filterNames.slice(3).some((name) => query.has(name))
  const set = (name: string) => (value: string) =>
    setQuery({ [name]: value.trim() === "" ? [] : [value.trim()] })
  return (
    <form class="filters" role="search" aria-label="Runs" onSubmit={(event) => event.preventDefault()}>
      <label>
        Status
        <select
          value={query.get("status") ?? ""}
          onChange={(event) => set("status")(event.currentTarget.value)}
        >
          <option value="">any</option>
          {runStatuses.map((status) => (
            <option key={status} value={status}>
              {status}
            </option>
          ))}
        </select>
      </label>
      <Field name="function" label="Function" placeholder="process-order" set={set} isSearch />
      <Field name="error" label="Error has the text" placeholder="card declined" set={set} />
      {isMore ? (
        <>
          <Field name="event" label="Event" placeholder="order.placed" set={set} />
          <Field name="entity" label="Entity" placeholder="o-1" set={set} />
          <Field name="idempotency-key" label="Idempotency key" placeholder="o-1" set={set} />
          <Field name="created-from" label="Created since" placeholder="12h" set={set} />
          <Field name="created-to" label="Created until" placeholder="30m" set={set} />
          <Field name="ended-from" label="Ended since" placeholder="7d" set={set} />
          <Field name="ended-to" label="Ended until" placeholder="2026-11-29T08:00:00Z" set={set} />
          <Field name="attribute" label="Attribute" placeholder="event.data.customerId=c-7" set={set} />
          <Field
            name="where"
            label="Expression (CEL)"
            placeholder="event.data.total > 100"
            set={set}
            isWide
          />
        </>
      ) : (
        <button type="button" onClick={() => setOpen(true)}>
          More filters
        </button>
      )}
      {filterNames.some((name) => query.has(name)) && (
        <button
          type="button"
          onClick={() => setQuery(Object.fromEntries(filterNames.map((name) => [name, []])))}
        >
          Clear
        </button>
      )}
      <Copy text={() => commandOf(query)} label="Copy as CLI" />
    </form>
  )
}

const Field = ({
  isSearch = false,
  isWide = false,
  label,
  name,
  placeholder,
  set
}: {
  readonly name: string
  readonly label: string
  readonly placeholder: string
  readonly isSearch?: boolean
  readonly isWide?: boolean
  readonly set: (name: string) => (value: string) => void
}) => (
  <label class={isWide ? "wide" : ""}>
    {label}
    <input
      name={name}
      type="search"
      placeholder={placeholder}
      value={place.value.query.get(name) ?? ""}
      // what is half typed is no filter yet
      onChange={(event) => set(name)(event.currentTarget.value)}
      {...(isSearch ? { "data-search": "" } : {})}
    />
  </label>
)

/** The names of filters in the address, which are those of the command's flags. */
const filterNames: ReadonlyArray<string> = [
  "function",
  "status",
  "error",
  "event",
  "entity",
  "idempotency-key",
  "created-from",
  "created-to",
  "ended-from",
  "ended-to",
  "attribute",
  "where"
]

/** The command that lists the same. */
const commandOf = (query: URLSearchParams): string =>
  command(
    "runs list",
    ...[...query].flatMap(([name, value]) =>
      filterNames.includes(name) ? [`--${name} ${shellQuoted(value)}`] : []
    )
  )
