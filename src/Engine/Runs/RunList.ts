/**
 * Pages of runs, newest first, with a count of the matching runs. No index has the status of every run, because each change of a
 * status would have to update it. Without such an index, it takes tenths of a second to count a million rows. So the count looks
 * only at the newest {@link SLICE} candidates. A candidate is any run that the query reads before it checks the status. The runs
 * of a page are searched in slices, with other work in between.
 */
import { listRunsDespiteDamage } from "./DamagedRunList.ts"
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

/** How many runs one slice reads, which takes a few milliseconds. The count looks at this many of the newest candidates. */
const SLICE = 5000
/** About how many characters of data one slice reads. */
const SLICE_LENGTH = 1024 * 1024
/** A page ends with the run that exceeds this number of characters of data. */
const PAGE_LENGTH = 16 * 1024 * 1024

/** Lists that need more than one slice wait for each other: in a process, one such list runs at a time. */
const longLists = Semaphore.makeUnsafe(1)

/**
 * Lists runs. Each slice sees the current state of the database. The count is exact when there are fewer than {@link SLICE}
 * candidates. Otherwise only the newest candidates are counted, and the result has `isTotalExact: false`.
 */
export const listRuns = (
  store: StoreService,
  { cursor, ...query }: ListRunsQuery
): Effect.Effect<ListRunsResult, ValidationError | StoreError> =>
  cursor === undefined
    ? listPage(store, query)
    : Effect.flatMap(readCursor(digestedPart(query), cursor), ({ key, listedCount }) =>
        listPage(store, { ...query, before: key }, listedCount)
      )

/** The part of a query that is the same for all pages of a list. Cursors carry a digest of it. */
const digestedPart = ({ environment, functionId, status }: RunsBefore) => ({
  environment,
  functionId,
  status
})

/** The cursor of the page that has the runs below `key`. `listedCount` is how many runs are on the pages before that page. */
const cursorBefore = (query: RunsBefore, key: number, listedCount: number): string =>
  writeCursor(digestedPart(query), { by: "", event: 0, key, listedCount })

/** Reads one page. `listedBefore` is how many runs are on the earlier pages. */
const listPage = (
  store: StoreService,
  query: RunsBefore,
  listedBefore = 0
): Effect.Effect<ListRunsResult, StoreError> =>
  Effect.catchIf(
    Effect.gen(function* () {
      const runs: Array<Run> = []
      let place: Place | undefined
      const readSlice = Effect.gen(function* () {
        const slice: Slice = yield* store.read(readRunSlice(query, place))
        for (const run of slice.runs) runs.push(run)
        place = slice.place
        return slice.isLast
      })
      if (!(yield* readSlice)) {
        yield* longLists.withPermits(1)(
          Effect.gen(function* () {
            do yield* yieldToEventLoop
            while (!(yield* readSlice))
          })
        )
      }
      const listedCount = listedBefore + runs.length
      // without a full count, the total is at least the runs on the pages so far, and one more when another page follows
      const isExact = place?.isExact !== false
      return {
        runs,
        totalCount: isExact
          ? (place?.total ?? 0)
          : Math.max(place?.total ?? 0, listedCount + (place?.isFull === true ? 1 : 0)),
        ...(isExact ? {} : { isTotalExact: false }),
        ...(place?.isFull === true ? { nextCursor: cursorBefore(query, place.lastKey, listedCount) } : {})
      }
    }),
    isDamage,
    () =>
      Effect.map(store.readApart(listRunsDespiteDamage(query)), ({ next, ...page }) => ({
        ...page,
        ...(next === undefined
          ? {}
          : { nextCursor: cursorBefore(query, next, listedBefore + page.runs.length) })
      }))
  )

/** How far a list has come on its way from the newest run to the oldest. */
interface Place {
  /** How many runs match in the newest slice. */
  readonly total: number
  /** The key of the oldest run that was looked at; 0 when all were. */
  readonly oldestRead: number
  /** Whether the newest slice has been counted. */
  readonly isCounted: boolean
  /** Whether all candidates were in the newest slice, so that the count is exact. */
  readonly isExact: boolean
  /** All matching runs with this key or a higher one are on this page or on an earlier one. */
  readonly oldestListed: number
  /** Whether the page is full and a further matching run follows. */
  readonly isFull: boolean
  /** The key of the last run on the page. */
  readonly lastKey: number
  /** How many runs are on the page. */
  readonly runsOnPage: number
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
    const filter = yield* filterWithIndex(tx, query)
    if (filter === undefined) return { runs: [], place: undefined, isLast: true }
    const start = place ?? {
      total: 0,
      oldestRead: Number.MAX_SAFE_INTEGER,
      isCounted: false,
      isExact: false,
      oldestListed: query.before ?? Number.MAX_SAFE_INTEGER,
      isFull: false,
      lastKey: 0,
      runsOnPage: 0,
      length: 0
    }
    return yield* new Walk(tx, query, filter, start).processSlice()
  },
  () => "list runs"
)

const COUNT_RUNS_OF_FUNCTION = statement(
  "RunList.countRunsOfFunction",
  `SELECT count(*) AS n FROM (SELECT 1 FROM runs WHERE function = ? LIMIT ${SLICE}) AS few`,
  { scans: "the runs of one function, at most as many as one slice has" }
)

