/**
 * Entity streams: the events of one entity, numbered 1..n. This is what may be appended to one, checked and as JSON text,
 * whichever way it goes there: over HTTP, in the engine's process, or with a step.
 */
import { LimitExceededError, ValidationError } from "./Errors.ts"
import {
  checkEventName,
  type EventData,
  type EventDefinition,
  type EventInput,
  type TypedEvent
} from "./Event.ts"
import type { ExpectedVersion } from "./ExpectedVersion.ts"
import { byteLength, encodeJson, isObject } from "./Json.ts"
import { checkIdempotencyKey, checkName, checkSize, eventBytes, writeBytes, writesAtOnce } from "./Limits.ts"
import { encodeMetadata } from "./Metadata.ts"
import { show } from "./Show.ts"

/** An event to append to the stream of an entity. */
export interface AppendEventInput {
  /** Event name, such as `item.added`. */
  readonly name: string
  /** Anything that JSON can carry; `{}` by default. */
  readonly data?: unknown
  /** What the entity is, such as `order`. The first append decides it for good. */
  readonly entityType: string
}

/** An event to append to the stream of an entity, by its definition, which checks, encodes and types the data. */
export interface DefinedAppendInput<D extends EventDefinition = EventDefinition> {
  /** The definition of the event. */
  readonly event: D
  /** Its data, which the definition's schema checks and encodes. */
  readonly data: EventInput<D>
  /** What the entity is, such as `order`. The first append decides it for good. */
  readonly entityType: string
}

/** One of several events to append at once. */
export interface StreamEventInput {
  /** Name of the event. */
  readonly name: string
  /** Anything that JSON can carry; `{}` by default. */
  readonly data?: unknown
  /** Schema version of the event; 1 by default. */
  readonly version?: number
  /** An object of JSON that is kept with the event; none by default. */
  readonly metadata?: Record<string, unknown>
}

/** One of several events to append at once, by its definition, which checks, encodes and types the data. */
export interface DefinedStreamEvent<D = EventDefinition> {
  /** The definition of the event. */
  readonly event: D extends EventDefinition ? D : EventDefinition
  /** Its data, which the definition's schema checks and encodes. */
  readonly data: EventInput<D>
  /** An object of JSON that is kept with the event; none by default. */
  readonly metadata?: Record<string, unknown>
}

/** Events to append to the stream of an entity at once: all of them or none. */
export interface AppendAllInput {
  /** What the entity is, such as `order`. The first append decides it for good. */
  readonly entityType: string
  /** 1 to 1000 events, 4 MiB in all. */
  readonly events: ReadonlyArray<StreamEventInput>
}

/** An append of several events, each by its name or by its definition, before either is told apart. */
export interface GivenAppendAllInput {
  readonly entityType: string
  readonly events: ReadonlyArray<
    | StreamEventInput
    | { readonly event: EventDefinition; readonly data: unknown; readonly metadata?: Record<string, unknown> }
  >
}

/** The same with events that may be given by their definitions, which `L` lists. */
export interface DefinedAppendAllInput<L extends ReadonlyArray<unknown> = ReadonlyArray<EventDefinition>> {
  /** What the entity is, such as `order`. The first append decides it for good. */
  readonly entityType: string
  /** 1 to 1000 events, 4 MiB in all. */
  readonly events: { readonly [I in keyof L]: StreamEventInput | DefinedStreamEvent<L[I]> }
}

/** An event of a stream. */
// oxlint-disable-next-line typescript/no-explicit-any -- as documented: without a definition nothing is known about the data
export interface StreamEvent<Data = any, Name extends string = string> {
  /** Id of the event. */
  readonly id: string
  /** Name of the event. */
  readonly name: Name
  /** Its data, brought to the latest version where the client has `eventDefinitions`. */
  readonly data: Data
  /** Its place in the stream, from 1 up. */
  readonly entityVersion: number
  /** The schema version that it was appended with, also when `data` has been upcast to a later one. */
  readonly version: number
  /** ISO string. */
  readonly timestamp: string
  /** What the event came from, where something else than a client has appended it. */
  readonly source?: string
  /** The metadata that it was appended with. */
  readonly metadata?: Record<string, unknown>
}

/** An event as it is appended to the stream of an entity. */
export type NewEntityEvent<D extends TypedEvent> = D extends TypedEvent
  ? {
      readonly name: D["name"]
      readonly data: EventInput<D>
      readonly metadata?: Record<string, unknown>
    }
  : never

/** An event of the stream of an entity; of several a union, which `name` tells apart. */
export type EntityEvent<D extends TypedEvent> = D extends TypedEvent
  ? StreamEvent<EventData<D>, D["name"]>
  : never

/** What an append expects of the stream, and what makes it safe to repeat. */
export interface AppendConditions {
  /**
   * The version that the stream must have: 0 or `"NO_STREAM"` when there must be none yet, `"STREAM_EXISTS"` when any will
   * do. Else the append fails with `VersionConflictError`. Without it, or with -1, nothing is expected.
   */
  readonly expectedVersion?: ExpectedVersion
  /** Appending again with the same key to the same entity within 24 hours returns the first result. */
  readonly idempotencyKey?: string
}

