/** Reads, pauses, resumes, rebuilds and deletes projections for clients, and lists and retries their dead letters. */
import type { ProjectionNotFoundError } from "../../Errors.ts"
import { affected, all, get, statement, type Program, write, inEnvironment } from "../Store/Program.ts"
import { endOfLog } from "../Log/EndOfLog.ts"
import { countAfter, readLog, toEntry, readPage } from "../Log/LogRows.ts"
import { eventsOf, findProjection, markProjection, resetProjection } from "./ProjectionRows.ts"
import { shownEpoch, findState, statusOf, toState } from "./ProjectionStateReads.ts"
import type { ProjectionInfo, ProjectionState, StoredDeadLetter } from "../Records/ProjectionRecords.ts"
import { ALL, type ListPage } from "../Pages.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { parseStored } from "../Store/StoredJson.ts"

export const getProjection = inEnvironment(
  "getProjection",
  function* (
    _tx: Transaction,
    environment: string,
    name: string
  ): Program<ProjectionInfo, ProjectionNotFoundError> {
    return yield* toInfo(yield* findProjection(environment, name))
  },
  (_, name) => `read projection "${name}"`
)

/** A read of a list ends once it has counted a lag of this many events, which takes a few milliseconds. */
const MAX_COUNTED_LAG = 100_000

const LIST_PROJECTIONS = statement(
  "ProjectionInspection.listProjections",
  "SELECT * FROM projections WHERE environment = ? AND name > ? ORDER BY name LIMIT ?"
)

/** Projections in the order of their names. Returns fewer than requested when the first projections have a large lag to count. */
export const listProjections = inEnvironment(
  "listProjections",
  function* (
    tx: Transaction,
    environment: string,
    { after, limit }: ListPage = ALL
  ): Program<Array<ProjectionInfo>> {
    const key = tx.findEnvironment(environment)
    if (key === undefined) return []
    const rows = yield* all(LIST_PROJECTIONS, key, after, limit)
    const infos: Array<ProjectionInfo> = []
    let countedLag = 0
    for (const row of rows) {
      if (countedLag > MAX_COUNTED_LAG) break
      const info = yield* toInfo(row)
      countedLag += info.lag
      infos.push(info)
    }
    return infos
  },
  () => "list projections"
)

/** The state of a partition; `undefined` when nothing was saved for the partition yet. */
export const getProjectionState = inEnvironment(
  "getProjectionState",
  function* (
    _tx: Transaction,
    environment: string,
    name: string,
    partition: string
  ): Program<ProjectionState | undefined, ProjectionNotFoundError> {
    const projection = yield* findProjection(environment, name)
    const row = yield* findState(projection, partition, shownEpoch(projection))
    return row === undefined ? undefined : toState(row)
  },
  (_, name) => `read the state of projection "${name}"`
)

/** How many rows of the log {@link checkProjectionAt} reads at first. */
const FEW_ROWS = 4

/**
 * Whether everything up to `target` is projected, that is, whether no event of the projection is between its position and
 * `target`. Each call reads about `limit` rows. When the answer is `open`, more rows must be read: the next call begins after the
 * position `checked`.
 */
export const checkProjectionAt = inEnvironment(
  "checkProjectionAt",
  function* (
    tx: Transaction,
    environment: string,
    name: string,
    target: number,
    checked: number,
    limit: number
  ) {
    const row = yield* findProjection(environment, name)
    const position = Number(row.position)
    // until a rebuild is done, no target is reached: the caller must read the rebuilt state and not the old one
    if (row.mode === "managed" && row.rebuild_to !== null) {
      return { reached: false, open: false, checked, position }
    }
    if (position >= target) return { reached: true, open: false, checked, position }
    const query = {
      environment,
      kind: "event",
      after: Math.max(position, checked),
      patterns: eventsOf(row)
    } as const
    // in most calls, one of the next few rows already shows that the answer is no
    const firstRows = yield* readLog.in(tx, { ...query, limit: FEW_ROWS })
    const page =
      firstRows.entries.length > 0 || firstRows.atEnd
        ? firstRows
        : yield* readLog.in(tx, { ...query, after: firstRows.position, limit })
    const next = page.entries[0]?.position
    if (next !== undefined) return { reached: next > target, open: false, checked: next - 1, position }
    return {
      // a position beyond the end of the log is never reached
      reached: page.position >= target || (page.atEnd && target <= (yield* endOfLog())),
      open: !page.atEnd && page.position < target,
      checked: page.position,
      position
    }
  },
  (_, name) => `read projection "${name}"`
)

