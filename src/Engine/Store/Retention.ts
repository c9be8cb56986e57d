/** What is not kept for ever: runs that ended long ago, with their steps. The log and entity streams stay. */
import type { Row, Transaction } from "./Transaction.ts"

/** Runs that are looked at in one query. */
const PAGE = 500

/**
 * Deletes runs that ended before `endedBefore` (epoch milliseconds), at most `limit` of them, oldest first; returns how
 * many. A run whose parent is unfinished stays, and so does the newest run, so that its number is not given again.
 */
export const deleteEndedRuns = (tx: Transaction, endedBefore: number, limit: number): number => {
  const newest = Number(tx.get("SELECT max(key) AS key FROM runs")?.key ?? 0)
  let deleted = 0
  let after = 0
  while (true) {
    // runs are numbered as they are created and end after that: the oldest are in front, and the first young one ends it
    const rows = tx.all(
      "SELECT key, created_at, ended_at, parent FROM runs WHERE key > ? ORDER BY key LIMIT ?",
      after,
      PAGE
    )
    for (const row of rows) {
      after = Number(row.key)
      if (deleted === limit || Number(row.created_at) >= endedBefore || after === newest) return deleted
      if (row.ended_at === null || Number(row.ended_at) >= endedBefore || hasOpenParent(tx, row)) continue
      for (const table of ["steps", "superseded_steps"]) tx.run(`DELETE FROM ${table} WHERE run = ?`, after)
      tx.run("DELETE FROM runs WHERE key = ?", after)
      deleted++
    }
    if (rows.length < PAGE) return deleted
  }
}

const hasOpenParent = (tx: Transaction, run: Row): boolean =>
  run.parent !== null &&
  tx.get("SELECT 1 FROM runs WHERE key = ? AND ended_at IS NULL", run.parent!) !== undefined
