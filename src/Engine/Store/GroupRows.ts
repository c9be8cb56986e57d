/**
 * Consumer groups: how far each has come in the log, and what it has handed out and not finished (guarantee G12).
 *
 * A delivery is done when its holder says so. Until then one holder has it; when its time is up, or the holder is gone, the
 * next claim hands it to somebody.
 */
import { affected, all, get, insert, statement, type Program, write } from "./Program.ts"
import { calculateBackoff } from "../../Backoff.ts"
import { evaluateExpression } from "../../Expression.ts"
import { MAX_STEPS, stepsTaken } from "../../ExpressionBudget.ts"
import { compilePattern } from "../../Pattern.ts"
import { endOfLog, LogKind, viewOfRow } from "./Events.ts"
import { COLUMNS, toEntry } from "./LogRows.ts"
import type { GroupDefinition, GroupSetup } from "./GroupStore.ts"
import type {
  ClaimedDelivery,
  Extension,
  GroupClaim,
  GroupDemand,
  GroupState,
  NewGroup,
  Settlement
} from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"
import { parseStored } from "./StoredJson.ts"

/** What a group keeps of what it has given up. */
export const MAX_DEAD_LETTERS = 1000

/** Why a delivery has failed whose holder did not settle it. */
const TIMED_OUT = "It was neither acked nor said to be in progress in time"

/** Rows of the log that one claim looks at. */
const PAGE = 256

/** The entry of `meta` that remembers the highest key of a group that was deleted. */
const LAST_DELETED = "deleted_group"

export function* openGroup(tx: Transaction, group: NewGroup): Program<GroupState> {
  const known = yield* reopenGroup(tx, group)
  if (known !== undefined) return known
  const cursor = group.after ?? (yield* endOfLog())
  const { filter } = group
  return {
    key: yield* insertGroup(tx, tx.environment(group.environment), group, cursor),
    isNew: true,
    cursor,
    ...(filter === undefined ? {} : { filter }),
    settings: {},
    isPaused: false,
    isConfigured: false
  }
}

const REOPEN_GROUP = statement(
  "GroupRows.reopenGroup",
  "SELECT * FROM consumer_groups WHERE environment = ? AND namespace = ? AND name = ? AND pattern = ?"
)

const REOPEN_GROUP_2 = statement(
  "GroupRows.reopenGroup.2",
  "UPDATE consumer_groups SET used_at = ?, filter = ? WHERE key = ?"
)

/** The group if it is there. Its filter is that of whoever opens it, unless somebody has configured it. */
export function* reopenGroup(tx: Transaction, group: NewGroup): Program<GroupState | undefined> {
  const known = yield* get(
    REOPEN_GROUP,
    tx.environment(group.environment),
    group.namespace,
    group.name,
    group.pattern
  )
  if (known === undefined) return undefined
  const filter = known.configured === 1 ? known.filter! : (group.filter ?? null)
  yield* write(REOPEN_GROUP_2, tx.now(), filter, known.key!)
  return {
    key: Number(known.key),
    isNew: false,
    cursor: Number(known.cursor),
    ...setupOf({ ...known, filter })
  }
}

const INSERT_GROUP = statement(
  "GroupRows.insertGroup",
  `INSERT INTO consumer_groups (key, environment, namespace, name, pattern, kind, names, filter, cursor, beginning, used_at, created_at)
     VALUES (
       1 + max(
         coalesce((SELECT max(key) FROM consumer_groups), 0),
         coalesce((SELECT value FROM meta WHERE name = '${LAST_DELETED}'), 0)
       ), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?9
     )`
)

/** Stores a new group and returns its key, which no group has had before: whoever still holds an old one must not meet it. */
export function* insertGroup(
  tx: Transaction,
  environment: number,
  group: Omit<GroupDefinition, "settings">,
  cursor: number
): Program<number> {
  return yield* insert(
    INSERT_GROUP,
    environment,
    group.namespace,
    group.name,
    group.pattern,
    group.kind === undefined ? null : LogKind[group.kind],
    group.names,
    group.filter ?? null,
    cursor,
    tx.now()
  )
}

const REMOVE_GROUP = statement("GroupRows.removeGroup", "DELETE FROM deliveries WHERE consumer_group = ?")

const REMOVE_GROUP_2 = statement(
  "GroupRows.removeGroup.2",
  "DELETE FROM group_dead_letters WHERE consumer_group = ?"
)

const REMOVE_GROUP_3 = statement("GroupRows.removeGroup.3", "DELETE FROM consumer_groups WHERE key = ?")

