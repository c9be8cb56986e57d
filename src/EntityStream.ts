/**
 * Entity streams: the events of one entity, numbered from 1. This module has the types of appends and of stream
 * events. It checks appends and encodes their data as JSON, for HTTP, for clients in the process of an engine, and
 * for steps.
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
  /** Any JSON value; `{}` by default. */
  readonly data?: unknown
  /** Type of the entity, such as `order`. The first append decides it. */
  readonly entityType: string
}

/**
 * An event to append to the stream of an entity, given by its definition. The definition types, checks and encodes
 * the data.
 */
export interface DefinedAppendInput<D extends EventDefinition = EventDefinition> {
  /** The definition of the event. */
  readonly event: D
  /** Its data, checked and encoded by the definition's schema. */
  readonly data: EventInput<D>
  /** Type of the entity, such as `order`. The first append decides it. */
  readonly entityType: string
}

/** One of several events to append at once. */
export interface StreamEventInput {
  /** Name of the event. */
  readonly name: string
  /** Any JSON value; `{}` by default. */
  readonly data?: unknown
  /** Schema version of the event; 1 by default. */
  readonly version?: number
  /** A JSON object that is stored with the event; none by default. */
  readonly metadata?: Record<string, unknown>
}

/**
 * One of several events to append at once, given by its definition. The definition types, checks and encodes the
 * data.
 */
export interface DefinedStreamEvent<D = EventDefinition> {
  /** The definition of the event. */
  readonly event: D extends EventDefinition ? D : EventDefinition
  /** Its data, checked and encoded by the definition's schema. */
  readonly data: EventInput<D>
  /** A JSON object that is stored with the event; none by default. */
  readonly metadata?: Record<string, unknown>
}

/** Events to append to the stream of an entity in one transaction. */
export interface AppendAllInput {
  /** Type of the entity, such as `order`. The first append decides it. */
  readonly entityType: string
  /** 1 to 1000 events, at most 4 MiB in total. */
  readonly events: ReadonlyArray<StreamEventInput>
}

/** An append of several events, each by name or by definition, before it is checked. */
export interface GivenAppendAllInput {
  readonly entityType: string
  readonly events: ReadonlyArray<
    | StreamEventInput
    | { readonly event: EventDefinition; readonly data: unknown; readonly metadata?: Record<string, unknown> }
  >
}

/** Events to append in one transaction, each by name or by definition. `L` lists the definitions. */
export interface DefinedAppendAllInput<L extends ReadonlyArray<unknown> = ReadonlyArray<EventDefinition>> {
  /** Type of the entity, such as `order`. The first append decides it. */
  readonly entityType: string
  /** 1 to 1000 events, at most 4 MiB in total. */
  readonly events: { readonly [I in keyof L]: StreamEventInput | DefinedStreamEvent<L[I]> }
}

/** An event of an entity stream. */
// oxlint-disable-next-line typescript/no-explicit-any -- as documented: without a definition nothing is known about the data
export interface StreamEvent<Data = any, Name extends string = string> {
  /** Id of the event. */
  readonly id: string
  /** Name of the event. */
  readonly name: Name
  /** Its data, upcast to the latest version if the client has `eventDefinitions`. */
  readonly data: Data
  /** Position of the event in its stream, from 1: the version that the stream had after the append. */
  readonly entityVersion: number
  /** Schema version at the append, even if `data` has been upcast. */
  readonly version: number
  /** When the event was appended, as an ISO string. */
  readonly timestamp: string
  /** The source of an event that was not appended by a client. */
  readonly source?: string
  /** The metadata of the event. */
  readonly metadata?: Record<string, unknown>
}

/** An event to append to the stream of an entity. */
export type NewEntityEvent<D extends TypedEvent> = D extends TypedEvent
  ? {
      readonly name: D["name"]
      readonly data: EventInput<D>
      readonly metadata?: Record<string, unknown>
    }
  : never

/** An event of an entity stream; for several definitions a union discriminated by `name`. */
export type EntityEvent<D extends TypedEvent> = D extends TypedEvent
  ? StreamEvent<EventData<D>, D["name"]>
  : never

/** Conditions of an append: the expected version, and the idempotency key. */
export interface AppendConditions {
  /**
   * The version that the stream must have: a number; 0 or `"NO_STREAM"` if the stream must be new; or
   * `"STREAM_EXISTS"` if it must exist, at any version. If the stream has another version, the append fails with
   * `VersionConflictError`. Without an expected version, or with -1, any version is accepted.
   */
  readonly expectedVersion?: ExpectedVersion
  /**
   * A second append to the same entity with the same key within 24 hours stores nothing, and returns the
   * first result.
   */
  readonly idempotencyKey?: string
}

/** An event to be stored: checked, with its data as JSON. */
export interface NewStreamEvent {
  readonly name: string
  readonly version: number
  readonly data: string
  readonly metadata?: string
}

/** A checked append. */
export interface StreamAppend {
  readonly entityId: string
  readonly entityType: string
  readonly events: ReadonlyArray<NewStreamEvent>
  readonly expectedVersion?: ExpectedVersion
  readonly idempotencyKey?: string
}

/** A stored event, with its version in the stream and its position in the log. */
export interface StoredStreamEvent {
  readonly eventId: string
  readonly entityVersion: number
  readonly position: number
}

/** Checks an append. Throws `ValidationError`, or `LimitExceededError` when it is too large. */
export const checkAppend = (
  entityId: string,
  input: AppendAllInput,
  conditions: AppendConditions = {}
): StreamAppend => {
  const id = checkEntityId(entityId)
  if (!isObject(input)) {
    throw new ValidationError(
      `The input of an append to stream "${id}" must be an object, got ${show(input)}`
    )
  }
  const entityType = checkName(`entity type of "${id}"`, input.entityType)
  const { events } = input
  if (!Array.isArray(events) || events.length === 0) {
    throw new ValidationError(
      `An append to stream "${id}" needs an array of at least one event, got ${show(events)}`
    )
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
  // an input that is no object has no valid fields, and `checkAppend` refuses it
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

/** Checks an event, and encodes its data. Throws as {@link checkAppend} does. */
export const checkStreamEvent = (event: StreamEventInput): NewStreamEvent => {
  if (!isObject(event)) throw new ValidationError(`An event must be an object, got ${show(event)}`)
  const name = checkEventName(event.name)
  const what = `event "${name}"`
  const version = event.version ?? 1
  if (!Number.isSafeInteger(version) || version < 1) {
    throw new ValidationError(`The version of ${what} must be an integer, at least 1, got ${show(version)}`)
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
    // a legacy request may say -1, which means that any version is accepted
    ...(expectedVersion === undefined || expectedVersion === -1 ? {} : { expectedVersion }),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey })
  }
}

export const checkExpectedVersion = (entityId: string, expected: unknown): void => {
  if (expected === undefined || expected === "NO_STREAM" || expected === "STREAM_EXISTS") return
  if (Number.isSafeInteger(expected) && Number(expected) >= -1) return
  throw new ValidationError(
    `The expected version of stream "${entityId}" must be an integer, at least 0, or "NO_STREAM" or "STREAM_EXISTS", got ` +
      show(expected)
  )
}

/** Whether a stream at `version` (0 when it does not exist) meets the expectation. */
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
