/** Counts of runs, grouped by a property. A group has a link to the list of its runs, if filters can find them. */
import { countRuns, type RunCounts, type RunGroup } from "../../Protocol/RunCounts.ts"
import type { ListRuns } from "../../Protocol/RunLists.ts"
import { runStatuses } from "../../RunStatus.ts"
import { runCountText } from "../Parts/BulkWords.ts"
import { ask } from "../Parts/Calls.ts"
import { count, Empty, Failure, Link, Loading, Status } from "../Parts/Elements.tsx"
import { useFunctions } from "../Parts/SharedLists.ts"
import { useLive } from "../Parts/Live.ts"
import { place, type Query, setQuery } from "../Parts/Router.ts"
import { Table } from "../Parts/Rows.tsx"
import { duration, exactTime, Time } from "../Parts/Time.tsx"
import type { Column } from "../Parts/VirtualList.tsx"

/** How long the engine may count before the user asks for more. */
const FIRST_MS = 300
/** How long the engine may count when the user asks for all runs. */
const MORE_MS = 10_000

const groupLengthsMs: { readonly [by: string]: number } = { minute: 60_000, hour: 3_600_000, day: 86_400_000 }

/** The filters that find the runs of a group; `undefined` when no filters can. */
export const filterFor = (
  by: string,
  { value }: RunGroup,
  indexedPaths: ReadonlySet<string>
): Query | undefined => {
  if (value === undefined) return undefined
  const lengthMs = groupLengthsMs[by]
  if (lengthMs !== undefined) {
    return { "created-from": value, "created-to": new Date(Date.parse(value) + lengthMs).toISOString() }
  }
  // the value is a pattern of error messages, with … between its parts: all messages of the group contain the longest
  // part
  if (by === "error")
    return {
      status: "failed",
      error: value
        .split("…")
        .sort((a, b) => b.length - a.length)[0]!
        .trim()
    }
  if (by === "status" || by === "function" || by === "event") return { [by]: value }
  if (!by.startsWith("event.")) return undefined
  return indexedPaths.has(by)
    ? { attribute: [...place.value.query.getAll("attribute"), `${by}=${JSON.stringify(value)}`] }
    : {
        where: [...place.value.query.getAll("where"), `string(${by}) == ${JSON.stringify(value)}`]
          .map((text, _, { length }) => (length > 1 ? `(${text})` : text))
          .join(" && ")
      }
}

/** The paths by which some function indexes its runs. */
const useIndexedPaths = (): ReadonlySet<string> =>
  new Set(useFunctions().value?.flatMap(({ searchBy }) => searchBy ?? []) ?? [])

export const RunGroups = ({ by, filters }: { readonly by: string; readonly filters: ListRuns }) => {
  const durations = place.value.query.get("took") === "yes"
  const isMore = place.value.query.get("look") === "more"
  const limit = isMore ? 1000 : 50
  const live = useLive(
    `groups ${JSON.stringify([by, filters, durations, isMore])}`,
    (signal) =>
      ask(countRuns, {
        body: { by, filters, limit, durations, timeLimit: isMore ? MORE_MS : FIRST_MS },
        signal
      }),
    // a request that reads many runs is only repeated when the user asks for it
    isMore ? { once: true } : { everyMs: 10_000 }
  )
  const indexedPaths = useIndexedPaths()
  const counts = live.value
  if (counts === undefined)
    return live.error === undefined ? <Loading /> : <Failure error={live.error} retry={live.refresh} />
  return (
    <>
      {live.error !== undefined && <Failure error={live.error} retry={live.refresh} />}
      {counts.count === 0 ? (
        <Empty>No run matches these filters{counts.isExact ? "" : " among those searched so far"}.</Empty>
      ) : (
        <Table
          label={`Runs by ${by}`}
          items={counts.groups}
          keyOf={({ value }) => value ?? " "}
          columns={columnsOf(by, counts, durations, indexedPaths)}
        />
      )}
      <p class="below" role="status">
        <span>
          {runCountText(counts.count)} in {count(counts.groupCount)}{" "}
          {counts.groupCount === 1 ? "group" : "groups"}
          {counts.groupCount > counts.groups.length && `, of which ${count(counts.groups.length)} are shown`}
        </span>
        {counts.lookedBackTo !== undefined && (
          <span>
            Only runs since <Time at={counts.lookedBackTo} exactly /> are counted: there are too many runs to
            count all of them at once.
          </span>
        )}
        {counts.filledBackTo !== undefined && (
          <span>
            Runs from before <Time at={counts.filledBackTo} exactly /> may be missing, or have no group: the
            engine is still indexing them by the paths in <code>searchBy</code>.
          </span>
        )}
        {(!counts.isExact || counts.groupCount > counts.groups.length) && !isMore && (
          <button type="button" class="small" onClick={() => setQuery({ look: "more" })}>
            Look further
          </button>
        )}
        <button
          type="button"
          class="small"
          aria-pressed={durations}
          onClick={() => setQuery({ took: durations ? undefined : "yes" })}
        >
          How long runs took
        </button>
      </p>
    </>
  )
}

/**
 * The query in the address of the page that lists runs instead of groups. It has the current filters, and those of
 * `filter`.
 */
export const listQuery = (filter: Query): Query => ({
  ...Object.fromEntries([...place.value.query.keys()].map((name) => [name, place.value.query.getAll(name)])),
  by: undefined,
  took: undefined,
  look: undefined,
  ...filter
})

const columnsOf = (
  by: string,
  { count: all, groups, statuses }: RunCounts,
  durations: boolean,
  indexedPaths: ReadonlySet<string>
): ReadonlyArray<Column<RunGroup>> => {
  const largest = Math.max(1, ...groups.map(({ count }) => count))
  return [
    {
      title: by,
      width: "",
      cell: (group) => {
        const text =
          group.value === undefined
            ? "none"
            : groupLengthsMs[by] === undefined
              ? group.value
              : exactTime(Date.parse(group.value))
        const filter = filterFor(by, group, indexedPaths)
        return filter === undefined ? (
          <span class="quiet">{text}</span>
        ) : (
          <Link to="runs" query={listQuery(filter)} title="The list of these runs">
            {text}
          </Link>
        )
      }
    },
    {
      title: "Runs",
      width: "",
      cell: (group) => (
        <span class="share" title={`${((100 * group.count) / all).toFixed(1)} % of ${count(all)}`}>
          <span class="number">{count(group.count)}</span>
          <span class="bar" style={{ width: `${(100 * group.count) / largest}%` }} />
        </span>
      )
    },
    ...(by === "status" ? [] : runStatuses)
      .filter((status) => statuses[status] !== undefined)
      .map((status) => ({
        title: status,
        width: "",
        cell: (group: RunGroup) =>
          group.statuses[status] === undefined ? (
            <span class="quiet">–</span>
          ) : (
            <Status state={status}>{count(group.statuses[status])}</Status>
          )
      })),
    ...(durations
      ? (["p50", "p95", "max"] as const).map((statistic) => ({
          title: { p50: "Half took at most", p95: "95 % took at most", max: "Longest" }[statistic],
          width: "",
          cell: ({ durations: took }: RunGroup) => (
            <span class="number">{took === undefined ? "–" : duration(took[statistic])}</span>
          )
        }))
      : [])
  ]
}
