/** Finds events in the log: one event by its id, or the events that match filters. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import { timeOf } from "../../Ids.ts"
import { compilePattern, isPattern } from "../../Pattern.ts"
import { gathered, onePage } from "../Yielding.ts"
import { get, inEnvironment, type Program, statement, visit } from "../Store/Program.ts"
import type { StoreService } from "../Store/Store.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { endOfLog } from "./EndOfLog.ts"
import { type EventQuery, type FoundEvent, type FoundEvents, LogKind } from "./LogRecords.ts"
import {
  COLUMNS,
  entryOf,
  ENVIRONMENT_COLUMN,
  KIND_COLUMN,
  PAGE_LENGTH,
  POSITION_COLUMN,
  TIMESTAMP_COLUMN,
  toEntry
} from "./LogRows.ts"

/** How many rows of the log one turn of the event loop reads. */
const SLICE_ROWS = 500
/** For one answer, at most this many slices are read, each in a turn of the event loop. */
const MAX_SLICES = 20
/**
 * Maximum number of characters of data in the answer of `listEvents`, unless a single event has more. A slice also ends when its
 * events have `PAGE_LENGTH` characters.
 */
const MAX_ANSWER_LENGTH = 16 * 1024 * 1024

/**
 * How much later the time in an event's id may be than the event's timestamp, in milliseconds: the id is made after the timestamp is
 * taken.
 */
const MAX_ID_DELAY_MS = 10_000

const FOUND_COLUMNS = `${COLUMNS}, environment, idempotency_key`
/** The last column of {@link FOUND_COLUMNS}. */
const IDEMPOTENCY_KEY_COLUMN = ENVIRONMENT_COLUMN + 1

// ---------------------------------------------------------------------------------------------------------------------
// By id
// ---------------------------------------------------------------------------------------------------------------------

const FIND_FIRST_FROM = statement(
  "EventSearch.findFirstFrom",
  "SELECT position, id, environment FROM events WHERE position >= ? ORDER BY position LIMIT 1"
)

/**
 * The first row of the log whose id is not before the wanted place, as `isBefore` decides. Ids are ordered like positions, so a
 * binary search finds the row without an index of ids. The search looks at the rows of all environments, because no index has the
 * positions of one environment alone.
 */
function* firstNotBefore(isBefore: (id: string) => boolean): Program<Row | undefined> {
  let found: Row | undefined
  let from = 1
  let to = yield* endOfLog()
  while (from <= to) {
    const middle = Math.floor((from + to) / 2)
    const row = yield* get(FIND_FIRST_FROM, middle)
    if (row !== undefined && isBefore(String(row.id))) from = Number(row.position) + 1
    else {
      found = row ?? found
      to = middle - 1
    }
  }
  return found
}

/** The position of the event or message with an id; `undefined` when the environment has none. */
export const findEvent = inEnvironment(
  "findEvent",
  function* (tx: Transaction, environment: string, eventId: string): Program<number | undefined> {
    const order = orderOf(eventId)
    const row = yield* firstNotBefore((id) => orderOf(id) < order)
    return row?.id === eventId && row.environment === tx.findEnvironment(environment)
      ? Number(row.position)
      : undefined
  },
  (_, eventId) => `find event ${eventId}`
)

/** An id without its prefix, which names the kind of id. */
const orderOf = (id: string): string => id.slice(id.indexOf("_") + 1)

const FIND_EVENT_AT = statement(
  "EventSearch.findEventAt",
  `SELECT ${FOUND_COLUMNS} FROM events WHERE position = ?`
)

/** An event with all its stored fields. */
export const getEvent = inEnvironment(
  "getEvent",
  function* (tx: Transaction, environment: string, eventId: string): Program<FoundEvent | undefined> {
    const position = yield* findEvent.in(tx, environment, eventId)
    const row = position === undefined ? undefined : yield* get(FIND_EVENT_AT, position)
    if (row === undefined || row.kind !== LogKind.event) return undefined
    return {
      ...toEntry(row),
      ...(row.idempotency_key == null ? {} : { idempotencyKey: String(row.idempotency_key) })
    }
  },
  (_, eventId) => `read event ${eventId}`
)

