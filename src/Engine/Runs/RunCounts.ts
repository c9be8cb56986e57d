/** Counts the runs that match filters, in groups. Reads slices of runs, with other work in between, within a time limit. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { StoreError, ValidationError } from "../../Errors.ts"
import { MAX_EXPRESSION_STEPS, expressionSteps } from "../../ExpressionBudget.ts"
import {
  isTimeGrouping,
  type RunCount,
  type RunCounts,
  type RunDurations,
  type RunGroup
} from "../../Protocol/RunCounts.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import type { StoreService } from "../Store/Store.ts"
import type { CheckedFilters } from "./CheckFilters.ts"
import { errorGroup, bucketSizeOf } from "./RunGroups.ts"
import { eventOf, matcherOf, type Visibility } from "./RunSearch.ts"
import {
  countRuns,
  type FoundRun,
  functionsSearchableBy,
  searchRuns,
  type SearchPlace,
  type GroupSum
} from "./RunSearchRows.ts"
import { attributeOf } from "./SearchAttributes.ts"

/** The default time limit, in milliseconds. */
const DEFAULT_TIME_LIMIT_MS = 200
/** The default number of groups in a result. */
const DEFAULT_GROUPS = 20
/** The default number of groups in a result that is grouped by time. */
const DEFAULT_TIME_GROUPS = 1000
/** How many runs the first slice has. The size of later slices is adjusted, because rows that are far apart are slow to read. */
const FIRST_SLICE = 1000
/** How long it should take to read a later slice, in milliseconds. */
const SLICE_MS = 20
/** Maximum number of groups that are kept in memory. Counting stops when there are more. */
const MAX_GROUPS = 50_000

/** What to count. */
export interface CountQuery {
  readonly environment: string
  readonly filters: CheckedFilters
  readonly by: string
  /** Maximum number of groups in the result. */
  readonly limit?: number | undefined
  readonly durations?: boolean | undefined
  /** Milliseconds. */
  readonly timeLimit?: number | undefined
}

/** Counts the matching runs. `visibility` is for callers that may not see all of these runs, or not all of their input. */
export const countMatchingRuns = (
  store: StoreService,
  { by, durations = false, environment, filters, limit, timeLimit = DEFAULT_TIME_LIMIT_MS }: CountQuery,
  visibility: Visibility | undefined
): Effect.Effect<RunCounts, ValidationError | StoreError> =>
  Effect.gen(function* () {
    // a grouping by error counts only failed runs, unless the query names statuses
    const query = {
      call: "countRuns",
      environment,
      filters:
        by === "error" && filters.statuses === undefined
          ? { ...filters, statuses: ["failed" as const] }
          : filters
    }
    const grouping = { by, durations }
    const deadline = (yield* Clock.currentTimeMillis) + timeLimit
    const groups = new Map<string | undefined, Group>()
    const allRuns = new Group()
    const add = (sum: GroupSum): void => {
      let group = groups.get(sum.value)
      if (group === undefined) groups.set(sum.value, (group = new Group()))
      group.add(sum)
      allRuns.add(sum)
    }
    const isMatch = matcherOf(query.filters, visibility)
    const needsInput = by === "event" || by.startsWith("event.")
    let place: SearchPlace | undefined
    // if any function has the path in its `searchBy`, the runs are grouped by the stored attribute: the runs of the other
    // functions have no value
    const functionsWithPath = by.startsWith("event.")
      ? yield* store.read(functionsSearchableBy(query, by))
      : []
    const attributeFunctions = functionsWithPath.length === 0 ? undefined : new Set(functionsWithPath)
    const isInDatabase = attributeFunctions !== undefined || !by.startsWith("event.")
    const isCountedInDatabase = isInDatabase && visibility === undefined && filters.where === undefined
    let filledBackTo: number | undefined
    let size = FIRST_SLICE

    const result = (lookedBackTo?: number): RunCounts => ({
      ...sortedGroups(groups, by, limit),
      ...allRuns.count(),
      isExact: lookedBackTo === undefined,
      ...(lookedBackTo === undefined ? {} : { lookedBackTo: new Date(lookedBackTo).toISOString() }),
      ...(filledBackTo === undefined ? {} : { filledBackTo: new Date(filledBackTo).toISOString() })
    })

    while (true) {
      const sliceBegan = yield* Clock.currentTimeMillis
      const sums = isCountedInDatabase
        ? yield* store.read(countRuns(query, grouping, place, size))
        : undefined
      let slice
      if (sums !== undefined) {
        for (const sum of sums.sums) add(sum)
        slice = sums
        const tookMs = (yield* Clock.currentTimeMillis) - sliceBegan
        size = Math.max(200, Math.min(2 * size, Math.floor((size * SLICE_MS) / Math.max(1, tookMs))))
      } else {
        slice = yield* store.read(searchRuns(query, place, Number.MAX_SAFE_INTEGER))
        let stepsBefore = expressionSteps()
        for (const found of slice.found) {
          if (isMatch(found) && (!needsInput || visibility === undefined || visibility.canSeeInput(found)))
            add(sumOf(found, grouping, attributeFunctions))
          if (filters.where === undefined || expressionSteps() - stepsBefore < MAX_EXPRESSION_STEPS) continue
          stepsBefore = expressionSteps()
          yield* yieldToEventLoop
          if ((yield* Clock.currentTimeMillis) >= deadline) return result(Date.parse(found.run.createdAt))
        }
      }
      place = slice.place
      filledBackTo = slice.filledBackTo
      if (slice.isLast) return result()
      yield* yieldToEventLoop
      if (groups.size > MAX_GROUPS || (yield* Clock.currentTimeMillis) >= deadline)
        return result(slice.lookedBackTo)
    }
  })

