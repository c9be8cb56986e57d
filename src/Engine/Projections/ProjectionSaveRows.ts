/** Saves of projections: position, states and dead letters are saved together, or not at all (guarantee G11). */
import { ValidationError } from "../../Errors.ts"
import type { ProjectionSave, ProjectionSaved } from "../../Protocol/ProjectionOwners.ts"
import { endOfLog } from "../Log/EndOfLog.ts"
import {
  acrossEnvironments,
  affected,
  all,
  get,
  inEnvironment,
  type Program,
  refuse,
  statement,
  write
} from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { findOwnedProjection, whyNotOwned } from "./ProjectionOwnerRows.ts"
import type { ProjectionToken } from "../Records/ProjectionRecords.ts"
import { markProjection } from "./ProjectionRows.ts"
import { shownEpoch, findState, notifyStates } from "./ProjectionStateReads.ts"

/** Maximum number of states from before the last rebuild that one save deletes. */
const MAX_LEFTOVERS_PER_SAVE = 200

const PUT_DEAD_LETTER = statement(
  "ProjectionSaveRows.putDeadLetter",
  `INSERT INTO dead_letters (projection, position, error, attempts, at, retrying) VALUES (?, ?, ?, ?, ?, 0)
       ON CONFLICT (projection, position) DO UPDATE SET error = excluded.error, attempts = dead_letters.attempts + excluded.attempts, at = excluded.at, retrying = 0`
)

const DELETE_DEAD_LETTER = statement(
  "ProjectionSaveRows.deleteDeadLetter",
  "DELETE FROM dead_letters WHERE projection = ? AND position = ?"
)

const UPDATE_POSITION = statement(
  "ProjectionSaveRows.updatePosition",
  `UPDATE projections SET position = ?, failing = ?, failures = ?, error = coalesce(?, error), error_position = coalesce(?, error_position),
       error_at = coalesce(?, error_at), rebuild_to = CASE WHEN rebuild_to <= ? THEN NULL ELSE rebuild_to END,
       version = version + 1, last_save = ?, updated_at = ? WHERE key = ?`
)

/** Saves the result of a batch, completely or not at all. The last save may be repeated: it is accepted, and not stored again. */
export const saveProjection = inEnvironment(
  "saveProjection",
  function* (
    tx: Transaction,
    token: ProjectionToken,
    save: ProjectionSave
  ): Program<ProjectionSaved, ValidationError> {
    const id = save.number === undefined ? null : `${token.token}:${token.generation}:${save.number}`
    if (id !== null && (yield* wasSaved(tx, token, id))) return { _tag: "Saved" }
    const row = yield* findOwnedProjection(tx, token)
    if (row === undefined) return yield* refuseSave(tx, token, yield* whyNotOwned(tx, token))
    if (save.from !== Number(row.position)) {
      return yield* refuseSave(
        tx,
        token,
        `it continues from position ${save.from}, but the projection is at position ${row.position}`
      )
    }
    yield* checkSave(row, save)

    const now = tx.now()
    for (const state of save.states) yield* putState(row, state, now)
    for (const { attempts, error, position } of save.deadLetters) {
      yield* write(PUT_DEAD_LETTER, row.key!, position, JSON.stringify(error), attempts, now)
    }
    for (const position of save.resolved) {
      yield* write(DELETE_DEAD_LETTER, row.key!, position)
    }
    const lastFailure = save.failing ?? save.deadLetters.at(-1)
    yield* write(
      UPDATE_POSITION,
      save.to,
      save.failing?.position ?? null,
      save.failing?.failures ?? 0,
      lastFailure === undefined ? null : JSON.stringify(lastFailure.error),
      lastFailure?.position ?? null,
      lastFailure === undefined ? null : now,
      save.to,
      id,
      now,
      row.key!
    )
    yield* clearLeftovers(row)
    markProjection(tx, token.environment, token.name)
    yield* notifyStates(
      tx,
      token.environment,
      row,
      save.states.map(({ partition }) => partition)
    )
    return { _tag: "Saved" }
  },
  (token) => `save projection "${token.name}"`
)

const FIND_DEAD_LETTER = statement(
  "ProjectionSaveRows.findDeadLetter",
  "SELECT 1 FROM dead_letters WHERE projection = ? AND position = ?"
)