const REMOVE_GROUP_4 = statement(
  "GroupRows.removeGroup.4",
  `INSERT INTO meta (name, value) VALUES ('${LAST_DELETED}', ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)`
)

export function* removeGroup(tx: Transaction, key: number): Program<void> {
  yield* write(REMOVE_GROUP, key)
  yield* write(REMOVE_GROUP_2, key)
  yield* write(REMOVE_GROUP_3, key)
  yield* write(REMOVE_GROUP_4, key)
  tx.changes.groups.push(key)
}

/** How the group of a row is set up. */
export const setupOf = (row: Row): GroupSetup => ({
  ...(row.filter === null ? {} : { filter: String(row.filter) }),
  settings: parseStored(String(row.settings)),
  isPaused: row.paused_at !== null,
  isConfigured: row.configured === 1
})

const CLAIM_DELIVERIES = statement(
  "GroupRows.claimDeliveries",
  "SELECT environment, kind, names, filter, cursor FROM consumer_groups WHERE key = ? AND paused_at IS NULL"
)

const CLAIM_DELIVERIES_2 = statement(
  "GroupRows.claimDeliveries.2",
  `SELECT d.position AS delivery, d.holder, d.failures, d.reason, e.* FROM deliveries d LEFT JOIN events e ON e.position = d.position
     WHERE d.consumer_group = ? AND d.due_at <= ? ORDER BY d.due_at, d.position LIMIT ?`
)

const CLAIM_DELIVERIES_3 = statement(
  "GroupRows.claimDeliveries.3",
  "UPDATE deliveries SET holder = ?, due_at = ?, failures = ? WHERE consumer_group = ? AND position = ?"
)

const CLAIM_DELIVERIES_4 = statement(
  "GroupRows.claimDeliveries.4",
  "SELECT min(due_at) AS at FROM deliveries WHERE consumer_group = ? AND due_at > ?"
)

export function* claimDeliveries(tx: Transaction, demand: GroupDemand): Program<GroupClaim> {
  const now = tx.now()
  const turns = new Turns(demand.members)
  const deliveries: Array<ClaimedDelivery> = []
  const exhausted: Array<GroupClaim["exhausted"][number]> = []
  const group = yield* get(CLAIM_DELIVERIES, demand.group)
  if (group === undefined)
    return { deliveries, exhausted, silent: [], more: false, nextDueAt: Number.POSITIVE_INFINITY }

  const due = yield* all(CLAIM_DELIVERIES_2, demand.group, now, PAGE)
  for (const row of due) {
    // a holder whose time is up has failed; one that gave it back has said so then
    const failures = Number(row.failures) + (row.holder === null ? 0 : 1)
    if (row.holder !== null) turns.giveBack(String(row.holder))
    if (row.position === null || failures > demand.maxRedeliveries) {
      const position = Number(row.delivery)
      if (row.position === null) yield* finish(demand.group, position)
      else {
        // whoever let its time run out has said nothing
        const reason = row.holder === null ? row.reason! : TIMED_OUT
        yield* bury(tx, { group: demand.group, position, attempts: failures, reason })
        exhausted.push({ position, id: String(row.id), attempts: failures })
      }
      continue
    }
    const member = turns.next()
    if (member === undefined) break
    yield* write(CLAIM_DELIVERIES_3, member.holder, now + member.ackMs, failures, demand.group, row.delivery!)
    deliveries.push({ holder: member.holder, attempt: failures + 1, entry: toEntry(row) })
  }

  const more =
    turns.hasRoom && (due.length === PAGE || (yield* readOn(tx, demand.group, group, turns, now, deliveries)))
  // what is due by now and was not handed out waits for room, and not for a time
  const next = yield* get(CLAIM_DELIVERIES_4, demand.group, now)
  return {
    deliveries,
    exhausted,
    silent: turns.silent,
    more,
    nextDueAt: next?.at == null ? Number.POSITIVE_INFINITY : Number(next.at)
  }
}

const READ_ON = statement(
  "GroupRows.readOn",
  `SELECT ${COLUMNS}, environment FROM events NOT INDEXED WHERE position > ? ORDER BY position LIMIT ?`
)

const READ_ON_2 = statement(
  "GroupRows.readOn.2",
  "INSERT INTO deliveries (consumer_group, position, holder, due_at) VALUES (?, ?, ?, ?)"
)

const READ_ON_3 = statement("GroupRows.readOn.3", "UPDATE consumer_groups SET cursor = ? WHERE key = ?")

