/** Which states of a projection have changed since a cursor. */
import { all, get, statement, type Program, inEnvironment, refuse } from "../Store/Program.ts"
import { ValidationError, type ProjectionNotFoundError } from "../../Errors.ts"
import { readCursor } from "../../Projection/Cursor.ts"
import { findProjection } from "./ProjectionRows.ts"
import { cursorOf, shownEpoch, summaryOf, findState, toState } from "./ProjectionStateReads.ts"
import type {
  ProjectionChangePage,
  ProjectionChangeQuery,
  ProjectionState
} from "../Records/ProjectionRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** Maximum number of states that one read looks at. */
const MAX_ROWS = 1000
/** In bytes: a read returns no more states once its states have reached this size. */
const MAX_BYTES = 4 * 1024 * 1024

const LIST_CHANGED_STATES = statement(
  "ProjectionChanges.listChangedStates",
  `SELECT key, partition_key FROM (
       SELECT key, partition_key, revision FROM projection_states
       WHERE projection = ? AND epoch = ? AND partition_key > ? ORDER BY partition_key LIMIT ?
     ) WHERE revision > ? LIMIT ?`
)

const FIND_STATE = statement("ProjectionChanges.findState", "SELECT * FROM projection_states WHERE key = ?")

const FIND_END_OF_SLICE = statement(
  "ProjectionChanges.findEndOfSlice",
  `SELECT partition_key FROM projection_states
         WHERE projection = ? AND epoch = ? AND partition_key > ? ORDER BY partition_key LIMIT 1 OFFSET ?`
)

/** A page of the states that have changed since a cursor, as they are now. Throws `ValidationError` for an invalid cursor. */
export const readProjectionChanges = inEnvironment(
  "readProjectionChanges",
  function* (
    _tx: Transaction,
    environment: string,
    name: string,
    { after, limit, partition, since }: ProjectionChangeQuery
  ): Program<ProjectionChangePage, ProjectionNotFoundError | ValidationError> {
    const row = yield* findProjection(environment, name)
    const sinceVersion = yield* versionAfter(row, since)
    const page = { mode: row.mode === "managed" ? "managed" : "external", ...summaryOf(row) } as const
    if (sinceVersion === undefined) return { ...page, states: [] }
    if (partition !== undefined) {
      const state = yield* findState(row, partition, shownEpoch(row))
      return {
        ...page,
        states: state === undefined || Number(state.revision) <= sinceVersion ? [] : [toState(state)]
      }
    }
    const startKeys = [row.key!, shownEpoch(row), after ?? ""] as const
    // the inner query of this statement stops when the outer query has enough keys, and neither reads the states themselves
    const keys = yield* all(LIST_CHANGED_STATES, ...startKeys, MAX_ROWS, sinceVersion, limit)
    const states: Array<ProjectionState> = []
    let bytes = 0
    for (const { key } of keys) {
      if (bytes >= MAX_BYTES) break
      const state = toState((yield* get(FIND_STATE, key!))!)
      states.push(state)
      bytes += Buffer.byteLength(state.state)
    }
    const isFull = keys.length === limit || states.length < keys.length
    const next = isFull
      ? states.at(-1)?.partition
      : (yield* get(FIND_END_OF_SLICE, ...startKeys, MAX_ROWS - 1))?.partition_key
    return { ...page, states, ...(next === undefined ? {} : { next: String(next) }) }
  },
  (_, name) => `read the changes of projection "${name}"`
)

/** The version of the projection after which states are new: -1 for all states, `undefined` if only the cursor is requested. */
function* versionAfter(row: Row, since: string | undefined) {
  if (since === "now") return undefined
  if (since === undefined) return -1
  const cursor = readCursor(since)
  if (cursor === undefined) {
    return yield* refuse(
      new ValidationError(
        `"${since.slice(0, 64)}" is not a cursor of a projection's changes: pass the \`cursor\` of an earlier answer, or "now"`
      )
    )
  }
  const now = cursorOf(row)
  return cursor.epoch === now.epoch && cursor.version <= now.version ? cursor.version : -1
}
