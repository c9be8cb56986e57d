/** Which states of a projection have changed since a cursor. */
import { ValidationError } from "../../Errors.ts"
import { readCursor } from "../../Projection/Cursor.ts"
import { findProjection } from "./ProjectionRows.ts"
import { cursorOf, shownEpoch, standing, stateRow, toState } from "./ProjectionStateRows.ts"
import type { ProjectionChangePage, ProjectionChangeQuery, ProjectionState } from "./ProjectionStore.ts"
import type { Row, Transaction } from "./Transaction.ts"

/** Rows of states that are looked at at once, and bytes of the states that are read. */
const ROWS = 1000
const BYTES = 4 * 1024 * 1024

export const readProjectionChanges = (
  tx: Transaction,
  environment: string,
  name: string,
  { after, limit, partition, since }: ProjectionChangeQuery
): ProjectionChangePage => {
  const row = findProjection(tx, environment, name)
  const from = versionAfter(row, since)
  const page = { mode: row.mode === "managed" ? "managed" : "external", ...standing(row) } as const
  if (from === undefined) return { ...page, states: [] }
  if (partition !== undefined) {
    const state = stateRow(tx, row, partition, shownEpoch(row))
    return { ...page, states: state === undefined || Number(state.revision) <= from ? [] : [toState(state)] }
  }
  const rows = tx.all(
    `SELECT key, partition_key, revision FROM projection_states
     WHERE projection = ? AND epoch = ? AND partition_key > ? ORDER BY partition_key LIMIT ?`,
    row.key!,
    shownEpoch(row),
    after ?? "",
    ROWS
  )
  const states: Array<ProjectionState> = []
  let bytes = 0
  let last: Row | undefined
  for (const state of rows) {
    if (states.length >= limit || bytes >= BYTES) break
    last = state
    if (Number(state.revision) <= from) continue
    const read = tx.get("SELECT * FROM projection_states WHERE key = ?", state.key!)
    if (read === undefined) continue
    states.push(toState(read))
    bytes += String(read.state).length
  }
  const isWhole = rows.length < ROWS && last === rows.at(-1)
  return { ...page, states, ...(isWhole || last === undefined ? {} : { next: String(last.partition_key) }) }
}

/** The version after which states are new; `undefined` when the question is for the cursor only. */
const versionAfter = (row: Row, since: string | undefined): number | undefined => {
  if (since === "now") return undefined
  if (since === undefined) return -1
  const cursor = readCursor(since)
  if (cursor === undefined) {
    throw new ValidationError(
      `"${since.slice(0, 64)}" is no place in the changes of a projection: give \`cursor\` of an answer, or "now"`
    )
  }
  const now = cursorOf(row)
  return cursor.epoch === now.epoch && cursor.version <= now.version ? cursor.version : -1
}
