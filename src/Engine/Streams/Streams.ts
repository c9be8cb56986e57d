/** Entity streams for callers in the engine's process. Each method checks its input, and then reads or writes the store. */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Effect from "effect/Effect"
import { makeAppendMethods } from "../../Client/TypedEmit.ts"
import { validated } from "../../CheckAsEffect.ts"
import { makeEventsMethod, nullIfMissing } from "../../Client/StreamPages.ts"
import { checkCount, checkList, checkRead, upcastEvents } from "../../Client/StreamReading.ts"
import type {
  AppendAllOptions,
  NamedAppends,
  ReadingOptions,
  ReadStreamOptions,
  StreamEvent,
  StreamInfo,
  StreamSnapshot,
  UntypedStreams
} from "../../Client/Streams.ts"
import { checkAppend, checkAppendOne, checkEntityId, type StreamAppend } from "../../EntityStream.ts"
import { type EngineError, ValidationError } from "../../Errors.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import { decodeJson, encodeJson } from "../../Json.ts"
import { checkName, checkSize, snapshotBytes } from "../../Limits.ts"
import { yieldFirst } from "../Yielding.ts"
import { inSpan } from "../../OpenTelemetry.ts"
import { show } from "../../Show.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import type {
  AppendedToStream,
  SnapshotRow,
  StartedRun,
  StreamEventRow,
  StreamHistoryPage,
  StreamRow
} from "./StreamRecords.ts"
import * as StreamRows from "./StreamRows.ts"
import * as StreamHistory from "./StreamHistory.ts"

interface EngineReadingOptions extends ReadingOptions {
  /** Maximum number of characters of data in one read. If the events have more, the read fails with `LimitExceededError`. */
  readonly maxLength?: number
}

export interface StreamsService {
  /** Entity streams of one environment. */
  readonly in: (environment: string, options?: EngineReadingOptions) => Raw<UntypedStreams, EngineError>
  /** Events of an entity with the runs that they started. Fails with `StreamNotFoundError` for an entity without a stream. */
  readonly history: (
    environment: string,
    entityId: string,
    options: ReadStreamOptions
  ) => Effect.Effect<EntityHistory, EngineError>
}

export class Streams extends Context.Service<Streams, StreamsService>()("@ironflow/node/Engine/Streams") {}

export const layer: Layer.Layer<Streams, never, Store> = Layer.effect(
  Streams,
  Effect.gen(function* () {
    const store = yield* Store
    return {
      in: (environment, options) => make(store, environment, options),
      history: (environment, entityId, options) => readHistory(store, environment, entityId, options)
    }
  })
)

const make = (
  store: StoreService,
  environment: string,
  { eventDefinitions, maxLength }: EngineReadingOptions = {}
): Raw<UntypedStreams, EngineError> => {
  const append = (check: () => StreamAppend): Effect.Effect<AppendedToStream, EngineError> =>
    Effect.flatMap(validated(check), (request) =>
      Effect.tap(
        inSpan(`append ${request.entityId}`, (trace) =>
          store.write(StreamRows.appendToStream(environment, { ...request, ...trace }))
        ),
        ({ conflicting, warnings }) =>
          Effect.forEach(
            conflicting
              ? [
                  `Idempotency key "${request.idempotencyKey}" was used before for other events of stream ` +
                    `"${request.entityId}": nothing was stored, and the result of the first use is returned`
                ]
              : warnings.map((warning) => `An event of stream "${request.entityId}": ${warning}`),
            (message) => Effect.logWarning(message)
          )
      )
    )

  const read: Raw<UntypedStreams, EngineError>["read"] = (entityId, options) =>
    Effect.flatMap(
      validated(() => ({ entityId: checkEntityId(entityId), ...checkRead(entityId, options) })),
      ({ direction, ...query }) =>
        Effect.map(
          yieldFirst(
            StreamRows.readStream(store, {
              environment,
              ...query,
              backward: direction === "backward",
              ...(maxLength === undefined ? {} : { maxLength })
            })
          ),
          ({ events, totalCount }) =>
            upcastEvents({ events: events.map(toEvent), totalCount }, eventDefinitions)
        )
    )

  const appends: NamedAppends<EngineError> = {
    append: (entityId, input, options = {}) =>
      Effect.map(
        append(() => checkAppendOne(entityId, input, options)),
        ({ entityVersion, events, position }) => ({
          entityVersion,
          eventId: events[0]?.eventId ?? "",
          position
        })
      ),
    appendAll: (entityId, input, options: AppendAllOptions = {}) =>
      Effect.map(
        append(() => checkAppend(entityId, input, options)),
        ({ entityVersion, events, position }) => ({ entityVersion, position, events: [...events] })
      )
  }

  return {
    ...makeAppendMethods(appends),
    read,
    events: makeEventsMethod(read),
    getInfo: (entityId) =>
      Effect.flatMap(
        validated(() => checkEntityId(entityId)),
        (id) => Effect.map(yieldFirst(store.read(StreamRows.getStream(environment, id))), toInfo)
      ),
    findInfo: (entityId) =>
      Effect.flatMap(
        validated(() => checkEntityId(entityId)),
        (id) =>
          nullIfMissing(Effect.map(yieldFirst(store.read(StreamRows.getStream(environment, id))), toInfo))
      ),
    listStreams: (options) =>
      Effect.flatMap(
        validated(() => checkList(options)),
        (query) =>
          Effect.map(
            yieldFirst(store.read(StreamRows.listStreams({ environment, ...query }))),
            ({ streams, totalCount }) => ({
              streams: streams.map(({ entityId, entityType, updatedAt, version }) => ({
                entityId,
                entityType,
                version,
                eventCount: version,
                lastEventAt: iso(updatedAt)
              })),
              totalCount
            })
          )
      ),
    createSnapshot: (entityId, input) =>
      Effect.flatMap(
        validated(() => checkSnapshot(entityId, input)),
        (snapshot) =>
          Effect.map(store.write(StreamRows.putSnapshot({ environment, ...snapshot })), (snapshotId) => ({
            snapshotId
          }))
      ),
    getSnapshot: (entityId, { beforeVersion = 0 } = {}) =>
      Effect.flatMap(
        validated(() =>
          checkCount(`\`beforeVersion\` of stream "${checkEntityId(entityId)}"`, beforeVersion)
        ),
        (beforeVersion) =>
          Effect.map(
            yieldFirst(store.read(StreamRows.getSnapshot(environment, entityId, beforeVersion))),
            toSnapshot
          )
      )
  }
}

