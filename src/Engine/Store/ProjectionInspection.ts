/** Looking at projections, and steering them. */
import { endOfLog } from "./Events.ts"
import { countAfter, readLog, toEntry, whileRoom } from "./LogRows.ts"
import { eventsOf, findProjection, markProjection, resetProjection } from "./ProjectionRows.ts"
import { shownEpoch, stateRow, statusOf, toState } from "./ProjectionStateRows.ts"
import type { ProjectionInfo, ProjectionState, StoredDeadLetter } from "./ProjectionStore.ts"
import { ALL, type ListPage } from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"
import { parseStored } from "./StoredJson.ts"

export const getProjection = (tx: Transaction, environment: string, name: string): ProjectionInfo =>
  toInfo(tx, findProjection(tx, environment, name))

/** Lag that is counted in one read of a list: some milliseconds. */
const COUNTED = 100_000

/** By name; fewer than asked for when those before have much to catch up, whose count takes as long. */
export const listProjections = (
  tx: Transaction,
  environment: string,
  { after, limit }: ListPage = ALL
): Array<ProjectionInfo> => {
  const key = tx.findEnvironment(environment)
  if (key === undefined) return []
  const rows = tx.all(
    "SELECT * FROM projections WHERE environment = ? AND name > ? ORDER BY name LIMIT ?",
    key,
    after,
    limit
  )
  const infos: Array<ProjectionInfo> = []
  let counted = 0
  for (const row of rows) {
    if (counted > COUNTED) break
    const info = toInfo(tx, row)
    counted += info.lag
    infos.push(info)
  }
  return infos
}

export const getProjectionState = (
  tx: Transaction,
  environment: string,
  name: string,
  partition: string
): ProjectionState | undefined => {
  const projection = findProjection(tx, environment, name)
  const row = stateRow(tx, projection, partition, shownEpoch(projection))
  return row === undefined ? undefined : toState(row)
}

/** Rows that are looked at before many are. */
const FEW = 4

export const isProjectionAt = (
  tx: Transaction,
  environment: string,
  name: string,
  target: number,
  checked: number,
  limit: number
) => {
  const row = findProjection(tx, environment, name)
  const position = Number(row.position)
  // whoever waits reads what is rebuilt, and not what was there before
  if (row.mode === "managed" && row.rebuild_to !== null) {
    return { reached: false, open: false, checked, position }
  }
  if (position >= target) return { reached: true, open: false, checked, position }
  const from = {
    environment,
    kind: "event",
    after: Math.max(position, checked),
    patterns: eventsOf(row)
  } as const
  // most of those who ask are told no by one of the next few rows
  const soon = readLog(tx, { ...from, limit: FEW })
  const page =
    soon.entries.length > 0 || soon.atEnd ? soon : readLog(tx, { ...from, after: soon.position, limit })
  const next = page.entries[0]?.position
  if (next !== undefined) return { reached: next > target, open: false, checked: next - 1, position }
  return {
    // a position that the log has not come to is nobody's yet
    reached: page.position >= target || (page.atEnd && target <= endOfLog(tx)),
    open: !page.atEnd && page.position < target,
    checked: page.position,
    position
  }
}

export const pauseProjection = (
  tx: Transaction,
  environment: string,
  name: string,
  by: string,
  reason: string | undefined
): ProjectionInfo => {
  const row = findProjection(tx, environment, name)
  tx.run(
    "UPDATE projections SET paused_at = ?, paused_by = ?, pause_reason = ? WHERE key = ? AND paused_at IS NULL",
    tx.now(),
    by,
    reason ?? null,
    row.key!
  )
  markProjection(tx, environment, name)
  return getProjection(tx, environment, name)
}

export const resumeProjection = (tx: Transaction, environment: string, name: string): ProjectionInfo => {
  const row = findProjection(tx, environment, name)
  tx.run(
    "UPDATE projections SET paused_at = NULL, paused_by = NULL, pause_reason = NULL WHERE key = ?",
    row.key!
  )
  markProjection(tx, environment, name)
  return getProjection(tx, environment, name)
}

export const rebuildProjection = (tx: Transaction, environment: string, name: string): ProjectionInfo => {
  resetProjection(tx, Number(findProjection(tx, environment, name).key))
  markProjection(tx, environment, name)
  return getProjection(tx, environment, name)
}

