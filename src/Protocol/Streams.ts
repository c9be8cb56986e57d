/** Entity streams: how they travel, and the calls about them, most of which are those of `EntityStreamService`. */
import type { StreamEvent } from "../EntityStream.ts"
import {
  InvalidStateError,
  SnapshotNotFoundError,
  StreamNotFoundError,
  VersionConflictError
} from "../Errors.ts"
import { stepStatuses } from "../StepStatus.ts"
import {
  among,
  as,
  type Codec,
  digits,
  eitherCase,
  fields,
  filled,
  integer,
  json,
  list,
  number,
  object,
  optional,
  orElse,
  some,
  struct,
  text,
  unless
} from "./Codec.ts"
import type { Action } from "../Policy.ts"
import { each, inBody, operation, row, type Rule } from "./Row.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** What `append` answers. */
export interface AppendResult {
  /** The version of the stream after the append: the place of the event in it, from 1 up. */
  readonly entityVersion: number
  /** Id of the event, `evt_...`. */
  readonly eventId: string
  /** Position of the event in the log of its environment; 0 from servers that do not say. */
  readonly position: number
}

/** What `appendAll` answers. */
export interface AppendAllResult {
  /** The version of the stream after the append. */
  readonly entityVersion: number
  /** Position of the last event in the log of its environment. */
  readonly position: number
  /** One for each event, in their order. */
  readonly events: Array<AppendResult>
}

/** What `read` answers. */
// oxlint-disable-next-line typescript/no-explicit-any -- as documented: without a definition nothing is known about the data
export interface ReadStreamResult<Data = any> {
  /** The events, in the order that was asked for. */
  readonly events: Array<StreamEvent<Data>>
  /** Events in the stream, read or not; 0 when there is no such stream. */
  readonly totalCount: number
}

/** A stream. Times are ISO strings. */
export interface StreamInfo {
  /** Id of the entity. */
  readonly entityId: string
  /** Type of the entity. */
  readonly entityType: string
  /** The version of the newest event. */
  readonly version: number
  /** How many events there are. */
  readonly eventCount: number
  /** When the first event was appended. */
  readonly createdAt: string
  /** When the newest event was appended. */
  readonly updatedAt: string
}

/** A stream in a list. */
export interface StreamSummary {
  /** Id of the entity. */
  readonly entityId: string
  /** Type of the entity. */
  readonly entityType: string
  /** The version of the newest event. */
  readonly version: number
  /** How many events there are. */
  readonly eventCount: number
  /** ISO string. */
  readonly lastEventAt: string
}

/** By entity id. */
export interface ListStreamsResult {
  /** The streams of the page. */
  readonly streams: Array<StreamSummary>
  /** How many there are in all. */
  readonly totalCount: number
}

/** What `createSnapshot` answers. */
export interface CreateSnapshotResult {
  /** Id of the snapshot. */
  readonly snapshotId: string
}

/** The state of an entity after the event of a version. */
export interface StreamSnapshot<State = unknown> {
  /** Id of the snapshot. */
  readonly snapshotId: string
  /** Id of the entity. */
  readonly entityId: string
  /** Type of the entity. */
  readonly entityType: string
  /** The version after whose event the state is. */
  readonly entityVersion: number
  /** The state. */
  readonly state: State
  /** ISO string. */
  readonly createdAt: string
}

/** An event as it is appended. */
export interface Appending {
  readonly eventName: string
  readonly data?: unknown
  readonly version?: number
  readonly metadata?: { readonly [name: string]: unknown }
}

/** When an append is made: an absent `expectedVersion` is 0, there must be no stream; -1 expects nothing. */
export interface Conditions {
  readonly expectedVersion?: number
  readonly idempotencyKey?: string
}

interface Entity {
  readonly entityId: string
  readonly entityType: string
}

export interface Reading {
  readonly entityId: string
  readonly fromVersion?: number
  readonly limit?: number
  /** `forward` or `backward`. */
  readonly direction?: string
}

export interface Listing {
  readonly entityType?: string
  readonly limit?: number
  readonly offset?: number
}

const said = orElse(text, "")
const count = orElse(digits, 0)
/** From 1 up. */
const place: Codec<number> = { kind: "number", isWhole: true, isText: true, isFilled: true }
const optionalObject = optional(object)