// ---------------------------------------------------------------------------------------------------------------------
// By filters
// ---------------------------------------------------------------------------------------------------------------------

const inBothOrders = (name: string, select: string, column: string) => ({
  newest: statement(`EventSearch.${name}`, `${select} ORDER BY ${column} DESC LIMIT ?`),
  oldest: statement(`EventSearch.${name}.oldest`, `${select} ORDER BY ${column} LIMIT ?`)
})

const IN_RANGE = "position > ? AND position < ?"
const BY_KEY = inBothOrders(
  "byKey",
  `SELECT ${FOUND_COLUMNS} FROM events WHERE environment = ? AND idempotency_key = ? AND ${IN_RANGE}`,
  "position"
)
const BY_ENTITY = inBothOrders(
  "byEntity",
  `SELECT ${FOUND_COLUMNS} FROM events WHERE environment = ? AND entity_id = ? AND entity_version > ? AND entity_version < ?`,
  "entity_version"
)
const BY_NAME = inBothOrders(
  "byName",
  `SELECT ${FOUND_COLUMNS} FROM events WHERE environment = ? AND kind = 0 AND name = ? AND ${IN_RANGE}`,
  "position"
)
// `NOT INDEXED`, because the index of names would find all rows of an environment and sort them for every slice
const BY_POSITION = inBothOrders(
  "byPosition",
  `SELECT ${FOUND_COLUMNS} FROM events NOT INDEXED WHERE ${IN_RANGE}`,
  "position"
)

/** The positions to search. */
interface Range {
  readonly after: number
  readonly before: number
}

interface Slice {
  readonly events: ReadonlyArray<FoundEvent>
  readonly lookedTo?: NonNullable<FoundEvents["lookedTo"]>
  readonly atEnd: boolean
}

const readEventSlice = inEnvironment(
  "readEventSlice",
  function* (tx: Transaction, query: EventQuery, range: Range): Program<Slice> {
    const environment = tx.findEnvironment(query.environment)
    if (environment === undefined) return { events: [], atEnd: true }
    const { entityId, idempotencyKey, name, order } = query
    const fits = filterOf(query)
    const events: Array<FoundEvent> = []
    let position = 0
    let timestamp = 0
    let count = 0
    let length = 0
    const [statements, ...values] =
      idempotencyKey !== undefined
        ? ([BY_KEY, environment, idempotencyKey, range.after, range.before] as const)
        : entityId !== undefined
          ? ([
              BY_ENTITY,
              environment,
              entityId,
              ...(yield* versionsIn(environment, entityId, range))
            ] as const)
          : name !== undefined && !isPattern(name)
            ? ([BY_NAME, environment, name, range.after, range.before] as const)
            : ([BY_POSITION, range.after, range.before] as const)
    yield* visit(statements[order], [...values, SLICE_ROWS], (row) => {
      position = Number(row[POSITION_COLUMN])
      timestamp = Number(row[TIMESTAMP_COLUMN])
      count++
      if (row[ENVIRONMENT_COLUMN] !== environment || row[KIND_COLUMN] !== LogKind.event) return true
      const entry = entryOf(row)
      const key = row[IDEMPOTENCY_KEY_COLUMN]
      const event = key === null ? entry : { ...entry, idempotencyKey: String(key) }
      if (!fits(event)) return true
      events.push(event)
      length += event.data.length
      return length < PAGE_LENGTH
    })
    return {
      events,
      ...(count === 0 ? {} : { lookedTo: { position, timestamp } }),
      atEnd: length < PAGE_LENGTH && count < SLICE_ROWS
    }
  },
  () => "list events"
)

const filterOf = (query: EventQuery): ((event: FoundEvent) => boolean) => {
  const { entityId, entityType, idempotencyKey, name, since = 0, until = Number.POSITIVE_INFINITY } = query
  const accepts = name === undefined ? undefined : compilePattern(name)
  return (event) =>
    event.timestamp >= since &&
    event.timestamp < until &&
    (entityId === undefined || event.entity?.id === entityId) &&
    (entityType === undefined || event.entity?.type === entityType) &&
    (idempotencyKey === undefined || event.idempotencyKey === idempotencyKey) &&
    (accepts === undefined || accepts(event.name))
}

