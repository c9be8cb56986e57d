/** Records of projections: what the operations on projections take and return. */

import type { SerializedError } from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import type {
  ProjectionLease,
  ProjectionLogEvent,
  ProjectionRegistration
} from "../../Protocol/ProjectionOwners.ts"
import type { ProjectionStatus } from "../../Protocol/Projections.ts"

/** Identifies the claim of an owner. */
export interface ProjectionToken {
  readonly environment: string
  readonly name: string
  readonly token: string
  /** A number that grows with each claim and each reset of the projection. */
  readonly generation: number
}

export interface ProjectionClaimRequest {
  readonly environment: string
  readonly registration: ProjectionRegistration
  readonly workerId: string
  /**
   * How long the claim lasts without a heartbeat, in milliseconds. Absent for a worker in this process: its claim ends with the
   * process.
   */
  readonly leaseMs?: number
}

export type ProjectionClaimResult =
  | { readonly _tag: "Granted"; readonly lease: Omit<ProjectionLease, "leaseMs"> }
  /** Another worker is the owner. `until` is when its lease ends; absent for a worker in the process of an engine. */
  | { readonly _tag: "Busy"; readonly owner: string; readonly until?: number }

/** A projection and its progress. Times are epoch milliseconds. */
export interface ProjectionInfo {
  readonly name: string
  readonly mode: "managed" | "external"
  readonly events: ReadonlyArray<string>
  readonly partitionKey?: string
  readonly status: ProjectionStatus
  readonly version: number
  /** The position up to which everything is projected. */
  readonly position: number
  /** How many events wait to be projected. */
  readonly lag: number
  readonly generation: number
  readonly owner?: { readonly workerId: string; readonly until?: number }
  readonly paused?: { readonly by: string; readonly reason?: string; readonly at: number }
  /** The position at which the rebuild in progress ends. */
  readonly rebuildTo?: number
  /** The last error of the handler. */
  readonly lastError?: { readonly error: SerializedError; readonly position: number; readonly at: number }
  /** The event that is being retried. */
  readonly failing?: { readonly position: number; readonly failures: number }
  readonly deadLetters: number
  /**
   * The time at which the newest of the deleted events was stored, in epoch milliseconds. Absent if no event after the projection's
   * position was deleted.
   */
  readonly eventsGoneAt?: number
  /** How many saves were refused, such as those of a worker that no longer owned the projection. */
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
  /** How often the state of this partition was saved. */
  readonly version: number
  /** The version of the projection after the last save of this state. */
  readonly revision: number
  readonly updatedAt: number
}

export interface ProjectionChangeQuery {
  /** The cursor after which states are new. `now` requests only the cursor. Absent for all states. */
  readonly since?: string | undefined
  /** Only this partition. */
  readonly partition?: string | undefined
  /** The partition after which the page begins: `next` of the page before. */
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
  /** The partition after which the next page begins; absent on the last page. */
  readonly next?: string
}

export interface StoredDeadLetter {
  readonly position: number
  readonly event: ProjectionLogEvent
  readonly error: SerializedError
  readonly attempts: number
  readonly at: number
  /** Whether a retry was requested. The owner retries the event as soon as it can. */
  readonly retrying: boolean
}

/** What the owner gets next. `saved` is the position of the owner's last save. */
export type ProjectionPage =
  | { readonly _tag: "Lost" }
  | { readonly _tag: "Paused" }
  | { readonly _tag: "Retries"; readonly events: ReadonlyArray<ProjectionLogEvent> }
  | {
      readonly _tag: "Events"
      readonly events: ReadonlyArray<ProjectionLogEvent>
      readonly position: number
      readonly saved: number
      /** Whether a rebuild is in progress. Then a save without events is useful too: it shows the progress. */
      readonly isRebuilding: boolean
      readonly atEnd: boolean
    }

/** What a legacy runner gets (see `TokenlessProjections.ts`): events of one partition, and the state to which they are applied. */
export interface DeliveredEvents {
  readonly events: ReadonlyArray<ProjectionLogEvent>
  readonly state?: JsonText
  readonly position: number
}

/** What a legacy runner saves: the state after the event at `position`. An external projection has no state. */
export interface TokenlessSave {
  readonly environment: string
  readonly name: string
  readonly position: number
  readonly state?: JsonText
}

/** The name under which a projection is in `Changes.projections`. */
export const projectionKey = (environment: string, name: string): string => `${environment}\n${name}`
