/** Looking at projections, and steering them. */
import { affected, all, get, statement, type Program, write } from "./Program.ts"
import { endOfLog } from "./Events.ts"
import { countAfter, readLog, toEntry, whileRoom } from "./LogRows.ts"
import { eventsOf, findProjection, markProjection, resetProjection } from "./ProjectionRows.ts"
import { shownEpoch, stateRow, statusOf, toState } from "./ProjectionStateRows.ts"
import type { ProjectionInfo, ProjectionState, StoredDeadLetter } from "./ProjectionStore.ts"
import { ALL, type ListPage } from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"
import { parseStored } from "./StoredJson.ts"

export function* getProjection(environment: string, name: string): Program<ProjectionInfo> {
  return yield* toInfo(yield* findProjection(environment, name))
}

/** Lag that is counted in one read of a list: some milliseconds. */
const COUNTED = 100_000

const LIST_PROJECTIONS = statement(
  "ProjectionInspection.listProjections",
  "SELECT * FROM projections WHERE environment = ? AND name > ? ORDER BY name LIMIT ?"
)

/** By name; fewer than asked for when those before have much to catch up, whose count takes as long. */
export function* listProjections(
  tx: Transaction,
  environment: string,
  { after, limit }: ListPage = ALL
): Program<Array<ProjectionInfo>> {
  const key = tx.findEnvironment(environment)
  if (key === undefined) return []
  const rows = yield* all(LIST_PROJECTIONS, key, after, limit)
  const infos: Array<ProjectionInfo> = []
  let counted = 0
  for (const row of rows) {
    if (counted > COUNTED) break
    const info = yield* toInfo(row)
    counted += info.lag
    infos.push(info)
  }
  return infos
}

export function* getProjectionState(
  environment: string,
  name: string,
  partition: string
): Program<ProjectionState | undefined> {
  const projection = yield* findProjection(environment, name)
  const row = yield* stateRow(projection, partition, shownEpoch(projection))
  return row === undefined ? undefined : toState(row)
}

/** Rows that are looked at before many are. */
const FEW = 4

export function* isProjectionAt(
  tx: Transaction,
  environment: string,
  name: string,
  target: number,
  checked: number,
  limit: number
) {
  const row = yield* findProjection(environment, name)
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
  const soon = yield* readLog(tx, { ...from, limit: FEW })
  const page =
    soon.entries.length > 0 || soon.atEnd
      ? soon
      : yield* readLog(tx, { ...from, after: soon.position, limit })
  const next = page.entries[0]?.position
  if (next !== undefined) return { reached: next > target, open: false, checked: next - 1, position }
  return {
    // a position that the log has not come to is nobody's yet
    reached: page.position >= target || (page.atEnd && target <= (yield* endOfLog())),
    open: !page.atEnd && page.position < target,
    checked: page.position,
    position
  }
}

const PAUSE_PROJECTION = statement(
  "ProjectionInspection.pauseProjection",
  "UPDATE projections SET paused_at = ?, paused_by = ?, pause_reason = ? WHERE key = ? AND paused_at IS NULL"
)

export function* pauseProjection(
  tx: Transaction,
  environment: string,
  name: string,
  by: string,
  reason: string | undefined
): Program<ProjectionInfo> {
  const row = yield* findProjection(environment, name)
  yield* write(PAUSE_PROJECTION, tx.now(), by, reason ?? null, row.key!)
  markProjection(tx, environment, name)
  return yield* getProjection(environment, name)
}

const RESUME_PROJECTION = statement(
  "ProjectionInspection.resumeProjection",
  "UPDATE projections SET paused_at = NULL, paused_by = NULL, pause_reason = NULL WHERE key = ?"
)

export function* resumeProjection(
  tx: Transaction,
  environment: string,
  name: string
): Program<ProjectionInfo> {
  const row = yield* findProjection(environment, name)
  yield* write(RESUME_PROJECTION, row.key!)
  markProjection(tx, environment, name)
  return yield* getProjection(environment, name)
}

export function* rebuildProjection(
  tx: Transaction,
  environment: string,
  name: string
): Program<ProjectionInfo> {
  yield* resetProjection(tx, Number((yield* findProjection(environment, name)).key))
  markProjection(tx, environment, name)
  return yield* getProjection(environment, name)
}

