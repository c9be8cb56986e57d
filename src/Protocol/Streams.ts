/** Entity streams: their messages and calls. Most calls are those of the ConnectRPC service `EntityStreamService`. */
import type { StreamEvent } from "../EntityStream.ts"
import {
  InvalidStateError,
  SnapshotNotFoundError,
  StreamNotFoundError,
  VersionConflictError
} from "../Errors.ts"
import { stepStatuses } from "../StepStatus.ts"
import {
  oneOfList,
  type Codec,
  digits,
  camelOrSnake,
  fields,
  nonEmptyText,
  integer,
  json,
  lenientList,
  list,
  number,
  object,
  omittedWhen,
  optional,
  orElse,
  struct,
  text,
  withWireName
} from "./Codec.ts"
import type { Action } from "../Policy.ts"
import { each, inBody, operation, callSpec, type Rule } from "./CallSpec.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** The result of `append`. */
export interface AppendResult {
  /** The version of the event: its position in the stream, from 1. */
  readonly entityVersion: number
  /** Id of the event, `evt_...`. */
  readonly eventId: string
  /** Position of the event in the log of its environment; 0 from servers without positions. */
  readonly position: number
}

/** The result of `appendAll`. */
export interface AppendAllResult {
  /** The version of the stream after the append. */
  readonly entityVersion: number
  /** Position of the last event in the log of its environment. */
  readonly position: number
  /** One result for each event, in order. */
  readonly events: Array<AppendResult>
}

/** The result of `read`. */
// oxlint-disable-next-line typescript/no-explicit-any -- as documented: without a definition nothing is known about the data
export interface ReadStreamResult<Data = any> {
  /** The events, in the requested order. */
  readonly events: Array<StreamEvent<Data>>
  /** Number of events in the stream, whether read or not; 0 when the stream does not exist. */
  readonly totalCount: number
}

/** An entity stream. Times are ISO strings. */
export interface StreamInfo {
  /** Id of the entity. */
  readonly entityId: string
  /** Type of the entity. */
  readonly entityType: string
  /** The version of the newest event. */
  readonly version: number
  /** Number of events. */
  readonly eventCount: number
  /** When the first event was appended. */
  readonly createdAt: string
  /** When the newest event was appended. */
  readonly updatedAt: string
}

/** An entity stream in a list. */
export interface StreamSummary {
  /** Id of the entity. */
  readonly entityId: string
  /** Type of the entity. */
  readonly entityType: string
  /** The version of the newest event. */
  readonly version: number
  /** Number of events. */
  readonly eventCount: number
  /** When the newest event was appended, as an ISO string. */
  readonly lastEventAt: string
}

/** A page of streams, sorted by entity id. */
export interface ListStreamsResult {
  /** The streams of the page. */
  readonly streams: Array<StreamSummary>
  /** Number of streams on all pages. */
  readonly totalCount: number
}

/** The result of `createSnapshot`. */
export interface CreateSnapshotResult {
  /** Id of the snapshot. */
  readonly snapshotId: string
}

/** The state of an entity at a version. */
export interface StreamSnapshot<State = unknown> {
  /** Id of the snapshot. */
  readonly snapshotId: string
  /** Id of the entity. */
  readonly entityId: string
  /** Type of the entity. */
  readonly entityType: string
  /** The version of the last event in the state. */
  readonly entityVersion: number
  /** The state. */
  readonly state: State
  /** When the snapshot was stored, as an ISO string. */
  readonly createdAt: string
}

/** An event to append. */
export interface EventToAppend {
  readonly eventName: string
  readonly data?: unknown
  readonly version?: number
  readonly metadata?: { readonly [name: string]: unknown }
}

/** Conditions of an append: an absent `expectedVersion` is 0, for a new stream; -1 accepts any version. */
export interface AppendConditions {
  readonly expectedVersion?: number
  readonly idempotencyKey?: string
}

interface Entity {
  readonly entityId: string
  readonly entityType: string
}

export interface ReadStreamRequest {
  readonly entityId: string
  readonly fromVersion?: number
  readonly limit?: number
  /** `forward` or `backward`. */
  readonly direction?: string
}

export interface ListStreamsRequest {
  readonly entityType?: string
  readonly limit?: number
  readonly offset?: number
}

