/**
 * Pages of runs, newest first, with a count. No index has the status of every run, because every turn would have to maintain it.
 * Without one, counting a million rows takes tenths of a second. So only the newest {@link SLICE} candidates are counted. The page
 * is searched in slices, with other work in between.
 */
import { listRunsAround } from "./DamagedRunList.ts"
import { all, get, inEnvironment, type Program, statement, variant } from "../Store/Program.ts"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { ListRunsResult, Run } from "../../Client/Client.ts"
import type { StoreError, ValidationError } from "../../Errors.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import { readCursor, writeCursor } from "./RunCursor.ts"
import { filterOf, type RunFilter } from "./RunFilter.ts"
import { readRun, RUNS_WITH_EVENTS } from "./RunRows.ts"
import { isDamage } from "../Store/SqliteErrors.ts"
import type { StoreService } from "../Store/Store.ts"
import type { ListRunsQuery, RunsBefore } from "./RunRecords.ts"

import type { Row, Transaction } from "../Store/Transaction.ts"

/**
 * How many runs one slice looks at, which takes a few milliseconds. Only the matching runs among this many of the newest are counted.
 */
const SLICE = 5000
/** About how many characters of data one slice reads. */
const SLICE_LENGTH = 1024 * 1024
/** A page ends with the run that exceeds this number of characters of data. */
const PAGE_LENGTH = 16 * 1024 * 1024

/** Lists that take more than one slice run one at a time, over all engines of the process. */
const long = Semaphore.makeUnsafe(1)

/**
 * Lists runs. Each slice sees the current state of the database. The count is exact when there are at most {@link SLICE}
 * candidates; otherwise it counts only the newest of them, and says so.
 */
export const listRuns = (
  store: StoreService,
  { cursor, ...asked }: ListRunsQuery
): Effect.Effect<ListRunsResult, ValidationError | StoreError> =>
  cursor === undefined
    ? listPage(store, asked)
    : Effect.flatMap(readCursor(digestible(asked), cursor), ({ key, listed }) =>
        listPage(store, { ...asked, before: key }, listed)
      )

/** The part of a query that its cursors belong to: without the place and the limit. */
const digestible = ({ environment, functionId, status }: RunsBefore) => ({ environment, functionId, status })

/** The cursor of a page that begins before a run. */
const cursorBefore = (query: RunsBefore, key: number, listed: number): string =>
  writeCursor(digestible(query), { by: "", event: 0, key, listed })

/** Reads one page. `before` is how many runs are on the earlier pages. */
const listPage = (
  store: StoreService,
  query: RunsBefore,
  before = 0
): Effect.Effect<ListRunsResult, StoreError> =>
  Effect.catchIf(
    Effect.gen(function* () {
      const runs: Array<Run> = []
      let place: Place | undefined
      const go = Effect.gen(function* () {
        const slice: Slice = yield* store.read(readRunSlice(query, place))
        for (const run of slice.runs) runs.push(run)
        place = slice.place
        return slice.isLast
      })
      if (!(yield* go)) {
        yield* long.withPermits(1)(
          Effect.gen(function* () {
            do yield* yieldToEventLoop
            while (!(yield* go))
          })
        )
      }
      const listed = before + runs.length
      // without a full count, the total is at least the runs on the pages so far, and one more when another page follows
      const isExact = place?.isExact !== false
      return {
        runs,
        totalCount: isExact
          ? (place?.total ?? 0)
          : Math.max(place?.total ?? 0, listed + (place?.isFull === true ? 1 : 0)),
        ...(isExact ? {} : { isTotalExact: false }),
        ...(place?.isFull === true ? { nextCursor: cursorBefore(query, place.lastKey, listed) } : {})
      }
    }),
    isDamage,
    () =>
      Effect.map(store.readApart(listRunsAround(query)), ({ next, ...page }) => ({
        ...page,
        ...(next === undefined ? {} : { nextCursor: cursorBefore(query, next, before + page.runs.length) })
      }))
  )

/** How far a list has come. It goes from the newest run to the oldest. */
interface Place {
  readonly total: number
  /** The key of the oldest run that was looked at. Only the newest slice was counted. */
  readonly looked: number
  /** Whether the newest slice has been counted. */
  readonly isCounted: boolean
  /** Whether the newest slice had all candidates, so that the count is exact. */
  readonly isExact: boolean
  /** All matching runs with this key or a higher one are on this page or on an earlier one. */
  readonly paged: number
  readonly isFull: boolean
  readonly lastKey: number
  /** How many runs are on the page. */
  readonly taken: number
  /** How many characters of data are on the page. */
  readonly length: number
}

interface Slice {
  readonly runs: ReadonlyArray<Run>
  readonly place: Place | undefined
  readonly isLast: boolean
}

const readRunSlice = inEnvironment(
  "readRunSlice",
  function* (tx: Transaction, query: RunsBefore, place: Place | undefined): Program<Slice> {
    const filter = yield* narrowed(tx, query)
    if (filter === undefined) return { runs: [], place: undefined, isLast: true }
    const from = place ?? {
      total: 0,
      looked: Number.MAX_SAFE_INTEGER,
      isCounted: false,
      isExact: false,
      paged: query.before ?? Number.MAX_SAFE_INTEGER,
      isFull: false,
      lastKey: 0,
      taken: 0,
      length: 0
    }
    return yield* new Walk(tx, query, filter, from).go()
  },
  () => "list runs"
)

