/** Records of projections. Each operation of the store is an atomic change or a read. */

import type { SerializedError } from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import type {
  ProjectionLease,
  ProjectionLogEvent,
  ProjectionRegistration
} from "../../Protocol/ProjectionOwners.ts"
import type { ProjectionStatus } from "../../Protocol/Projections.ts"

/** The claim of an owner. */
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
  /** How long the claim lasts without a heartbeat, milliseconds; absent for a worker in this process, which cannot outlive it. */
  readonly leaseMs?: number
}

export type ProjectionClaimed =
  | { readonly _tag: "Granted"; readonly lease: Omit<ProjectionLease, "leaseMs"> }
  /** `until` is absent while the owner is a worker in this process. */
  | { readonly _tag: "Busy"; readonly owner: string; readonly until?: number }

/** A projection and its progress. Times are epoch milliseconds. */
export interface ProjectionInfo {
  readonly name: string
  readonly mode: "managed" | "external"
  readonly events: ReadonlyArray<string>
  readonly partitionKey?: string
  readonly status: ProjectionStatus
  readonly version: number
  /** Everything up to here is done. */
  readonly position: number
  /** How many events wait to be projected. */
  readonly lag: number
  readonly generation: number
  readonly owner?: { readonly workerId: string; readonly until?: number }
  readonly paused?: { readonly by: string; readonly reason?: string; readonly at: number }
  /** The position at which a rebuild ends. */
  readonly rebuildTo?: number
  /** The last error of the handler. */
  readonly lastError?: { readonly error: SerializedError; readonly position: number; readonly at: number }
  /** The event that is being retried. */
  readonly failing?: { readonly position: number; readonly failures: number }
  readonly deadLetters: number
  /** Set when events beyond its position were deleted: when the newest of them was stored, epoch milliseconds. */
  readonly eventsGoneAt?: number
  /** Saves that were refused because their worker no longer owns the projection. */
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
  /** The version of the projection after that save. */
  readonly revision: number
  readonly updatedAt: number
}

export interface ProjectionChangeQuery {
  /** The cursor after which states are new; `now` requests only the cursor. Absent for all states. */
  readonly since?: string | undefined
  /** Only this partition. */
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
  /** Sorted by partition. */
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
  /** It is retried as soon as the owner gets to it. */
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
      /** A save without events is useful then: it shows the progress of the rebuild. */
      readonly isRebuilding: boolean
      readonly atEnd: boolean
    }

/** What a runner without a token gets: events of one partition, and the state to go on from. */
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

/** The name of a projection in `Changes.projections`. */
export const projectionKey = (environment: string, name: string): string => `${environment}\n${name}`