/** The sum for a single run. */
const sumOf = (
  found: FoundRun,
  { by, durations }: { readonly by: string; readonly durations: boolean },
  withAttribute: ReadonlySet<string> | undefined
): GroupSum => {
  const { run } = found
  const durationMs =
    !durations || run.startedAt === undefined || run.endedAt === undefined
      ? undefined
      : Date.parse(run.endedAt) - Date.parse(run.startedAt)
  return {
    value: withAttribute?.has(run.functionId) === false ? undefined : valueOf(found, by),
    status: run.status,
    isRetried: run.attempt > 1,
    tookMs: durationMs === undefined ? undefined : roundDown(durationMs),
    count: 1
  }
}

/** Cuts a duration to its first three digits, as the SQL statements do. */
const roundDown = (ms: number): number => {
  let size = 1
  while (size < 100_000 && ms >= size * 1000) size *= 10
  return Math.trunc(ms / size) * size
}

const valueOf = (found: FoundRun, by: string): string | undefined => {
  const { run, startedBy, systemEvent } = found
  const size = bucketSizeOf(by)
  if (size !== undefined) {
    const at = Date.parse(run.createdAt)
    return new Date(at - (at % size)).toISOString()
  }
  switch (by) {
    case "status":
      return run.status
    case "function":
      return run.functionId
    case "version":
      return run.codeVersion
    case "error":
      return run.error === undefined ? undefined : errorGroup(run.error.message)
    case "event":
      return startedBy?.name ?? systemEvent
    default:
      return attributeOf(eventOf(found), by)
  }
}

class Group {
  total = 0
  readonly #statuses = new Map<string, number>()
  #retried = 0
  readonly #countsByDuration = new Map<number, number>()

  add({ count, isRetried, status, tookMs }: GroupSum): void {
    this.total += count
    this.#statuses.set(status, (this.#statuses.get(status) ?? 0) + count)
    if (isRetried) this.#retried += count
    if (tookMs !== undefined)
      this.#countsByDuration.set(tookMs, (this.#countsByDuration.get(tookMs) ?? 0) + count)
  }

  count(): RunCount {
    const durations = durationsOf(this.#countsByDuration)
    return {
      count: this.total,
      statuses: Object.fromEntries(this.#statuses),
      retried: this.#retried,
      ...(durations === undefined ? {} : { durations })
    }
  }
}

const durationsOf = (countsByDuration: ReadonlyMap<number, number>): RunDurations | undefined => {
  const sortedDurations = [...countsByDuration].sort(([a], [b]) => a - b)
  const count = sortedDurations.reduce((sum, [, n]) => sum + n, 0)
  if (count === 0) return undefined
  /** The smallest duration, in milliseconds, that the given part of the runs does not exceed. */
  const quantile = (part: number): number => {
    let remaining = Math.ceil(count * part)
    for (const [ms, n] of sortedDurations) if ((remaining -= n) <= 0) return Math.max(0, ms)
    return 0
  }
  return { count, p50: quantile(0.5), p95: quantile(0.95), max: quantile(1) }
}

const sortedGroups = (
  groups: ReadonlyMap<string | undefined, Group>,
  by: string,
  limit: number | undefined
): { readonly groups: Array<RunGroup>; readonly groupCount: number } => {
  const byValue = ([a = ""]: Entry, [b = ""]: Entry): number => (a < b ? -1 : a > b ? 1 : 0)
  const sorted = [...groups].sort(
    isTimeGrouping(by) ? byValue : (a, b) => b[1].total - a[1].total || byValue(a, b)
  )
  const shownGroups = isTimeGrouping(by)
    ? sorted.slice(-(limit ?? DEFAULT_TIME_GROUPS))
    : sorted.slice(0, limit ?? DEFAULT_GROUPS)
  return {
    groups: shownGroups.map(([value, group]) => ({
      ...(value === undefined ? {} : { value }),
      ...group.count()
    })),
    groupCount: groups.size
  }
}

type Entry = readonly [string | undefined, Group]
