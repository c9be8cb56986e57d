/**
 * Claims items of a consumer group for its members: first the deliveries that are due again, then the next rows of the log
 * (guarantee G12).
 */
import { evaluateExpression } from "../../Expression.ts"
import { MAX_EXPRESSION_STEPS, expressionSteps } from "../../ExpressionBudget.ts"
import { compilePattern } from "../../Pattern.ts"
import { viewOfRow } from "../Log/EventViews.ts"
import { COLUMNS, toEntry } from "../Log/LogRows.ts"
import { all, get, inEnvironment, type Program, statement, write } from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { moveToDeadLetters, finishDelivery } from "./DeliveryRows.ts"
import type { ClaimedDelivery, GroupClaim, GroupDemand } from "./GroupRecords.ts"

/** The failure reason of a delivery that its holder did not settle in time. */
const TIMED_OUT = "The event was neither acked nor reported as in progress before its ack deadline"

/** Maximum number of due deliveries that one claim reads, and maximum number of rows of the log. */
const PAGE = 256

const FIND_GROUP = statement(
  "GroupClaims.findGroup",
  "SELECT environment, name, kind, names, filter, cursor FROM consumer_groups WHERE key = ? AND environment = ? AND paused_at IS NULL"
)

const LIST_DUE_DELIVERIES = statement(
  "GroupClaims.listDueDeliveries",
  `SELECT d.position AS delivery, d.holder, d.failures, d.reason, e.* FROM deliveries d
     LEFT JOIN events e ON e.position = d.position AND e.environment = ?
     WHERE d.consumer_group = ? AND d.due_at <= ? ORDER BY d.due_at, d.position LIMIT ?`
)

const UPDATE_HOLDER = statement(
  "GroupClaims.updateHolder",
  "UPDATE deliveries SET holder = ?, due_at = ?, failures = ? WHERE consumer_group = ? AND position = ?"
)

const FIND_NEXT_DUE_TIME = statement(
  "GroupClaims.findNextDueTime",
  "SELECT min(due_at) AS at FROM deliveries WHERE consumer_group = ? AND due_at > ?"
)

/** Gives items of a group to members with room. Gives none while the group is paused. */
export const claimDeliveries = inEnvironment(
  "claimDeliveries",
  function* (tx: Transaction, demand: GroupDemand): Program<GroupClaim> {
    const now = tx.now()
    const rotation = new Rotation(demand.members)
    const deliveries: Array<ClaimedDelivery> = []
    const givenUp: Array<GroupClaim["givenUp"][number]> = []
    const environment = tx.findEnvironment(demand.environment)
    const group = environment === undefined ? undefined : yield* get(FIND_GROUP, demand.group, environment)
    if (group === undefined)
      return {
        deliveries,
        givenUp,
        silentHolders: [],
        mayFindMore: false,
        nextDueAt: Number.POSITIVE_INFINITY
      }

    const dueDeliveries = yield* all(LIST_DUE_DELIVERIES, group.environment!, demand.group, now, PAGE)
    for (const row of dueDeliveries) {
      // a due delivery that still has a holder has timed out, which is counted as a failure now
      const failures = Number(row.failures) + (row.holder === null ? 0 : 1)
      if (row.holder !== null) rotation.noteTimedOut(String(row.holder))
      if (row.position === null || failures > demand.maxRedeliveries) {
        const position = Number(row.delivery)
        if (row.position === null) yield* finishDelivery(demand.group, position)
        else {
          // a holder that lets a delivery time out gives no reason
          const reason = row.holder === null ? row.reason! : TIMED_OUT
          yield* moveToDeadLetters(tx, { group: demand.group, position, attempts: failures, reason })
          givenUp.push({ position, id: String(row.id), attempts: failures })
        }
        continue
      }
      const member = rotation.next()
      if (member === undefined) break
      yield* write(UPDATE_HOLDER, member.holder, now + member.ackMs, failures, demand.group, row.delivery!)
      deliveries.push({ holder: member.holder, attempt: failures + 1, entry: toEntry(row) })
    }

    const mayFindMore =
      rotation.hasRoom &&
      (dueDeliveries.length === PAGE ||
        (yield* claimNextRows(tx, demand.group, group, rotation, now, deliveries)))
    // only later times count: a delivery that is already due, and was not given out, waits for a member with room
    const next = yield* get(FIND_NEXT_DUE_TIME, demand.group, now)
    return {
      deliveries,
      givenUp,
      silentHolders: rotation.silent,
      mayFindMore,
      nextDueAt: next?.at == null ? Number.POSITIVE_INFINITY : Number(next.at)
    }
  },
  () => "hand out messages of a group"
)

