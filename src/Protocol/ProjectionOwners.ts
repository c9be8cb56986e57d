/**
 * The protocol between workers and engines for projections, independent of the transport.
 *
 * A worker claims a projection and owns it until another worker takes over. Its {@link ProjectionLease} has a token, and a
 * generation that grows with every claim and every rebuild. The owner reads batches of events, applies them to its states or
 * calls its handler, and saves states, dead letters and position of a batch in one transaction. A save contains the position at
 * which the batch starts. A save with an outdated token, generation or position changes nothing; the engine counts such saves.
 */
import type * as Effect from "effect/Effect"
import type { AccessError, ConnectionError, SerializedError, ValidationError } from "../Errors.ts"
import type { EventEntity } from "../Event.ts"
import type { JsonText } from "../Json.ts"
import {
  nonNullJson,
  merge,
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
import { inPath, operation, callSpec, waiting } from "./CallSpec.ts"

/** A projection to register. */
export interface ProjectionRegistration {
  readonly name: string
  /** Event names or patterns. */
  readonly events: ReadonlyArray<string>
  readonly mode: "managed" | "external"
  /** A dotted path; {@link PARTITION_FUNCTION} when a function of the worker returns the partition. */
  readonly partitionKey?: string
}

/** The `partitionKey` of a projection whose partition is returned by a function of the worker, and not found at a path. */
export const PARTITION_FUNCTION = "(function)"

/**
 * The right of a worker to read the events of a projection and to save its states, together with the progress of the
 * projection.
 */
export interface ProjectionLease {
  readonly name: string
  readonly token: string
  readonly generation: number
  /** Everything up to this position is done. */
  readonly position: number
  /** The failed event that will be retried, and its number of failures. */
  readonly failing?: { readonly position: number; readonly failures: number }
  /** Duration of the lease without a renewal, in milliseconds. */
  readonly leaseMs: number
}

export type ProjectionClaim =
  | { readonly _tag: "Granted"; readonly lease: ProjectionLease }
  | { readonly _tag: "Busy"; readonly owner: string }

/** An event in the log. */
export interface ProjectionLogEvent {
  readonly position: number
  readonly id: string
  readonly name: string
  readonly version: number
  readonly data: JsonText
  readonly metadata?: JsonText
  readonly source?: string
  /** In epoch milliseconds. */
  readonly timestamp: number
  /** The entity and its version, for an event that was appended to an entity stream. */
  readonly entity?: EventEntity
  /** The W3C `traceparent` of what caused the event, such as a step, if that was traced. */
  readonly trace?: string
}

/** The next events of a projection. */
export interface ProjectionBatch {
  readonly events: ReadonlyArray<ProjectionLogEvent>
  /** The position up to which the log was read. It is `to` in the save of the whole batch. */
  readonly position: number
  /** Dead letters to retry, in place of the next events. */
  readonly retries: ReadonlyArray<ProjectionLogEvent>
}

export interface PartitionState {
  readonly partition: string
  /** The state; absent when nothing was saved yet. */
  readonly state?: JsonText
  /** Position of the last event in the state; 0 when there is none. */
  readonly position: number
}

/** A state to save, with the last event of the batch in its partition. */
export interface NewPartitionState {
  readonly partition: string
  readonly state: JsonText
  readonly position: number
  readonly eventId: string
  /** In epoch milliseconds. */
  readonly eventTime: number
}

/** An event that has failed permanently. */
export interface NewDeadLetter {
  readonly position: number
  readonly error: SerializedError
  /** Number of attempts. */
  readonly attempts: number
}

/** The outcome of a batch, or of the first events of a batch. */
export interface ProjectionSave {
  /**
   * Number of the save. It grows with every save of an owner. A save whose answer was lost may be sent again
   * with the same number.
   */
  readonly number?: number
  /** The position at which the batch starts. */
  readonly from: number
  /**
   * Everything up to this position is done. It equals `from` when the position does not move, as in a save of
   * retried dead letters or of a failure.
   */
  readonly to: number
  readonly states: ReadonlyArray<NewPartitionState>
  readonly deadLetters: ReadonlyArray<NewDeadLetter>
  /** Positions of dead letters that have succeeded now. */
  readonly resolved: ReadonlyArray<number>
  /** The event after `to` that has failed and will be retried. */
  readonly failing?: { readonly position: number; readonly failures: number; readonly error: SerializedError }
}

export type ProjectionSaved =
  | { readonly _tag: "Saved" }
  /** Nothing was changed: another worker owns the projection, or the projection was rebuilt or deleted. */
  | { readonly _tag: "Refused"; readonly reason: string }

/** A worker's access to its projections on an engine (in this process or over HTTP), or on a legacy server. */
export interface ProjectionFeed {
  /** Claims a projection. Waits until no other worker owns it, for a limited time and at most `waitMs` milliseconds. */
  readonly claim: (
    registration: ProjectionRegistration,
    waitMs?: number
  ) => Effect.Effect<ProjectionClaim, ConnectionError | ValidationError | AccessError>
  /**
   * Reads the next events. Waits for a limited time until there are some. Returns `undefined` when the lease is lost.
   */
  readonly read: (
    lease: ProjectionLease,
    limit: number
  ) => Effect.Effect<ProjectionBatch | undefined, ConnectionError | AccessError>
  /** Reads the states of the given partitions, one for each; `undefined` when the lease is lost. */
  readonly states: (
    lease: ProjectionLease,
    partitions: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<PartitionState> | undefined, ConnectionError | AccessError>
  /** Saves the outcome of a batch. Fails with `ValidationError` when the engine refuses the content of the save. */
  readonly save: (
    lease: ProjectionLease,
    save: ProjectionSave
  ) => Effect.Effect<ProjectionSaved, ConnectionError | ValidationError | AccessError>
  /** Renews the lease; `false` when it is lost. */
  readonly renew: (lease: ProjectionLease) => Effect.Effect<boolean, ConnectionError | AccessError>
  /** Releases the lease for the next worker. Never fails, since the lease expires anyway. */
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
const LeaseIdentity = struct({ token: text, generation: integer })
const ClaimRequest = struct({
  workerId: text,
  registration: Registration,
  waitMs: optional(integer)
})
/** A message whose `error` may be any JSON here: the code that reads the error checks it. */
type WithUncheckedError<A> = Omit<A, "error"> & { readonly error: unknown }
export type SaveBody = Omit<ProjectionSave, "deadLetters" | "failing"> & {
  readonly deadLetters: ReadonlyArray<WithUncheckedError<NewDeadLetter>>
  readonly failing?: WithUncheckedError<NonNullable<ProjectionSave["failing"]>>
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
  deadLetters: list(
    fields<WithUncheckedError<NewDeadLetter>>({ position: integer, error: json, attempts: integer })
  ),
  resolved: list(integer),
  failing: optional(
    fields<NonNullable<SaveBody["failing"]>>({ position: integer, failures: integer, error: json })
  )
})

const RenewAnswer = struct({ held: flag })

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const claimProjection = operation("POST /api/v1/projections/:name/owner/claim", {
  answer: nonNullJson<ProjectionClaim>(),
  onlyOurEngine: true
})
export const readProjection = operation("POST /api/v1/projections/:name/owner/read", {
  answer: nonNullJson<{ readonly batch?: ProjectionBatch }>(),
  onlyOurEngine: true
})
export const projectionStates = operation("POST /api/v1/projections/:name/owner/states", {
  answer: nonNullJson<{ readonly states?: ReadonlyArray<PartitionState> }>(),
  onlyOurEngine: true
})
export const saveProjection = operation("POST /api/v1/projections/:name/owner/save", {
  answer: nonNullJson<ProjectionSaved>(),
  onlyOurEngine: true
})
export const renewProjection = operation("POST /api/v1/projections/:name/owner/renew", {
  answer: RenewAnswer,
  onlyOurEngine: true
})
export const releaseProjection = operation("POST /api/v1/projections/:name/owner/release", {
  onlyOurEngine: true
})

export const callSpecs = {
  /** Registers a projection and claims it for a worker; waits for a limited time until no other worker owns it. */
  claimProjection: callSpec(claimProjection, waiting(inPath("projection:run", "projection", "name")), {
    body: ClaimRequest,
    fromWorker: true
  }),
  /** Returns the next events; waits for a limited time until there are some. The answer has no `batch` when the lease is lost. */
  readProjection: callSpec(readProjection, waiting(inPath("projection:run", "projection", "name")), {
    body: merge(LeaseIdentity, struct({ limit: integer })),
    fromWorker: true
  }),
  /** Returns the states of partitions. The answer has no `states` when the lease is lost. */
  projectionStates: callSpec(projectionStates, "projection:run", {
    body: merge(LeaseIdentity, struct({ partitions: list(text) })),
    fromWorker: true
  }),
  /** Saves states, dead letters and position of a batch in one transaction. */
  saveProjection: callSpec(saveProjection, "projection:run", {
    body: merge(LeaseIdentity, struct({ save: Save })),
    fromWorker: true
  }),
  /** Renews the lease on a projection. */
  renewProjection: callSpec(renewProjection, "projection:run", { body: LeaseIdentity, fromWorker: true }),
  /** Releases the lease on a projection for the next worker. */
  releaseProjection: callSpec(releaseProjection, "projection:run", { body: LeaseIdentity, fromWorker: true })
}
