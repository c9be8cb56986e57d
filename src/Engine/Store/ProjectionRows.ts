/** Projections and their owners: claims, what comes next, and saves. */
import { affected, all, forEach, get, statement, type Program, write } from "./Program.ts"
import { InvalidStateError, ProjectionNotFoundError, ValidationError } from "../../Errors.ts"
import { matchesPattern } from "../../Pattern.ts"
import type {
  PartitionState,
  ProjectionRegistration,
  ProjectionSave,
  ProjectionSaved
} from "../../Protocol/Projections.ts"
import { endOfLog } from "./Events.ts"
import { readLog, toEntry } from "./LogRows.ts"
import { stateRow, shownEpoch, tellStates } from "./ProjectionStateRows.ts"
import {
  type ProjectionClaimed,
  type ProjectionClaimRequest,
  projectionKey,
  type ProjectionPage,
  type ProjectionToken
} from "./ProjectionStore.ts"
import type { Row, Transaction } from "./Transaction.ts"
import { parseStored } from "./StoredJson.ts"

/** Dead letters that are handed out for another try at once. */
const RETRIES = 100

/** States from before a rebuild that one save clears away. */
const LEFTOVERS = 200

/** The longest lease of a projection, milliseconds. */
const LONGEST_LEASE_MS = 30_000

/** The owner that stands for all runners that cannot show a token. */
export const TOKENLESS = "runners without a token"

const FIND_PROJECTION = statement(
  "ProjectionRows.findProjection",
  "SELECT p.* FROM environments e JOIN projections p ON p.environment = e.key WHERE e.name = ? AND p.name = ?"
)

/** The row of a projection. Throws `ProjectionNotFoundError`. */
export function* findProjection(environment: string, name: string): Program<Row> {
  // by the name of the environment, whose key is only remembered once the transaction that made it is durable
  const row = yield* get(FIND_PROJECTION, environment, name)
  if (row === undefined) throw new ProjectionNotFoundError(name)
  return row
}

export const eventsOf = (row: Row): ReadonlyArray<string> => parseStored(String(row.events))

export const markProjection = (tx: Transaction, environment: string, name: string): void => {
  tx.changes.projections.push(projectionKey(environment, name))
}

const REGISTER_PROJECTION = statement(
  "ProjectionRows.registerProjection",
  `INSERT INTO projections (environment, name, mode, events, partition_key, created_at, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (environment, name) DO NOTHING`
)

const REGISTER_PROJECTION_2 = statement(
  "ProjectionRows.registerProjection.2",
  "SELECT * FROM projections WHERE environment = ? AND name = ?"
)

const REGISTER_PROJECTION_3 = statement(
  "ProjectionRows.registerProjection.3",
  "UPDATE projections SET events = ?, partition_key = ?, updated_at = ? WHERE key = ?"
)

/**
 * Adds a projection or replaces what it projects. A managed one whose events or partitions are others than before is
 * rebuilt, since its states are of the old ones; an external one goes on from where it is.
 */
export function* registerProjection(
  tx: Transaction,
  environment: string,
  registration: ProjectionRegistration
): Program<void> {
  const { events, mode, name } = registration
  const partitionKey = registration.partitionKey ?? null
  const now = tx.now()
  const text = JSON.stringify(events)
  const key = tx.environment(environment)
  const created = yield* affected(REGISTER_PROJECTION, key, name, mode, text, partitionKey, now, now)
  if (created > 0) return
  const row = yield* get(REGISTER_PROJECTION_2, key, name)
  if (row === undefined) throw new Error(`no projection ${name}`)
  if (row.mode !== mode) {
    throw new InvalidStateError(
      `Projection "${name}" is ${row.mode} in the engine and ${mode} in this worker: give it another name, or delete it first ` +
        "with client.projections.delete()"
    )
  }
  if (row.events === text && row.partition_key === partitionKey) return
  yield* write(REGISTER_PROJECTION_3, text, partitionKey, now, row.key!)
  if (mode === "managed") yield* resetProjection(tx, Number(row.key))
  markProjection(tx, environment, name)
}