/** Hands out what follows in the log; says whether there is more. */
function* readOn(
  tx: Transaction,
  key: number,
  group: Row,
  turns: Turns,
  now: number,
  deliveries: Array<ClaimedDelivery>
): Program<boolean> {
  // the index of names would find all rows of the environment, and sort them
  const rows = yield* all(READ_ON, group.cursor!, PAGE)
  const fits = compilePattern(String(group.names))
  let cursor = Number(group.cursor)
  let full = false
  let isLong = false
  const before = stepsTaken()
  for (const row of rows) {
    // the filter may take long: nobody else gets anything done while this transaction lasts
    if ((isLong = stepsTaken() - before > MAX_STEPS)) break
    const wanted =
      row.environment === group.environment &&
      (group.kind === null || group.kind === row.kind) &&
      fits(String(row.name))
    if (wanted && (group.filter === null || accepts(tx, String(group.filter), row))) {
      const member = turns.next()
      if (member === undefined) {
        full = true
        break
      }
      yield* write(READ_ON_2, key, row.position!, member.holder, now + member.ackMs)
      deliveries.push({ holder: member.holder, attempt: 1, entry: toEntry(row) })
    }
    cursor = Number(row.position)
  }
  if (cursor !== Number(group.cursor)) {
    yield* write(READ_ON_3, cursor, key)
  }
  return isLong || (!full && rows.length === PAGE)
}

const accepts = (tx: Transaction, filter: string, row: Row): boolean => {
  const { error, exceeded, matched } = evaluateExpression(filter, { event: viewOfRow(row) })
  if (exceeded === true) {
    tx.changes.warnings.push(`Event "${row.name}" ${row.id}: filter of a consumer group: ${error}`)
  }
  return matched
}

const SETTLE_DELIVERY = statement(
  "GroupRows.settleDelivery",
  "DELETE FROM deliveries WHERE consumer_group = ? AND position = ? AND holder = ?"
)

export function* settleDelivery(tx: Transaction, settlement: Settlement): Program<boolean> {
  const { failed, group, position, holder } = settlement
  const isHeld =
    failed === undefined
      ? (yield* affected(SETTLE_DELIVERY, group, position, holder)) > 0
      : yield* fail(tx, settlement, failed)
  if (!isHeld) tx.changes.counts.staleAcks++
  return isHeld
}

const FAIL = statement(
  "GroupRows.fail",
  "SELECT failures FROM deliveries WHERE consumer_group = ? AND position = ? AND holder = ?"
)

const FAIL_2 = statement(
  "GroupRows.fail.2",
  "UPDATE deliveries SET holder = NULL, due_at = ?, failures = ?, reason = ? WHERE consumer_group = ? AND position = ?"
)

function* fail(
  tx: Transaction,
  { group, position, holder }: Settlement,
  { reason, redelivery }: NonNullable<Settlement["failed"]>
): Program<boolean> {
  const row = yield* get(FAIL, group, position, holder)
  if (row === undefined) return false
  const failures = Number(row.failures) + 1
  if (redelivery === undefined) {
    yield* bury(tx, { group, position, attempts: failures, reason: reason ?? null })
    return true
  }
  const { firstMs, longestMs, maxRedeliveries } = redelivery
  // the next claim gives it up, and tells the members
  const delayMs = failures > maxRedeliveries ? 0 : calculateBackoff(failures, firstMs, longestMs)
  yield* write(FAIL_2, tx.now() + delayMs, failures, reason ?? null, group, position)
  return true
}

const EXTEND_DELIVERIES = statement(
  "GroupRows.extendDeliveries",
  "UPDATE deliveries SET due_at = ? WHERE holder = ? AND position NOT IN (SELECT value FROM json_each(?))"
)

const EXTEND_DELIVERIES_2 = statement(
  "GroupRows.extendDeliveries.2",
  "UPDATE deliveries SET due_at = ? WHERE holder = ? AND position = ?"
)

export function* extendDeliveries(
  tx: Transaction,
  { ackMs, except = [], holder, position }: Extension
): Program<number> {
  const dueAt = tx.now() + ackMs
  return position === undefined
    ? yield* affected(EXTEND_DELIVERIES, dueAt, holder, JSON.stringify(except))
    : yield* affected(EXTEND_DELIVERIES_2, dueAt, holder, position)
}

const BURY = statement(
  "GroupRows.bury",
  "INSERT OR REPLACE INTO group_dead_letters (consumer_group, position, reason, attempts, at) VALUES (?, ?, ?, ?, ?)"
)

const BURY_2 = statement(
  "GroupRows.bury.2",
  "UPDATE consumer_groups SET given_up = given_up + 1 WHERE key = ?"
)

