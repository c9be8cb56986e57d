/**
 * Projections of runners without a token: they poll for events with the state to go on from, and save by the position of the last
 * event.
 *
 * Such a runner keeps the state of only one partition, so each poll returns events of one partition. A save is accepted when its
 * event was delivered since the last reset, and is above the stored position of its partition: two such runners fold the same
 * events from the same states, and the first to save wins.
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
import { readLog, toEntry } from "../Log/LogRows.ts"
import { accepts, eventsOf, findProjection, markProjection, registerProjection } from "./ProjectionRows.ts"
import { putState, countRefusal } from "./ProjectionSaveRows.ts"
import { TOKENLESS } from "./ProjectionOwnerRows.ts"
import { stateRow, tellStates } from "./ProjectionStateReads.ts"
import type { HandedOut, TokenlessSave } from "./ProjectionRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** The token of all runners without one. */
const NO_TOKEN = "none"

const FIND_OTHER_OWNER = statement(
  "TokenlessProjections.findOtherOwner",
  "SELECT owner FROM projections WHERE environment = ? AND name = ? AND token IS NOT NULL AND token <> ? AND (lease_until IS NULL OR lease_until > ?)"
)

/** Registers a projection for such a runner. While a worker with a token is the owner, the owner's definition stays. */
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

/** Most rows of the log that one poll looks at. */
const ROWS = 5000

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

/** Delivers events to a runner without a token; none while a worker with a token is the owner. */
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
  ): Program<HandedOut, ProjectionNotFoundError> {
    const { environment, leaseMs, limit, name } = request
    const row = yield* findProjection(environment, name)
    const now = tx.now()
    const nothing = { events: [], position: Number(row.position) }
    const taken = yield* affected(
      UPDATE_OWNER,
      NO_TOKEN,
      NO_TOKEN,
      TOKENLESS,
      now + leaseMs,
      row.key!,
      NO_TOKEN,
      now
    )
    if (taken === 0 || row.paused_at !== null) return nothing

    function* readOn(after: number, rows: number) {
      return yield* readLog.in(tx, {
        environment,
        kind: "event",
        after,
        patterns: eventsOf(row),
        limit: rows
      })
    }
    let rows = row.partition_key === null ? limit : ROWS
    let page = yield* readOn(Number(row.position), rows)
    // a runner that gets nothing waits a while before it asks again
    while (page.entries.length === 0 && !page.atEnd && rows < ROWS)
      page = yield* readOn(page.position, (rows = ROWS))
    // what is done in all partitions need not be looked at again
    let done = Number(row.position)
    let partition: string | undefined
    const events: Array<ProjectionLogEvent> = []
    const positions = new Map<string, number>()
    for (const event of page.entries) {
      const its = partitionIn(row, event)
      const stored = positions.get(its) ?? Number((yield* stateRow(row, its))?.position ?? 0)
      positions.set(its, stored)
      if (row.mode === "managed" && event.position <= stored) {
        if (partition === undefined) done = event.position
        continue
      }
      partition ??= its
      if (its !== partition) continue
      events.push(event)
      if (events.length >= limit) break
    }
    if (partition === undefined) {
      done =
        row.rebuild_to !== null && page.atEnd ? Math.max(page.position, yield* endOfLog()) : page.position
    }
    const last = events.at(-1)?.position ?? 0
    if (done > Number(row.position) || last > Number(row.handed_out)) {
      yield* write(UPDATE_POSITION_HANDED_OUT, done, last, done, row.key!)
      markProjection(tx, environment, name)
      yield* tellStates(tx, environment, row, [])
    }
    const state = partition === undefined ? undefined : yield* stateRow(row, partition)
    return { events, position: done, ...(state === undefined ? {} : { state: String(state.state) }) }
  },
  (request) => `hand out events of projection "${request.name}"`
)

const FIND_EVENT = statement(
  "TokenlessProjections.findEvent",
  "SELECT * FROM events WHERE position = ? AND environment = ? AND kind = 0"
)

const UPDATE_POSITION = statement(
  "TokenlessProjections.updatePosition",
  `UPDATE projections SET position = ?, rebuild_to = CASE WHEN rebuild_to <= ? THEN NULL ELSE rebuild_to END,
       version = version + 1, failing = NULL, failures = 0, updated_at = ? WHERE key = ?`
)

/** Saves for such a runner: only events that were delivered since the last reset, and are above the stored position. */
export const saveTokenless = inEnvironment(
  "saveTokenless",
  function* (tx: Transaction, save: TokenlessSave): Program<ProjectionSaved, ProjectionNotFoundError> {
    const { environment, name, position, state } = save
    const row = yield* findProjection(environment, name)
    const target = { environment, name }
    if (row.token !== NO_TOKEN && row.token !== null) {
      return yield* countRefusal(tx, target, `the projection belongs to worker ${row.owner} now`)
    }
    if (position > Number(row.handed_out)) {
      return yield* countRefusal(
        tx,
        target,
        `position ${position} was not handed out since the projection was last reset`
      )
    }
    const found = yield* get(FIND_EVENT, position, row.environment!)
    if (found === undefined || !accepts(row, String(found.name))) {
      return yield* countRefusal(tx, target, `position ${position} is not that of an event of the projection`)
    }
    const event = toEntry(found)
    const now = tx.now()
    const partition = partitionIn(row, event)
    const stored =
      row.mode === "external"
        ? Number(row.position)
        : Number((yield* stateRow(row, partition))?.position ?? 0)
    if (position <= Math.max(stored, Number(row.position))) {
      return yield* countRefusal(
        tx,
        target,
        `position ${position} is done: the projection is at ${Math.max(stored, Number(row.position))}`
      )
    }
    if (row.mode === "managed") {
      yield* putState(
        row,
        { partition, state: state ?? "{}", position, eventId: event.id, eventTime: event.timestamp },
        now
      )
    }
    // with partitions, the next poll finds out what is done in all of them
    const done = row.partition_key === null ? position : Number(row.position)
    yield* write(UPDATE_POSITION, done, done, now, row.key!)
    markProjection(tx, environment, name)
    yield* tellStates(tx, environment, row, row.mode === "managed" ? [partition] : [])
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
    // a value that is too long for a name: such a runner cannot be told
    return GLOBAL_PARTITION
  }
}

/** Registers a projection whose owner has no token. Returns its current state. */
export const register = inEnvironment(
  "register",
  function* (tx: Transaction, environment: string, registration: ProjectionRegistration) {
    yield* registerTokenless(tx, environment, registration)
    return yield* getProjection.in(tx, environment, registration.name)
  },
  (_, registration) => `register projection "${registration.name}"`
)
