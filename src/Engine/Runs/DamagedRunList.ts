/**
 * Pages of runs from a damaged database. Runs that cannot be read are named, not left out. Each page reads the keys of all runs,
 * so this is slower than `RunList.ts`, and used only after `RunList.ts` has met damage.
 */
import { all, get, inEnvironment, statement, type Program, variant } from "../Store/Program.ts"
import type { DamagedRun, ListRunsResult, Run } from "../../Client/Client.ts"
import { filterOf, type RunFilter } from "./RunFilter.ts"
import { readRun, runIdOf, RUNS_WITH_EVENTS } from "./RunRows.ts"
import { isDamage, isUnavailable, storeError } from "../Store/SqliteErrors.ts"
import type { RunsBefore } from "./RunRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

interface DamagedPage extends Omit<ListRunsResult, "nextCursor"> {
  /** The key of the last run of the page: the next page has the runs of lower keys. Absent on the last page. */
  readonly next?: number
}

/**
 * Lists a page of runs. Must not be called within a transaction: the first error of the damaged database would end the
 * transaction.
 */
export const listRunsDespiteDamage = inEnvironment(
  "listRunsDespiteDamage",
  function* (tx: Transaction, query: RunsBefore): Program<DamagedPage> {
    const filter = filterOf(tx, query)
    if (filter === undefined) return { runs: [], totalCount: 0 }
    const { before } = query
    const { rows, totalCount } = yield* findRunsDespiteDamage({ ...filter, before, limit: query.limit + 1 })
    const page = rows.slice(0, query.limit)
    const last = page.at(-1)
    const runs: Array<Run> = []
    const damaged: Array<DamagedRun> = []
    for (const found of page) {
      if (found.row === undefined) {
        damaged.push(yield* damagedRun(found.key, found.error))
        continue
      }
      try {
        runs.push(yield* readRun(tx, found.row))
      } catch (error) {
        if (isUnavailable(error)) throw error
        damaged.push(yield* damagedRun(found.key, error))
      }
    }
    return {
      runs,
      totalCount,
      ...(damaged.length === 0 ? {} : { damaged }),
      ...(rows.length > query.limit && last !== undefined ? { next: last.key } : {})
    }
  },
  () => "list runs"
)

interface Search extends RunFilter {
  readonly before: number | undefined
  readonly limit: number
}

/** A run, or the reason why it cannot be read. */
type FoundRun =
  | { readonly key: number; readonly row: Row }
  | { readonly key: number; readonly row?: undefined; readonly error: unknown }

const LIST_RUN_KEYS = statement("DamagedRunList.listRunKeys", "SELECT key, id FROM runs ORDER BY +key DESC", {
  scans: "all keys, from the index of ids: only when the table is damaged"
})

/**
 * Finds a page of runs in a damaged table. A range of keys that a query cannot read is halved, until each damaged run is alone in
 * its range. The environment and the status of a damaged run are unknown, so such a run is part of every list.
 */
function* findRunsDespiteDamage({
  before,
  limit,
  values,
  where
}: Search): Program<{ readonly rows: ReadonlyArray<FoundRun>; readonly totalCount: number }> {
  // the index of ids has the keys of all runs
  const keys = (yield* all(LIST_RUN_KEYS)).map(({ key }) => Number(key))
  const rows: Array<FoundRun> = []
  let totalCount = 0
  function* visit(from: number, to: number): Program<void> {
    if (from >= to) return
    const first = keys[from]!
    const isSingle = to - from === 1
    const range = isSingle ? "r.key = ?" : "r.key <= ? AND r.key >= ?"
    const bounds = isSingle ? [first] : [first, keys[to - 1]!]
    try {
      const count = Number(
        (yield* get(
          variant("DamagedRunList.visit", `SELECT count(*) AS total FROM runs r WHERE ${where} AND ${range}`),
          ...values,
          ...bounds
        ))?.total
      )
      if (rows.length < limit && (before === undefined || keys[to - 1]! < before)) {
        const beforeCondition = before === undefined ? "" : " AND r.key < ?"
        for (const row of yield* all(
          variant(
            "DamagedRunList.visit",
            `${RUNS_WITH_EVENTS} WHERE ${where} AND ${range}${beforeCondition} ORDER BY r.key DESC LIMIT ?`
          ),
          ...values,
          ...bounds,
          ...(before === undefined ? [] : [before]),
          limit - rows.length
        )) {
          rows.push({ key: Number(row.key), row })
        }
      }
      totalCount += count
    } catch (error) {
      if (!isDamage(error)) throw error
      if (isSingle) {
        totalCount++
        if (rows.length < limit && (before === undefined || first < before)) rows.push({ key: first, error })
        return
      }
      const middle = (from + to) >> 1
      yield* visit(from, middle)
      yield* visit(middle, to)
    }
  }
  yield* visit(0, keys.length)
  return { rows, totalCount }
}

function* damagedRun(key: number, error: unknown): Program<DamagedRun> {
  return {
    id: (yield* runIdOf(key)) ?? `#${key}`,
    message: storeError("Cannot read the run", error).message
  }
}
