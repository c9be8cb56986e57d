/**
 * What a worker and an engine say to each other about projections, independent of how it travels.
 *
 * A worker claims a projection and is its owner until another one takes it over: a {@link ProjectionLease} has a token, and
 * a generation that goes up with every claim and every rebuild. The owner reads batches, folds them or calls its handler,
 * and saves states, dead letters and position of a batch in one change. A save says from which position it goes on; one
 * whose token, generation or position is not the current one changes nothing and is counted.
 */
import type * as Effect from "effect/Effect"
import type { AccessError, ConnectionError, SerializedError, ValidationError } from "../Errors.ts"
import type { EventEntity } from "../Event.ts"
import type { JsonText } from "../Json.ts"

/** A projection as a worker registers it. */
export interface ProjectionRegistration {
  readonly name: string
  /** Names or patterns. */
  readonly events: ReadonlyArray<string>
  readonly mode: "managed" | "external"
  /** A dotted path; {@link PARTITION_FUNCTION} when only the worker knows. */
  readonly partitionKey?: string
}

/** `error` while an event that has failed is tried again; dead letters are counted apart. */
export const projectionStatuses = ["active", "rebuilding", "paused", "error"] as const
export type ProjectionStatus = (typeof projectionStatuses)[number]

/** In place of a path: the partition is what a function of the worker returns. */
export const PARTITION_FUNCTION = "(function)"

/** The right to read and save, with all that it takes to go on. */
export interface ProjectionLease {
  readonly name: string
  readonly token: string
  readonly generation: number
  /** Everything up to here is done. */
  readonly position: number
  /** The event that has failed and is to be tried again, and how often it has. */
  readonly failing?: { readonly position: number; readonly failures: number }
  /** How long the projection stays this worker's without a sign of life, milliseconds. */
  readonly leaseMs: number
}

export type ProjectionClaim =
  | { readonly _tag: "Granted"; readonly lease: ProjectionLease }
  | { readonly _tag: "Busy"; readonly owner: string }

/** An event as it is in the log. */
export interface ProjectionLogEvent {
  readonly position: number
  readonly id: string
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  readonly source?: string
  /** Epoch milliseconds. */
  readonly timestamp: number
  /** Of an event that was appended to an entity stream. */
  readonly entity?: EventEntity
}

/** What comes next. */
export interface ProjectionBatch {
  readonly events: ReadonlyArray<ProjectionLogEvent>
  /** Where the log has been looked at up to: a save of all events ends here. */
  readonly position: number
  /** Dead letters that somebody wants to be tried again, instead of events that come next. */
  readonly retries: ReadonlyArray<ProjectionLogEvent>
}

export interface PartitionState {
  readonly partition: string
  /** Absent when nothing was saved yet. */
  readonly state?: JsonText
  /** Of the last event that is in the state; 0 when there is none. */
  readonly position: number
}

/** A state to save, with the last event of the batch that belongs to the partition. */
export interface NewPartitionState {
  readonly partition: string
  readonly state: JsonText
  readonly position: number
  readonly eventId: string
  /** Epoch milliseconds. */
  readonly eventTime: number
}

/** An event that has failed for good. */
export interface NewDeadLetter {
  readonly position: number
  readonly error: SerializedError
  /** Executions of the handler. */
  readonly attempts: number
}

/** The outcome of a batch, or of a part from its beginning. */
export interface ProjectionSave {
  /** One more with every save of an owner. The same save may be sent again when its answer is lost. */
  readonly number?: number
  /** The position that it goes on from. */
  readonly from: number
  /** Everything up to here is done. Equal to `from` for what moves nothing: retries, a failure. */
  readonly to: number
  readonly states: ReadonlyArray<NewPartitionState>
  readonly deadLetters: ReadonlyArray<NewDeadLetter>
  /** Dead letters that have succeeded now. */
  readonly resolved: ReadonlyArray<number>
  /** The event after `to` that has failed and will be tried again. */
  readonly failing?: { readonly position: number; readonly failures: number; readonly error: SerializedError }
}

export type ProjectionSaved =
  | { readonly _tag: "Saved" }
  /** Nothing was changed: the projection is another worker's, or was rebuilt or deleted. */
  | { readonly _tag: "Refused"; readonly reason: string }

/** How a worker gets at its projections: in the same process, over HTTP, or from another Ironflow server. */
export interface ProjectionFeed {
  /** Waits until the projection is free, but not for ever, and no longer than `waitMs` milliseconds. */
  readonly claim: (
    registration: ProjectionRegistration,
    waitMs?: number
  ) => Effect.Effect<ProjectionClaim, ConnectionError | ValidationError | AccessError>
  /** Waits until there is something, but not for ever. `undefined` when the lease is gone. */
  readonly read: (
    lease: ProjectionLease,
    limit: number
  ) => Effect.Effect<ProjectionBatch | undefined, ConnectionError | AccessError>
  /** One for every partition asked for; `undefined` when the lease is gone. */
  readonly states: (
    lease: ProjectionLease,
    partitions: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<PartitionState> | undefined, ConnectionError | AccessError>
  /** Fails with `ValidationError` when the engine does not take what is to be saved. */
  readonly save: (
    lease: ProjectionLease,
    save: ProjectionSave
  ) => Effect.Effect<ProjectionSaved, ConnectionError | ValidationError | AccessError>
  /** Says that the worker is alive; `false` when the lease is gone. */
  readonly renew: (lease: ProjectionLease) => Effect.Effect<boolean, ConnectionError | AccessError>
  /** Lets the next worker have it. Never fails: the lease ends by itself too. */
  readonly release: (lease: ProjectionLease) => Effect.Effect<void>
}