const RESET_PROJECTION = statement(
  "ProjectionRows.resetProjection",
  `UPDATE projections SET position = 0, shown_epoch = CASE WHEN rebuild_to IS NULL THEN epoch ELSE coalesce(shown_epoch, epoch) END,
       epoch = epoch + 1, generation = generation + 1, handed_out = 0, rebuild_to = ?,
       failing = NULL, failures = 0, error = NULL, error_position = NULL, error_at = NULL, updated_at = ? WHERE key = ?`
)

const RESET_PROJECTION_2 = statement(
  "ProjectionRows.resetProjection.2",
  "DELETE FROM dead_letters WHERE projection = ?"
)

/**
 * Forgets position and dead letters, and states once there are new ones: until everything is projected again, those from
 * before are read. What was handed out before counts no more.
 */
export function* resetProjection(tx: Transaction, key: number): Program<void> {
  yield* write(RESET_PROJECTION, (yield* endOfLog()) || null, tx.now(), key)
  yield* write(RESET_PROJECTION_2, key)
}

// ---------------------------------------------------------------------------------------------------------------------
// Claims
// ---------------------------------------------------------------------------------------------------------------------

const CLAIM_PROJECTION = statement(
  "ProjectionRows.claimProjection",
  "SELECT owner, lease_until FROM projections WHERE environment = ? AND name = ? AND token IS NOT NULL AND owner <> ? AND (lease_until IS NULL OR lease_until > ?)"
)

const CLAIM_PROJECTION_2 = statement(
  "ProjectionRows.claimProjection.2",
  "UPDATE projections SET token = ?, owner = ?, lease_until = ?, generation = generation + 1 WHERE environment = ? AND name = ?"
)

const CLAIM_PROJECTION_3 = statement(
  "ProjectionRows.claimProjection.3",
  "SELECT * FROM projections WHERE environment = ? AND name = ?"
)

export function* claimProjection(
  tx: Transaction,
  request: ProjectionClaimRequest
): Program<ProjectionClaimed> {
  const { environment, leaseMs, registration, workerId } = request
  const { name } = registration
  const now = tx.now()
  const held = yield* get(CLAIM_PROJECTION, tx.environment(environment), name, workerId, now)
  if (held !== undefined) {
    return {
      _tag: "Busy",
      owner: String(held.owner),
      ...(held.lease_until === null ? {} : { until: Number(held.lease_until) })
    }
  }
  // only its owner says what a projection is: two versions of a program must not rebuild it in turns
  yield* registerProjection(tx, environment, registration)
  const token = tx.ids.job()
  yield* write(
    CLAIM_PROJECTION_2,
    token,
    workerId,
    leaseMs === undefined ? null : now + leaseMs,
    tx.environment(environment),
    name
  )
  markProjection(tx, environment, name)
  const row = (yield* get(CLAIM_PROJECTION_3, tx.environment(environment), name))!
  return {
    _tag: "Granted",
    lease: {
      name,
      token,
      generation: Number(row.generation),
      position: Number(row.position),
      ...(row.failing === null
        ? {}
        : { failing: { position: Number(row.failing), failures: Number(row.failures) } })
    }
  }
}

const RECOVER_PROJECTIONS = statement(
  "ProjectionRows.recoverProjections",
  "UPDATE projections SET token = NULL, owner = NULL WHERE token IS NOT NULL AND lease_until IS NULL",
  { scans: "projections are few, once at the start" }
)

const RECOVER_PROJECTIONS_2 = statement(
  "ProjectionRows.recoverProjections.2",
  "UPDATE projections SET lease_until = ? WHERE lease_until > ?",
  { scans: "projections are few, once at the start" }
)

