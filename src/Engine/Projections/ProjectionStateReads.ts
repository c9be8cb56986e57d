/** Reads states of projections, as stored and as clients see them, and tells observers which states were saved. */
import { forEach, get, statement, type Program } from "../Store/Program.ts"
import { type Cursor, writeCursor } from "../../Projection/Cursor.ts"
import { GLOBAL_PARTITION } from "../../Projection/Partition.ts"
import type { ProjectionStatus } from "../../Protocol/Projections.ts"
import type { ProjectionState } from "../Records/ProjectionRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { parseStored } from "../Store/StoredJson.ts"

const FIND_STATE = statement(
  "ProjectionStateReads.findState",
  "SELECT * FROM projection_states WHERE projection = ? AND epoch = ? AND partition_key = ?"
)

/** The state of a partition in an epoch; by default the state to which the next event is applied. */
export function* findState(
  projection: Row,
  partition: string,
  epoch = projection.epoch!
): Program<Row | undefined> {
  return yield* get(FIND_STATE, projection.key!, epoch, partition)
}

export const toState = (row: Row): ProjectionState => ({
  partition: String(row.partition_key),
  state: String(row.state),
  position: Number(row.position),
  eventId: String(row.event_id),
  eventTime: Number(row.event_time),
  version: Number(row.version),
  revision: Number(row.revision),
  updatedAt: Number(row.updated_at)
})

export const statusOf = (row: Row): ProjectionStatus => {
  if (row.paused_at !== null) return "paused"
  if (row.failing !== null) return "error"
  return row.rebuild_to === null ? "active" : "rebuilding"
}

/** The epoch whose states readers get: until a rebuild is done, the epoch from before the rebuild. */
export const shownEpoch = (row: Row): number =>
  Number((row.rebuild_to === null ? undefined : row.shown_epoch) ?? row.epoch)

/** The status, the last error and the cursor of a projection. */
export const summaryOf = (row: Row) => ({
  status: statusOf(row),
  ...(row.error === null ? {} : { errorMessage: String(parseStored(String(row.error)).message) }),
  cursor: writeCursor(cursorOf(row))
})

export const cursorOf = (row: Row): Cursor => ({
  // the key alone is not enough: a new projection may get the key of a deleted one
  epoch: `${Number(row.created_at).toString(36)}-${row.key}-${shownEpoch(row)}`,
  version: Number(row.version)
})

const FIND_PROJECTION = statement(
  "ProjectionStateReads.findProjection",
  "SELECT * FROM projections WHERE key = ?"
)

const FIND_EVENT_NAME = statement(
  "ProjectionStateReads.findEventName",
  "SELECT name FROM events WHERE position = ? AND environment = ?"
)

/**
 * Tells observers the new states of the partitions in `saved`. `before` is the row of the projection before the save. During a rebuild,
 * observers are told nothing. At the end of a rebuild, observers are told that the projection was rebuilt, and get the state if
 * the projection has no partitions.
 */
export function* notifyStates(
  tx: Transaction,
  environment: string,
  before: Row,
  saved: ReadonlyArray<string>
): Program<void> {
  if (!tx.interest.states) return
  const row = yield* get(FIND_PROJECTION, before.key!)
  if (row === undefined || row.rebuild_to !== null) return
  const wasRebuilt = before.rebuild_to !== null
  const partitions = wasRebuilt && row.partition_key === null ? [GLOBAL_PARTITION] : saved
  if (partitions.length === 0 && !wasRebuilt) return
  tx.changes.states.push({
    environment,
    name: String(row.name),
    ...summaryOf(row),
    states: (yield* forEach(partitions, function* (partition) {
      const state = yield* findState(row, partition)
      if (state === undefined) return []
      const event = yield* get(FIND_EVENT_NAME, state.position!, row.environment!)
      return {
        ...toState(state),
        ...(event === undefined ? {} : { eventName: String(event.name) })
      }
    })).flat(),
    rebuilt: wasRebuilt
  })
}
