/**
 * Deliveries: the unfinished items that a consumer group has given to its members (guarantee G12).
 *
 * A delivery is finished when its holder acks it, or when it becomes a dead letter. Until then, it has one holder at most. A later
 * claim gives the delivery to a member again when the holder did not ack it in time, when it has failed and is due again, or when
 * the holder is gone. A holder is one subscription of one connection, so each holder belongs to one environment.
 */
import { calculateBackoff } from "../../Backoff.ts"
import {
  acrossEnvironments,
  affected,
  forEach,
  get,
  inEnvironment,
  type Program,
  statement,
  write
} from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { Extension, DeliveryResult } from "./GroupRecords.ts"

/** Maximum number of dead letters that a group keeps. */
export const MAX_DEAD_LETTERS = 1000

const DELETE_HELD_DELIVERY = statement(
  "DeliveryRows.deleteHeldDelivery",
  "DELETE FROM deliveries WHERE consumer_group = ? AND position = ? AND holder = ?"
)

function* settleDelivery(tx: Transaction, settlement: DeliveryResult): Program<boolean> {
  const { failed, group, position, holder } = settlement
  const isHeld =
    failed === undefined
      ? (yield* affected(DELETE_HELD_DELIVERY, group, position, holder)) > 0
      : yield* recordFailure(tx, settlement, failed)
  if (!isHeld) tx.changes.counts.staleAcks++
  return isHeld
}

const FIND_FAILURES = statement(
  "DeliveryRows.findFailures",
  "SELECT failures FROM deliveries WHERE consumer_group = ? AND position = ? AND holder = ?"
)

const UPDATE_FAILURES = statement(
  "DeliveryRows.updateFailures",
  "UPDATE deliveries SET holder = NULL, due_at = ?, failures = ?, reason = ? WHERE consumer_group = ? AND position = ?"
)

function* recordFailure(
  tx: Transaction,
  { group, position, holder }: DeliveryResult,
  { reason, redelivery }: NonNullable<DeliveryResult["failed"]>
): Program<boolean> {
  const row = yield* get(FIND_FAILURES, group, position, holder)
  if (row === undefined) return false
  const failures = Number(row.failures) + 1
  if (redelivery === undefined) {
    yield* moveToDeadLetters(tx, { group, position, attempts: failures, reason: reason ?? null })
    return true
  }
  const { firstMs, longestMs, maxRedeliveries } = redelivery
  // after its last attempt, the delivery is due at once: the next claim makes it a dead letter, and the members are told
  const delayMs = failures > maxRedeliveries ? 0 : calculateBackoff(failures, firstMs, longestMs)
  yield* write(UPDATE_FAILURES, tx.now() + delayMs, failures, reason ?? null, group, position)
  return true
}

const EXTEND_OTHER_DELIVERIES = statement(
  "DeliveryRows.extendOtherDeliveries",
  "UPDATE deliveries SET due_at = ? WHERE holder = ? AND position NOT IN (SELECT CAST(value AS BIGINT) FROM json_each(?))"
)

const EXTEND_DELIVERY = statement(
  "DeliveryRows.extendDelivery",
  "UPDATE deliveries SET due_at = ? WHERE holder = ? AND position = ?"
)

/** Extends the ack deadlines of a holder's deliveries. Returns how many were extended. */
export const extendDeliveries = inEnvironment(
  "extendDeliveries",
  function* (tx: Transaction, { ackMs, except = [], holder, position }: Extension): Program<number> {
    const dueAt = tx.now() + ackMs
    return position === undefined
      ? yield* affected(EXTEND_OTHER_DELIVERIES, dueAt, holder, JSON.stringify(except))
      : yield* affected(EXTEND_DELIVERY, dueAt, holder, position)
  },
  () => "extend deliveries"
)

const PUT_DEAD_LETTER = statement(
  "DeliveryRows.putDeadLetter",
  `INSERT INTO group_dead_letters (consumer_group, position, reason, attempts, at) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (consumer_group, position) DO UPDATE SET reason = excluded.reason, attempts = excluded.attempts, at = excluded.at`
)

const INCREMENT_GIVEN_UP = statement(
  "DeliveryRows.incrementGivenUp",
  "UPDATE consumer_groups SET given_up = given_up + 1 WHERE key = ?"
)

