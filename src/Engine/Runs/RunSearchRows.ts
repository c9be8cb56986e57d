/**
 * Finds the runs that match filters. A search follows a plan. Most plans read only a part of all runs, by an index: the runs with
 * a value of an attribute, the failed runs, the runs of a function, or the runs of the events with a name. The other filters are
 * checked on each of these runs. A search reads slices with a limited number of runs.
 *
 * Every plan goes from the newest run to the oldest. Most plans are ordered by the run key, which grows with the time of
 * creation. The plans by function and by event are ordered by the log position of the event, and then by the run key. A plan has
 * a single lane, or a lane for each function or status. Each slice takes the newest runs of all lanes.
 */
import { ValidationError } from "../../Errors.ts"
import type { Run } from "../../Client/Client.ts"
import type { RunStatus } from "../../RunStatus.ts"
import { errorGroup, messageIn, bucketSizeOf } from "./RunGroups.ts"
import { Status, statusIn } from "./StatusRows.ts"
import { registryOf } from "../Functions/Registry.ts"
import { all, get, inEnvironment, type Program, refuse, statement, type Value } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { CheckedFilters } from "./CheckFilters.ts"
import { readRun, RUNS_WITH_EVENTS } from "./RunRows.ts"
import { isBefore, lengthOfRow, type RunPosition, positionOf, startOfRow } from "./SearchPositions.ts"
import { MAX_COUNTED, FIRST_MOMENT, planNameOf, planOf } from "./SearchPlans.ts"

/** How many runs one slice reads, which takes a few milliseconds. */
const SLICE = 10_000
/** Maximum number of runs that a slice returns. */
const MAX_SLICE_RUNS = 256
/** A slice ends with the run that exceeds this number of characters of data. */
const SLICE_LENGTH = 1024 * 1024
/** A limit that is never reached. */
const ALL = Number.MAX_SAFE_INTEGER

/** How far a search has come: it has looked at all runs from the newest one to the one with this `event` and `key`. */
export interface SearchPlace {
  /**
   * Identifies the plan: its name, and for an attribute also the path. Cursors and stored bulk operations contain this text, so
   * plans keep their names.
   */
  readonly by: string
  /** The log position of the event; only for plans that are ordered by events. */
  readonly event: number
  readonly key: number
  /** The event position at which the search may stop; for plans that are ordered by events. */
  readonly lastEvent: number
  /** The key at which the search may stop; for plans that are ordered by run key. */
  readonly lastKey: number
}

/** A matching run, with the event that started it but without the event's data. */
export interface FoundRun {
  readonly run: Run
  readonly event: number
  readonly key: number
  /** The number of characters of the run's data. */
  readonly length: number
  /** The name of the system event that started the run; absent when no system event did. */
  readonly systemEvent?: string
  /** The event that started the run; absent when another run or a system event started it. */
  readonly startedBy?: {
    readonly id: string
    readonly name: string
    readonly version: number
    readonly timestamp: string
    readonly metadata?: string
    readonly source?: string
    readonly entity?: { readonly id: string; readonly type: string; readonly version: number }
  }
}

export interface SearchSlice {
  readonly found: ReadonlyArray<FoundRun>
  readonly place: SearchPlace
  readonly isLast: boolean
  /** When the oldest run that the search has reached was created, in epoch milliseconds; 0 after the last slice. */
  readonly lookedBackTo: number
  /**
   * Runs that were created before this time are not yet indexed by one of the attributes. Epoch milliseconds; absent when all
   * runs are indexed.
   */
  readonly filledBackTo?: number
}

export interface RunSearch {
  /** The method of the client, for errors; `listRuns` by default. */
  readonly call?: string
  readonly environment: string
  readonly filters: CheckedFilters
}

/**
 * Searches one slice of runs. `place` is where the last slice ended, or the place in the cursor of a page. `most` is the maximum
 * number of runs to find. Refuses filters by an attribute that no function has in its `searchBy`.
 */
