/**
 * Pages of runs, newest first, and how many runs there are of a kind. Both go through all runs: no index knows of statuses and
 * functions, because every turn of every run would have to keep it. So it is done in slices, between which others go on.
 */
import { listRunsAround } from "./DamagedRunList.ts"
import { all, get, inEnvironment, type Program, variant } from "../Store/Program.ts"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { ListRunsResult, Run } from "../../Client/Client.ts"
import type { StoreError, ValidationError } from "../../Errors.ts"
import { nextTurn } from "../Polite.ts"
import { readCursor, writeCursor } from "./RunCursor.ts"
import { filterOf, type RunFilter } from "./RunFilter.ts"
import { readRun, RUNS_WITH_EVENTS } from "./RunRows.ts"
import { isDamage } from "../Store/SqliteErrors.ts"
import type { StoreService } from "../Store/Store.ts"
import type { ListRunsQuery, RunsBefore } from "./RunRecords.ts"

import type { Row, Transaction } from "../Store/Transaction.ts"

/** Runs that are looked at in one slice: some milliseconds. */
const SLICE = 10_000
/** Characters of data that are read in one slice, and that are on one page, unless one run alone has more. */
const SLICE_LENGTH = 1024 * 1024
const PAGE_LENGTH = 16 * 1024 * 1024

/** What takes more than one slice is done for one caller at a time, in all engines of the process. */
const long = Semaphore.makeUnsafe(1)

/**
 * Lists runs. The database is looked at each time as it is then: the count is of each run as it was when its slice was read, and
 * of none that came later.
 */
export const listRuns = (
  store: StoreService,
  { cursor, ...asked }: ListRunsQuery
): Effect.Effect<ListRunsResult, ValidationError | StoreError> =>
  cursor === undefined
    ? listPage(store, asked)
    : Effect.flatMap(readCursor(digestible(asked), cursor), ({ key }) =>
        listPage(store, { ...asked, before: key })
      )

/** What a cursor belongs to: all but the place, and how many runs are wanted. */
const digestible = ({ environment, functionId, status }: RunsBefore) => ({ environment, functionId, status })

/** The cursor to go on with before a run. */
const cursorBefore = (query: RunsBefore, key: number): string =>
  writeCursor(digestible(query), { by: "", event: 0, key, listed: 0 })

const listPage = (store: StoreService, query: RunsBefore): Effect.Effect<ListRunsResult, StoreError> =>
  Effect.catchIf(
    Effect.gen(function* () {
      const runs: Array<Run> = []
      let place: Place | undefined
      const go = Effect.gen(function* () {
        const slice: Slice = yield* store.read(readSlice(query, place))
        for (const run of slice.runs) runs.push(run)
        place = slice.place
        return slice.isLast
      })
      if (!(yield* go)) {
        yield* long.withPermits(1)(
          Effect.gen(function* () {
            do yield* nextTurn
            while (!(yield* go))
          })
        )
      }
      return {
        runs,
        totalCount: place?.total ?? 0,
        ...(place?.isFull === true ? { nextCursor: cursorBefore(query, place.lastKey) } : {})
      }
    }),
    isDamage,
    () =>
      Effect.map(store.readApart(listRunsAround(query)), ({ next, ...page }) => ({
        ...page,
        ...(next === undefined ? {} : { nextCursor: cursorBefore(query, next) })
      }))
  )

/** How far a list has come, on its way from the newest run to the oldest. */
interface Place {
  readonly total: number
  /** Everything from here on is counted. */
  readonly counted: number
  readonly isCounted: boolean
  /** Everything from here on is on the page, or on one before it. */
  readonly paged: number
  readonly isFull: boolean
  readonly lastKey: number
  /** How many runs are on the page, and their characters. */
  readonly taken: number
  readonly length: number
}

interface Slice {
  readonly runs: ReadonlyArray<Run>
  readonly place: Place | undefined
  readonly isLast: boolean
}

const readSlice = inEnvironment(
  "readSliceOfRuns",
  function* (tx: Transaction, query: RunsBefore, place: Place | undefined): Program<Slice> {
    const filter = filterOf(tx, query)
    if (filter === undefined) return { runs: [], place: undefined, isLast: true }
    const from = place ?? {
      total: 0,
      counted: Number.MAX_SAFE_INTEGER,
      isCounted: false,
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

/** A part of the way from the newest run to the oldest. */
class Walk {
  readonly #tx: Transaction
  readonly #limit: number
  readonly #bound: string
  readonly #count: string
  readonly #page: string
  readonly #values: ReadonlyArray<number>
  readonly #runs: Array<Run> = []
  #length: number
  #total: number
  #counted: number
  #isCounted: boolean
  #paged: number
  #isFull: boolean
  #lastKey: number
  #taken: number

  constructor(tx: Transaction, { limit }: RunsBefore, { among, values, where }: RunFilter, place: Place) {
    this.#tx = tx
    this.#limit = limit
    this.#length = place.length
    this.#total = place.total
    this.#counted = place.counted
    this.#isCounted = place.isCounted
    this.#paged = place.paged
    this.#isFull = place.isFull
    this.#lastKey = place.lastKey
    this.#taken = place.taken
    this.#values = values
    const between = `WHERE ${where} ${among} AND r.key < ? AND r.key >= ?`
    this.#bound = `SELECT r.key FROM runs r WHERE r.key < ? ${among} ORDER BY r.key DESC LIMIT 1 OFFSET ${SLICE - 1}`
    this.#count = `SELECT count(*) AS total FROM runs r ${between}`
    this.#page = `${RUNS_WITH_EVENTS} ${between} ORDER BY r.key DESC LIMIT ?`
  }

  /** Does a slice. */
  *go(): Program<Slice> {
    if (this.#isFull || this.#paged <= this.#counted) yield* this.#countOn()
    yield* this.#fill()
    return {
      runs: this.#runs,
      place: {
        total: this.#total,
        counted: this.#counted,
        isCounted: this.#isCounted,
        paged: this.#paged,
        isFull: this.#isFull,
        lastKey: this.#lastKey,
        taken: this.#taken,
        length: this.#length
      },
      isLast: this.#isCounted && (this.#isFull || this.#paged <= this.#counted)
    }
  }

  *#countOn(): Program<void> {
    if (this.#isCounted) return
    const bound = Number((yield* get(variant("RunList.countOn", this.#bound), this.#counted))?.key ?? 0)
    this.#total += Number(
      (yield* get(variant("RunList.countOn", this.#count), ...this.#values, this.#counted, bound))?.total
    )
    this.#isCounted = bound === 0
    this.#counted = bound
  }

  /** Takes what fits from where the page ends to where is counted. */
  *#fill(): Program<void> {
    let gathered = 0
    let rows = 16
    while (!this.#isFull && this.#paged > this.#counted && gathered < SLICE_LENGTH) {
      const found = yield* all(
        variant("RunList.fill", this.#page),
        ...this.#values,
        this.#paged,
        this.#counted,
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
      if (found.length < rows) this.#paged = this.#counted
      // as many as there is room for when they are like those before
      rows = Math.max(1, Math.min(this.#limit, Math.floor((SLICE_LENGTH * rows) / (gathered + 1))))
    }
  }
}

/** Thousands of rows are on a page, and to make a list of what is in each takes as long as to read it. */
const lengthOf = (row: Row): number => {
  let length = 0
  for (const name in row) {
    const value = row[name]
    if (typeof value === "string") length += value.length
  }
  return length
}