/** Checks everything before anything is written, because input over the wire may be anything. */
function* checkSave(
  row: Row,
  { deadLetters, failing, from, resolved, states, to }: ProjectionSave
): Program<void, ValidationError> {
  const refuseAs = (what: string) =>
    refuse(new ValidationError(`A save of projection "${row.name}" is not acceptable: ${what}`))
  if (to < from) return yield* refuseAs(`it goes back from position ${from} to ${to}`)
  if (to > from && to > (yield* endOfLog()))
    return yield* refuseAs(`position ${to} is beyond the end of the log`)
  if (states.length > 0 && row.mode === "external")
    return yield* refuseAs("an external projection has no state")
  const seenPartitions = new Set<string>()
  for (const { partition, position } of states) {
    if (seenPartitions.has(partition)) return yield* refuseAs(`it has two states of partition "${partition}"`)
    seenPartitions.add(partition)
    const storedPosition = Number((yield* findState(row, partition))?.position ?? 0)
    // a retried dead letter changes a state, but not the position
    if (resolved.length > 0 ? position < storedPosition : position <= storedPosition || position <= from) {
      return yield* refuseAs(
        `the state of partition "${partition}" is at position ${position}, but position ${Math.max(storedPosition, from)} is already stored`
      )
    }
    if (position > to && resolved.length === 0)
      return yield* refuseAs(`the state of partition "${partition}" is beyond position ${to}`)
  }
  if (failing !== undefined && failing.position <= to)
    return yield* refuseAs("the event that failed is already saved as processed")
  for (const { position } of deadLetters) {
    const inBatch = position > from && position <= to
    const deadLetter = yield* get(FIND_DEAD_LETTER, row.key!, position)
    if (!inBatch && deadLetter === undefined)
      return yield* refuseAs(`there is no event at position ${position} in the batch`)
  }
}

const PUT_STATE = statement(
  "ProjectionSaveRows.putState",
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

const DELETE_OLD_STATES = statement(
  "ProjectionSaveRows.deleteOldStates",
  "DELETE FROM projection_states WHERE key IN (SELECT key FROM projection_states WHERE projection = ? AND epoch < ? AND epoch <> ? LIMIT ?)"
)

/**
 * Deletes a few of the states from before the last rebuild: {@link MAX_LEFTOVERS_PER_SAVE} at most, so that saves do not take
 * longer when there are many.
 */
function* clearLeftovers(row: Row): Program<void> {
  if (row.epoch === 0) return
  yield* write(DELETE_OLD_STATES, row.key!, row.epoch!, shownEpoch(row), MAX_LEFTOVERS_PER_SAVE)
}

const LIST_REBUILT = statement(
  "ProjectionSaveRows.listRebuilt",
  "SELECT key, epoch, shown_epoch, rebuild_to FROM projections WHERE epoch > 0 ORDER BY key",
  { scans: "projections, of which there are few" }
)
/** Maximum number of states that one call of {@link deleteOldStates} deletes. */
const MAX_OLD_DELETED = 500

/** Deletes some of the states from before rebuilds, which saves would otherwise delete later. Returns whether there were any. */
export const deleteOldStates = acrossEnvironments(
  "deleteOldStates",
  function* (): Program<boolean> {
    for (const row of yield* all(LIST_REBUILT)) {
      const deleted = yield* affected(
        DELETE_OLD_STATES,
        row.key!,
        row.epoch!,
        shownEpoch(row),
        MAX_OLD_DELETED
      )
      if (deleted > 0) return true
    }
    return false
  },
  () => "delete states from before a rebuild"
)

const FIND_LAST_SAVE = statement(
  "ProjectionSaveRows.findLastSave",
  "SELECT last_save FROM projections WHERE environment = ? AND name = ?"
)

/** Whether this save is the last one that was stored. The save is then a repetition by a worker that did not get the answer. */
function* wasSaved(tx: Transaction, { environment, name }: ProjectionToken, id: string): Program<boolean> {
  const key = tx.findEnvironment(environment)
  return key !== undefined && (yield* get(FIND_LAST_SAVE, key, name))?.last_save === id
}

const INCREMENT_REFUSED = statement(
  "ProjectionSaveRows.incrementRefused",
  "UPDATE projections SET refused = refused + 1 WHERE environment = ? AND name = ?"
)

/**
 * Counts a save of a worker that is not the owner or is at another position, and returns the answer that refuses it. The program
 * does not fail with `refuse`, because that is possible only before anything was written, and the count is written.
 */
export function* refuseSave(
  tx: Transaction,
  { environment, name }: { readonly environment: string; readonly name: string },
  reason: string
): Program<ProjectionSaved> {
  tx.changes.counts.staleSaves++
  yield* write(INCREMENT_REFUSED, tx.environment(environment), name)
  return { _tag: "Refused", reason }
}