export const searchRuns = inEnvironment(
  "searchRuns",
  function* (
    tx: Transaction,
    { call, environment, filters }: RunSearch,
    place: SearchPlace | { readonly by: string; readonly event: number; readonly key: number } | undefined,
    most: number
  ): Program<SearchSlice, ValidationError> {
    const search = new Search(tx, environment, filters)
    const unknown = search.unknownAttribute(call)
    if (unknown !== undefined) return yield* refuse(unknown)
    const begin: SearchPlace =
      place !== undefined && "lastKey" in place ? place : { ...(yield* search.begin(place?.by)), ...place }
    const { found, isLast, reached } = yield* search.slice(begin, Math.min(most, MAX_SLICE_RUNS))
    const filledBackTo = yield* search.filledBackTo()
    return {
      found,
      isLast,
      place: { ...begin, ...reached },
      lookedBackTo: isLast ? 0 : yield* createdAt(reached),
      ...(filledBackTo === undefined ? {} : { filledBackTo })
    }
  },
  () => "list runs"
)

/** By what the runs are grouped, and whether their durations are measured. */
export interface Grouping {
  readonly by: string
  readonly durations: boolean
}

/** Counts the runs that are equal in all fields but `count`. */
export interface GroupSum {
  readonly value: string | undefined
  readonly status: RunStatus
  readonly isRetried: boolean
  readonly tookMs: number | undefined
  readonly count: number
}

interface SumsSlice {
  readonly sums: ReadonlyArray<GroupSum>
  readonly place: SearchPlace
  readonly isLast: boolean
}

/** The ids of the functions whose `searchBy` has the path, among those that the filters allow. */
export const functionsSearchableBy = inEnvironment(
  "functionsSearchableBy",
  // this is a program because only a program can look up functions
  function* (
    tx: Transaction,
    { environment, filters }: RunSearch,
    path: string
  ): Program<ReadonlyArray<string>> {
    return new Search(tx, environment, filters).functionsWithPath(path)
  },
  () => "count runs"
)

/**
 * Counts one slice of runs, which has at most `most` runs. Refuses filters by an attribute that no function has in its
 * `searchBy`.
 */
export const countRuns = inEnvironment(
  "countRuns",
  function* (
    tx: Transaction,
    { environment, filters }: RunSearch,
    grouping: Grouping,
    place: SearchPlace | undefined,
    most: number
  ): Program<SumsSlice & Pick<SearchSlice, "lookedBackTo" | "filledBackTo">, ValidationError> {
    const search = new Search(tx, environment, filters)
    const unknown = search.unknownAttribute("countRuns")
    if (unknown !== undefined) return yield* refuse(unknown)
    const slice = yield* search.sums(
      place ?? (yield* search.begin(undefined)),
      grouping,
      Math.min(most, SLICE)
    )
    const filledBackTo = yield* search.filledBackTo(grouping.by)
    return {
      ...slice,
      lookedBackTo: slice.isLast ? 0 : yield* createdAt(slice.place),
      ...(filledBackTo === undefined ? {} : { filledBackTo })
    }
  },
  () => "count runs"
)

const FIND_FIRST_FROM = statement(
  "RunSearchRows.findFirstFrom",
  "SELECT key, created_at FROM runs WHERE key >= ? ORDER BY key LIMIT 1"
)
const FIND_NEWEST_RUN = statement("RunSearchRows.findNewestRun", "SELECT max(key) AS key FROM runs")
const FIND_EVENT_AFTER = statement(
  "RunSearchRows.findEventAfter",
  "SELECT max(event) AS event FROM (SELECT event, forked_from FROM runs WHERE key >= ? ORDER BY key LIMIT 10000) AS near WHERE forked_from IS NULL"
)
const FIND_EVENT_BEFORE = statement(
  "RunSearchRows.findEventBefore",
  "SELECT min(event) AS event FROM (SELECT event FROM runs WHERE key < ? ORDER BY key DESC LIMIT 10000) AS near"
)
/** Maximum number of forks whose events are read to find {@link SearchPlace.lastEvent}. */
const MAX_FORKS = 1000
const FIND_EVENT_OF_FORKS = statement(
  "RunSearchRows.findEventOfForks",
  `SELECT min(event) AS event, count(*) AS forks
     FROM (SELECT event FROM runs INDEXED BY runs_forked_from WHERE forked_from IS NOT NULL AND key >= ? LIMIT ${MAX_FORKS}) AS near`,
  { scans: "the forks from a key on, 1000 at most" }
)

