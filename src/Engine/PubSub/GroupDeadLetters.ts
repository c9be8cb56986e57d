/** Dead letters of consumer groups. They are kept until a client retries them. If a group has too many, the oldest are deleted. */
import type { ValidationError, ConsumerGroupNotFoundError } from "../../Errors.ts"
import {
  affected,
  all,
  get,
  statement,
  variant,
  write,
  inEnvironment,
  type Program
} from "../Store/Program.ts"
import { findGroup } from "./GroupInspection.ts"
import type { GroupChoice, GroupDeadLetter } from "./GroupRecords.ts"
import { toEntry, readPage } from "../Log/LogRows.ts"
import type { Transaction } from "../Store/Transaction.ts"

const LIST_KEYS_OF_DEAD_LETTERS = statement(
  "GroupDeadLetters.listKeysOfDeadLetters",
  `SELECT d.consumer_group, d.position FROM group_dead_letters d
       JOIN events e ON e.position = d.position AND e.environment = ?
       WHERE d.consumer_group = ? AND d.position > ? ORDER BY d.position LIMIT ?`
)

const FIND_DEAD_LETTER = statement(
  "GroupDeadLetters.findDeadLetter",
  `SELECT e.*, d.reason, d.attempts, d.at FROM group_dead_letters d JOIN events e ON e.position = d.position AND e.environment = ?
         WHERE d.consumer_group = ? AND d.position = ?`
)

/**
 * A page of those dead letters of a group that still have their events. The page begins after the position `after`, and is in the
 * order of the log.
 */
export const listDeadLetters = inEnvironment(
  "GroupDeadLetters.listDeadLetters",
  function* (
    tx: Transaction,
    group: GroupChoice,
    after: number,
    limit: number
  ): Program<Array<GroupDeadLetter>, ConsumerGroupNotFoundError | ValidationError> {
    const { environment, key } = yield* findGroup(tx, group)
    const keys = yield* all(LIST_KEYS_OF_DEAD_LETTERS, environment!, key!, after, limit)
    const rows = yield* readPage(keys, ({ consumer_group, position }) =>
      get(FIND_DEAD_LETTER, environment!, consumer_group!, position!)
    )
    return rows.map((row) => ({
      position: Number(row.position),
      event: toEntry(row),
      ...(row.reason === null ? {} : { reason: String(row.reason) }),
      attempts: Number(row.attempts),
      at: Number(row.at)
    }))
  },
  (group) => `list the dead letters of consumer group "${group.name}"`
)

const LESSEN_GIVEN_UP = statement(
  "GroupDeadLetters.lessenGivenUp",
  "UPDATE consumer_groups SET given_up = CASE WHEN given_up > ?1 THEN given_up - ?1 ELSE 0 END WHERE key = ?2"
)

/**
 * Turns the dead letter at `position` into a delivery without failures; without a `position`, all dead letters of the group. A
 * dead letter whose event no longer exists stays as it is. Returns how many dead letters became deliveries.
 */
export const retryDeadLetters = inEnvironment(
  "GroupDeadLetters.retryDeadLetters",
  function* (
    tx: Transaction,
    group: GroupChoice,
    position: number | undefined
  ): Program<number, ConsumerGroupNotFoundError | ValidationError> {
    const row = yield* findGroup(tx, group)
    const key = Number(row.key)
    const fromAndWhere = `FROM group_dead_letters WHERE consumer_group = ?1 AND (CAST(?2 AS BIGINT) IS NULL OR position = ?2)
    AND EXISTS (SELECT 1 FROM events WHERE events.position = group_dead_letters.position AND environment = ?3)`
    const count = yield* affected(
      variant(
        "GroupDeadLetters.retryDeadLetters",
        `INSERT INTO deliveries (consumer_group, position, due_at) SELECT consumer_group, position, ?4 ${fromAndWhere}`
      ),
      key,
      position ?? null,
      row.environment!,
      tx.now()
    )
    if (count === 0) return 0
    yield* write(
      variant("GroupDeadLetters.retryDeadLetters", `DELETE ${fromAndWhere}`),
      key,
      position ?? null,
      row.environment!
    )
    yield* write(LESSEN_GIVEN_UP, count, key)
    tx.changes.groups.push(key)
    return count
  },
  (group) => `retry dead letters of consumer group "${group.name}"`
)