export const deleteProjection = (tx: Transaction, environment: string, name: string): void => {
  const { key } = findProjection(tx, environment, name)
  tx.run("DELETE FROM projection_states WHERE projection = ?", key!)
  tx.run("DELETE FROM dead_letters WHERE projection = ?", key!)
  tx.run("DELETE FROM projections WHERE key = ?", key!)
  markProjection(tx, environment, name)
}

export const listDeadLetters = (
  tx: Transaction,
  environment: string,
  name: string,
  after: number,
  limit: number
): Array<StoredDeadLetter> =>
  whileRoom(
    tx.all(
      "SELECT d.projection, d.position FROM dead_letters d JOIN events e ON e.position = d.position WHERE d.projection = ? AND d.position > ? ORDER BY d.position LIMIT ?",
      findProjection(tx, environment, name).key!,
      after,
      limit
    ),
    ({ position, projection }) =>
      tx.get(
        "SELECT e.*, d.error, d.attempts, d.at, d.retrying FROM dead_letters d JOIN events e ON e.position = d.position WHERE d.projection = ? AND d.position = ?",
        projection!,
        position!
      )
  ).map((row) => ({
    position: Number(row.position),
    event: toEntry(row),
    error: parseStored(String(row.error)),
    attempts: Number(row.attempts),
    at: Number(row.at),
    retrying: row.retrying === 1
  }))

export const retryDeadLetters = (
  tx: Transaction,
  environment: string,
  name: string,
  position: number | undefined
): number => {
  const { key } = findProjection(tx, environment, name)
  const count =
    position === undefined
      ? tx.run("UPDATE dead_letters SET retrying = 1 WHERE projection = ?", key!)
      : tx.run("UPDATE dead_letters SET retrying = 1 WHERE projection = ? AND position = ?", key!, position)
  if (count > 0) markProjection(tx, environment, name)
  return count
}

const toInfo = (tx: Transaction, row: Row): ProjectionInfo => {
  const letters = tx.get("SELECT count(*) AS n FROM dead_letters WHERE projection = ?", row.key!)
  const lag = countAfter(tx, Number(row.environment), "event", eventsOf(row), Number(row.position))
  const isRebuilding = row.rebuild_to !== null
  return {
    name: String(row.name),
    mode: row.mode === "managed" ? "managed" : "external",
    events: eventsOf(row),
    ...(row.partition_key === null ? {} : { partitionKey: String(row.partition_key) }),
    status: statusOf(row),
    version: Number(row.version),
    position: Number(row.position),
    lag,
    generation: Number(row.generation),
    ...(row.owner === null
      ? {}
      : {
          owner: {
            workerId: String(row.owner),
            ...(row.lease_until === null ? {} : { until: Number(row.lease_until) })
          }
        }),
    ...(row.paused_at === null
      ? {}
      : {
          paused: {
            by: String(row.paused_by),
            at: Number(row.paused_at),
            ...(row.pause_reason === null ? {} : { reason: String(row.pause_reason) })
          }
        }),
    ...(isRebuilding ? { rebuildTo: Number(row.rebuild_to) } : {}),
    ...(row.error === null
      ? {}
      : {
          lastError: {
            error: parseStored(String(row.error)),
            position: Number(row.error_position),
            at: Number(row.error_at)
          }
        }),
    ...(row.failing === null
      ? {}
      : { failing: { position: Number(row.failing), failures: Number(row.failures) } }),
    deadLetters: Number(letters?.n ?? 0),
    refusedSaves: Number(row.refused),
    createdAt: Number(row.created_at),
    updatedAt: Number(row.updated_at)
  }
}

/** The position of an event. Ids are in the order of positions, so a search by halves finds it without an index. */
export const findEvent = (tx: Transaction, environment: string, eventId: string): number | undefined => {
  const key = tx.findEnvironment(environment)
  const order = orderOf(eventId)
  let from = 1
  let to = endOfLog(tx)
  while (from <= to) {
    const middle = Math.floor((from + to) / 2)
    const row = tx.get(
      "SELECT position, id, environment FROM events WHERE position >= ? ORDER BY position LIMIT 1",
      middle
    )
    if (row === undefined) return undefined
    if (row.id === eventId) return row.environment === key ? Number(row.position) : undefined
    if (orderOf(String(row.id)) < order) from = Number(row.position) + 1
    else to = middle - 1
  }
  return undefined
}

/** An id without what says which kind it is. */
const orderOf = (id: string): string => id.slice(id.indexOf("_") + 1)