/**
 * Returns a log position: no run with this key or a higher one has an event before that position. Returns 0 when no such
 * position is known. Runs are created in the order of their events, except forks: a fork has the event of its original.
 */
function* firstEventFrom(key: number): Program<number> {
  const eventBefore = (yield* get(FIND_EVENT_BEFORE, key))?.event
  const { event, forks } = (yield* get(FIND_EVENT_OF_FORKS, key))!
  if (eventBefore == null || Number(forks) === MAX_FORKS) return 0
  return Math.min(Number(eventBefore), Number(event ?? eventBefore))
}

const FIND_CREATION_TIME = statement(
  "RunSearchRows.findCreationTime",
  "SELECT created_at AS at FROM runs WHERE key >= ? ORDER BY key LIMIT 1"
)
const FIND_EVENT_TIME = statement(
  "RunSearchRows.findEventTime",
  "SELECT timestamp AS at FROM events WHERE position = ?"
)

function* createdAt({ event, key }: RunPosition): Program<number> {
  const row = yield* key === 0 ? get(FIND_EVENT_TIME, event) : get(FIND_CREATION_TIME, key)
  return Number(row?.at ?? 0)
}

/**
 * By how many milliseconds the creation time of a run may be earlier than that of the run before it. Clocks are set back often,
 * but by small amounts.
 */
const CLOCK_SLACK_MS = 60_000

/**
 * The key of the first run that was created at this time or later. The key is found by bisection, because keys grow with the time
 * of creation.
 */
function* keyAt(at: number): Program<number> {
  let from = 1
  let to = Number((yield* get(FIND_NEWEST_RUN))?.key ?? 0) + 1
  while (from < to) {
    const middle = Math.floor((from + to) / 2)
    const row = yield* get(FIND_FIRST_FROM, middle)
    if (row === undefined || Number(row.key) >= to || Number(row.created_at) >= at) to = middle
    else from = Number(row.key) + 1
  }
  return from
}

const SHOW = statement(
  "RunSearchRows.show",
  `${RUNS_WITH_EVENTS.replace(
    "AS e_data",
    "AS e_data, e.name AS e_name, e.version AS e_version, e.timestamp AS e_timestamp, e.metadata AS e_metadata, " +
      "e.source AS e_source, NULL AS e_key, e.entity_id, e.entity_type, e.entity_version, r.system_event"
  )} WHERE r.key = ?`
)

const FIND_FILL_POSITION = statement(
  "RunSearchRows.findFillPosition",
  "SELECT below FROM search_paths WHERE function = ? AND path = ? AND (below IS NULL OR below > 0)"
)

interface Lane {
  readonly values: ReadonlyArray<Value>
}

class Search {
  readonly #tx: Transaction
  readonly #environment: number
  readonly #filters: CheckedFilters
  /** The functions whose runs may match, by key. */
  readonly #functions: ReadonlyArray<{ readonly key: number; readonly paths: ReadonlyArray<string> }>
  /** The values for the condition that a run matches all filters, which is part of all statements of `SearchPlans.ts`. */
  readonly #filterValues: ReadonlyArray<Value>