const COUNT_RUNS_OF_FUNCTION = statement(
  "RunList.countRunsOfFunction",
  `SELECT count(*) AS n FROM (SELECT 1 FROM runs WHERE function = ? LIMIT ${SLICE}) AS few`,
  { scans: "what it has found itself, a slice at most" }
)

/** The filter, with the function's index when the function has fewer runs than a slice. */
function* narrowed(tx: Transaction, query: RunsBefore): Program<RunFilter | undefined> {
  const filter = filterOf(tx, query)
  if (filter?.fn === undefined || filter.among !== "") return filter
  if (Number((yield* get(COUNT_RUNS_OF_FUNCTION, filter.fn))?.n) >= SLICE) return filter
  return {
    ...filter,
    among: "AND r.function = ?",
    amongValues: [filter.fn],
    // does not use the index on the run key: the few runs of the function are sorted instead
    key: "+r.key"
  }
}

/** Goes part of the way from the newest run to the oldest. */
class Walk {
  readonly #tx: Transaction
  readonly #limit: number
  readonly #bound: string
  readonly #count: string
  readonly #page: string
  readonly #values: ReadonlyArray<number>
  readonly #amongValues: ReadonlyArray<number>
  readonly #runs: Array<Run> = []
  #length: number
  #total: number
  #looked: number
  #isCounted: boolean
  #isExact: boolean
  #paged: number
  #isFull: boolean
  #lastKey: number
  #taken: number

  constructor(
    tx: Transaction,
    { limit }: RunsBefore,
    { among, amongValues, key, values, where }: RunFilter,
    place: Place
  ) {
    this.#tx = tx
    this.#limit = limit
    this.#length = place.length
    this.#total = place.total
    this.#looked = place.looked
    this.#isCounted = place.isCounted
    this.#isExact = place.isExact
    this.#paged = place.paged
    this.#isFull = place.isFull
    this.#lastKey = place.lastKey
    this.#taken = place.taken
    this.#values = [...values, ...amongValues]
    this.#amongValues = amongValues
    const between = `WHERE ${where} ${among} AND ${key} < ? AND ${key} >= ?`
    this.#bound = `SELECT r.key FROM runs r WHERE ${key} < ? ${among} ORDER BY ${key} DESC LIMIT 1 OFFSET ${SLICE - 1}`
    this.#count = `SELECT count(*) AS total FROM runs r ${between}`
    this.#page = `${RUNS_WITH_EVENTS} ${between} ORDER BY ${key} DESC LIMIT ?`
  }

  /** Processes one slice. */
  *go(): Program<Slice> {
    if (!this.#isCounted) yield* this.#countNewest()
    // a cursor far back continues from its own place
    else if (this.#paged <= this.#looked) yield* this.#lookOn(Math.min(this.#looked, this.#paged))
    yield* this.#fill()
    return {
      runs: this.#runs,
      place: {
        total: this.#total,
        looked: this.#looked,
        isCounted: this.#isCounted,
        isExact: this.#isExact,
        paged: this.#paged,
        isFull: this.#isFull,
        lastKey: this.#lastKey,
        taken: this.#taken,
        length: this.#length
      },
      isLast: this.#isFull || (this.#looked === 0 && this.#paged <= 0)
    }
  }

  *#lookOn(from: number): Program<void> {
    const row = yield* get(variant("RunList.lookOn", this.#bound), from, ...this.#amongValues)
    this.#looked = Number(row?.key ?? 0)
  }

  *#countNewest(): Program<void> {
    const from = this.#looked
    yield* this.#lookOn(from)
    const counted = yield* get(variant("RunList.countOn", this.#count), ...this.#values, from, this.#looked)
    this.#total = Number(counted?.total)
    this.#isCounted = true
    this.#isExact = this.#looked === 0
  }

  /** Adds to the page the matching runs between its end and the end of the slice. */
  *#fill(): Program<void> {
    let gathered = 0
    let rows = 16
    while (!this.#isFull && this.#paged > this.#looked && gathered < SLICE_LENGTH) {
      const found = yield* all(
        variant("RunList.fill", this.#page),
        ...this.#values,
        this.#paged,
        this.#looked,
        rows
      )
      for (const row of found) {
        if (this.#taken === this.#limit || this.#length > PAGE_LENGTH) {
          this.#isFull = true
          return
        }
        const length = lengthOf(row)
        gathered += length
        this.#length += length
        this.#taken++
        this.#runs.push(yield* readRun(this.#tx, row))
        this.#paged = this.#lastKey = Number(row.key)
      }
      if (found.length < rows) this.#paged = this.#looked
      // reads as many rows as fit if they are as long as the last ones
      rows = Math.max(1, Math.min(this.#limit, Math.floor((SLICE_LENGTH * rows) / (gathered + 1))))
    }
  }
}

/**
 * Characters of the strings in a row. It makes no list of the row's values: a page has thousands of rows, and such lists would
 * take as long as reading the rows.
 */
const lengthOf = (row: Row): number => {
  let length = 0
  for (const name in row) {
    const value = row[name]
    if (typeof value === "string") length += value.length
  }
  return length
}