const COUNT_EXCESS_DEAD_LETTERS = statement(
  "DeliveryRows.countExcessDeadLetters",
  "SELECT CASE WHEN count(*) > ?1 THEN count(*) - ?1 ELSE 0 END AS n FROM group_dead_letters WHERE consumer_group = ?2"
)

const DELETE_OLDEST_DEAD_LETTERS = statement(
  "DeliveryRows.deleteOldestDeadLetters",
  `DELETE FROM group_dead_letters WHERE consumer_group = ?1 AND position IN
       (SELECT position FROM group_dead_letters WHERE consumer_group = ?1 ORDER BY at, position LIMIT ?2)`
)

const FIND_GROUP_NAME = statement(
  "DeliveryRows.findGroupName",
  "SELECT name FROM consumer_groups WHERE key = ?"
)

/** Moves a delivery to the dead letters. */
export function* moveToDeadLetters(
  tx: Transaction,
  letter: {
    readonly group: number
    readonly position: number
    readonly attempts: number
    readonly reason: Row[string]
  }
): Program<void> {
  const { attempts, group, position, reason } = letter
  yield* finishDelivery(group, position)
  yield* write(PUT_DEAD_LETTER, group, position, reason, attempts, tx.now())
  yield* write(INCREMENT_GIVEN_UP, group)
  const excess = Number((yield* get(COUNT_EXCESS_DEAD_LETTERS, MAX_DEAD_LETTERS, group))?.n)
  if (excess === 0) return
  yield* write(DELETE_OLDEST_DEAD_LETTERS, group, excess)
  const name = (yield* get(FIND_GROUP_NAME, group))?.name
  tx.changes.warnings.push(
    `Consumer group "${name}" had more than ${MAX_DEAD_LETTERS} dead letters, so the oldest was deleted. Retry the others with \`ironflow groups retry\``
  )
}

const DELETE_DELIVERY = statement(
  "DeliveryRows.deleteDelivery",
  "DELETE FROM deliveries WHERE consumer_group = ? AND position = ?"
)

export function* finishDelivery(group: number, position: number): Program<void> {
  yield* write(DELETE_DELIVERY, group, position)
}

const RELEASE_DELIVERIES = statement(
  "DeliveryRows.releaseDeliveries",
  "UPDATE deliveries SET holder = NULL, due_at = ? WHERE holder = ?"
)

/** Makes all deliveries of a holder due at once, because this member has left its group. That does not count as a failure. */
export const releaseHolder = inEnvironment(
  "releaseHolder",
  function* (tx: Transaction, _environment: string, group: number, holder: string): Program<void> {
    yield* write(RELEASE_DELIVERIES, tx.now(), holder)
    tx.changes.groupsWithReturns.push(group)
  },
  () => "give back deliveries"
)

const RECOVER_DELIVERIES = statement(
  "DeliveryRows.recoverDeliveries",
  "UPDATE deliveries SET holder = NULL, due_at = ? WHERE holder IS NOT NULL",
  {
    postgres: `UPDATE deliveries SET holder = NULL, due_at = ? WHERE holder IS NOT NULL AND NOT EXISTS
     (SELECT 1 FROM nodes WHERE deliveries.holder LIKE nodes.id || ':%' AND nodes.steady_since IS NOT NULL)`
  }
)

/**
 * Releases the deliveries of all holders whose process is gone. Called when the database is opened, and when one of several
 * engines is gone. This changes all environments, because the holders may be in any of them.
 */
export const recoverDeliveries = acrossEnvironments(
  "recoverDeliveries",
  function* (tx: Transaction): Program<void> {
    yield* write(RECOVER_DELIVERIES, tx.now())
  },
  () => "take back messages"
)

/**
 * Settles deliveries as done or as failed. Does not change deliveries that the holder no longer holds. Returns for each delivery
 * whether it was settled.
 */
export const settleDeliveries = inEnvironment(
  "settleDeliveries",
  function* (
    tx: Transaction,
    _environment: string,
    settlements: ReadonlyArray<DeliveryResult>
  ): Program<ReadonlyArray<boolean>> {
    return yield* forEach(settlements, (one) => settleDelivery(tx, one))
  },
  () => "settle deliveries"
)
