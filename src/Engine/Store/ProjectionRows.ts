/** Projections and their owners: claims, what comes next, and saves. */
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

/** The row of a projection. Throws `ProjectionNotFoundError`. */
export const findProjection = (tx: Transaction, environment: string, name: string): Row => {
  // by the name of the environment, whose key is only remembered once the transaction that made it is durable
  const row = tx.get(
    "SELECT p.* FROM environments e JOIN projections p ON p.environment = e.key WHERE e.name = ? AND p.name = ?",
    environment,
    name
  )
  if (row === undefined) throw new ProjectionNotFoundError(name)
  return row
}

export const eventsOf = (row: Row): ReadonlyArray<string> => parseStored(String(row.events))

export const markProjection = (tx: Transaction, environment: string, name: string): void => {
  tx.changes.projections.push(projectionKey(environment, name))
}

/**
 * Adds a projection or replaces what it projects. A managed one whose events or partitions are others than before is
 * rebuilt, since its states are of the old ones; an external one goes on from where it is.
 */
export const registerProjection = (
  tx: Transaction,
  environment: string,
  registration: ProjectionRegistration
): void => {
  const { events, mode, name } = registration
  const partitionKey = registration.partitionKey ?? null
  const now = tx.now()
  const text = JSON.stringify(events)
  const key = tx.environment(environment)
  const created = tx.run(
    `INSERT INTO projections (environment, name, mode, events, partition_key, created_at, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (environment, name) DO NOTHING`,
    key,
    name,
    mode,
    text,
    partitionKey,
    now,
    now
  )
  if (created > 0) return
  const row = tx.get("SELECT * FROM projections WHERE environment = ? AND name = ?", key, name)
  if (row === undefined) throw new Error(`no projection ${name}`)
  if (row.mode !== mode) {
    throw new InvalidStateError(
      `Projection "${name}" is ${row.mode} in the engine and ${mode} in this worker: give it another name, or delete it first ` +
        "with client.projections.delete()"
    )
  }
  if (row.events === text && row.partition_key === partitionKey) return
  tx.run(
    "UPDATE projections SET events = ?, partition_key = ?, updated_at = ? WHERE key = ?",
    text,
    partitionKey,
    now,
    row.key!
  )
  if (mode === "managed") resetProjection(tx, Number(row.key))
  markProjection(tx, environment, name)
}

/**
 * Forgets position and dead letters, and states once there are new ones: until everything is projected again, those from
 * before are read. What was handed out before counts no more.
 */
export const resetProjection = (tx: Transaction, key: number): void => {
  tx.run(
    `UPDATE projections SET position = 0, shown_epoch = CASE WHEN rebuild_to IS NULL THEN epoch ELSE coalesce(shown_epoch, epoch) END,
       epoch = epoch + 1, generation = generation + 1, handed_out = 0, rebuild_to = ?,
       failing = NULL, failures = 0, error = NULL, error_position = NULL, error_at = NULL, updated_at = ? WHERE key = ?`,
    // of an empty log there is nothing to rebuild
    endOfLog(tx) || null,
    tx.now(),
    key
  )
  tx.run("DELETE FROM dead_letters WHERE projection = ?", key)
}

// ---------------------------------------------------------------------------------------------------------------------
// Claims
// ---------------------------------------------------------------------------------------------------------------------