/** The filter of a query. It uses the index of the function when the function has fewer runs than a slice. */
function* filterWithIndex(tx: Transaction, query: RunsBefore): Program<RunFilter | undefined> {
  const filter = filterOf(tx, query)
  if (filter?.fn === undefined || filter.indexCondition !== "") return filter
  if (Number((yield* get(COUNT_RUNS_OF_FUNCTION, filter.fn))?.n) >= SLICE) return filter
  return {
    ...filter,
    indexCondition: "AND r.function = ?",
    indexValues: [filter.fn],
    // does not use the index on the run key: the few runs of the function are sorted instead
    key: "+r.key"
  }
}

/** Processes one slice of a list, which begins at a place. */
class Walk {
  readonly #tx: Transaction
  readonly #limit: number
  readonly #bound: string
  readonly #count: string
  readonly #page: string
  readonly #values: ReadonlyArray<number>
  readonly #indexValues: ReadonlyArray<number>
  readonly #runs: Array<Run> = []
  #length: number
  #total: number
  #oldestRead: number
  #isCounted: boolean
  #isExact: boolean
  #oldestListed: number
  #isFull: boolean
  #lastKey: number
  #runsOnPage: number

  constructor(
    tx: Transaction,
    { limit }: RunsBefore,
    { indexCondition, indexValues, key, values, where }: RunFilter,
    place: Place
  ) {
    this.#tx = tx
    this.#limit = limit
    this.#length = place.length
    this.#total = place.total
    this.#oldestRead = place.oldestRead
    this.#isCounted = place.isCounted
    this.#isExact = place.isExact
    this.#oldestListed = place.oldestListed
    this.#isFull = place.isFull
    this.#lastKey = place.lastKey
    this.#runsOnPage = place.runsOnPage
    this.#values = [...values, ...indexValues]
    this.#indexValues = indexValues
    const between = `WHERE ${where} ${indexCondition} AND ${key} < ? AND ${key} >= ?`
    this.#bound = `SELECT r.key FROM runs r WHERE ${key} < ? ${indexCondition} ORDER BY ${key} DESC LIMIT 1 OFFSET ${SLICE - 1}`
    this.#count = `SELECT count(*) AS total FROM runs r ${between}`
    this.#page = `${RUNS_WITH_EVENTS} ${between} ORDER BY ${key} DESC LIMIT ?`
  }

  /** Processes one slice. */
  *processSlice(): Program<Slice> {
    if (!this.#isCounted) yield* this.#countNewest()
    // the page has all of the last slice: the next slice begins at the end of that slice, or at the cursor if it is further back
    else if (this.#oldestListed <= this.#oldestRead)
      yield* this.#moveOn(Math.min(this.#oldestRead, this.#oldestListed))
    yield* this.#fill()
    return {
      runs: this.#runs,
      place: {
        total: this.#total,
        oldestRead: this.#oldestRead,
        isCounted: this.#isCounted,
        isExact: this.#isExact,
        oldestListed: this.#oldestListed,
        isFull: this.#isFull,
        lastKey: this.#lastKey,
        runsOnPage: this.#runsOnPage,
        length: this.#length
      },
      isLast: this.#isFull || (this.#oldestRead === 0 && this.#oldestListed <= 0)
    }
  }

  *#moveOn(from: number): Program<void> {
    const row = yield* get(variant("RunList.lookOn", this.#bound), from, ...this.#indexValues)
    this.#oldestRead = Number(row?.key ?? 0)
  }

  *#countNewest(): Program<void> {
    const from = this.#oldestRead
    yield* this.#moveOn(from)
    const counted = yield* get(
      variant("RunList.countOn", this.#count),
      ...this.#values,
      from,
      this.#oldestRead
    )
    this.#total = Number(counted?.total)
    this.#isCounted = true
    this.#isExact = this.#oldestRead === 0
  }

  /** Adds to the page the matching runs between the end of the page and the end of the slice. */
  *#fill(): Program<void> {
    let sliceLength = 0
    let rows = 16
    while (!this.#isFull && this.#oldestListed > this.#oldestRead && sliceLength < SLICE_LENGTH) {
      const found = yield* all(
        variant("RunList.fill", this.#page),
        ...this.#values,
        this.#oldestListed,
        this.#oldestRead,
        rows
      )
      for (const row of found) {
        if (this.#runsOnPage === this.#limit || this.#length > PAGE_LENGTH) {
          this.#isFull = true
          return
        }
        const length = lengthOf(row)
        sliceLength += length
        this.#length += length
        this.#runsOnPage++
        this.#runs.push(yield* readRun(this.#tx, row))
        this.#oldestListed = this.#lastKey = Number(row.key)
      }
      if (found.length < rows) this.#oldestListed = this.#oldestRead
      // reads as many rows as fit into a slice if they are as long as the rows before
      rows = Math.max(1, Math.min(this.#limit, Math.floor((SLICE_LENGTH * rows) / (sliceLength + 1))))
    }
  }
}

/**
 * The number of characters in the strings of a row. Makes no list of the row's values: for the thousands of rows of a page, such
 * lists would take as long as reading the rows.
 */
const lengthOf = (row: Row): number => {
  let length = 0
  for (const name in row) {
    const value = row[name]
    if (typeof value === "string") length += value.length
  }
  return length
}