/** An event on its way into the log: checked, its data as JSON text. */
export interface NewStreamEvent {
  readonly name: string
  readonly version: number
  readonly data: string
  readonly metadata?: string
}

/** An append that has been checked. */
export interface StreamAppend {
  readonly entityId: string
  readonly entityType: string
  readonly events: ReadonlyArray<NewStreamEvent>
  readonly expectedVersion?: ExpectedVersion
  readonly idempotencyKey?: string
}

/** An event that was appended: its place in the stream of its entity, and in the log. */
export interface StoredStreamEvent {
  readonly eventId: string
  readonly entityVersion: number
  readonly position: number
}

/** Checks an append. Throws `ValidationError`, or `LimitExceededError` for what is too large. */
export const checkAppend = (
  entityId: string,
  input: AppendAllInput,
  conditions: AppendConditions = {}
): StreamAppend => {
  const id = checkEntityId(entityId)
  if (!isObject(input)) {
    throw new ValidationError(`What is appended to stream "${id}" must be an object, got ${show(input)}`)
  }
  const entityType = checkName(`entity type of "${id}"`, input.entityType)
  const { events } = input
  if (!Array.isArray(events) || events.length === 0) {
    throw new ValidationError(`An append to stream "${id}" needs an array of at least one event`)
  }
  if (events.length > writesAtOnce) {
    throw new LimitExceededError(`An append to stream "${id}"`, events.length, writesAtOnce, "events")
  }
  const checked = events.map(checkStreamEvent)
  checkTotal(`An append to stream "${id}"`, checked)
  return { entityId: id, entityType, events: checked, ...checkConditions(id, conditions) }
}

/** Checks an append of one event. Throws as {@link checkAppend} does. */
export const checkAppendOne = (
  entityId: string,
  input: AppendEventInput,
  options: AppendConditions & Pick<StreamEventInput, "version" | "metadata"> = {}
): StreamAppend => {
  // what is no object has nothing that is acceptable
  const { data, entityType, name }: AppendEventInput = input ?? {}
  const { metadata, version } = options
  const event = {
    name,
    data,
    ...(version === undefined ? {} : { version }),
    ...(metadata === undefined ? {} : { metadata })
  }
  return checkAppend(entityId, { entityType, events: [event] }, options)
}

export const checkEntityId = (entityId: unknown): string => checkName("entity id", entityId)

/** Checks an event, and encodes its data. */
export const checkStreamEvent = (event: StreamEventInput): NewStreamEvent => {
  if (!isObject(event)) throw new ValidationError(`An event must be an object, got ${show(event)}`)
  const name = checkEventName(event.name)
  const what = `event "${name}"`
  const version = event.version ?? 1
  if (!Number.isSafeInteger(version) || version < 1) {
    throw new ValidationError(`The version of ${what} must be an integer from 1 up, got ${show(version)}`)
  }
  const metadata = encodeMetadata(`The metadata of ${what}`, event.metadata ?? undefined)
  const data = encodeJson(event.data, `Data of ${what}`) ?? "{}"
  return {
    name,
    version,
    data: checkSize(`Data of ${what}`, data, eventBytes),
    ...(metadata === undefined ? {} : { metadata })
  }
}

/** Bytes of an event's data and metadata. */
export const sizeOf = ({ data, metadata = "" }: NewStreamEvent): number =>
  byteLength(data) + byteLength(metadata)

const checkTotal = (what: string, events: ReadonlyArray<NewStreamEvent>): void => {
  const size = events.reduce((total, event) => total + sizeOf(event), 0)
  if (events.length > 1 && size > writeBytes) throw new LimitExceededError(what, size, writeBytes, "bytes")
}

const checkConditions = (
  entityId: string,
  { expectedVersion, idempotencyKey }: AppendConditions
): AppendConditions => {
  checkExpectedVersion(entityId, expectedVersion)
  if (idempotencyKey !== undefined) checkIdempotencyKey(idempotencyKey)
  return {
    // -1 is how the wire says that nothing is expected
    ...(expectedVersion === undefined || expectedVersion === -1 ? {} : { expectedVersion }),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey })
  }
}

export const checkExpectedVersion = (entityId: string, expected: unknown): void => {
  if (expected === undefined || expected === "NO_STREAM" || expected === "STREAM_EXISTS") return
  if (Number.isSafeInteger(expected) && Number(expected) >= -1) return
  throw new ValidationError(
    `The expected version of stream "${entityId}" must be an integer from 0 up, "NO_STREAM" or "STREAM_EXISTS", got ` +
      show(expected)
  )
}

/** Whether a stream at `version` (0: there is none) is what was expected. */
export const isExpected = (expected: ExpectedVersion | undefined, version: number): boolean => {
  switch (expected) {
    case undefined:
    case -1:
      return true
    case "NO_STREAM":
      return version === 0
    case "STREAM_EXISTS":
      return version > 0
    default:
      return version === expected
  }
}