const UPDATE_PAUSE = statement(
  "ProjectionInspection.updatePause",
  `UPDATE projections SET paused_at = coalesce(paused_at, ?1), paused_by = ?2, pause_reason = ?3
     WHERE key = ?4 AND (paused_at IS NULL OR coalesce(pause_reason, '') <> CAST(?3 AS TEXT))`
)

/**
 * Pauses a projection. A projection that is already paused gets the newer reason, if one is given, and keeps the time since which
 * it is paused.
 */
export const pauseProjection = inEnvironment(
  "pauseProjection",
  function* (
    tx: Transaction,
    environment: string,
    name: string,
    by: string,
    reason: string | undefined
  ): Program<ProjectionInfo, ProjectionNotFoundError> {
    const row = yield* findProjection(environment, name)
    yield* write(UPDATE_PAUSE, tx.now(), by, reason ?? null, row.key!)
    markProjection(tx, environment, name)
    return yield* getProjection.in(tx, environment, name)
  },
  (_, name) => `pause projection "${name}"`
)

const CLEAR_PAUSE = statement(
  "ProjectionInspection.clearPause",
  "UPDATE projections SET paused_at = NULL, paused_by = NULL, pause_reason = NULL WHERE key = ?"
)

export const resumeProjection = inEnvironment(
  "resumeProjection",
  function* (
    tx: Transaction,
    environment: string,
    name: string
  ): Program<ProjectionInfo, ProjectionNotFoundError> {
    const row = yield* findProjection(environment, name)
    yield* write(CLEAR_PAUSE, row.key!)
    markProjection(tx, environment, name)
    return yield* getProjection.in(tx, environment, name)
  },
  (_, name) => `resume projection "${name}"`
)

/**
 * Resets the position and the dead letters, so that everything is projected again from the beginning of the log. Until that is
 * done, {@link getProjectionState} returns the old states, and for a managed projection {@link checkProjectionAt} reaches no
 * target.
 */
export const rebuildProjection = inEnvironment(
  "rebuildProjection",
  function* (
    tx: Transaction,
    environment: string,
    name: string
  ): Program<ProjectionInfo, ProjectionNotFoundError> {
    yield* resetProjection(tx, Number((yield* findProjection(environment, name)).key))
    markProjection(tx, environment, name)
    return yield* getProjection.in(tx, environment, name)
  },
  (_, name) => `rebuild projection "${name}"`
)

const DELETE_STATES_OF_PROJECTION = statement(
  "ProjectionInspection.deleteStatesOfProjection",
  "DELETE FROM projection_states WHERE projection = ?"
)

const DELETE_LETTERS_OF_PROJECTION = statement(
  "ProjectionInspection.deleteLettersOfProjection",
  "DELETE FROM dead_letters WHERE projection = ?"
)

const DELETE_PROJECTION = statement(
  "ProjectionInspection.deleteProjection",
  "DELETE FROM projections WHERE key = ?"
)

export const deleteProjection = inEnvironment(
  "deleteProjection",
  function* (tx: Transaction, environment: string, name: string): Program<void, ProjectionNotFoundError> {
    const { key } = yield* findProjection(environment, name)
    yield* write(DELETE_STATES_OF_PROJECTION, key!)
    yield* write(DELETE_LETTERS_OF_PROJECTION, key!)
    yield* write(DELETE_PROJECTION, key!)
    markProjection(tx, environment, name)
  },
  (_, name) => `delete projection "${name}"`
)