const textOrEmpty = orElse(text, "")
const count = orElse(digits, 0)
const versionFromOne: Codec<number> = { kind: "number", isWhole: true, isText: true, isFilled: true }
const optionalObject = optional(object)

const Appended = camelOrSnake(
  fields<AppendResult>({
    entityVersion: versionFromOne,
    eventId: text,
    position: withWireName("sequence", count)
  })
)
const AppendedAll = camelOrSnake(
  fields<AppendAllResult>({
    entityVersion: count,
    position: withWireName("sequence", count),
    events: orElse(lenientList(Appended), [])
  })
)
const Event = fields<StreamEvent>({
  id: textOrEmpty,
  name: text,
  data: orElse(json, {}),
  entityVersion: count,
  version: orElse({ kind: "number", isWhole: true, isFilled: true }, 1),
  timestamp: textOrEmpty,
  source: optional(nonEmptyText),
  metadata: optionalObject
})
const Events = camelOrSnake(
  fields<ReadStreamResult>({
    events: omittedWhen([], lenientList(Event)),
    totalCount: omittedWhen(0, integer)
  })
)
const Info = camelOrSnake(
  fields<StreamInfo>({
    entityId: text,
    entityType: textOrEmpty,
    version: count,
    eventCount: count,
    createdAt: textOrEmpty,
    updatedAt: textOrEmpty
  })
)
/* @__NO_SIDE_EFFECTS__ */
function summaries(count: Codec<number>): Codec<Array<StreamSummary>> {
  return lenientList(
    fields<StreamSummary>({
      entityId: text,
      entityType: textOrEmpty,
      version: orElse(count, 0),
      eventCount: orElse(count, 0),
      lastEventAt: textOrEmpty
    })
  )
}
const Summaries = camelOrSnake(
  fields<ListStreamsResult>({ streams: orElse(summaries(integer), []), totalCount: orElse(number, 0) })
)
const ConnectSummaries = fields<ListStreamsResult>({
  streams: omittedWhen([], summaries(digits)),
  totalCount: omittedWhen(0, integer)
})
const Snapshot = camelOrSnake(
  fields<StreamSnapshot>({
    snapshotId: text,
    entityId: textOrEmpty,
    entityType: textOrEmpty,
    entityVersion: count,
    state: orElse(json, null),
    createdAt: textOrEmpty
  })
)
const SnapshotId = camelOrSnake(fields<CreateSnapshotResult>({ snapshotId: text }))
const EventsOfEntity = struct({
  events: list(
    struct({
      eventName: text,
      data: json,
      version: integer,
      timestamp: text
    })
  )
})
const EntityHistory = struct({
  entries: omittedWhen(
    [],
    list(
      struct({
        event: Event,
        runs: omittedWhen(
          [],
          list(
            struct({
              id: text,
              functionId: text,
              attempt: integer,
              createdAt: text,
              startedAt: optional(text),
              endedAt: optional(text),
              status: text,
              state: text,
              steps: omittedWhen(
                [],
                list(
                  struct({
                    id: text,
                    name: text,
                    kind: text,
                    status: oneOfList(stepStatuses),
                    attempt: integer,
                    startedAt: optional(text),
                    endedAt: optional(text)
                  })
                )
              )
            })
          )
        )
      })
    )
  ),
  nextCursor: optional(text),
  totalEvents: integer,
  info: Info
})

