/** What a store does for projections: each operation one atomic change or one read, like those of `StoreService`. */

import type { SerializedError } from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import type {
  ProjectionLease,
  ProjectionLogEvent,
  ProjectionRegistration
} from "../../Protocol/ProjectionOwners.ts"
import type { ProjectionStatus } from "../../Protocol/Projections.ts"

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
  /** Events are not kept any more that it has not come past: when the newest of them was stored, epoch milliseconds. */
  readonly eventsGoneAt?: number
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

/** How `Changes.projections` names a projection. */
export const projectionKey = (environment: string, name: string): string => `${environment}\n${name}`
