/** What is not kept for ever: runs that ended long ago, with their steps. The log and entity streams stay. */
import type { DeletedRuns } from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"

/** Runs that are looked at in one query. */
const PAGE = 500

const OLD = "SELECT key, created_at, ended_at, parent FROM runs WHERE"

/** Runs that are looked at in one transaction: others want to write too. */
const MOST_LOOKED_AT = 5000

/**
 * Deletes runs that ended before `endedBefore` (epoch milliseconds), at most `limit` of them, oldest first. A run whose
 * parent is unfinished stays, and so does the newest run, so that its number is not given again. Begins after the run
 * numbered `after`, and says where to go on, if it has not come to the end.
 */
export const deleteEndedRuns = (
  tx: Transaction,
  endedBefore: number,
  limit: number,
  after = 0
): DeletedRuns => {
  const newest = Number(tx.get("SELECT max(key) AS key FROM runs")?.key ?? 0)
  let deleted = 0
  let last = after
  for (let lookedAt = 0; lookedAt < MOST_LOOKED_AT; lookedAt += PAGE) {
    // runs are numbered as they are created and end after that: the oldest are in front, and the first young one ends it
    const rows = page(tx, last)
    for (const row of rows) {
      if (deleted === limit) return { deleted, after: last }
      const key = Number(row.key)
      // one that was created under a clock that was ahead says nothing about those after it
      const isYoung = Number(row.created_at) >= endedBefore && Number(row.created_at) <= tx.now()
      if (isYoung || key === newest) return { deleted }
      last = key
      if (row.ended_at === null || Number(row.ended_at) >= endedBefore || hasOpenParent(tx, row)) continue
      tx.apart("run", key, () => deleteRun(tx, key))
      deleted++
    }
    if (rows.length < PAGE) return { deleted }
  }
  return { deleted, after: last }
}

const deleteRun = (tx: Transaction, key: number): void => {
  for (const table of ["steps", "superseded_steps"]) tx.run(`DELETE FROM ${table} WHERE run = ?`, key)
  tx.run("DELETE FROM runs WHERE key = ?", key)
}

/** The runs after `last`, in order; around those that are damaged they are read one by one. */
const page = (tx: Transaction, last: number): Array<Row> => {
  // the `+` makes SQLite read the index of ids, which has all keys, and not the rows
  const keys = `SELECT key, id FROM runs WHERE +key > ?${tx.damage.except("run", "key")} ORDER BY +key LIMIT ${PAGE}`
  if (tx.damage.except("run", "key") === "")
    return tx.among("run", [keys, last], `${OLD} key > ? ORDER BY key LIMIT ?`, last, PAGE)
  return tx
    .all(keys, last)
    .flatMap(({ key }) => tx.apart("run", Number(key), () => tx.all(`${OLD} key = ?`, key!)))
}

const hasOpenParent = (tx: Transaction, run: Row): boolean =>
  run.parent !== null &&
  tx.get("SELECT 1 FROM runs WHERE key = ? AND ended_at IS NULL", run.parent!) !== undefined
