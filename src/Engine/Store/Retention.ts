/** What is not kept for ever: runs that ended long ago, with their steps. The log and entity streams stay. */
import type { Transaction } from "./Transaction.ts"

/**
 * Deletes runs that ended before `endedBefore` (epoch milliseconds), at most `limit` of them, oldest first; returns how
 * many. A run whose parent is unfinished stays.
 */
export const deleteEndedRuns = (tx: Transaction, endedBefore: number, limit: number): number => {
  // runs are numbered as they are created and end after that: the oldest are in front
  const rows = tx.all(
    `SELECT key FROM runs r WHERE created_at < ? AND ended_at < ?
       AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.key = r.parent AND p.ended_at IS NULL)
     ORDER BY key LIMIT ?`,
    endedBefore,
    endedBefore,
    limit
  )
  for (const { key } of rows) {
    tx.run("DELETE FROM steps WHERE run = ?", key!)
    tx.run("DELETE FROM superseded_steps WHERE run = ?", key!)
    tx.run("DELETE FROM runs WHERE key = ?", key!)
  }
  return rows.length
}