const LIST_KEYS_OF_DEAD_LETTERS = statement(
  "ProjectionInspection.listKeysOfDeadLetters",
  "SELECT d.projection, d.position FROM dead_letters d JOIN events e ON e.position = d.position AND e.environment = ? WHERE d.projection = ? AND d.position > ? ORDER BY d.position LIMIT ?"
)

const FIND_DEAD_LETTER = statement(
  "ProjectionInspection.findDeadLetter",
  "SELECT e.*, d.error, d.attempts, d.at, d.retrying FROM dead_letters d JOIN events e ON e.position = d.position AND e.environment = ? WHERE d.projection = ? AND d.position = ?"
)

/** The dead letters after the position `after`, oldest first. */
export const listDeadLetters = inEnvironment(
  "ProjectionInspection.listDeadLetters",
  function* (
    _tx: Transaction,
    environment: string,
    name: string,
    after: number,
    limit: number
  ): Program<Array<StoredDeadLetter>, ProjectionNotFoundError> {
    const projectionRow = yield* findProjection(environment, name)
    const keys = yield* all(
      LIST_KEYS_OF_DEAD_LETTERS,
      projectionRow.environment!,
      projectionRow.key!,
      after,
      limit
    )
    const rows = yield* readPage(keys, ({ position, projection }) =>
      get(FIND_DEAD_LETTER, projectionRow.environment!, projection!, position!)
    )
    return rows.map((row) => ({
      position: Number(row.position),
      event: toEntry(row),
      error: parseStored(String(row.error)),
      attempts: Number(row.attempts),
      at: Number(row.at),
      retrying: row.retrying === 1
    }))
  },
  (_, name) => `list the dead letters of projection "${name}"`
)

const MARK_ALL_RETRYING = statement(
  "ProjectionInspection.markAllRetrying",
  "UPDATE dead_letters SET retrying = 1 WHERE projection = ?"
)

const MARK_RETRYING = statement(
  "ProjectionInspection.markRetrying",
  "UPDATE dead_letters SET retrying = 1 WHERE projection = ? AND position = ?"
)

/** Requests a retry of all dead letters, or of the one at `position`. Returns how many are retried. */
export const retryDeadLetters = inEnvironment(
  "ProjectionInspection.retryDeadLetters",
  function* (
    tx: Transaction,
    environment: string,
    name: string,
    position: number | undefined
  ): Program<number, ProjectionNotFoundError> {
    const { key } = yield* findProjection(environment, name)
    const count =
      position === undefined
        ? yield* affected(MARK_ALL_RETRYING, key!)
        : yield* affected(MARK_RETRYING, key!, position)
    if (count > 0) markProjection(tx, environment, name)
    return count
  },
  (_, name) => `retry dead letters of projection "${name}"`
)

const COUNT_DEAD_LETTERS = statement(
  "ProjectionInspection.countDeadLetters",
  "SELECT count(*) AS n FROM dead_letters WHERE projection = ?"
)

const FIND_EVENTS_GONE_AT = statement(
  "ProjectionInspection.findEventsGoneAt",
  "SELECT events_gone_at AS at FROM environments WHERE key = ? AND events_gone_to > ?"
)

function* toInfo(row: Row): Program<ProjectionInfo> {
  const letters = yield* get(COUNT_DEAD_LETTERS, row.key!)
  const lag = yield* countAfter(Number(row.environment), "event", eventsOf(row), Number(row.position))
  const isRebuilding = row.rebuild_to !== null
  const goneEvents = yield* get(FIND_EVENTS_GONE_AT, row.environment!, row.position!)
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
    ...(goneEvents === undefined ? {} : { eventsGoneAt: Number(goneEvents.at) }),
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