/** Owned by a worker of this process when it ended: there is no such worker any more. */
export function* recoverProjections(tx: Transaction): Program<void> {
  yield* write(RECOVER_PROJECTIONS)
  // a lease that was given under a clock that was ahead
  const latest = tx.now() + LONGEST_LEASE_MS
  yield* write(RECOVER_PROJECTIONS_2, latest, latest)
}

const RENEW_PROJECTION = statement(
  "ProjectionRows.renewProjection",
  "UPDATE projections SET lease_until = ? WHERE environment = ? AND name = ? AND token = ? AND generation = ?"
)

export function* renewProjection(
  tx: Transaction,
  { environment, generation, name, token }: ProjectionToken,
  leaseMs: number | undefined
): Program<boolean> {
  return (
    (yield* affected(
      RENEW_PROJECTION,
      leaseMs === undefined ? null : tx.now() + leaseMs,
      tx.environment(environment),
      name,
      token,
      generation
    )) > 0
  )
}

const RELEASE_PROJECTION = statement(
  "ProjectionRows.releaseProjection",
  "UPDATE projections SET token = NULL, owner = NULL, lease_until = NULL WHERE environment = ? AND name = ? AND token = ?"
)

export function* releaseProjection(
  tx: Transaction,
  { environment, name, token }: ProjectionToken
): Program<void> {
  const released = yield* affected(RELEASE_PROJECTION, tx.environment(environment), name, token)
  if (released > 0) markProjection(tx, environment, name)
}

const OWNED = statement(
  "ProjectionRows.owned",
  "SELECT * FROM projections WHERE environment = ? AND name = ? AND token = ? AND generation = ?"
)

/** The row if the token is the current one. */
function* owned(
  tx: Transaction,
  { environment, generation, name, token }: ProjectionToken
): Program<Row | undefined> {
  const key = tx.findEnvironment(environment)
  return key === undefined ? undefined : yield* get(OWNED, key, name, token, generation)
}

// ---------------------------------------------------------------------------------------------------------------------
// What comes next
// ---------------------------------------------------------------------------------------------------------------------

const READ_PROJECTION_PAGE = statement(
  "ProjectionRows.readProjectionPage",
  "SELECT e.* FROM dead_letters d JOIN events e ON e.position = d.position WHERE d.projection = ? AND d.retrying = 1 ORDER BY d.position LIMIT ?"
)

export function* readProjectionPage(
  tx: Transaction,
  token: ProjectionToken,
  after: number,
  limit: number
): Program<ProjectionPage> {
  const row = yield* owned(tx, token)
  if (row === undefined) return { _tag: "Lost" }
  if (row.paused_at !== null) return { _tag: "Paused" }
  const retries = yield* all(READ_PROJECTION_PAGE, row.key!, RETRIES)
  if (retries.length > 0) return { _tag: "Retries", events: retries.map(toEntry) }
  const page = yield* readLog(tx, {
    environment: token.environment,
    kind: "event",
    after: Math.max(after, Number(row.position)),
    patterns: eventsOf(row),
    limit
  })
  return {
    _tag: "Events",
    events: page.entries,
    // nothing up to the end of the log is left to be found
    position: page.atEnd ? Math.max(page.position, yield* endOfLog()) : page.position,
    saved: Number(row.position),
    isRebuilding: row.rebuild_to !== null,
    atEnd: page.atEnd
  }
}

export function* readPartitions(
  tx: Transaction,
  token: ProjectionToken,
  partitions: ReadonlyArray<string>
): Program<ReadonlyArray<PartitionState> | undefined> {
  const row = yield* owned(tx, token)
  if (row === undefined) return undefined
  return yield* forEach(partitions, function* (partition) {
    const state = yield* stateRow(row, partition)
    return state === undefined
      ? { partition, position: 0 }
      : { partition, state: String(state.state), position: Number(state.position) }
  })
}

/** Whether an event is one of the projection's. */
export const accepts = (row: Row, name: string): boolean =>
  eventsOf(row).some((pattern) => matchesPattern(pattern, name))

