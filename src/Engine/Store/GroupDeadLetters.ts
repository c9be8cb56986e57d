/** What consumer groups have given up: kept until somebody has it tried again. */
import { findGroup } from "./GroupInspection.ts"
import type { GroupChoice, GroupDeadLetter } from "./GroupStore.ts"
import { toEntry, whileRoom } from "./LogRows.ts"
import type { Transaction } from "./Transaction.ts"

/** Those whose event is still there, by position. */
export const listDeadLetters = (
  tx: Transaction,
  group: GroupChoice,
  after: number,
  limit: number
): Array<GroupDeadLetter> =>
  whileRoom(
    tx.all(
      `SELECT d.consumer_group, d.position FROM group_dead_letters d JOIN events e ON e.position = d.position
       WHERE d.consumer_group = ? AND d.position > ? ORDER BY d.position LIMIT ?`,
      findGroup(tx, group).key!,
      after,
      limit
    ),
    ({ consumer_group, position }) =>
      tx.get(
        `SELECT e.*, d.reason, d.attempts, d.at FROM group_dead_letters d JOIN events e ON e.position = d.position
         WHERE d.consumer_group = ? AND d.position = ?`,
        consumer_group!,
        position!
      )
  ).map((row) => ({
    position: Number(row.position),
    event: toEntry(row),
    ...(row.reason === null ? {} : { reason: String(row.reason) }),
    attempts: Number(row.attempts),
    at: Number(row.at)
  }))

/** Has one handed out again, or all of them, as if they had not failed before; returns how many. */
export const retryDeadLetters = (
  tx: Transaction,
  group: GroupChoice,
  position: number | undefined
): number => {
  const key = Number(findGroup(tx, group).key)
  const which = `FROM group_dead_letters WHERE consumer_group = ?1 AND (?2 IS NULL OR position = ?2)
    AND position IN (SELECT position FROM events)`
  const count = tx.run(
    `INSERT INTO deliveries (consumer_group, position, due_at) SELECT consumer_group, position, ?3 ${which}`,
    key,
    position ?? null,
    tx.now()
  )
  if (count === 0) return 0
  tx.run(`DELETE ${which}`, key, position ?? null)
  tx.run("UPDATE consumer_groups SET given_up = max(given_up - ?, 0) WHERE key = ?", count, key)
  tx.changes.groups.push(key)
  return count
}
