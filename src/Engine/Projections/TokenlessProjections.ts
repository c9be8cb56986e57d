/**
 * Projections of legacy runners. A runner is the part of a worker that applies events to the states of a projection. A legacy
 * runner has no token that proves its ownership. It polls for events and the state before them, and saves by the position of the
 * last event.
 *
 * A legacy runner keeps the state of only one partition, so each poll returns events of one partition. A save is accepted when its
 * event was delivered since the last reset, and is after the stored position of its partition. Two legacy runners of a projection
 * get the same events and states, and the first one that saves wins.
 */
import { getProjection } from "./ProjectionInspection.ts"
import type { InvalidStateError, ProjectionNotFoundError } from "../../Errors.ts"
import { affected, get, statement, type Program, write, inEnvironment } from "../Store/Program.ts"
import { GLOBAL_PARTITION, partitionAt } from "../../Projection/Partition.ts"
import {
  PARTITION_FUNCTION,
  type ProjectionLogEvent,
  type ProjectionRegistration,
  type ProjectionSaved
} from "../../Protocol/ProjectionOwners.ts"
import { eventView } from "../Functions/Registry.ts"
import { endOfLog } from "../Log/EndOfLog.ts"
import type { LogPage } from "../Log/LogRecords.ts"
import { readLog, toEntry } from "../Log/LogRows.ts"
import {
  acceptsEvent,
  eventsOf,
  findProjection,
  markProjection,
  registerProjection
} from "./ProjectionRows.ts"
import { putState, refuseSave } from "./ProjectionSaveRows.ts"
import { TOKENLESS_OWNER } from "../../Projection/OwnerName.ts"
import { findState, notifyStates } from "./ProjectionStateReads.ts"
import type { DeliveredEvents, TokenlessSave } from "../Records/ProjectionRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** The value of `token` while runners without a token are the owner. */
const NO_TOKEN = "none"

const FIND_OTHER_OWNER = statement(
  "TokenlessProjections.findOtherOwner",
  "SELECT owner FROM projections WHERE environment = ? AND name = ? AND token IS NOT NULL AND token <> ? AND (lease_until IS NULL OR lease_until > ?)"
)

/**
 * Registers a projection for a runner without a token. While a worker with a token is the owner, that worker's definition stays.
 */
function* registerTokenless(
  tx: Transaction,
  environment: string,
  registration: ProjectionRegistration
): Program<void, InvalidStateError> {
  const owner = yield* get(
    FIND_OTHER_OWNER,
    tx.environment(environment),
    registration.name,
    NO_TOKEN,
    tx.now()
  )
  if (owner === undefined) yield* registerProjection(tx, environment, registration)
}

/** Maximum number of rows of the log that one poll reads at once. */
const MAX_LOG_ROWS = 5000

const UPDATE_OWNER = statement(
  "TokenlessProjections.updateOwner",
  `UPDATE projections SET generation = generation + CASE WHEN token IS NULL OR token <> ? THEN 1 ELSE 0 END, token = ?, owner = ?, lease_until = ?
     WHERE key = ? AND (token IS NULL OR token = ? OR lease_until <= ?)`
)

const UPDATE_POSITION_HANDED_OUT = statement(
  "TokenlessProjections.updatePositionHandedOut",
  `UPDATE projections SET position = ?1, handed_out = CASE WHEN handed_out > ?2 THEN handed_out ELSE ?2 END,
         rebuild_to = CASE WHEN rebuild_to <= ?3 THEN NULL ELSE rebuild_to END WHERE key = ?4`
)

/** Delivers events to a runner without a token. Delivers none while a worker with a token is the owner. */
export const handOut = inEnvironment(
  "handOut",
  function* (
    tx: Transaction,
    request: {
      readonly environment: string
      readonly name: string
      readonly limit: number
      readonly leaseMs: number
    }
  ): Program<DeliveredEvents, ProjectionNotFoundError> {
    const { environment, leaseMs, limit, name } = request
    const row = yield* findProjection(environment, name)
    const position = Number(row.position)
    const isOwner = yield* takeLease(tx, row, leaseMs)
    if (!isOwner || row.paused_at !== null) return { events: [], position }
    const page = yield* readNext(tx, environment, row, limit)
    const { doneTo: donePosition, events, partition } = yield* firstPartitionOf(row, page, limit)
    const last = events.at(-1)?.position ?? 0
    if (donePosition > position || last > Number(row.handed_out)) {
      yield* write(UPDATE_POSITION_HANDED_OUT, donePosition, last, donePosition, row.key!)
      markProjection(tx, environment, name)
      yield* notifyStates(tx, environment, row, [])
    }
    const state = partition === undefined ? undefined : yield* findState(row, partition)
    return { events, position: donePosition, ...(state === undefined ? {} : { state: String(state.state) }) }
  },
  (request) => `hand out events of projection "${request.name}"`
)

/**
 * Makes the runners without a token the owner of the projection, unless another worker is its owner. Returns whether they are the
 * owner now.
 */
function* takeLease(tx: Transaction, row: Row, leaseMs: number): Program<boolean> {
  const now = tx.now()
  const updated = yield* affected(
    UPDATE_OWNER,
    NO_TOKEN,
    NO_TOKEN,
    TOKENLESS_OWNER,
    now + leaseMs,
    row.key!,
    NO_TOKEN,
    now
  )
  return updated > 0
}

/**
 * The next events of the projection. If the first rows have none, more rows are read, because a runner that gets no events waits
 * before it polls again.
 */