// ---------------------------------------------------------------------------------------------------------------------
// Saves
// ---------------------------------------------------------------------------------------------------------------------

const SAVE_PROJECTION = statement(
  "ProjectionRows.saveProjection",
  `INSERT INTO dead_letters (projection, position, error, attempts, at, retrying) VALUES (?, ?, ?, ?, ?, 0)
       ON CONFLICT DO UPDATE SET error = excluded.error, attempts = dead_letters.attempts + excluded.attempts, at = excluded.at, retrying = 0`
)

const SAVE_PROJECTION_2 = statement(
  "ProjectionRows.saveProjection.2",
  "DELETE FROM dead_letters WHERE projection = ? AND position = ?"
)

const SAVE_PROJECTION_3 = statement(
  "ProjectionRows.saveProjection.3",
  `UPDATE projections SET position = ?, failing = ?, failures = ?, error = coalesce(?, error), error_position = coalesce(?, error_position),
       error_at = coalesce(?, error_at), rebuild_to = CASE WHEN rebuild_to <= ? THEN NULL ELSE rebuild_to END,
       version = version + 1, last_save = ?, updated_at = ? WHERE key = ?`
)

export function* saveProjection(
  tx: Transaction,
  token: ProjectionToken,
  save: ProjectionSave
): Program<ProjectionSaved> {
  const id = save.number === undefined ? null : `${token.token}:${token.generation}:${save.number}`
  if (id !== null && (yield* wasSaved(tx, token, id))) return { _tag: "Saved" }
  const row = yield* owned(tx, token)
  if (row === undefined) return yield* refuse(tx, token, yield* whyNotOwned(tx, token))
  if (save.from !== Number(row.position)) {
    return yield* refuse(
      tx,
      token,
      `it goes on from position ${save.from}, and the projection is at ${row.position}`
    )
  }
  yield* checkSave(row, save)

  const now = tx.now()
  for (const state of save.states) yield* putState(row, state, now)
  for (const { attempts, error, position } of save.deadLetters) {
    yield* write(SAVE_PROJECTION, row.key!, position, JSON.stringify(error), attempts, now)
  }
  for (const position of save.resolved) {
    yield* write(SAVE_PROJECTION_2, row.key!, position)
  }
  const last = save.failing ?? save.deadLetters.at(-1)
  yield* write(
    SAVE_PROJECTION_3,
    save.to,
    save.failing?.position ?? null,
    save.failing?.failures ?? 0,
    last === undefined ? null : JSON.stringify(last.error),
    last?.position ?? null,
    last === undefined ? null : now,
    save.to,
    id,
    now,
    row.key!
  )
  yield* clearLeftovers(row)
  markProjection(tx, token.environment, token.name)
  yield* tellStates(
    tx,
    token.environment,
    row,
    save.states.map(({ partition }) => partition)
  )
  return { _tag: "Saved" }
}

const CHECK_SAVE = statement(
  "ProjectionRows.checkSave",
  "SELECT 1 FROM dead_letters WHERE projection = ? AND position = ?"
)

/** What comes over the wire may be anything; all is checked before something is written. */
function* checkSave(
  row: Row,
  { deadLetters, failing, from, resolved, states, to }: ProjectionSave
): Program<void> {
  const refuseAs = (what: string): never => {
    throw new ValidationError(`A save of projection "${row.name}" is not acceptable: ${what}`)
  }
  if (to < from) refuseAs(`it goes back from position ${from} to ${to}`)
  if (to > from && to > (yield* endOfLog())) refuseAs(`position ${to} is beyond the end of the log`)
  if (states.length > 0 && row.mode === "external") refuseAs("an external projection has no state")
  const seen = new Set<string>()
  for (const { partition, position } of states) {
    if (seen.has(partition)) refuseAs(`it has two states of partition "${partition}"`)
    seen.add(partition)
    const stored = Number((yield* stateRow(row, partition))?.position ?? 0)
    // a retried dead letter changes a state without moving it
    if (resolved.length > 0 ? position < stored : position <= stored || position <= from) {
      refuseAs(
        `the state of partition "${partition}" is at position ${position}, and ${Math.max(stored, from)} is stored`
      )
    }
    if (position > to && resolved.length === 0)
      refuseAs(`the state of partition "${partition}" is beyond position ${to}`)
  }
  if (failing !== undefined && failing.position <= to) refuseAs("the event that failed is done")
  for (const { position } of deadLetters) {
    const inBatch = position > from && position <= to
    const known = yield* get(CHECK_SAVE, row.key!, position)
    if (!inBatch && known === undefined) refuseAs(`there is no event at position ${position} in the batch`)
  }
}