const LIST_EVENTS = statement(
  "GroupClaims.listEvents",
  `SELECT ${COLUMNS}, environment, erased_at FROM events NOT INDEXED WHERE position > ? ORDER BY position LIMIT ?`
)

const INSERT_DELIVERY = statement(
  "GroupClaims.insertDelivery",
  "INSERT INTO deliveries (consumer_group, position, holder, due_at) VALUES (?, ?, ?, ?)"
)

const UPDATE_CURSOR = statement(
  "GroupClaims.updateCursor",
  "UPDATE consumer_groups SET cursor = ? WHERE key = ?"
)

/**
 * Gives out the next rows of the log. Returns whether another claim may find more at once. Reads the rows of all environments and
 * skips those of others: no index has the rows of one environment in log order, and one claim must not read too many rows.
 */
function* claimNextRows(
  tx: Transaction,
  key: number,
  group: Row,
  rotation: Rotation,
  now: number,
  deliveries: Array<ClaimedDelivery>
): Program<boolean> {
  // the statement is `NOT INDEXED`: the index of names would find all rows of the environment and sort them
  const rows = yield* all(LIST_EVENTS, group.cursor!, PAGE)
  const matchesPattern = compilePattern(String(group.names))
  let cursor = Number(group.cursor)
  let isFull = false
  let isTooLong = false
  const stepsBefore = expressionSteps()
  for (const row of rows) {
    // filters may take long, and this transaction blocks all others, so the rest is left to the next claim
    if ((isTooLong = expressionSteps() - stepsBefore > MAX_EXPRESSION_STEPS)) break
    const isWanted =
      row.environment === group.environment &&
      row.erased_at === null &&
      (group.kind === null || group.kind === row.kind) &&
      matchesPattern(String(row.name))
    if (isWanted && (group.filter === null || accepts(tx, group, row))) {
      const member = rotation.next()
      if (member === undefined) {
        isFull = true
        break
      }
      yield* write(INSERT_DELIVERY, key, row.position!, member.holder, now + member.ackMs)
      deliveries.push({ holder: member.holder, attempt: 1, entry: toEntry(row) })
    }
    cursor = Number(row.position)
  }
  if (cursor !== Number(group.cursor)) {
    yield* write(UPDATE_CURSOR, cursor, key)
  }
  return isTooLong || (!isFull && rows.length === PAGE)
}

const accepts = (tx: Transaction, { filter, name }: Row, row: Row): boolean => {
  const { error, exceeded, matched } = evaluateExpression(String(filter), { event: viewOfRow(row) })
  if (exceeded === true) {
    tx.changes.warnings.push(
      `Event "${row.name}" ${row.id}: consumer group "${name}" does not get it, because the group's filter failed: ${error}`
    )
  }
  return matched
}

/** The members for which items are claimed. The members with room take turns, and each turn is for one item. */
class Rotation {
  readonly #members: ReadonlyArray<MemberInRotation>
  #nextIndex = 0

  constructor(members: GroupDemand["members"]) {
    this.#members = members.map((member) => ({ isSilent: false, ...member }))
  }

  get hasRoom(): boolean {
    return this.#members.some((member) => this.#mayGetItem(member))
  }

  get silent(): ReadonlyArray<string> {
    return this.#members.filter(({ isSilent }) => isSilent).map(({ holder }) => holder)
  }

  /** Notes that a holder no longer has a delivery, because the delivery has timed out. */
  noteTimedOut(holder: string): void {
    const member = this.#members.find((one) => one.holder === holder)
    if (member === undefined) return
    member.credit++
    member.isSilent = true
  }

  next(): MemberInRotation | undefined {
    for (let tried = 0; tried < this.#members.length; tried++) {
      const member = this.#members[this.#nextIndex++ % this.#members.length]
      if (member === undefined || !this.#mayGetItem(member)) continue
      member.credit--
      return member
    }
    return undefined
  }

  #mayGetItem({ credit, isSilent, reportsProgress }: MemberInRotation): boolean {
    if (credit <= 0) return false
    return !isSilent || (reportsProgress !== true && this.#members.every((other) => other.isSilent))
  }
}

type MemberInRotation = GroupDemand["members"][number] & { credit: number; isSilent: boolean }
