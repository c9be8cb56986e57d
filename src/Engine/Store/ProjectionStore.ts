/** What a store does for projections: each operation one atomic change or one read, like those of `StoreService`. */
import type * as Effect from "effect/Effect"
import type {
  InvalidStateError,
  ProjectionNotFoundError,
  SerializedError,
  StoreError,
  ValidationError
} from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import type {
  PartitionState,
  ProjectionLease,
  ProjectionLogEvent,
  ProjectionRegistration,
  ProjectionSave,
  ProjectionSaved,
  ProjectionStatus
} from "../../Protocol/Projections.ts"
import type { ListPage } from "./Store.ts"

/** The right to a projection, as its owner shows it. */
export interface ProjectionToken {
  readonly environment: string
  readonly name: string
  readonly token: string
  readonly generation: number
}

export interface ProjectionClaimRequest {
  readonly environment: string
  readonly registration: ProjectionRegistration
  readonly workerId: string
  /** How long the claim holds without a sign of life; absent for a worker in this process, which cannot outlive it. */
  readonly leaseMs?: number
}

export type ProjectionClaimed =
  | { readonly _tag: "Granted"; readonly lease: Omit<ProjectionLease, "leaseMs"> }
  /** `until` is absent while the owner is a worker in this process. */
  | { readonly _tag: "Busy"; readonly owner: string; readonly until?: number }

/** A projection and how it does. Times are epoch milliseconds. */
export interface ProjectionInfo {
  readonly name: string
  readonly mode: "managed" | "external"
  readonly events: ReadonlyArray<string>
  readonly partitionKey?: string
  readonly status: ProjectionStatus
  readonly version: number
  /** Everything up to here is done. */
  readonly position: number
  /** Events that wait to be projected. */
  readonly lag: number
  readonly generation: number
  readonly owner?: { readonly workerId: string; readonly until?: number }
  readonly paused?: { readonly by: string; readonly reason?: string; readonly at: number }
  /** The position up to which a rebuild goes. */
  readonly rebuildTo?: number
  /** What the handler did last that it should not have. */
  readonly lastError?: { readonly error: SerializedError; readonly position: number; readonly at: number }
  /** The event that is being tried again. */
  readonly failing?: { readonly position: number; readonly failures: number }
  readonly deadLetters: number
  /** Saves that were refused because their worker is not the owner any more. */
  readonly refusedSaves: number
  readonly createdAt: number
  readonly updatedAt: number
}

/** The state of one partition. */
export interface ProjectionState {
  readonly partition: string
  readonly state: JsonText
  readonly position: number
  readonly eventId: string
  readonly eventTime: number
  /** How often it was saved. */
  readonly version: number
  /** The version of the projection with that save. */
  readonly revision: number
  readonly updatedAt: number
}

/** What a save has changed of what is shown of a managed projection. */
export interface ProjectionChange {
  readonly environment: string
  readonly name: string
  readonly status: ProjectionStatus
  readonly errorMessage?: string
  /** Where to go on after this change; see `ProjectionStore.readChanges`. */
  readonly cursor: string
  readonly states: ReadonlyArray<ProjectionState & { readonly eventName?: string }>
  /** A rebuild is done: every state may be another one, whether it is in `states` or not. */
  readonly rebuilt: boolean
}

export interface ProjectionChangeQuery {
  /** The cursor after which states are new; `now` asks for the cursor only. All states when absent. */
  readonly since?: string | undefined
  /** Of one partition only. */
  readonly partition?: string | undefined
  /** The partition after which to go on: `next` of the page before. */
  readonly after?: string | undefined
  readonly limit: number
}

export interface ProjectionChangePage {
  readonly mode: "managed" | "external"
  readonly status: ProjectionStatus
  readonly errorMessage?: string
  readonly cursor: string
  /** By partition. */
  readonly states: ReadonlyArray<ProjectionState>
  /** Absent on the last page. */
  readonly next?: string
}

export interface StoredDeadLetter {
  readonly position: number
  readonly event: ProjectionLogEvent
  readonly error: SerializedError
  readonly attempts: number
  readonly at: number
  /** It will be tried again as soon as the owner comes to it. */
  readonly retrying: boolean
}

/** What the owner gets next. `saved` is the position of its last save. */
export type ProjectionPage =
  | { readonly _tag: "Lost" }
  | { readonly _tag: "Paused" }
  | { readonly _tag: "Retries"; readonly events: ReadonlyArray<ProjectionLogEvent> }
  | {
      readonly _tag: "Events"
      readonly events: ReadonlyArray<ProjectionLogEvent>
      readonly position: number
      readonly saved: number
      /** Worth a save also without events: it says how far the rebuild is. */
      readonly isRebuilding: boolean
      readonly atEnd: boolean
    }