const Appended = eitherCase(
  fields<AppendResult>({ entityVersion: place, eventId: text, position: as("sequence", count) })
)
const AppendedAll = eitherCase(
  fields<AppendAllResult>({
    entityVersion: count,
    position: as("sequence", count),
    events: orElse(some(Appended), [])
  })
)
const Event = fields<StreamEvent>({
  id: said,
  name: text,
  data: orElse(json, {}),
  entityVersion: count,
  version: orElse({ kind: "number", isWhole: true, isFilled: true }, 1),
  timestamp: said,
  source: optional(filled),
  metadata: optionalObject
})
const Events = eitherCase(
  fields<ReadStreamResult>({ events: unless([], some(Event)), totalCount: unless(0, integer) })
)
const Info = eitherCase(
  fields<StreamInfo>({
    entityId: text,
    entityType: said,
    version: count,
    eventCount: count,
    createdAt: said,
    updatedAt: said
  })
)
/* @__NO_SIDE_EFFECTS__ */
function summaries(count: Codec<number>): Codec<Array<StreamSummary>> {
  return some(
    fields<StreamSummary>({
      entityId: text,
      entityType: said,
      version: orElse(count, 0),
      eventCount: orElse(count, 0),
      lastEventAt: said
    })
  )
}
const Summaries = eitherCase(
  fields<ListStreamsResult>({ streams: orElse(summaries(integer), []), totalCount: orElse(number, 0) })
)
const ConnectSummaries = fields<ListStreamsResult>({
  streams: unless([], summaries(digits)),
  totalCount: unless(0, integer)
})
const Snapshot = eitherCase(
  fields<StreamSnapshot>({
    snapshotId: text,
    entityId: said,
    entityType: said,
    entityVersion: count,
    state: orElse(json, null),
    createdAt: said
  })
)
const SnapshotId = eitherCase(fields<CreateSnapshotResult>({ snapshotId: text }))
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
  entries: unless(
    [],
    list(
      struct({
        event: Event,
        runs: unless(
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
              steps: unless(
                [],
                list(
                  struct({
                    id: text,
                    name: text,
                    kind: text,
                    status: among(stepStatuses),
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

const AppendEvent = fields<Entity & Appending & Conditions>({
  entityId: text,
  entityType: text,
  eventName: text,
  data: optional(json),
  expectedVersion: optional(integer),
  idempotencyKey: optional(text),
  version: optional(integer),
  metadata: optionalObject
})
const AppendEvents = fields<Entity & Conditions & { events: Array<Appending> }>({
  entityId: text,
  entityType: text,
  events: list(
    fields<Appending>({
      eventName: text,
      data: optional(json),
      version: optional(integer),
      metadata: optionalObject
    })
  ),
  expectedVersion: optional(integer),
  idempotencyKey: optional(text)
})
const ReadStream = fields<Reading>({
  entityId: text,
  fromVersion: optional(integer),
  limit: optional(integer),
  direction: optional(text)
})
const OneStream = struct({ entityId: text })
/** Of a body, or of a query. */
export const ListStreams = fields<Listing>({
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
  ours: true
})
export const readStream = operation("EntityStreamService/ReadStream", { answer: Events, repeats: true })
export const getStreamInfo = operation("EntityStreamService/GetStreamInfo", {
  answer: Info,
  repeats: true,
  missing: StreamNotFoundError
})
export const getEntityHistory = operation("EntityStreamService/GetEntityHistory", {
  answer: EntityHistory,
  repeats: true,
  missing: StreamNotFoundError
})
export const listStreams = operation("EntityStreamService/ListStreams", {
  answer: ConnectSummaries,
  repeats: true
})
export const restStreams = operation("GET /api/v1/streams", { answer: Summaries })
export const createSnapshot = operation("EntityStreamService/CreateSnapshot", {
  answer: SnapshotId,
  repeats: true,
  missing: StreamNotFoundError
})
export const getSnapshot = operation("EntityStreamService/GetSnapshot", {
  answer: Snapshot,
  repeats: true,
  missing: SnapshotNotFoundError
})

/* @__NO_SIDE_EFFECTS__ */
function ofStream(action: Action): Rule {
  return inBody(action, "stream", "entityId", "entity_id")
}
const reads = ofStream("stream:read")
const appends = ofStream("stream:append")
const emits = { action: "emit:event", kind: "event" } as const
const conflicts = { 400: InvalidStateError, 409: VersionConflictError } as const

export const rows = {
  /** Appends an event to the stream of an entity. An absent `expectedVersion` is 0: there must be no stream; -1 expects nothing. */
  appendEvent: row(appendEvent, appends, { respects: emits, body: AppendEvent, errors: conflicts }),
  /** Appends several events to the stream of an entity, all or none. */
  appendEvents: row(appendEvents, appends, { respects: emits, body: AppendEvents, errors: conflicts }),
  /** The events of a stream; one that does not exist has none. */
  readStream: row(readStream, reads, { body: ReadStream }),
  /** How far a stream is. */
  getStreamInfo: row(getStreamInfo, reads, { body: OneStream }),
  /** The events of a stream with the runs that they have started. `nextCursor` is the `fromVersion` of the next page. */
  getEntityHistory: row(getEntityHistory, reads, { body: ReadStream }),
  /** The streams, by entity id. */
  listStreams: row(listStreams, each("stream:read", "stream"), { body: ListStreams }),
  /** Keeps the state of an entity at a version. Another one for the same version replaces it. */
  createSnapshot: row(createSnapshot, appends, { body: CreateSnapshot, errors: { 400: InvalidStateError } }),
  /** The newest snapshot of an entity, or the newest below `beforeVersion`. */
  getSnapshot: row(getSnapshot, reads, { body: GetSnapshot }),
  /** The streams, by entity id. */
  restStreams: row(restStreams, each("stream:read", "stream"), {
    query: ["entity_type", "limit", "offset"]
  }),
  /** All events of a stream. */
  restStreamHistory: row("GET /api/v1/streams/:id/history", "stream:read", {
    answer: EventsOfEntity,
    missing: StreamNotFoundError
  })
}
