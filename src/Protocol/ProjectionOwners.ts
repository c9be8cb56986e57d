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
import {
  asItIs,
  both,
  fields,
  flag,
  integer,
  json,
  list,
  number,
  oneOf,
  optional,
  struct,
  text
} from "./Codec.ts"
import { inPath, operation, row, waiting } from "./Row.ts"

/** A projection as a worker registers it. */
export interface ProjectionRegistration {
  readonly name: string
  /** Names or patterns. */
  readonly events: ReadonlyArray<string>
  readonly mode: "managed" | "external"
  /** A dotted path; {@link PARTITION_FUNCTION} when only the worker knows. */
  readonly partitionKey?: string
}

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
  /** The W3C `traceparent` of what has caused it, if that was traced. */
  readonly trace?: string
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

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

const Registration = fields<ProjectionRegistration>({
  name: text,
  events: list(text),
  mode: oneOf("managed", "external"),
  partitionKey: optional(text)
})
/** What a lease is known by. */
const Owner = struct({ token: text, generation: integer })
const ClaimRequest = struct({
  workerId: text,
  registration: Registration,
  waitMs: optional(integer)
})
/** Whoever reads it looks at the errors. */
type Unread<A> = Omit<A, "error"> & { readonly error: unknown }
export type SaveBody = Omit<ProjectionSave, "deadLetters" | "failing"> & {
  readonly deadLetters: ReadonlyArray<Unread<NewDeadLetter>>
  readonly failing?: Unread<NonNullable<ProjectionSave["failing"]>>
}
const Save = fields<SaveBody>({
  number: optional(integer),
  from: integer,
  to: integer,
  states: list(
    fields<NewPartitionState>({
      partition: text,
      state: text,
      position: integer,
      eventId: text,
      eventTime: number
    })
  ),
  deadLetters: list(fields<Unread<NewDeadLetter>>({ position: integer, error: json, attempts: integer })),
  resolved: list(integer),
  failing: optional(
    fields<NonNullable<SaveBody["failing"]>>({ position: integer, failures: integer, error: json })
  )
})

const Held = struct({ held: flag })

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const claimProjection = operation("POST /api/v1/projections/:name/owner/claim", {
  answer: asItIs<ProjectionClaim>(),
  ours: true
})
export const readProjection = operation("POST /api/v1/projections/:name/owner/read", {
  answer: asItIs<{ readonly batch?: ProjectionBatch }>(),
  ours: true
})
export const projectionStates = operation("POST /api/v1/projections/:name/owner/states", {
  answer: asItIs<{ readonly states?: ReadonlyArray<PartitionState> }>(),
  ours: true
})
export const saveProjection = operation("POST /api/v1/projections/:name/owner/save", {
  answer: asItIs<ProjectionSaved>(),
  ours: true
})
export const renewProjection = operation("POST /api/v1/projections/:name/owner/renew", {
  answer: Held,
  ours: true
})
export const releaseProjection = operation("POST /api/v1/projections/:name/owner/release", { ours: true })

export const rows = {
  /** Makes a worker the owner of a projection, which it registers; waits for it to be free, but not for ever. */
  claimProjection: row(claimProjection, waiting(inPath("projection:run", "projection", "name")), {
    body: ClaimRequest,
    fromWorker: true
  }),
  /** The events that come next; waits for one, but not for ever. Nothing when the claim is gone. */
  readProjection: row(readProjection, waiting(inPath("projection:run", "projection", "name")), {
    body: both(Owner, struct({ limit: integer })),
    fromWorker: true
  }),
  /** The states of partitions. Nothing when the claim is gone. */
  projectionStates: row(projectionStates, "projection:run", {
    body: both(Owner, struct({ partitions: list(text) })),
    fromWorker: true
  }),
  /** Saves states, dead letters and position of a batch in one change. */
  saveProjection: row(saveProjection, "projection:run", {
    body: both(Owner, struct({ save: Save })),
    fromWorker: true
  }),
  /** Says that the owner is alive. */
  renewProjection: row(renewProjection, "projection:run", { body: Owner, fromWorker: true }),
  /** Lets the next worker have the projection. */
  releaseProjection: row(releaseProjection, "projection:run", { body: Owner, fromWorker: true })
}