/** What a runner without a token is handed out: events of one partition, and the state that they go on from. */
export interface HandedOut {
  readonly events: ReadonlyArray<ProjectionLogEvent>
  readonly state?: JsonText
  readonly position: number
}

/** What a runner without a token saves: the state after an event, or none for an external projection. */
export interface TokenlessSave {
  readonly environment: string
  readonly name: string
  readonly position: number
  readonly state?: JsonText
}

/** `ProjectionNotFoundError`, and what else a command is refused with. */
type Steering = ProjectionNotFoundError | InvalidStateError | ValidationError | StoreError

export interface ProjectionStore {
  /** Adds a projection or replaces what it projects. `InvalidStateError` when the mode is another than before. */
  readonly register: (
    environment: string,
    registration: ProjectionRegistration
  ) => Effect.Effect<ProjectionInfo, Steering>
  /** Registers a projection and makes the worker its owner, unless another one is. */
  readonly claim: (request: ProjectionClaimRequest) => Effect.Effect<ProjectionClaimed, Steering>
  /** Extends the claim; says whether it still holds. */
  readonly renew: (token: ProjectionToken, leaseMs?: number) => Effect.Effect<boolean, StoreError>
  readonly release: (token: ProjectionToken) => Effect.Effect<void, StoreError>
  /** Reads on from `after`: at most `limit` rows of the log are looked at. */
  readonly readPage: (
    token: ProjectionToken,
    after: number,
    limit: number
  ) => Effect.Effect<ProjectionPage, StoreError>
  /** `undefined` when the claim is gone. */
  readonly readStates: (
    token: ProjectionToken,
    partitions: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<PartitionState> | undefined, StoreError>
  /** Saves the outcome of a batch, all or nothing. The save that was stored last is stored no second time, and accepted. */
  readonly save: (token: ProjectionToken, save: ProjectionSave) => Effect.Effect<ProjectionSaved, Steering>

  /** Hands out events to a runner that cannot show a token; nothing while a worker with one is the owner. */
  readonly handOut: (request: {
    readonly environment: string
    readonly name: string
    readonly limit: number
    readonly leaseMs: number
  }) => Effect.Effect<HandedOut, Steering>
  /** Saves for such a runner: only what was handed out since the last reset, and is above the stored position. */
  readonly saveTokenless: (save: TokenlessSave) => Effect.Effect<ProjectionSaved, Steering>

  readonly get: (environment: string, name: string) => Effect.Effect<ProjectionInfo, Steering>
  /** By name; fewer than asked for, but not none, when counting their lag takes long. */
  readonly list: (environment: string, page?: ListPage) => Effect.Effect<Array<ProjectionInfo>, StoreError>
  /** `undefined` when nothing was saved for the partition yet. */
  readonly getState: (
    environment: string,
    name: string,
    partition: string
  ) => Effect.Effect<ProjectionState | undefined, Steering>
  /** States that have changed since a cursor, as they are now: a page of them. `ValidationError` when it is none. */
  readonly readChanges: (
    environment: string,
    name: string,
    query: ProjectionChangeQuery
  ) => Effect.Effect<ProjectionChangePage, Steering>
  /**
   * Whether everything up to `target` is projected: nothing in between is an event of the projection. Looks at no more than
   * `limit` rows; `checked` says how far, for the next call.
   */
  readonly isAt: (
    environment: string,
    name: string,
    target: number,
    checked: number,
    limit: number
  ) => Effect.Effect<
    {
      readonly reached: boolean
      readonly open: boolean
      readonly checked: number
      readonly position: number
    },
    Steering
  >
  /** The position of an event in the log. */
  readonly findEvent: (environment: string, eventId: string) => Effect.Effect<number | undefined, StoreError>
  readonly pause: (
    environment: string,
    name: string,
    by: string,
    reason: string | undefined
  ) => Effect.Effect<ProjectionInfo, Steering>
  readonly resume: (environment: string, name: string) => Effect.Effect<ProjectionInfo, Steering>
  /**
   * Forgets position and dead letters: everything is projected again from the beginning of the log. Until that is done,
   * `getState` returns states from before, and `isAt` says that nothing is reached.
   */
  readonly rebuild: (environment: string, name: string) => Effect.Effect<ProjectionInfo, Steering>
  readonly delete: (environment: string, name: string) => Effect.Effect<void, Steering>
  /** Oldest first, after the position `after`. */
  readonly listDeadLetters: (
    environment: string,
    name: string,
    after: number,
    limit: number
  ) => Effect.Effect<Array<StoredDeadLetter>, Steering>
  /** Asks for dead letters to be tried again, all or the one at `position`; returns how many. */
  readonly retryDeadLetters: (
    environment: string,
    name: string,
    position: number | undefined
  ) => Effect.Effect<number, Steering>
}

/** How `Changes.projections` names a projection. */
export const projectionKey = (environment: string, name: string): string => `${environment}\n${name}`
