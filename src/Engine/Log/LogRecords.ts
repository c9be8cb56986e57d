/** What the log takes and gives. */
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
  /** The id of the webhook that it came by, to which its idempotency key belongs then. */
  readonly webhook?: string
  /** The stream that the event is part of: only appends to streams give it. */
  readonly entity?: EventEntity
  /** The `traceparent` of what has caused it. */
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

/** A part of the log of one environment, oldest first. */
export interface LogQuery {
  readonly environment: string
  /** Events and messages both when absent. */
  readonly kind?: LogEntryKind
  /** Position after which to begin; 0 for the beginning. */
  readonly after: number
  /** Names or patterns, of which one must fit; all names when absent. */
  readonly patterns?: ReadonlyArray<string>
  /**
   * Rows to look at, whether they fit or not: a bound for the work of one call. A store that finds what fits without looking
   * at the rest returns as many more at most.
   */
  readonly limit: number
}

export type LogEntryKind = "event" | "message"

/** A part of the log of one environment, newest first. */
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
  /** Of the event, or of the topic. */
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  readonly source?: string
  /** Epoch milliseconds. */
  readonly timestamp: number
  /** The stream that the event is part of, if any. */
  readonly entity?: EventEntity
  /** The `traceparent` of what has caused it. */
  readonly trace?: string
}

/** Which events of an environment are asked for: those for which all of this is so. */
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
  /** Behind this position of the log. */
  readonly after?: number
  /** From which end of the log. */
  readonly order: "newest" | "oldest"
  /** The position to go on from, which an earlier page has given. */
  readonly from?: number
  readonly limit: number
}

export interface FoundEvent extends LogEntry {
  readonly idempotencyKey?: string
}

export interface FoundEvents {
  readonly events: ReadonlyArray<FoundEvent>
  /** From where to go on; absent when there is no more. */
  readonly next?: number
  /** The row of the log that was looked at last; absent when there was none. */
  readonly lookedTo?: { readonly position: number; readonly timestamp: number }
}

export interface LogPage {
  readonly entries: ReadonlyArray<LogEntry>
  /** Where to read on: everything up to here has been looked at. */
  readonly position: number
  /** Whether that is the end of the log, for now. */
  readonly atEnd: boolean
}

/** What a row of the log is; the numbers are part of the database. */
export const LogKind = { event: 0, message: 1 } as const
