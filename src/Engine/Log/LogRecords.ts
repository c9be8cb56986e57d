/** What the programs of the log take and return. */
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
  /** The id of the webhook that received the event. The event's idempotency key then belongs to that webhook. */
  readonly webhook?: string
  /** The stream of the event. Only appends to streams set it. */
  readonly entity?: EventEntity
  /** The `traceparent` of the event's cause. */
  readonly trace?: string
}

export interface AppendedEvent {
  readonly eventId: string
  readonly position: number
  readonly runIds: Array<string>
  /** Whether an earlier event with the same idempotency key was returned instead. */
  readonly duplicate: boolean
  /** Whether the earlier event with the same key had other data. */
  readonly conflicting: boolean
  /**
   * Descriptions of the expressions of triggers and waits that failed for this event. An event does not match an expression that
   * fails.
   */
  readonly warnings: ReadonlyArray<string>
}

/** A query for part of the log of one environment, oldest first. */
export interface LogQuery {
  readonly environment: string
  /** The kind of rows; absent when both events and messages are wanted. */
  readonly kind?: LogEntryKind
  /** The position after which to begin; 0 for the beginning of the log. */
  readonly after: number
  /** Names or patterns, of which one must match; absent for all names. */
  readonly patterns?: ReadonlyArray<string>
  /**
   * How many rows to read, whether they match or not. This limits the work of one call. When few of these rows match, the call then
   * reads at most `limit` further rows, all of which match, by the index of names.
   */
  readonly limit: number
}

export type LogEntryKind = "event" | "message"

/** A query for part of the log of one environment, newest first. */
export interface LogBackQuery extends Omit<LogQuery, "after"> {
  /** The position before which to begin. */
  readonly before: number
}

/**
 * A page of the log, newest first. Here `position` is the oldest position that was looked at, and `atEnd` says whether the
 * beginning of the log was reached.
 */
export interface LogBackPage extends LogPage {
  /** How many rows were looked at. */
  readonly rowsRead: number
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
  /** The `traceparent` of the event's cause. */
  readonly trace?: string
}

/** A query for the events of an environment that meet all conditions. */
export interface EventQuery {
  readonly environment: string
  /** A name or a pattern. */
  readonly name?: string
  readonly entityType?: string
  readonly entityId?: string
  readonly idempotencyKey?: string
  /** Stored at this time or later, in epoch milliseconds. */
  readonly since?: number
  /** Stored before this time, in epoch milliseconds. */
  readonly until?: number
  /** Only events after this position of the log. */
  readonly after?: number
  /** From which end of the log to begin. */
  readonly order: "newest" | "oldest"
  /** The position after which the list goes on, in the order of the list: `next` of the page before. */
  readonly cursor?: number
  readonly limit: number
}

export interface FoundEvent extends LogEntry {
  readonly idempotencyKey?: string
}

export interface FoundEvents {
  readonly events: ReadonlyArray<FoundEvent>
  /** The position from which the next page goes on; absent at the end. */
  readonly next?: number
  /** The last row of the log that was looked at; absent when there was none. */
  readonly lookedTo?: { readonly position: number; readonly timestamp: number }
}

export interface LogPage {
  readonly entries: ReadonlyArray<LogEntry>
  /** The position up to which everything was looked at. The next read begins after it. */
  readonly position: number
  /** Whether this is the end of the log, for now. */
  readonly atEnd: boolean
}

/** The kinds of rows of the log. The numbers are part of the database. */
export const LogKind = { event: 0, message: 1 } as const
