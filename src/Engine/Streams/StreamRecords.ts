/** The types of entity streams: the queries, and their results. */
import type { StoredStreamEvent } from "../../EntityStream.ts"
import type { JsonText } from "../../Json.ts"
import type { RunStatus } from "../../RunStatus.ts"
import type { RunStep } from "../../Client/Client.ts"

/** The result of an append to a stream. */
export interface AppendedToStream {
  /** The version of the stream after the append. */
  readonly entityVersion: number
  /** The position in the log of the last event of the append. */
  readonly position: number
  readonly events: ReadonlyArray<StoredStreamEvent>
  /** Whether an earlier append with the same idempotency key was returned instead. */
  readonly duplicate: boolean
  /** Whether the earlier append with the same idempotency key had other events. */
  readonly conflicting: boolean
  /**
   * Messages about expressions of triggers and waits that failed for one of the events. An event does not match an expression that
   * fails.
   */
  readonly warnings: ReadonlyArray<string>
}

export interface ReadStreamQuery {
  readonly environment: string
  readonly entityId: string
  /** The version of the event that is read first. 0 stands for the first event, or for the last one when reading backward. */
  readonly fromVersion: number
  /** Maximum number of events; 0 for all. */
  readonly limit: number
  readonly backward: boolean
  /** Maximum number of characters of data. If the events have more, the read fails with `LimitExceededError`. */
  readonly maxLength?: number
}

/** An event of a stream; `timestamp` is epoch milliseconds. */
export interface StreamEventRow {
  readonly id: string
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  readonly source?: string
  readonly timestamp: number
  readonly entityVersion: number
  readonly position: number
}

/** Events of a stream. `totalCount` counts all events of the stream. */
export interface StreamRows {
  readonly events: ReadonlyArray<StreamEventRow>
  readonly totalCount: number
}

/** A stream; times are epoch milliseconds. */
export interface StreamRow {
  readonly entityId: string
  readonly entityType: string
  readonly version: number
  readonly createdAt: number
  readonly updatedAt: number
}

/** A run that an event started. Times are epoch milliseconds. */
export interface StartedRun {
  readonly id: string
  readonly functionId: string
  readonly status: RunStatus
  readonly attempt: number
  readonly createdAt: number
  readonly startedAt?: number
  readonly endedAt?: number
  readonly steps: ReadonlyArray<StartedStep>
}

export interface StartedStep extends Pick<RunStep, "id" | "name" | "kind" | "status" | "attempt"> {
  readonly startedAt: number
  readonly endedAt?: number
}

export interface StreamHistoryEntry {
  readonly event: StreamEventRow
  readonly runs: ReadonlyArray<StartedRun>
}

/** A page of the history of a stream; `nextVersion` is the first version of the next page. */
export interface StreamHistoryPage {
  readonly info: StreamRow
  readonly entries: ReadonlyArray<StreamHistoryEntry>
  readonly nextVersion?: number
}

export interface ListStreamsQuery {
  readonly environment: string
  readonly entityType?: string
  readonly limit: number
  readonly offset: number
}

export interface NewSnapshot {
  readonly environment: string
  readonly entityId: string
  readonly entityType: string
  readonly entityVersion: number
  readonly state: JsonText
}

export interface SnapshotRow extends Omit<NewSnapshot, "environment"> {
  readonly snapshotId: string
  readonly createdAt: number
}
