/** Entity streams: events of the log that belong to an entity, the version of the stream, and snapshots of the entity's state. */
import { onePage, gathered } from "../Yielding.ts"
import * as Effect from "effect/Effect"
import {
  affected,
  all,
  forEach,
  get,
  statement,
  type Program,
  variant,
  write,
  acrossEnvironments,
  inEnvironment,
  refuse
} from "../Store/Program.ts"
import {
  InvalidStateError,
  LimitExceededError,
  StreamNotFoundError,
  ValidationError,
  VersionConflictError,
  withoutStack,
  type StoreError
} from "../../Errors.ts"
import { isExpected, type StreamAppend } from "../../EntityStream.ts"
import { storeEvent, tooManyRunsError } from "../Events/Append.ts"
import { fingerprint, recall, remember } from "../Log/Idempotency.ts"
import type { StoreService } from "../Store/Store.ts"
import type {
  AppendedToStream,
  ListStreamsQuery,
  NewSnapshot,
  ReadStreamQuery,
  SnapshotRow,
  StreamEventRow,
  StreamRow,
  StreamRows
} from "./StreamRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** The state of a stream before an append. */
export interface StreamState {
  readonly entityType: string
  readonly version: number
}

/**
 * Appends events to a stream. If an earlier append had the same idempotency key, appends nothing and returns the result of that
 * append. Fails when the append is refused.
 */
export const appendToStream = acrossEnvironments(
  "appendToStream",
  function* (
    tx: Transaction,
    environmentName: string,
    append: StreamAppend
  ): Program<AppendedToStream, InvalidStateError | LimitExceededError | VersionConflictError> {
    const environment = tx.environment(environmentName)
    const { idempotencyKey, entityId, entityType, events } = append
    const operation = `append ${entityId}`
    const keyed =
      idempotencyKey === undefined
        ? undefined
        : { key: idempotencyKey, print: fingerprint([entityType], events) }
    if (keyed !== undefined) {
      const earlier = yield* recall<Pick<AppendedToStream, "entityVersion" | "position" | "events">>(
        tx,
        environment,
        operation,
        keyed.key,
        keyed.print
      )
      if (earlier !== undefined) {
        return { ...earlier.result, duplicate: true, conflicting: earlier.conflicting, warnings: [] }
      }
    }
    const state = yield* readState(environment, entityId)
    const refusal =
      refusalOf(state, append) ??
      tooManyRunsError(tx, environmentName, `The append to stream "${entityId}"`, events)
    if (refusal !== undefined) return yield* refuse(refusal)
    const appended = yield* storeAppend(tx, environmentName, append, state)
    if (keyed !== undefined) {
      const { entityVersion, position, events } = appended
      yield* remember(tx, environment, operation, keyed.key, keyed.print, { entityVersion, position, events })
    }
    return appended
  },
  (_, append) => `append to stream "${append.entityId}"`
)

const FIND_STREAM_VERSION = statement(
  "StreamRows.findStreamVersion",
  "SELECT entity_type, version FROM streams WHERE environment = ? AND entity_id = ?"
)

export function* readState(environment: number, entityId: string): Program<StreamState | undefined> {
  const row = yield* get(FIND_STREAM_VERSION, environment, entityId)
  return row === undefined ? undefined : { entityType: String(row.entity_type), version: Number(row.version) }
}

export type AppendRefusal = VersionConflictError | InvalidStateError

/** Why an append to a stream in this state is refused; `undefined` when it is not. */
export const refusalOf = (
  state: StreamState | undefined,
  { entityId, entityType, expectedVersion }: StreamAppend
): AppendRefusal | undefined => {
  const version = state?.version ?? 0
  if (expectedVersion !== undefined && !isExpected(expectedVersion, version)) {
    return withoutStack(() => new VersionConflictError(entityId, expectedVersion, version))
  }
  return state !== undefined && state.entityType !== entityType
    ? wrongTypeError(entityId, state.entityType, entityType)
    : undefined
}

const wrongTypeError = (entityId: string, actual: string, given: string): InvalidStateError =>
  new InvalidStateError(
    `Entity "${entityId}" is of type "${actual}", and not "${given}": an entity id belongs to one type in an environment`,
    { details: { entityId, entityType: actual } }
  )