const PUT_STATE = statement(
  "ProjectionRows.putState",
  `INSERT INTO projection_states (projection, epoch, partition_key, state, position, event_id, event_time, version, revision, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?)
     ON CONFLICT (projection, epoch, partition_key) DO UPDATE SET state = excluded.state, position = excluded.position, event_id = excluded.event_id,
       event_time = excluded.event_time, version = projection_states.version + 1, revision = excluded.revision, updated_at = excluded.updated_at`
)

export function* putState(
  projection: Row,
  state: {
    readonly partition: string
    readonly state: string
    readonly position: number
    readonly eventId: string
    readonly eventTime: number
  },
  now: number
): Program<void> {
  yield* write(
    PUT_STATE,
    projection.key!,
    projection.epoch!,
    state.partition,
    state.state,
    state.position,
    state.eventId,
    state.eventTime,
    Number(projection.version) + 1,
    now
  )
}

const CLEAR_LEFTOVERS = statement(
  "ProjectionRows.clearLeftovers",
  "DELETE FROM projection_states WHERE key IN (SELECT key FROM projection_states WHERE projection = ? AND epoch < ? AND epoch <> ? LIMIT ?)"
)

/** States from before the last rebuild go a few at a time, so that a rebuild takes no longer the more there are. */
function* clearLeftovers(row: Row): Program<void> {
  if (row.epoch === 0) return
  yield* write(CLEAR_LEFTOVERS, row.key!, row.epoch!, shownEpoch(row), LEFTOVERS)
}

const WAS_SAVED = statement(
  "ProjectionRows.wasSaved",
  "SELECT last_save FROM projections WHERE environment = ? AND name = ?"
)

/** Whether this very save is the last one that was stored: its worker has not heard of it. */
function* wasSaved(tx: Transaction, { environment, name }: ProjectionToken, id: string): Program<boolean> {
  const key = tx.findEnvironment(environment)
  return key !== undefined && (yield* get(WAS_SAVED, key, name))?.last_save === id
}

const WHY_NOT_OWNED = statement(
  "ProjectionRows.whyNotOwned",
  "SELECT token, owner, generation FROM projections WHERE environment = ? AND name = ?"
)

function* whyNotOwned(
  tx: Transaction,
  { environment, generation, name, token }: ProjectionToken
): Program<string> {
  const row = yield* get(WHY_NOT_OWNED, tx.environment(environment), name)
  if (row === undefined) return "the projection was deleted"
  return row.token === token
    ? `the projection was reset: its generation is ${row.generation}, and the save is of ${generation}`
    : `the projection belongs to ${row.owner === null ? "nobody" : `worker ${row.owner}`} now`
}

const REFUSE = statement(
  "ProjectionRows.refuse",
  "UPDATE projections SET refused = refused + 1 WHERE environment = ? AND name = ?"
)

/** Counts what it refuses. */
export function* refuse(
  tx: Transaction,
  { environment, name }: { readonly environment: string; readonly name: string },
  reason: string
): Program<ProjectionSaved> {
  tx.changes.counts.staleSaves++
  yield* write(REFUSE, tx.environment(environment), name)
  return { _tag: "Refused", reason }
}
