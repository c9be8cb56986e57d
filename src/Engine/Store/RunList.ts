/**
 * Pages of runs, newest first, and how many runs there are of a kind. Both go through all runs: no index knows of statuses and
 * functions, because every turn of every run would have to keep it. So it is done in slices, between which others go on.
 */
import { all, get, type Program, variant } from "./Program.ts"
import * as Effect from "effect/Effect"
import type * as Semaphore from "effect/Semaphore"
import type { ListRunsResult, Run } from "../../Client/Client.ts"
import { ValidationError } from "../../Errors.ts"
import { nextTurn } from "../Polite.ts"
import { readRun, RUNS_WITH_EVENTS } from "./RunRows.ts"
import type { ListRunsQuery } from "./Store.ts"
import { listOf, Status } from "./StatusRows.ts"
import type { Row, Transaction } from "./Transaction.ts"

/** Runs that are looked at in one slice: some milliseconds. */
const SLICE = 10_000
/** Characters of data that are read in one slice, and that are on one page, unless one run alone has more. */
const SLICE_LENGTH = 1024 * 1024
const PAGE_LENGTH = 16 * 1024 * 1024

/**
 * Lists runs. `read` looks at the database, each time as it is then: the count is of each run as it was when its slice was
 * read, and of none that came later. What takes more than one slice is done for one caller at a time.
 */
export const listRuns = <E>(
  tx: Transaction,
  query: ListRunsQuery,
  read: <A>(look: () => Program<A>) => Effect.Effect<A, E>,
  turns: Semaphore.Semaphore
): Effect.Effect<ListRunsResult, E> =>
  Effect.gen(function* () {
    const walk = yield* read(function* () {
      return begin(tx, query)
    })
    if (walk === undefined) return { runs: [], totalCount: 0 }
    const go = read(() => walk.go())
    if (!(yield* go)) {
      yield* turns.withPermits(1)(
        Effect.gen(function* () {
          do yield* nextTurn
          while (!(yield* go))
        })
      )
    }
    return walk.result
  })

const begin = (tx: Transaction, query: ListRunsQuery): Walk | undefined => {
  const filter = filterOf(tx, query)
  return filter === undefined ? undefined : new Walk(tx, query, filter)
}

/** Which runs are asked for. */
export interface RunFilter {
  readonly where: string
  readonly values: ReadonlyArray<number>
  /** What of it an index may help with. */
  readonly among: string
}

/** `undefined` when there can be none. */
export const filterOf = (
  tx: Transaction,
  { environment: name, functionId, status }: ListRunsQuery
): RunFilter | undefined => {
  const environment = tx.findEnvironment(name)
  const fn = functionId === undefined ? undefined : tx.registry.get(name, functionId)
  if (environment === undefined || (functionId !== undefined && fn === undefined)) return undefined
  const conditions = ["r.environment = ?"]
  const values = [environment]
  if (fn !== undefined) {
    conditions.push("r.function = ?")
    values.push(fn.key)
  }
  // the partial indexes hold few rows: completed runs are found by going back through all
  let among = ""
  if (status !== undefined) {
    const number = Status[status]
    conditions.push("r.status = ?")
    values.push(number)
    if (status === "failed" || status === "cancelled") {
      among = `AND r.status = ${number} AND r.status IN (${listOf(["failed", "cancelled"])})`
    } else if (status !== "completed") among = "AND r.ended_at IS NULL"
  }
  return { where: conditions.join(" AND "), values, among }
}

/** From the newest run to the oldest. */
class Walk {
  readonly #tx: Transaction
  readonly #limit: number
  readonly #bound: string
  readonly #count: string
  readonly #page: string
  readonly #values: ReadonlyArray<number>
  readonly #runs: Array<Run> = []
  #length = 0
  #total = 0
  /** Everything from here on is counted. */
  #counted = Number.MAX_SAFE_INTEGER
  #isCounted = false
  /** Everything from here on is on the page, or on one before it. */
  #paged: number
  #isFull = false
  #lastKey = 0

  constructor(tx: Transaction, { cursor, limit }: ListRunsQuery, { among, values, where }: RunFilter) {
    this.#tx = tx
    this.#limit = limit
    this.#paged = cursor === undefined ? Number.MAX_SAFE_INTEGER : readCursor(cursor)
    this.#values = values
    const between = `WHERE ${where} ${among} AND r.key < ? AND r.key >= ?`
    this.#bound = `SELECT r.key FROM runs r WHERE r.key < ? ${among} ORDER BY r.key DESC LIMIT 1 OFFSET ${SLICE - 1}`
    this.#count = `SELECT count(*) AS total FROM runs r ${between}`
    this.#page = `${RUNS_WITH_EVENTS} ${between} ORDER BY r.key DESC LIMIT ?`
  }

  /** Does a slice, and says whether it was the last. */
  *go(): Program<boolean> {
    if (this.#isFull || this.#paged <= this.#counted) yield* this.#countOn()
    yield* this.#fill()
    return this.#isCounted && (this.#isFull || this.#paged <= this.#counted)
  }

  get result(): ListRunsResult {
    return {
      runs: this.#runs,
      totalCount: this.#total,
      ...(this.#isFull ? { nextCursor: `r${this.#lastKey}` } : {})
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
        if (this.#runs.length === this.#limit || this.#length > PAGE_LENGTH) {
          this.#isFull = true
          return
        }
        const length = lengthOf(row)
        gathered += length
        this.#length += length
        this.#runs.push(yield* readRun(this.#tx, row))
        this.#paged = this.#lastKey = Number(row.key)
      }
      if (found.length < rows) this.#paged = this.#counted
      // as many as there is room for when they are like those before
      rows = Math.max(1, Math.min(this.#limit, Math.floor((SLICE_LENGTH * rows) / (gathered + 1))))
    }
  }
}

const lengthOf = (row: Row): number =>
  Object.values(row).reduce<number>((sum, value) => sum + (typeof value === "string" ? value.length : 0), 0)

export const readCursor = (cursor: string): number => {
  const key = /^r(\d{1,15})$/.exec(cursor)?.[1]
  if (key === undefined) {
    throw new ValidationError(
      `Cursor "${cursor}" is not one that listRuns returned: pass nextCursor of the page before`
    )
  }
  return Number(key)
}