  constructor(tx: Transaction, environment: string, filters: CheckedFilters) {
    this.#tx = tx
    this.#environment = tx.findEnvironment(environment) ?? -1
    this.#filters = filters
    const { attributes, entityId, error, eventName, functionIds, idempotencyKey, statuses } = filters
    this.#functions = registryOf(tx)
      .all()
      .filter((fn) => fn.environment === environment && functionIds?.includes(fn.registration.id) !== false)
      .map(({ key, registration }) => ({ key, paths: registration.searchBy ?? [] }))
    const event = [eventName, entityId, idempotencyKey].map((text) => text ?? null)
    const paths = JSON.stringify(attributes ?? {})
    this.#filterValues = [
      this.#keys,
      JSON.stringify(statuses === undefined ? Object.values(Status) : statuses.map((name) => Status[name])),
      filters.createdFrom ?? -ALL,
      filters.createdTo ?? ALL,
      filters.endedFrom ?? (filters.endedTo === undefined ? -ALL : FIRST_MOMENT),
      filters.endedTo ?? ALL,
      error ?? "",
      error ?? "",
      event.every((text) => text === null) ? 0 : 1,
      ...event.flatMap((text) => [text, text]),
      paths,
      paths
    ]
  }

  get #keys(): string {
    return JSON.stringify(this.#functions.map(({ key }) => key))
  }

  /** The error for an attribute that no run can have, if one of the filters names such an attribute. */
  unknownAttribute(call = "listRuns"): ValidationError | undefined {
    const known = new Set(this.#functions.flatMap(({ paths }) => paths))
    const unknown = Object.keys(this.#filters.attributes ?? {}).find((path) => !known.has(path))
    if (unknown === undefined) return undefined
    return new ValidationError(
      `${call}: runs cannot be found by "${unknown}": no function ${this.#filters.functionIds === undefined ? "" : "of `functionId` "}has this path in ` +
        `\`searchBy\`${known.size === 0 ? "" : `: use ${[...known].slice(0, 10).join(", ")}`}. A \`where\` can use any of the data, but takes longer`
    )
  }

  /** See {@link SearchSlice.filledBackTo}. `by` is what the runs are grouped by, which may be an attribute too. */
  *filledBackTo(by?: string): Program<number | undefined> {
    let below: number | undefined
    for (const path of [...Object.keys(this.#filters.attributes ?? {}), ...(by === undefined ? [] : [by])]) {
      for (const { key, paths } of this.#functions) {
        if (!paths.includes(path)) continue
        const row = yield* get(FIND_FILL_POSITION, key, path)
        if (row !== undefined) below = Math.max(below ?? 0, row.below === null ? ALL : Number(row.below))
      }
    }
    return below === undefined ? undefined : yield* createdAt({ key: below, event: 0 })
  }

  /**
   * Where the search begins, and by which plan. `planInCursor` is `undefined` without a cursor: then the shortest plan is taken.
   */
  *begin(planInCursor: string | undefined): Program<SearchPlace> {
    const { createdFrom, createdTo, endedTo } = this.#filters
    // a run that ended before a time was also created before that time
    const to = Math.min(createdTo ?? ALL, endedTo ?? ALL)
    const key = to === ALL ? ALL : yield* keyAt(to + CLOCK_SLACK_MS)
    const lastKey = createdFrom === undefined ? 0 : yield* keyAt(createdFrom - CLOCK_SLACK_MS)
    const newest = Number((yield* get(FIND_NEWEST_RUN))?.key ?? 0)
    const planKey = planInCursor ?? (yield* this.#shortest(Math.min(key, newest + 1) - lastKey))
    const isByEvent = planOf(planKey).isByEvent
    const eventAfter = isByEvent && key <= newest ? (yield* get(FIND_EVENT_AFTER, key))?.event : undefined
    return {
      by: planKey,
      event: eventAfter == null ? ALL : Number(eventAfter) + 1,
      key: isByEvent ? ALL : key,
      lastKey,
      lastEvent: isByEvent && lastKey > 1 ? yield* firstEventFrom(lastKey) : 0
    }
  }

  *#shortest(runsInRange: number): Program<string> {
    const {
      attributes = {},
      entityId,
      error,
      eventName,
      functionIds,
      idempotencyKey,
      statuses
    } = this.#filters
    const possible: Array<string> = [
      ...(idempotencyKey === undefined ? [] : ["idempotencyKey"]),
      ...Object.keys(attributes).map((path) => `attribute ${path}`),
      ...(entityId === undefined ? [] : ["entity"]),
      ...(statuses === undefined || statuses.includes("completed")
        ? []
        : statuses.every((status) => status === "failed" || status === "cancelled")
          ? ["endedBadly"]
          : statuses.includes("failed") || statuses.includes("cancelled")
            ? []
            : ["unfinished"]),
      ...(functionIds === undefined ? [] : ["function"]),
      ...(eventName === undefined ? [] : ["eventName"]),
      // counts all failed runs, because how often the text occurs in their errors is unknown; the check itself reads only the
      // index, which has all the data that it needs
      ...(error === undefined ? [] : ["error"])
    ]
    let best = "all"
    let fewest = runsInRange
    for (const planKey of possible) {
      const { count } = planOf(planKey)
      let runCount = 0
      for (const { values } of this.#lanes(planKey)) {
        if (count !== undefined) runCount += Number((yield* get(count, ...values))?.count)
        if (runCount >= fewest) break
      }
      // plans of MAX_COUNTED runs or more are not compared with each other: the first of them is taken
      if (runCount < fewest && (best === "all" || runCount < MAX_COUNTED))
        [best, fewest] = [planKey, runCount]
    }
    return best
  }

  #lanes(planKey: string): ReadonlyArray<Lane> {
    const { attributes = {}, entityId, eventName, idempotencyKey, statuses = [] } = this.#filters
    switch (planNameOf(planKey)) {
      case "attribute": {
        const path = planKey.slice("attribute ".length)
        return this.#functions
          .filter(({ paths }) => paths.includes(path))
          .map(({ key }) => ({ values: [key, path, attributes[path] ?? null] }))
      }
      case "idempotencyKey":
        return [{ values: [this.#environment, idempotencyKey ?? null] }]
      case "entity":
        return [{ values: [this.#environment, entityId ?? null] }]
      case "eventName":
        return [{ values: [this.#environment, eventName ?? null] }]
      case "endedBadly":
        return statuses.map((status) => ({ values: [Status[status]] }))
      case "function":
        return this.#functions.map(({ key }) => ({ values: [key] }))
      case "unfinished":
      case "error":
      case "all":
        return [{ values: [] }]
    }
  }

  /** The newest matching runs of all lanes that are older than a place. */
  *slice(
    place: SearchPlace,
    most: number
  ): Program<{
    readonly found: ReadonlyArray<FoundRun>
    readonly isLast: boolean
    readonly reached: { readonly event: number; readonly key: number }
  }> {
    const lanes = this.#lanes(place.by)
    const lastPlace = { event: place.lastEvent, key: planOf(place.by).isByEvent ? 0 : place.lastKey }
    const size = Math.max(100, Math.floor(SLICE / Math.max(1, lanes.length)))
    let reached = lastPlace
    const places: Array<RunPosition> = []
    for (const { values } of lanes) {
      const end = (yield* this.#end(place, values, size)) ?? lastPlace
      const stop = isBefore(end, lastPlace) ? lastPlace : end
      const found = yield* this.#find(place, values, stop, most)
      places.push(...found)
      const laneEnd = found.length < most ? stop : found.at(-1)!
      if (isBefore(reached, laneEnd)) reached = laneEnd
    }
    const sortedPlaces = places
      .filter((one) => !isBefore(one, reached))
      .sort((a, b) => (isBefore(a, b) ? 1 : -1))
    const found: Array<FoundRun> = []
    let length = 0
    for (const { event, key } of sortedPlaces) {
      if (found.length === most || length > SLICE_LENGTH)
        return { found, isLast: false, reached: found.at(-1)! }
      const row = yield* get(SHOW, key)
      // does not happen: the statement before has found the run in the same transaction
      if (row === undefined) continue
      const rowLength = lengthOfRow(row)
      length += rowLength
      found.push({ run: yield* readRun(this.#tx, row), event, key, length: rowLength, ...startOfRow(row) })
    }
    return { found, reached, isLast: !isBefore(lastPlace, reached) && sortedPlaces.length < most }
  }

  /** Counts the newest matching runs of all lanes that are older than a place. */
  *sums(place: SearchPlace, { by, durations }: Grouping, most: number): Program<SumsSlice> {
    const lanes = this.#lanes(place.by)
    const plan = planOf(place.by)
    const lastPlace = { event: place.lastEvent, key: plan.isByEvent ? 0 : place.lastKey }
    const size = Math.max(100, Math.floor(most / Math.max(1, lanes.length)))
    let reached = lastPlace
    for (const { values } of lanes) {
      const end = (yield* this.#end(place, values, size)) ?? lastPlace
      if (isBefore(reached, end)) reached = end
    }
    const bucket = bucketSizeOf(by)
    const groupingValues = [
      bucket !== undefined ? "time" : by.startsWith("event.") ? "attribute" : by,
      bucket ?? 1,
      bucket ?? 1,
      by,
      durations ? 1 : 0
    ]
    const sums: Array<GroupSum> = []
    for (const { values } of lanes) {
      for (const row of yield* all(
        plan.sum,
        ...groupingValues,
        ...this.#between(place, values, reached),
        ...this.#filterValues
      )) {
        const status = statusIn(row)!
        sums.push({
          value: by === "status" ? status : this.#valueOf(by, row.value),
          status,
          isRetried: Number(row.retried) === 1,
          tookMs: row.took === null ? undefined : Number(row.took),
          count: Number(row.n)
        })
      }
    }
    return { sums, place: { ...place, ...reached }, isLast: !isBefore(lastPlace, reached) }
  }

  #valueOf(by: string, value: Value | undefined): string | undefined {
    if (value == null || value === "") return undefined
    const text = String(value)
    if (by === "function") return registryOf(this.#tx).byKey(Number(text))?.registration.id ?? text
    if (by === "error") return errorGroup(messageIn(text))
    return bucketSizeOf(by) === undefined ? text : new Date(Number(text)).toISOString()
  }

  /** The ids of the functions whose `searchBy` has the path. */
  functionsWithPath(path: string): ReadonlyArray<string> {
    return this.#functions.flatMap(({ key, paths }) =>
      paths.includes(path) ? (registryOf(this.#tx).byKey(key)?.registration.id ?? []) : []
    )
  }

  *#end(place: SearchPlace, lane: ReadonlyArray<Value>, size: number): Program<RunPosition | undefined> {
    const plan = planOf(place.by)
    const at =
      plan.name === "function" ? [place.event, place.key] : [plan.isByEvent ? place.event : place.key]
    const row = yield* get(plan.end, ...lane, ...at, size - 1)
    return row === undefined ? undefined : positionOf(row)
  }

  *#find(
    place: SearchPlace,
    lane: ReadonlyArray<Value>,
    end: RunPosition,
    most: number
  ): Program<ReadonlyArray<RunPosition>> {
    const values = this.#between(place, lane, end)
    return (yield* all(planOf(place.by).find, ...values, ...this.#filterValues, most)).map(positionOf)
  }

  #between(place: SearchPlace, lane: ReadonlyArray<Value>, end: RunPosition): ReadonlyArray<Value> {
    const plan = planOf(place.by)
    return plan.name === "function"
      ? [...lane, place.event, place.key, end.event, end.key]
      : plan.isByEvent
        ? [this.#keys, ...lane, place.event, end.event, place.event, place.key]
        : [...lane, place.key, end.key, ...(plan.name === "error" ? [this.#filters.error ?? ""] : [])]
  }
}
