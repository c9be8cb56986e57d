/** Rows of projections: how projections are registered, found and reset. */
import { InvalidStateError, ProjectionNotFoundError } from "../../Errors.ts"
import { matchesPattern } from "../../Pattern.ts"
import type { ProjectionRegistration } from "../../Protocol/ProjectionOwners.ts"
import { endOfLog } from "../Log/EndOfLog.ts"
import { affected, get, type Program, refuse, statement, write } from "../Store/Program.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { projectionKey } from "../Records/ProjectionRecords.ts"

const FIND_PROJECTION = statement(
  "ProjectionRows.findProjection",
  "SELECT p.* FROM environments e JOIN projections p ON p.environment = e.key WHERE e.name = ? AND p.name = ?"
)

/** The row of a projection. Fails with `ProjectionNotFoundError`. */
export function* findProjection(environment: string, name: string): Program<Row, ProjectionNotFoundError> {
  // finds it by the name of its environment: the key of an environment is cached only once the transaction that creates it commits
  const row = yield* get(FIND_PROJECTION, environment, name)
  if (row === undefined) return yield* refuse(new ProjectionNotFoundError(name))
  return row
}

export const eventsOf = (row: Row): ReadonlyArray<string> => parseStored(String(row.events))

export const markProjection = (tx: Transaction, environment: string, name: string): void => {
  tx.changes.projections.push(projectionKey(environment, name))
}

const INSERT_PROJECTION = statement(
  "ProjectionRows.insertProjection",
  `INSERT INTO projections (environment, name, mode, events, partition_key, created_at, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (environment, name) DO NOTHING`
)

const FIND_REGISTERED = statement(
  "ProjectionRows.findRegistered",
  "SELECT * FROM projections WHERE environment = ? AND name = ?"
)

const UPDATE_REGISTRATION = statement(
  "ProjectionRows.updateRegistration",
  "UPDATE projections SET events = ?, partition_key = ?, updated_at = ? WHERE key = ?"
)

/**
 * Adds a projection, or replaces its definition. A managed projection whose events or partitions have changed is rebuilt, because
 * its states were made from other events or for other partitions. An external projection continues from its position.
 */
export function* registerProjection(
  tx: Transaction,
  environment: string,
  registration: ProjectionRegistration
): Program<void, InvalidStateError> {
  const { events, mode, name } = registration
  const partitionKey = registration.partitionKey ?? null
  const now = tx.now()
  const text = JSON.stringify(events)
  const key = tx.environment(environment)
  const created = yield* affected(INSERT_PROJECTION, key, name, mode, text, partitionKey, now, now)
  if (created > 0) return
  const row = yield* get(FIND_REGISTERED, key, name)
  if (row === undefined) throw new Error(`Projection "${name}" was registered, but has no row`)
  if (row.mode !== mode) {
    return yield* refuse(
      new InvalidStateError(
        `Projection "${name}" is ${row.mode} in the engine and ${mode} in this worker: give it another name, or delete it first ` +
          "with client.projections.delete()"
      )
    )
  }
  if (row.events === text && row.partition_key === partitionKey) return
  yield* write(UPDATE_REGISTRATION, text, partitionKey, now, row.key!)
  if (mode === "managed") yield* resetProjection(tx, Number(row.key))
  markProjection(tx, environment, name)
}

const UPDATE_EPOCH = statement(
  "ProjectionRows.updateEpoch",
  `UPDATE projections SET position = 0, shown_epoch = CASE WHEN rebuild_to IS NULL THEN epoch ELSE coalesce(shown_epoch, epoch) END,
       epoch = epoch + 1, generation = generation + 1, handed_out = 0, rebuild_to = ?,
       failing = NULL, failures = 0, error = NULL, error_position = NULL, error_at = NULL, updated_at = ? WHERE key = ?`
)

const DELETE_DEAD_LETTERS = statement(
  "ProjectionRows.deleteDeadLetters",
  "DELETE FROM dead_letters WHERE projection = ?"
)

/**
 * Resets the position and the dead letters of a projection. New states replace the old states, but readers get the old ones until
 * everything is projected again. Saves of events that were delivered before the reset are refused.
 */
export function* resetProjection(tx: Transaction, key: number): Program<void> {
  yield* write(UPDATE_EPOCH, (yield* endOfLog()) || null, tx.now(), key)
  yield* write(DELETE_DEAD_LETTERS, key)
}

/** Whether the projection projects events of this name. */
export const acceptsEvent = (row: Row, name: string): boolean =>
  eventsOf(row).some((pattern) => matchesPattern(pattern, name))