const FIND_LAST_VERSION = statement(
  "EventSearch.findLastVersion",
  "SELECT max(entity_version) AS version FROM events WHERE environment = ? AND entity_id = ?"
)
const FIND_POSITION = statement(
  "EventSearch.findPosition",
  "SELECT position FROM events WHERE environment = ? AND entity_id = ? AND entity_version = ?"
)

/** The versions of a stream's events in a range of positions. Versions and positions have the same order. */
function* versionsIn(
  environment: number,
  entityId: string,
  { after, before }: Range
): Program<readonly [after: number, before: number]> {
  const last = Number((yield* get(FIND_LAST_VERSION, environment, entityId))?.version ?? 0)
  function* firstVersionFrom(position: number): Program<number> {
    let from = 1
    let to = last
    while (from <= to) {
      const middle = Math.floor((from + to) / 2)
      const row = yield* get(FIND_POSITION, environment, entityId, middle)
      if (Number(row?.position ?? 0) < position) from = middle + 1
      else to = middle - 1
    }
    return from
  }
  return [(yield* firstVersionFrom(after + 1)) - 1, yield* firstVersionFrom(before)]
}

const readEventRange = inEnvironment(
  "readEventRange",
  function* (_tx: Transaction, { after = 0, cursor, order, since, until }: EventQuery): Program<Range> {
    const firstPosition = since === undefined ? 0 : yield* positionAt(since)
    const endPosition =
      until === undefined ? Number.MAX_SAFE_INTEGER : yield* positionAt(until + MAX_ID_DELAY_MS)
    return {
      after: Math.max(after, firstPosition - 1, order === "oldest" ? (cursor ?? 0) : 0),
      before: Math.min(endPosition, (order === "newest" ? cursor : undefined) ?? Number.MAX_SAFE_INTEGER)
    }
  },
  () => "list events"
)

/** The first position that may have an event of this time or later. `time` is epoch milliseconds. */
function* positionAt(time: number): Program<number> {
  const row = yield* firstNotBefore((id) => timeOf(id) < time)
  return row === undefined ? (yield* endOfLog()) + 1 : Number(row.position)
}

/**
 * Lists events, without those that the caller may not see (`maySee`). For one answer, at most 10,000 rows of the log are read:
 * those with the idempotency key, the entity id or the exact name of the query, or any rows if the query has none of these. So an
 * answer may have fewer events than the limit and still have a cursor. `since` and `until` become positions by the times in the
 * ids, which are ordered like the log. If the clock was set back, some times occur twice in the log, and a list with `until` at
 * such a time may lack some of its events.
 */
export const listEvents = (
  store: StoreService,
  query: EventQuery,
  maySee: (event: FoundEvent) => boolean = () => true
): Effect.Effect<FoundEvents, StoreError> =>
  gathered((maxSlices) =>
    Effect.gen(function* () {
      const isBack = query.order === "newest"
      const events: Array<FoundEvent> = []
      let length = 0
      let range: Range = yield* store.read(readEventRange(query))
      let lookedTo: FoundEvents["lookedTo"]
      for (let slice = 0; slice < MAX_SLICES && events.length < query.limit; slice++) {
        // `gathered` allows one slice at first. If this function returns `undefined`, `gathered` calls it again and allows any
        // number of slices
        if (slice === maxSlices) return undefined
        const found: Slice = yield* onePage(store.read(readEventSlice(query, range)))
        for (const event of found.events) {
          if (!maySee(event)) continue
          const { data, position } = event
          if (events.length === query.limit || (length + data.length > MAX_ANSWER_LENGTH && length > 0)) {
            const last = events.at(-1)!
            return {
              events,
              next: position + (isBack ? 1 : -1),
              lookedTo: { position: last.position, timestamp: last.timestamp }
            }
          }
          events.push(event)
          length += data.length
        }
        lookedTo = found.lookedTo ?? lookedTo
        if (found.atEnd || lookedTo === undefined) return { events, ...(lookedTo && { lookedTo }) }
        range = isBack ? { ...range, before: lookedTo.position } : { ...range, after: lookedTo.position }
      }
      return { events, ...(lookedTo && { next: lookedTo.position, lookedTo }) }
    })
  )