const INSERT_STREAM = statement(
  "StreamRows.insertStream",
  "INSERT INTO streams (environment, entity_id, entity_type, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)

const UPDATE_STREAM_VERSION = statement(
  "StreamRows.updateStreamVersion",
  "UPDATE streams SET version = ?, updated_at = ? WHERE environment = ? AND entity_id = ? AND version = ?"
)

/** Stores the events of an append that was not refused. */
export function* storeAppend(
  tx: Transaction,
  environmentName: string,
  { entityId, entityType, events, idempotencyKey, trace }: StreamAppend & { readonly trace?: string },
  state: StreamState | undefined
): Program<AppendedToStream> {
  const environment = tx.environment(environmentName)
  const versionBefore = state?.version ?? 0
  const now = tx.now()
  const changed =
    state === undefined
      ? yield* affected(INSERT_STREAM, environment, entityId, entityType, events.length, now, now)
      : yield* affected(
          UPDATE_STREAM_VERSION,
          versionBefore + events.length,
          now,
          environment,
          entityId,
          versionBefore
        )
  if (changed !== 1)
    throw new Error(
      `stream "${entityId}" was changed by another writer, although this transaction holds the lock of the database. Nothing was stored. Only engines may write these tables: find the program that has changed them`
    )
  const warnings: Array<string> = []
  const appended = yield* forEach(events, function* (event, i) {
    const entityVersion = versionBefore + i + 1
    const stored = yield* storeEvent(tx, {
      ...event,
      environment: environmentName,
      timestamp: now,
      entity: { id: entityId, type: entityType, version: entityVersion },
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      ...(trace === undefined ? {} : { trace })
    })
    for (const warning of stored.warnings) warnings.push(warning)
    return { eventId: stored.eventId, entityVersion, position: stored.position }
  })
  return {
    entityVersion: versionBefore + events.length,
    position: appended.at(-1)?.position ?? 0,
    events: appended,
    duplicate: false,
    conflicting: false,
    warnings
  }
}

/** About how many characters of events one read returns. */
const SLICE_LENGTH = 1024 * 1024
/** Maximum number of events in one read. */
const SLICE_EVENTS = 2000

/**
 * Reads a part of a stream. `length` is the number of characters of the data in this part. `next` is the version at which the next
 * part begins; absent in the last part.
 */
export const readPart = inEnvironment(
  "readPart",
  function* (
    tx: Transaction,
    query: ReadStreamQuery
  ): Program<{
    readonly events: Array<StreamEventRow>
    readonly totalCount: number
    readonly length: number
    readonly next?: number
  }> {
    const { backward, entityId, fromVersion, limit } = query
    const environment = tx.findEnvironment(query.environment)
    const state = environment === undefined ? undefined : yield* readState(environment, entityId)
    if (environment === undefined || state === undefined) return { events: [], totalCount: 0, length: 0 }
    const columns = "id, name, version, data, metadata, source, timestamp, entity_version, position"
    const maxEvents = limit === 0 ? Number.MAX_SAFE_INTEGER : limit
    const sql = backward
      ? `SELECT ${columns} FROM events WHERE environment = ? AND entity_id = ? AND entity_version <= ? ORDER BY entity_version DESC LIMIT ?`
      : `SELECT ${columns} FROM events WHERE environment = ? AND entity_id = ? AND entity_version >= ? ORDER BY entity_version LIMIT ?`
    const events: Array<StreamEventRow> = []
    let next = backward && fromVersion === 0 ? state.version : fromVersion
    let length = 0
    let rows = 4
    while (length < SLICE_LENGTH && events.length < SLICE_EVENTS) {
      const wanted = Math.min(rows, maxEvents - events.length)
      const found = yield* all(variant("StreamRows.readStream", sql), environment, entityId, next, wanted)
      for (const row of found) {
        const event = streamEvent(row)
        events.push(event)
        length += event.data.length + (event.metadata?.length ?? 0)
        next = event.entityVersion + (backward ? -1 : 1)
      }
      const isAll = found.length < wanted || events.length >= maxEvents || next < 1 || next > state.version
      if (isAll) return { events, totalCount: state.version, length }
      // if the next events are as long as those so far, this many fit into the part
      const fittingEvents = Math.floor(((SLICE_LENGTH - length) * events.length) / (length + 1))
      rows = Math.max(1, Math.min(fittingEvents, SLICE_EVENTS - events.length))
    }
    return { events, totalCount: state.version, length, next }
  },
  (query) => `read stream "${query.entityId}"`
)

const streamEvent = (row: Row): StreamEventRow => ({
  id: String(row.id),
  name: String(row.name),
  version: Number(row.version),
  data: String(row.data),
  ...(row.metadata == null ? {} : { metadata: String(row.metadata) }),
  ...(row.source == null ? {} : { source: String(row.source) }),
  timestamp: Number(row.timestamp),
  entityVersion: Number(row.entity_version),
  position: Number(row.position)
})

const FIND_STREAM = statement(
  "StreamRows.findStream",
  "SELECT * FROM streams WHERE environment = ? AND entity_id = ?"
)

/** The row of a stream. Fails with `StreamNotFoundError` for an entity without a stream. */
export const getStream = acrossEnvironments(
  "getStream",
  function* (
    tx: Transaction,
    environmentName: string,
    entityId: string
  ): Program<StreamRow, StreamNotFoundError> {
    const environment = tx.findEnvironment(environmentName)
    const row = environment === undefined ? undefined : yield* get(FIND_STREAM, environment, entityId)
    if (row === undefined) return yield* refuse(new StreamNotFoundError(entityId))
    return streamRow(row)
  },
  (_, entityId) => `read stream "${entityId}"`
)

const streamRow = (row: Row): StreamRow => ({
  entityId: String(row.entity_id),
  entityType: String(row.entity_type),
  version: Number(row.version),
  createdAt: Number(row.created_at),
  updatedAt: Number(row.updated_at)
})

/** The streams of an environment, ordered by entity id. */
export const listStreams = inEnvironment(
  "listStreams",
  function* (
    tx: Transaction,
    { entityType, environment, limit, offset }: ListStreamsQuery
  ): Program<{ readonly streams: Array<StreamRow>; readonly totalCount: number }> {
    const key = tx.findEnvironment(environment)
    if (key === undefined) return { streams: [], totalCount: 0 }
    const [where, values] =
      entityType === undefined
        ? (["environment = ?", [key]] as const)
        : (["environment = ? AND entity_type = ?", [key, entityType]] as const)
    const rows = yield* all(
      variant(
        "StreamRows.listStreams",
        `SELECT * FROM streams WHERE ${where} ORDER BY entity_id LIMIT ? OFFSET ?`
      ),
      ...values,
      limit,
      offset
    )
    const count = yield* get(
      variant("StreamRows.listStreams", `SELECT count(*) AS count FROM streams WHERE ${where}`),
      ...values
    )
    return { streams: rows.map(streamRow), totalCount: Number(count?.count) }
  },
  () => "list streams"
)

const PUT_SNAPSHOT = statement(
  "StreamRows.putSnapshot",
  `INSERT INTO snapshots (environment, entity_id, entity_version, id, state, created_at) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (environment, entity_id, entity_version) DO UPDATE
     SET id = excluded.id, state = excluded.state, created_at = excluded.created_at`
)

/** Stores a snapshot of an entity's state at a version. Replaces an earlier snapshot of the same version. */
export const putSnapshot = inEnvironment(
  "putSnapshot",
  function* (
    tx: Transaction,
    input: NewSnapshot
  ): Program<string, InvalidStateError | StreamNotFoundError | ValidationError> {
    const { entityId, entityType, entityVersion, state } = input
    const stream = yield* getStream.in(tx, input.environment, entityId)
    if (stream.entityType !== entityType)
      return yield* refuse(wrongTypeError(entityId, stream.entityType, entityType))
    if (entityVersion > stream.version) {
      return yield* refuse(
        new ValidationError(
          `There can be no snapshot of stream "${entityId}" at version ${entityVersion}: the stream is at version ${stream.version}`
        )
      )
    }
    const id = tx.ids.snapshot()
    yield* write(
      PUT_SNAPSHOT,
      tx.environment(input.environment),
      entityId,
      entityVersion,
      id,
      state,
      tx.now()
    )
    return id
  },
  (snapshot) => `store a snapshot of stream "${snapshot.entityId}"`
)

const FIND_SNAPSHOT = statement(
  "StreamRows.findSnapshot",
  "SELECT * FROM snapshots WHERE environment = ? AND entity_id = ? AND entity_version < ? ORDER BY entity_version DESC LIMIT 1"
)

/** The newest snapshot below the version `beforeVersion`; with 0, the newest snapshot. */
export const getSnapshot = acrossEnvironments(
  "getSnapshot",
  function* (
    tx: Transaction,
    environmentName: string,
    entityId: string,
    beforeVersion: number
  ): Program<SnapshotRow | undefined> {
    const environment = tx.findEnvironment(environmentName)
    const state = environment === undefined ? undefined : yield* readState(environment, entityId)
    if (environment === undefined || state === undefined) return undefined
    const row = yield* get(
      FIND_SNAPSHOT,
      environment,
      entityId,
      beforeVersion === 0 ? state.version + 1 : beforeVersion
    )
    return row === undefined
      ? undefined
      : {
          snapshotId: String(row.id),
          entityId,
          entityType: state.entityType,
          entityVersion: Number(row.entity_version),
          state: String(row.state),
          createdAt: Number(row.created_at)
        }
  },
  (_, entityId) => `read a snapshot of stream "${entityId}"`
)

/** Reads events of a stream. Fails with `LimitExceededError` when the events have more characters of data than `maxLength`. */
export const readStream = (
  store: StoreService,
  { maxLength = Number.POSITIVE_INFINITY, ...query }: ReadStreamQuery
): Effect.Effect<StreamRows, LimitExceededError | StoreError> => {
  const gather = (maxParts: number) =>
    Effect.gen(function* () {
      const part = (query: ReadStreamQuery) => store.read(readPart(query))
      const first = yield* maxParts === 1 ? part(query) : onePage(part(query))
      const { events, totalCount } = first
      let { length, next } = first
      while (next !== undefined && length <= maxLength) {
        if (maxParts === 1) return undefined
        // events that are appended during the read are not read
        const remaining: number = query.backward ? 0 : totalCount - next + 1
        const limit = query.limit === 0 ? remaining : query.limit - events.length
        const found = yield* onePage(part({ ...query, fromVersion: next, limit }))
        for (const event of found.events) events.push(event)
        length += found.length
        next = found.next
      }
      if (length <= maxLength) return { events, totalCount }
      return yield* Effect.fail(
        new LimitExceededError(`One read of stream "${query.entityId}"`, length, maxLength, "characters", {
          isLowerBound: true,
          advice: "Read the stream in pages, with `limit` and `fromVersion`"
        })
      )
    })
  return gathered(gather)
}
