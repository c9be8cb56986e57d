/**
 * Event retention. An event outside of entity streams is deleted when nothing needs it any more, and it is too old or the log is
 * too large. In each environment, a run, a projection, a consumer group or a subscription may need events: from the oldest needed
 * event on, all events are kept. So as long as a run is kept, its event is kept too, and so are the events that the run has
 * received or may still look back to.
 */
import { acrossEnvironments, all, get, type Program, statement, visit, write } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { LogKind } from "./LogRecords.ts"

export interface EventLimits {
  /** The age from which events are too old, in milliseconds. */
  readonly keepMs: number
  /** The log is too large because of the events before this position. */
  readonly excessBefore: number
  /** By environment: the position up to which every open subscription has received its items. */
  readonly deliveredPositions: { readonly [environment: string]: number }
}

export interface EventsDeleted {
  readonly deleted: number
  /** The position after which to go on; absent at the end. */
  readonly after?: number
}

/** How many rows of the log one transaction reads. */
const MAX_READ_ROWS = 2000
/** How many rows of the log one transaction deletes. */
const MAX_DELETED_ROWS = 200

/** SQL: for each table whose rows need the log, the first position that is needed. */
const FIND_OLDEST_NEEDED = statement(
  "EventRetention.findOldestNeeded",
  `SELECT (SELECT min((SELECT min(r.event) FROM runs r WHERE r.function = f.key)) FROM functions f WHERE f.environment = ?1) AS runs,
     (SELECT min(position) FROM fan_outs WHERE environment = ?1) AS fans,
     (SELECT min((SELECT min(d.position) FROM dead_letters d WHERE d.projection = p.key)) FROM projections p WHERE p.environment = ?1) AS letters,
     (SELECT min((SELECT min(d.position) FROM deliveries d WHERE d.consumer_group = g.key)) FROM consumer_groups g WHERE g.environment = ?1) AS deliveries,
     (SELECT min((SELECT min(d.position) FROM group_dead_letters d WHERE d.consumer_group = g.key)) FROM consumer_groups g WHERE g.environment = ?1) AS given_up,
     (SELECT min(p.position) + 1 FROM projections p WHERE p.environment = ?1) AS projections,
     (SELECT min(g.cursor) + 1 FROM consumer_groups g WHERE g.environment = ?1 AND (g.kind IS NULL OR g.kind = 0)) AS groups`
)

/** The first position that something in the environment needs. */
function* firstNeededPosition(environment: number, deliveredPosition: number | undefined): Program<number> {
  const row = yield* get(FIND_OLDEST_NEEDED, environment)
  const positions = Object.values(row ?? {}).flatMap((value) => (value === null ? [] : [Number(value)]))
  return Math.min(
    ...positions,
    deliveredPosition === undefined ? Number.MAX_SAFE_INTEGER : deliveredPosition + 1
  )
}

const FIND_NEWEST_EVENT = statement(
  "EventRetention.findNewestEvent",
  "SELECT max(position) AS position FROM events"
)

const LIST_EVENTS = statement(
  "EventRetention.listEvents",
  `SELECT position, environment, kind, entity_id, timestamp FROM events NOT INDEXED WHERE position > ? AND position < ? ORDER BY position LIMIT ${MAX_READ_ROWS}`
)

const DELETE_EVENT = statement(
  "EventRetention.deleteEvent",
  "DELETE FROM events WHERE position = ? AND environment = ?"
)

const UPDATE_EVENTS_GONE = statement(
  "EventRetention.updateEventsGone",
  "UPDATE environments SET events_gone_to = ?, events_gone_at = ? WHERE key = ?"
)

/**
 * Deletes events after a position, oldest first. Each call deletes some of them. The newest row of the log is always kept, so
 * that its position is not assigned again.
 */
export const deleteOldEvents = acrossEnvironments(
  "deleteOldEvents",
  function* (
    tx: Transaction,
    { deliveredPositions, excessBefore, keepMs }: EventLimits,
    after: number | undefined = 0
  ): Program<EventsDeleted> {
    const storedBefore = tx.settledNow() - keepMs
    const newest = Number((yield* get(FIND_NEWEST_EVENT))?.position ?? 0)
    const firstNeeded = new Map<number, number>()
    const lastDeleted = new Map<number, { readonly position: number; readonly at: number }>()
    const rows = yield* all(LIST_EVENTS, after, newest)
    let last = after
    let deleted = 0
    let isAtEnd = rows.length < MAX_READ_ROWS
    for (const row of rows) {
      const position = Number(row.position)
      const at = Number(row.timestamp)
      // a row that is neither too old nor in excess ends the search, unless it was stored while the clock was ahead: then the rows
      // after it may be older
      if (position >= excessBefore && at >= storedBefore && at <= tx.now()) {
        isAtEnd = true
        break
      }
      if (deleted === MAX_DELETED_ROWS) {
        isAtEnd = false
        break
      }
      last = position
      if (Number(row.kind) !== LogKind.event || row.entity_id !== null) continue
      if (position >= excessBefore && at >= storedBefore) continue
      const environment = Number(row.environment)
      let first = firstNeeded.get(environment)
      if (first === undefined) {
        first = yield* firstNeededPosition(environment, deliveredPositions[tx.environmentName(environment)])
        firstNeeded.set(environment, first)
      }
      if (position >= first) continue
      yield* write(DELETE_EVENT, position, environment)
      lastDeleted.set(environment, { position, at })
      deleted++
    }
    for (const [environment, { at, position }] of lastDeleted)
      yield* write(UPDATE_EVENTS_GONE, position, at, environment)
    return { deleted, ...(isAtEnd ? {} : { after: last }) }
  },
  () => "delete old events"
)

const LIST_EVENT_SIZES = statement(
  "EventRetention.listEventSizes",
  `SELECT position, CASE WHEN kind = 0 AND entity_id IS NULL THEN octet_length(data) ELSE 0 END AS bytes FROM events NOT INDEXED
     WHERE position < ? ORDER BY position DESC LIMIT ${MAX_READ_ROWS}`
)

/**
 * Measures some rows of the log before a position, newest first. Subtracts the bytes of those events that may be deleted from
 * `bytesAllowed`. Returns the difference (`bytesLeft`), and the position `before` which the next call continues. If the events have
 * more bytes than allowed, `excessBefore` is the first position that still fits. Returns `undefined` when there is no row before
 * the position.
 */
export const measureEvents = acrossEnvironments(
  "measureEvents",
  function* (
    _tx: Transaction,
    before: number,
    bytesAllowed: number
  ): Program<
    { readonly bytesLeft: number; readonly before: number; readonly excessBefore?: number } | undefined
  > {
    let bytesLeft = bytesAllowed
    let oldest = before
    let excessBefore: number | undefined
    yield* visit(LIST_EVENT_SIZES, [before], ([position, bytes]) => {
      bytesLeft -= Number(bytes)
      if (bytesLeft < 0) {
        excessBefore = oldest
        return false
      }
      oldest = Number(position)
      return true
    })
    if (excessBefore !== undefined) return { bytesLeft: 0, before: oldest, excessBefore }
    return oldest === before ? undefined : { bytesLeft, before: oldest }
  },
  () => "measure the events"
)