const BURY_3 = statement(
  "GroupRows.bury.3",
  "SELECT max(count(*) - ?, 0) AS n FROM group_dead_letters WHERE consumer_group = ?"
)

const BURY_4 = statement(
  "GroupRows.bury.4",
  `DELETE FROM group_dead_letters WHERE consumer_group = ?1 AND position IN
       (SELECT position FROM group_dead_letters WHERE consumer_group = ?1 ORDER BY at, position LIMIT ?2)`
)

const BURY_5 = statement("GroupRows.bury.5", "SELECT name FROM consumer_groups WHERE key = ?")

/** Gives up a delivery. */
function* bury(
  tx: Transaction,
  letter: {
    readonly group: number
    readonly position: number
    readonly attempts: number
    readonly reason: Row[string]
  }
): Program<void> {
  const { attempts, group, position, reason } = letter
  yield* finish(group, position)
  yield* write(BURY, group, position, reason, attempts, tx.now())
  yield* write(BURY_2, group)
  const excess = Number((yield* get(BURY_3, MAX_DEAD_LETTERS, group))?.n)
  if (excess === 0) return
  yield* write(BURY_4, group, excess)
  const name = (yield* get(BURY_5, group))?.name
  tx.changes.warnings.push(
    `Consumer group "${name}" has more than ${MAX_DEAD_LETTERS} dead letters: the oldest is forgotten. Retry them with \`ironflow groups retry\``
  )
}

const FINISH = statement(
  "GroupRows.finish",
  "DELETE FROM deliveries WHERE consumer_group = ? AND position = ?"
)

function* finish(group: number, position: number): Program<void> {
  yield* write(FINISH, group, position)
}

const RELEASE_HOLDER = statement(
  "GroupRows.releaseHolder",
  "UPDATE deliveries SET holder = NULL, due_at = ? WHERE holder = ?"
)

export function* releaseHolder(tx: Transaction, holder: string): Program<void> {
  yield* write(RELEASE_HOLDER, tx.now(), holder)
}

const RECOVER_DELIVERIES = statement(
  "GroupRows.recoverDeliveries",
  "UPDATE deliveries SET holder = NULL, due_at = ? WHERE holder IS NOT NULL"
)

export function* recoverDeliveries(tx: Transaction): Program<void> {
  yield* write(RECOVER_DELIVERIES, tx.now())
}

const TOUCH_GROUPS = statement(
  "GroupRows.touchGroups",
  "UPDATE consumer_groups SET used_at = ? WHERE key = ?"
)

export function* touchGroups(tx: Transaction, groups: ReadonlyArray<number>): Program<void> {
  for (const key of groups) yield* write(TOUCH_GROUPS, tx.now(), key)
}

const DELETE_ABANDONED_GROUPS = statement(
  "GroupRows.deleteAbandonedGroups",
  "SELECT key FROM consumer_groups WHERE used_at < ? AND configured = 0 AND paused_at IS NULL ORDER BY used_at LIMIT ?"
)

export function* deleteAbandonedGroups(tx: Transaction, before: number, limit: number): Program<number> {
  const rows = yield* all(DELETE_ABANDONED_GROUPS, before, limit)
  for (const { key } of rows) yield* removeGroup(tx, Number(key))
  return rows.length
}

/** Members with room, one after the other. */
class Turns {
  readonly #members: ReadonlyArray<Turn>
  #at = 0

  constructor(members: GroupDemand["members"]) {
    this.#members = members.map((member) => ({ isSilent: false, ...member }))
  }

  get hasRoom(): boolean {
    return this.#members.some((member) => this.#mayHave(member))
  }

  get silent(): ReadonlyArray<string> {
    return this.#members.filter(({ isSilent }) => isSilent).map(({ holder }) => holder)
  }

  /** A holder no longer has one that it had: its time was up. */
  giveBack(holder: string): void {
    const member = this.#members.find((one) => one.holder === holder)
    if (member === undefined) return
    member.credit++
    member.isSilent = true
  }

  next(): Turn | undefined {
    for (let tried = 0; tried < this.#members.length; tried++) {
      const member = this.#members[this.#at++ % this.#members.length]
      if (member === undefined || !this.#mayHave(member)) continue
      member.credit--
      return member
    }
    return undefined
  }

  #mayHave({ credit, isSilent, speaks }: Turn): boolean {
    if (credit <= 0) return false
    return !isSilent || (speaks !== true && this.#members.every((other) => other.isSilent))
  }
}

type Turn = GroupDemand["members"][number] & { credit: number; isSilent: boolean }
