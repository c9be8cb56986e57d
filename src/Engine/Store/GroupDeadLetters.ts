/** What consumer groups have given up: kept until somebody has it tried again. */
import { affected, all, get, statement, type Program, variant, write } from "./Program.ts"
import { findGroup } from "./GroupInspection.ts"
import type { GroupChoice, GroupDeadLetter } from "./GroupStore.ts"
import { toEntry, whileRoom } from "./LogRows.ts"
import type { Transaction } from "./Transaction.ts"

const LIST_DEAD_LETTERS = statement(
  "GroupDeadLetters.listDeadLetters",
  `SELECT d.consumer_group, d.position FROM group_dead_letters d JOIN events e ON e.position = d.position
       WHERE d.consumer_group = ? AND d.position > ? ORDER BY d.position LIMIT ?`
)

const LIST_DEAD_LETTERS_2 = statement(
  "GroupDeadLetters.listDeadLetters.2",
  `SELECT e.*, d.reason, d.attempts, d.at FROM group_dead_letters d JOIN events e ON e.position = d.position
         WHERE d.consumer_group = ? AND d.position = ?`
)

/** Those whose event is still there, by position. */
export function* listDeadLetters(
  tx: Transaction,
  group: GroupChoice,
  after: number,
  limit: number
): Program<Array<GroupDeadLetter>> {
  const keys = yield* all(LIST_DEAD_LETTERS, (yield* findGroup(tx, group)).key!, after, limit)
  const rows = yield* whileRoom(keys, ({ consumer_group, position }) =>
    get(LIST_DEAD_LETTERS_2, consumer_group!, position!)
  )
  return rows.map((row) => ({
    position: Number(row.position),
    event: toEntry(row),
    ...(row.reason === null ? {} : { reason: String(row.reason) }),
    attempts: Number(row.attempts),
    at: Number(row.at)
  }))
}

const RETRY_DEAD_LETTERS = statement(
  "GroupDeadLetters.retryDeadLetters",
  "UPDATE consumer_groups SET given_up = max(given_up - ?, 0) WHERE key = ?"
)

/** Has one handed out again, or all of them, as if they had not failed before; returns how many. */
export function* retryDeadLetters(
  tx: Transaction,
  group: GroupChoice,
  position: number | undefined
): Program<number> {
  const key = Number((yield* findGroup(tx, group)).key)
  const which = `FROM group_dead_letters WHERE consumer_group = ?1 AND (?2 IS NULL OR position = ?2)
    AND position IN (SELECT position FROM events)`
  const count = yield* affected(
    variant(
      "GroupDeadLetters.retryDeadLetters",
      `INSERT INTO deliveries (consumer_group, position, due_at) SELECT consumer_group, position, ?3 ${which}`
    ),
    key,
    position ?? null,
    tx.now()
  )
  if (count === 0) return 0
  yield* write(variant("GroupDeadLetters.retryDeadLetters", `DELETE ${which}`), key, position ?? null)
  yield* write(RETRY_DEAD_LETTERS, count, key)
  tx.changes.groups.push(key)
  return count
}