/** A page of an entity's history. The data of the events is as it was stored, without upcasts. */
export interface EntityHistory extends Pick<StreamHistoryPage, "nextVersion"> {
  readonly info: StreamInfo
  readonly entries: ReadonlyArray<{ readonly event: StreamEvent; readonly runs: ReadonlyArray<StartedRun> }>
}

/** Events of an entity with the runs that they started. A page has 100 events by default, and 1000 at most. */
const readHistory = (
  store: StoreService,
  environment: string,
  entityId: string,
  options: ReadStreamOptions
): Effect.Effect<EntityHistory, EngineError> =>
  Effect.flatMap(
    validated(() => {
      const { direction, limit, ...query } = checkRead(entityId, options)
      if (limit > 1000) {
        throw new ValidationError(
          `The limit of a history must be an integer from 1 to 1000, got ${show(limit)}`
        )
      }
      return {
        ...query,
        environment,
        entityId: checkEntityId(entityId),
        limit: limit || 100,
        backward: direction === "backward"
      }
    }),
    (query) =>
      Effect.map(
        yieldFirst(store.read(StreamHistory.readStreamHistory(query))),
        ({ entries, info, ...page }) => ({
          ...page,
          info: toInfo(info),
          entries: entries.map(({ event, runs }) => ({ event: toEvent(event), runs }))
        })
      )
  )

/** Checks a snapshot, and encodes its state. Throws `ValidationError`, or `LimitExceededError` when it is too large. */
const checkSnapshot: (
  ...args: Parameters<Raw<UntypedStreams, EngineError>["createSnapshot"]>
) => Omit<SnapshotRow, "snapshotId" | "createdAt"> = (entityId, input) => {
  const id = checkEntityId(entityId)
  const what = `Snapshot of stream "${id}"`
  const entityType = checkName(`entity type of "${id}"`, input?.entityType)
  const entityVersion = checkCount(`The version of a snapshot of stream "${id}"`, input.entityVersion)
  const state = checkSize(what, encodeJson(input.state, what) ?? "null", snapshotBytes)
  return { entityId: id, entityType, entityVersion, state }
}

const iso = (at: number): string => new Date(at).toISOString()

const toEvent = (row: StreamEventRow): StreamEvent => ({
  id: row.id,
  name: row.name,
  data: decodeJson(row.data),
  entityVersion: row.entityVersion,
  version: row.version,
  timestamp: iso(row.timestamp),
  ...(row.source === undefined ? {} : { source: row.source }),
  // stored metadata is always an object
  ...(row.metadata === undefined ? {} : { metadata: decodeJson(row.metadata) as Record<string, unknown> })
})

const toInfo = ({ createdAt, entityId, entityType, updatedAt, version }: StreamRow) => ({
  entityId,
  entityType,
  version,
  // the count equals the version, because events never leave a stream
  eventCount: version,
  createdAt: iso(createdAt),
  updatedAt: iso(updatedAt)
})

const toSnapshot = (row: SnapshotRow | undefined): StreamSnapshot | undefined =>
  row === undefined ? undefined : { ...row, state: decodeJson(row.state), createdAt: iso(row.createdAt) }