const AppendEvent = fields<Entity & EventToAppend & AppendConditions>({
  entityId: text,
  entityType: text,
  eventName: text,
  data: optional(json),
  expectedVersion: optional(integer),
  idempotencyKey: optional(text),
  version: optional(integer),
  metadata: optionalObject
})
const AppendEvents = fields<Entity & AppendConditions & { events: Array<EventToAppend> }>({
  entityId: text,
  entityType: text,
  events: list(
    fields<EventToAppend>({
      eventName: text,
      data: optional(json),
      version: optional(integer),
      metadata: optionalObject
    })
  ),
  expectedVersion: optional(integer),
  idempotencyKey: optional(text)
})
const ReadStream = fields<ReadStreamRequest>({
  entityId: text,
  fromVersion: optional(integer),
  limit: optional(integer),
  direction: optional(text)
})
const OneStream = struct({ entityId: text })
/** The body or query of a list. */
export const ListStreams = fields<ListStreamsRequest>({
  entityType: optional(text),
  limit: optional(integer),
  offset: optional(integer)
})
const CreateSnapshot = fields<Entity & { entityVersion?: number; state?: unknown }>({
  entityId: text,
  entityType: text,
  entityVersion: optional(integer),
  state: optional(json)
})
const GetSnapshot = struct({
  entityId: text,
  beforeVersion: optional(integer)
})

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const appendEvent = operation("EntityStreamService/AppendEvent", { answer: Appended })
export const appendEvents = operation("EntityStreamService/AppendEvents", {
  answer: AppendedAll,
  onlyOurEngine: true
})
export const readStream = operation("EntityStreamService/ReadStream", { answer: Events, repeats: true })
export const getStreamInfo = operation("EntityStreamService/GetStreamInfo", {
  answer: Info,
  repeats: true,
  notFoundError: StreamNotFoundError
})
export const getEntityHistory = operation("EntityStreamService/GetEntityHistory", {
  answer: EntityHistory,
  repeats: true,
  notFoundError: StreamNotFoundError
})
export const listStreams = operation("EntityStreamService/ListStreams", {
  answer: ConnectSummaries,
  repeats: true
})
export const restStreams = operation("GET /api/v1/streams", { answer: Summaries })
export const createSnapshot = operation("EntityStreamService/CreateSnapshot", {
  answer: SnapshotId,
  repeats: true,
  notFoundError: StreamNotFoundError
})
export const getSnapshot = operation("EntityStreamService/GetSnapshot", {
  answer: Snapshot,
  repeats: true,
  notFoundError: SnapshotNotFoundError
})

/* @__NO_SIDE_EFFECTS__ */
function streamRule(action: Action): Rule {
  return inBody(action, "stream", "entityId", "entity_id")
}
const readRule = streamRule("stream:read")
const appendRule = streamRule("stream:append")
const emitPermission = { action: "emit:event", kind: "event" } as const
const conflicts = { 400: InvalidStateError, 409: VersionConflictError } as const

export const callSpecs = {
  /** Appends an event to an entity's stream. An absent `expectedVersion` is 0: a new stream; -1 accepts any version. */
  appendEvent: callSpec(appendEvent, appendRule, {
    secondAction: emitPermission,
    body: AppendEvent,
    errors: conflicts
  }),
  /** Appends several events to the stream of an entity, all of them or none. `expectedVersion` is that of `AppendEvent`. */
  appendEvents: callSpec(appendEvents, appendRule, {
    secondAction: emitPermission,
    body: AppendEvents,
    errors: conflicts
  }),
  /** Returns the events of a stream; none when the stream does not exist. */
  readStream: callSpec(readStream, readRule, { body: ReadStream }),
  /** Returns the version of a stream, its number of events, and the times of the first and the newest event. */
  getStreamInfo: callSpec(getStreamInfo, readRule, { body: OneStream }),
  /** Returns the events of a stream with the runs that they started. `nextCursor` is the `fromVersion` of the next page. */
  getEntityHistory: callSpec(getEntityHistory, readRule, { body: ReadStream }),
  /** Lists the streams, sorted by entity id. */
  listStreams: callSpec(listStreams, each("stream:read", "stream"), { body: ListStreams }),
  /** Stores a snapshot of an entity at a version. An earlier snapshot of the same version is replaced. */
  createSnapshot: callSpec(createSnapshot, appendRule, {
    body: CreateSnapshot,
    errors: { 400: InvalidStateError }
  }),
  /** Returns the newest snapshot of an entity; with `beforeVersion`, the newest one of a lower version. */
  getSnapshot: callSpec(getSnapshot, readRule, { body: GetSnapshot }),
  /** Lists the streams, sorted by entity id. */
  restStreams: callSpec(restStreams, each("stream:read", "stream"), {
    query: ["entity_type", "limit", "offset"]
  }),
  /** Returns all events of a stream. */
  restStreamHistory: callSpec("GET /api/v1/streams/:id/history", "stream:read", {
    answer: EventsOfEntity,
    notFoundError: StreamNotFoundError
  })
}
