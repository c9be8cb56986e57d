/** Records of the log. */
import type { JsonText } from "../../Json.ts"
import type { EventEntity } from "../../Event.ts"

/** An event to append to the log. */
export interface NewEvent {
  readonly environment: string
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  readonly source?: string
  readonly idempotencyKey?: string
  /** The id of the webhook that received it, to which its idempotency key then belongs. */
  readonly webhook?: string
  /** The stream of the event: set only by appends to streams. */
  readonly entity?: EventEntity
  /** The `traceparent` of its cause. */
  readonly trace?: string
}

export interface AppendedEvent {
  readonly eventId: string
  readonly position: number
  readonly runIds: Array<string>
  /** Whether an earlier event with the same idempotency key was returned instead. */
  readonly duplicate: boolean
  /** The earlier event with the same key had other data. */
  readonly conflicting: boolean
  /** Trigger or concurrency expressions that failed for this event: they count as no match. */
  readonly warnings: ReadonlyArray<string>
}

/** A query for part of the log of one environment, oldest first. */
export interface LogQuery {
  readonly environment: string
  /** Absent for both events and messages. */
  readonly kind?: LogEntryKind
  /** Position after which to begin; 0 for the beginning. */
  readonly after: number
  /** Names or patterns, of which one must match; absent for all names. */
  readonly patterns?: ReadonlyArray<string>
  /**
   * Rows to look at, whether they match or not: it limits the work of one call. A store that finds matches without looking at the
   * rest returns this many at most.
   */
  readonly limit: number
}

export type LogEntryKind = "event" | "message"

/** A query for part of the log of one environment, newest first. */
export interface LogBackQuery extends Omit<LogQuery, "after"> {
  /** Position before which to begin. */
  readonly before: number
}

export interface LogBackPage extends LogPage {
  /** How many rows were looked at. */
  readonly rows: number
}

export interface LogEntry {
  readonly position: number
  readonly kind: LogEntryKind
  readonly id: string
  /** The name of the event or topic. */
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  readonly source?: string
  /** Epoch milliseconds. */
  readonly timestamp: number
  /** The stream that the event is part of, if any. */
  readonly entity?: EventEntity
  /** The `traceparent` of its cause. */
  readonly trace?: string
}

/** A query for events of an environment, which must meet all conditions. */
export interface EventQuery {
  readonly environment: string
  /** A name or a pattern. */
  readonly name?: string
  readonly entityType?: string
  readonly entityId?: string
  readonly idempotencyKey?: string
  /** Stored at this time or later, epoch milliseconds. */
  readonly since?: number
  /** Stored before this time, epoch milliseconds. */
  readonly until?: number
  /** Only events after this position of the log. */
  readonly after?: number
  /** The end of the log from which to begin. */
  readonly order: "newest" | "oldest"
  /** The position from which to go on, as returned by an earlier page. */
  readonly from?: number
  readonly limit: number
}

export interface FoundEvent extends LogEntry {
  readonly idempotencyKey?: string
}

export interface FoundEvents {
  readonly events: ReadonlyArray<FoundEvent>
  /** From where to go on; absent at the end. */
  readonly next?: number
  /** The last row of the log that was looked at; absent when there was none. */
  readonly lookedTo?: { readonly position: number; readonly timestamp: number }
}

export interface LogPage {
  readonly entries: ReadonlyArray<LogEntry>
  /** Where to read on: everything up to here has been looked at. */
  readonly position: number
  /** Whether that is the end of the log, for now. */
  readonly atEnd: boolean
}

/** The kind of a row of the log; the numbers are part of the database. */
export const LogKind = { event: 0, message: 1 } as const