export const claimProjection = (tx: Transaction, request: ProjectionClaimRequest): ProjectionClaimed => {
  const { environment, leaseMs, registration, workerId } = request
  const { name } = registration
  const now = tx.now()
  const held = tx.get(
    "SELECT owner, lease_until FROM projections WHERE environment = ? AND name = ? AND token IS NOT NULL AND owner <> ? AND (lease_until IS NULL OR lease_until > ?)",
    tx.environment(environment),
    name,
    workerId,
    now
  )
  if (held !== undefined) {
    return {
      _tag: "Busy",
      owner: String(held.owner),
      ...(held.lease_until === null ? {} : { until: Number(held.lease_until) })
    }
  }
  // only its owner says what a projection is: two versions of a program must not rebuild it in turns
  registerProjection(tx, environment, registration)
  const token = tx.ids.job()
  tx.run(
    "UPDATE projections SET token = ?, owner = ?, lease_until = ?, generation = generation + 1 WHERE environment = ? AND name = ?",
    token,
    workerId,
    leaseMs === undefined ? null : now + leaseMs,
    tx.environment(environment),
    name
  )
  markProjection(tx, environment, name)
  const row = tx.get(
    "SELECT * FROM projections WHERE environment = ? AND name = ?",
    tx.environment(environment),
    name
  )!
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

/** Owned by a worker of this process when it ended: there is no such worker any more. */
export const recoverProjections = (tx: Transaction): void => {
  tx.run("UPDATE projections SET token = NULL, owner = NULL WHERE token IS NOT NULL AND lease_until IS NULL")
  // a lease that was given under a clock that was ahead
  const latest = tx.now() + LONGEST_LEASE_MS
  tx.run("UPDATE projections SET lease_until = ? WHERE lease_until > ?", latest, latest)
}

export const renewProjection = (
  tx: Transaction,
  { environment, generation, name, token }: ProjectionToken,
  leaseMs: number | undefined
): boolean =>
  tx.run(
    "UPDATE projections SET lease_until = ? WHERE environment = ? AND name = ? AND token = ? AND generation = ?",
    leaseMs === undefined ? null : tx.now() + leaseMs,
    tx.environment(environment),
    name,
    token,
    generation
  ) > 0

export const releaseProjection = (tx: Transaction, { environment, name, token }: ProjectionToken): void => {
  const released = tx.run(
    "UPDATE projections SET token = NULL, owner = NULL, lease_until = NULL WHERE environment = ? AND name = ? AND token = ?",
    tx.environment(environment),
    name,
    token
  )
  if (released > 0) markProjection(tx, environment, name)
}

/** The row if the token is the current one. */
const owned = (
  tx: Transaction,
  { environment, generation, name, token }: ProjectionToken
): Row | undefined => {
  const key = tx.findEnvironment(environment)
  return key === undefined
    ? undefined
    : tx.get(
        "SELECT * FROM projections WHERE environment = ? AND name = ? AND token = ? AND generation = ?",
        key,
        name,
        token,
        generation
      )
}

// ---------------------------------------------------------------------------------------------------------------------
// What comes next
// ---------------------------------------------------------------------------------------------------------------------

export const readProjectionPage = (
  tx: Transaction,
  token: ProjectionToken,
  after: number,
  limit: number
): ProjectionPage => {
  const row = owned(tx, token)
  if (row === undefined) return { _tag: "Lost" }
  if (row.paused_at !== null) return { _tag: "Paused" }
  const retries = tx.all(
    "SELECT e.* FROM dead_letters d JOIN events e ON e.position = d.position WHERE d.projection = ? AND d.retrying = 1 ORDER BY d.position LIMIT ?",
    row.key!,
    RETRIES
  )
  if (retries.length > 0) return { _tag: "Retries", events: retries.map(toEntry) }
  const page = readLog(tx, {
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
    position: page.atEnd ? Math.max(page.position, endOfLog(tx)) : page.position,
    saved: Number(row.position),
    isRebuilding: row.rebuild_to !== null,
    atEnd: page.atEnd
  }
}

export const readPartitions = (
  tx: Transaction,
  token: ProjectionToken,
  partitions: ReadonlyArray<string>
): ReadonlyArray<PartitionState> | undefined => {
  const row = owned(tx, token)
  if (row === undefined) return undefined
  return partitions.map((partition) => {
    const state = stateRow(tx, row, partition)
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

export const saveProjection = (
  tx: Transaction,
  token: ProjectionToken,
  save: ProjectionSave
): ProjectionSaved => {
  const id = save.number === undefined ? null : `${token.token}:${token.generation}:${save.number}`
  if (id !== null && wasSaved(tx, token, id)) return { _tag: "Saved" }
  const row = owned(tx, token)
  if (row === undefined) return refuse(tx, token, whyNotOwned(tx, token))
  if (save.from !== Number(row.position)) {
    return refuse(
      tx,
      token,
      `it goes on from position ${save.from}, and the projection is at ${row.position}`
    )
  }
  checkSave(tx, row, save)

  const now = tx.now()
  for (const state of save.states) putState(tx, row, state, now)
  for (const { attempts, error, position } of save.deadLetters) {
    tx.run(
      `INSERT INTO dead_letters (projection, position, error, attempts, at, retrying) VALUES (?, ?, ?, ?, ?, 0)
       ON CONFLICT DO UPDATE SET error = excluded.error, attempts = dead_letters.attempts + excluded.attempts, at = excluded.at, retrying = 0`,
      row.key!,
      position,
      JSON.stringify(error),
      attempts,
      now
    )
  }
  for (const position of save.resolved) {
    tx.run("DELETE FROM dead_letters WHERE projection = ? AND position = ?", row.key!, position)
  }
  const last = save.failing ?? save.deadLetters.at(-1)
  tx.run(
    `UPDATE projections SET position = ?, failing = ?, failures = ?, error = coalesce(?, error), error_position = coalesce(?, error_position),
       error_at = coalesce(?, error_at), rebuild_to = CASE WHEN rebuild_to <= ? THEN NULL ELSE rebuild_to END,
       version = version + 1, last_save = ?, updated_at = ? WHERE key = ?`,
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
  clearLeftovers(tx, row)
  markProjection(tx, token.environment, token.name)
  tellStates(
    tx,
    token.environment,
    row,
    save.states.map(({ partition }) => partition)
  )
  return { _tag: "Saved" }
}

/** What comes over the wire may be anything; all is checked before something is written. */
const checkSave = (
  tx: Transaction,
  row: Row,
  { deadLetters, failing, from, resolved, states, to }: ProjectionSave
): void => {
  const refuseAs = (what: string): never => {
    throw new ValidationError(`A save of projection "${row.name}" is not acceptable: ${what}`)
  }
  if (to < from) refuseAs(`it goes back from position ${from} to ${to}`)
  if (to > from && to > endOfLog(tx)) refuseAs(`position ${to} is beyond the end of the log`)
  if (states.length > 0 && row.mode === "external") refuseAs("an external projection has no state")
  const seen = new Set<string>()
  for (const { partition, position } of states) {
    if (seen.has(partition)) refuseAs(`it has two states of partition "${partition}"`)
    seen.add(partition)
    const stored = Number(stateRow(tx, row, partition)?.position ?? 0)
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
    const known = tx.get(
      "SELECT 1 FROM dead_letters WHERE projection = ? AND position = ?",
      row.key!,
      position
    )
    if (!inBatch && known === undefined) refuseAs(`there is no event at position ${position} in the batch`)
  }
}

export const putState = (
  tx: Transaction,
  projection: Row,
  state: {
    readonly partition: string
    readonly state: string
    readonly position: number
    readonly eventId: string
    readonly eventTime: number
  },
  now: number
): void => {
  tx.run(
    `INSERT INTO projection_states (projection, epoch, partition_key, state, position, event_id, event_time, version, revision, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?)
     ON CONFLICT (projection, epoch, partition_key) DO UPDATE SET state = excluded.state, position = excluded.position, event_id = excluded.event_id,
       event_time = excluded.event_time, version = projection_states.version + 1, revision = excluded.revision, updated_at = excluded.updated_at`,
    projection.key!,
    projection.epoch!,
    state.partition,
    state.state,
    state.position,
    state.eventId,
    state.eventTime,
    // what the save will make it
    Number(projection.version) + 1,
    now
  )
}

/** States from before the last rebuild go a few at a time, so that a rebuild takes no longer the more there are. */
const clearLeftovers = (tx: Transaction, row: Row): void => {
  if (row.epoch === 0) return
  tx.run(
    "DELETE FROM projection_states WHERE key IN (SELECT key FROM projection_states WHERE projection = ? AND epoch < ? AND epoch <> ? LIMIT ?)",
    row.key!,
    row.epoch!,
    shownEpoch(row),
    LEFTOVERS
  )
}

/** Whether this very save is the last one that was stored: its worker has not heard of it. */
const wasSaved = (tx: Transaction, { environment, name }: ProjectionToken, id: string): boolean => {
  const key = tx.findEnvironment(environment)
  return (
    key !== undefined &&
    tx.get("SELECT last_save FROM projections WHERE environment = ? AND name = ?", key, name)?.last_save ===
      id
  )
}

const whyNotOwned = (tx: Transaction, { environment, generation, name, token }: ProjectionToken): string => {
  const row = tx.get(
    "SELECT token, owner, generation FROM projections WHERE environment = ? AND name = ?",
    tx.environment(environment),
    name
  )
  if (row === undefined) return "the projection was deleted"
  return row.token === token
    ? `the projection was reset: its generation is ${row.generation}, and the save is of ${generation}`
    : `the projection belongs to ${row.owner === null ? "nobody" : `worker ${row.owner}`} now`
}

/** Counts what it refuses. */
export const refuse = (
  tx: Transaction,
  { environment, name }: { readonly environment: string; readonly name: string },
  reason: string
): ProjectionSaved => {
  tx.changes.counts.staleSaves++
  tx.run(
    "UPDATE projections SET refused = refused + 1 WHERE environment = ? AND name = ?",
    tx.environment(environment),
    name
  )
  return { _tag: "Refused", reason }
}