const DELETE_PROJECTION = statement(
  "ProjectionInspection.deleteProjection",
  "DELETE FROM projection_states WHERE projection = ?"
)

const DELETE_PROJECTION_2 = statement(
  "ProjectionInspection.deleteProjection.2",
  "DELETE FROM dead_letters WHERE projection = ?"
)

const DELETE_PROJECTION_3 = statement(
  "ProjectionInspection.deleteProjection.3",
  "DELETE FROM projections WHERE key = ?"
)

export function* deleteProjection(tx: Transaction, environment: string, name: string): Program<void> {
  const { key } = yield* findProjection(environment, name)
  yield* write(DELETE_PROJECTION, key!)
  yield* write(DELETE_PROJECTION_2, key!)
  yield* write(DELETE_PROJECTION_3, key!)
  markProjection(tx, environment, name)
}

const LIST_DEAD_LETTERS = statement(
  "ProjectionInspection.listDeadLetters",
  "SELECT d.projection, d.position FROM dead_letters d JOIN events e ON e.position = d.position WHERE d.projection = ? AND d.position > ? ORDER BY d.position LIMIT ?"
)

const LIST_DEAD_LETTERS_2 = statement(
  "ProjectionInspection.listDeadLetters.2",
  "SELECT e.*, d.error, d.attempts, d.at, d.retrying FROM dead_letters d JOIN events e ON e.position = d.position WHERE d.projection = ? AND d.position = ?"
)

export function* listDeadLetters(
  environment: string,
  name: string,
  after: number,
  limit: number
): Program<Array<StoredDeadLetter>> {
  const keys = yield* all(LIST_DEAD_LETTERS, (yield* findProjection(environment, name)).key!, after, limit)
  const rows = yield* whileRoom(keys, ({ position, projection }) =>
    get(LIST_DEAD_LETTERS_2, projection!, position!)
  )
  return rows.map((row) => ({
    position: Number(row.position),
    event: toEntry(row),
    error: parseStored(String(row.error)),
    attempts: Number(row.attempts),
    at: Number(row.at),
    retrying: row.retrying === 1
  }))
}

const RETRY_DEAD_LETTERS = statement(
  "ProjectionInspection.retryDeadLetters",
  "UPDATE dead_letters SET retrying = 1 WHERE projection = ?"
)

const RETRY_DEAD_LETTERS_2 = statement(
  "ProjectionInspection.retryDeadLetters.2",
  "UPDATE dead_letters SET retrying = 1 WHERE projection = ? AND position = ?"
)

export function* retryDeadLetters(
  tx: Transaction,
  environment: string,
  name: string,
  position: number | undefined
): Program<number> {
  const { key } = yield* findProjection(environment, name)
  const count =
    position === undefined
      ? yield* affected(RETRY_DEAD_LETTERS, key!)
      : yield* affected(RETRY_DEAD_LETTERS_2, key!, position)
  if (count > 0) markProjection(tx, environment, name)
  return count
}

const TO_INFO = statement(
  "ProjectionInspection.toInfo",
  "SELECT count(*) AS n FROM dead_letters WHERE projection = ?"
)

function* toInfo(row: Row): Program<ProjectionInfo> {
  const letters = yield* get(TO_INFO, row.key!)
  const lag = yield* countAfter(Number(row.environment), "event", eventsOf(row), Number(row.position))
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

const FIND_EVENT = statement(
  "ProjectionInspection.findEvent",
  "SELECT position, id, environment FROM events WHERE position >= ? ORDER BY position LIMIT 1"
)

/** The position of an event. Ids are in the order of positions, so a search by halves finds it without an index. */
export function* findEvent(
  tx: Transaction,
  environment: string,
  eventId: string
): Program<number | undefined> {
  const key = tx.findEnvironment(environment)
  const order = orderOf(eventId)
  let from = 1
  let to = yield* endOfLog()
  while (from <= to) {
    const middle = Math.floor((from + to) / 2)
    const row = yield* get(FIND_EVENT, middle)
    if (row === undefined) return undefined
    if (row.id === eventId) return row.environment === key ? Number(row.position) : undefined
    if (orderOf(String(row.id)) < order) from = Number(row.position) + 1
    else to = middle - 1
  }
  return undefined
}

/** An id without what says which kind it is. */
const orderOf = (id: string): string => id.slice(id.indexOf("_") + 1)