function* readNext(tx: Transaction, environment: string, row: Row, limit: number): Program<LogPage> {
  const read = (after: number, rows: number) =>
    readLog.in(tx, { environment, kind: "event", after, patterns: eventsOf(row), limit: rows })
  const rows = row.partition_key === null ? limit : MAX_LOG_ROWS
  const page = yield* read(Number(row.position), rows)
  const isFinal = page.entries.length > 0 || page.atEnd || rows >= MAX_LOG_ROWS
  return isFinal ? page : yield* read(page.position, MAX_LOG_ROWS)
}

interface PartitionEvents {
  /** The partition of the events; `undefined` when there are no events left to apply. */
  readonly partition: string | undefined
  readonly events: ReadonlyArray<ProjectionLogEvent>
  /** The position up to which all events are applied, in every partition. Later polls begin after it. */
  readonly doneTo: number
}

/** The events of a page that are not applied yet, but only those of one partition: the partition of the first of them. */
function* firstPartitionOf(row: Row, page: LogPage, limit: number): Program<PartitionEvents> {
  let doneTo = Number(row.position)
  let partition: string | undefined
  const events: Array<ProjectionLogEvent> = []
  const positions = new Map<string, number>()
  for (const event of page.entries) {
    const eventPartition = partitionIn(row, event)
    const storedPosition =
      positions.get(eventPartition) ?? Number((yield* findState(row, eventPartition))?.position ?? 0)
    positions.set(eventPartition, storedPosition)
    if (row.mode === "managed" && event.position <= storedPosition) {
      if (partition === undefined) doneTo = event.position
      continue
    }
    partition ??= eventPartition
    if (eventPartition !== partition) continue
    events.push(event)
    if (events.length >= limit) break
  }
  if (partition !== undefined) return { partition, events, doneTo }
  const isRebuilt = row.rebuild_to !== null && page.atEnd
  return { partition, events, doneTo: isRebuilt ? Math.max(page.position, yield* endOfLog()) : page.position }
}

const FIND_EVENT = statement(
  "TokenlessProjections.findEvent",
  "SELECT * FROM events WHERE position = ? AND environment = ? AND kind = 0"
)

const UPDATE_POSITION = statement(
  "TokenlessProjections.updatePosition",
  `UPDATE projections SET position = ?, rebuild_to = CASE WHEN rebuild_to <= ? THEN NULL ELSE rebuild_to END,
       version = version + 1, failing = NULL, failures = 0, updated_at = ? WHERE key = ?`
)

/**
 * Saves for a runner without a token. Accepts only events that were delivered since the last reset and are after the stored
 * position.
 */
export const saveTokenless = inEnvironment(
  "saveTokenless",
  function* (tx: Transaction, save: TokenlessSave): Program<ProjectionSaved, ProjectionNotFoundError> {
    const { environment, name, position, state } = save
    const row = yield* findProjection(environment, name)
    const target = { environment, name }
    if (row.token !== NO_TOKEN && row.token !== null) {
      return yield* refuseSave(tx, target, `the projection belongs to worker ${row.owner} now`)
    }
    if (position > Number(row.handed_out)) {
      return yield* refuseSave(
        tx,
        target,
        `position ${position} was not handed out since the projection was last reset`
      )
    }
    const found = yield* get(FIND_EVENT, position, row.environment!)
    if (found === undefined || !acceptsEvent(row, String(found.name))) {
      return yield* refuseSave(
        tx,
        target,
        `position ${position} is not the position of an event of the projection`
      )
    }
    const event = toEntry(found)
    const now = tx.now()
    const partition = partitionIn(row, event)
    const storedPosition =
      row.mode === "external"
        ? Number(row.position)
        : Number((yield* findState(row, partition))?.position ?? 0)
    if (position <= Math.max(storedPosition, Number(row.position))) {
      return yield* refuseSave(
        tx,
        target,
        `position ${position} was saved before: the projection is at position ${Math.max(storedPosition, Number(row.position))}`
      )
    }
    if (row.mode === "managed") {
      yield* putState(
        row,
        { partition, state: state ?? "{}", position, eventId: event.id, eventTime: event.timestamp },
        now
      )
    }
    // other partitions may be behind: the next poll finds the position up to which all partitions are done
    const doneTo = row.partition_key === null ? position : Number(row.position)
    yield* write(UPDATE_POSITION, doneTo, doneTo, now, row.key!)
    markProjection(tx, environment, name)
    yield* notifyStates(tx, environment, row, row.mode === "managed" ? [partition] : [])
    return { _tag: "Saved" }
  },
  (save) => `save projection "${save.name}"`
)

const partitionIn = (row: Row, event: ProjectionLogEvent): string => {
  const path = row.partition_key
  if (path === null || path === PARTITION_FUNCTION) return GLOBAL_PARTITION
  try {
    return partitionAt(eventView(event), String(path))
  } catch {
    // the value is too long for the name of a partition. A runner without a token cannot be told the error, so the event goes to
    // the global partition
    return GLOBAL_PARTITION
  }
}

/** Registers a projection for runners without a token. Returns the projection's status. */
export const register = inEnvironment(
  "register",
  function* (tx: Transaction, environment: string, registration: ProjectionRegistration) {
    yield* registerTokenless(tx, environment, registration)
    return yield* getProjection.in(tx, environment, registration.name)
  },
  (_, registration) => `register projection "${registration.name}"`
)
