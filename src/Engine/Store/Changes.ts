/** The changes of a commit that others may have to know. They are told to the listeners once per commit. */
import type { FunctionRegistration, Notice } from "../../Protocol/Worker.ts"
import type { ObservedActivity, RunFailureEvent } from "./RunActivity.ts"
import type { EndedRunRecord } from "./EndedRunRecord.ts"

import type { JsonText } from "../../Json.ts"
import type { Action } from "../../Policy.ts"
import type { KvOperation, StoredValue } from "../../KvValue.ts"
import type { ProjectionStatus } from "../../Protocol/Projections.ts"
import type { ProjectionState } from "../Projections/ProjectionRecords.ts"
import type { KeyRecord, OrgRecord, RoleRecord, PolicyRecord } from "../Access/AccessRecords.ts"

/** How often things happened, for metrics. */
export interface Counts {
  /** Events stored. */
  events: number
  /** Runs created, completed, failed and cancelled. */
  started: number
  completed: number
  failed: number
  cancelled: number
  /**
   * Writes that were refused because the caller no longer holds what they are about (guarantee G4): reports of turns, lease
   * renewals, saves of projections, acks of messages.
   */
  staleReports: number
  staleRenewals: number
  staleSaves: number
  staleAcks: number
}

export const noCounts = (): Counts => ({
  events: 0,
  started: 0,
  completed: 0,
  failed: 0,
  cancelled: 0,
  staleReports: 0,
  staleRenewals: 0,
  staleSaves: 0,
  staleAcks: 0
})

/** Adds `more` to `counts`. */
export const addCounts = (counts: Counts, more: Readonly<Counts>): void => {
  for (const name of countNames) counts[name] += more[name]
}

const countNames = Object.keys(noCounts()) as ReadonlyArray<keyof Counts>

/** What listeners may have to read again: another engine has changed it, and does not tell the details. */
export const changeKinds = [
  /** Runs have ended. */
  "ends",
  /** Runs can be claimed. */
  "ready",
  /** Something is due. */
  "due",
  /** Live turns have notices. */
  "turns",
  "log",
  "kv",
  "groups",
  "projections",
  /** Functions and environments. */
  "functions",
  "access",
  /** Workers have come or gone. */
  "workers",
  /** Bulk operations have ended. */
  "bulk",
  /** Something was announced. */
  "announced"
] as const

export type ChangeKind = (typeof changeKinds)[number]

/** Something that is announced and not stored. For its content see `SystemEvents.ts`. */
export interface Announced {
  readonly id: string
  readonly environment: string
  readonly topic: string
  readonly data: JsonText
  readonly access?: EventAccess
  /** Replaces all earlier announcements about the same subject. */
  readonly isNewest?: true
}

export interface EventAccess {
  readonly action: Action
  readonly resource: string
  /** The name of the event whose data is in the announcement. It is not told to callers whose policies deny that event. */
  readonly event?: string
}

/**
 * What a commit changed that others may be waiting for. Commits of other engines on the same database are told in the same way,
 * but with less: `counts`, `endings`, `troubles`, `warnings`, `accessLog`, `activity`, `states`, `configs`, `kv`, `access`,
 * `functions` and `environments` are told only by the engine that made the commit. For the other engines, `stale`, `kvElsewhere`
 * and `groups` name what has to be read.
 */
export interface Changes {
  /** Another engine has made this commit. It may be told after later commits of this engine. */
  readonly elsewhere: boolean
  /** What another engine has changed without telling the details: listeners that wait for it read it again. */
  readonly stale: ReadonlySet<ChangeKind>
  /** Whether all earlier commits have been told, including those of other engines. */
  readonly inOrder: boolean
  /** What other engines have announced, in order. */
  readonly announced: ReadonlyArray<Announced>
  readonly counts: Readonly<Counts>
  /** Notices for live turns. */
  readonly notices: ReadonlyArray<{ readonly workerId: string; readonly notice: Notice }>
  /** Ids of the runs that completed, failed or were cancelled. */
  readonly ended: ReadonlyArray<string>
  /** Endings, by run id. They are here for runs whose ending need not be read: see `RunRows.showEnding`. */
  readonly endings: ReadonlyMap<string, EndedRunRecord>
  /** Activity of runs; empty while there are no observers. */
  readonly activity: ReadonlyArray<ObservedActivity>
  /** Failures of runs. */
  readonly troubles: ReadonlyArray<RunFailureEvent>
  /** Changes of keys, ordered by revision. */
  readonly kv: ReadonlyArray<KvChange>
  /** Buckets with keys that other engines changed. */
  readonly kvElsewhere: ReadonlyArray<number>
  /** Buckets that were deleted. */
  readonly kvDeleted: ReadonlyArray<number>
  /** Warnings for the log that no caller gets. They are about trigger expressions that failed for an event of a `step.tx`. */
  readonly warnings: ReadonlyArray<string>
  /** The projections that were saved, claimed, released or controlled, by their `projectionKey`. */
  readonly projections: ReadonlyArray<string>
  /** Keys of the consumer groups that were updated, paused, resumed or deleted. */
  readonly groups: ReadonlyArray<number>
  /**
   * Groups to which members returned messages. Only the listeners of this engine need it: other engines are told by `groups`.
   */
  readonly givenBack: ReadonlyArray<number>
  /** Saves of managed projections; empty while nobody observes states. */
  readonly states: ReadonlyArray<ProjectionChange>
  /** Configurations that were written or deleted. */
  readonly configs: ReadonlyArray<ConfigChange>
  /** Changes of keys, organizations, roles and policies, in order. */
  readonly access: ReadonlyArray<AccessChange>
  /** New entries of the access log, in order. */
  readonly accessLog: ReadonlyArray<AccessNote>
  /** Functions that were registered or deleted, in order. */
  readonly functions: ReadonlyArray<FunctionChange>
  /** Environments that were created. */
  readonly environments: ReadonlyArray<string>
  /** Whether a run became ready. */
  readonly ready: boolean
  /**
   * Whether runs may be claimable after this commit, whatever was in it. It may be `true` without a reason, but is never `false`
   * when there is one.
   */
  readonly mayHaveReady: boolean
  /** Position of the newest stored row of the log; 0 when none was stored. */
  readonly logEnd: number
  /** The earliest new due time, epoch milliseconds; `Infinity` when there is none. */
  readonly dueAt: number
}

/** Who did what to a key, an organization, a role, a policy, a function or runs. It never has the key itself. */
export interface AccessNote {
  readonly by: string
  readonly action: string
  /** The id of the changed thing; for a bulk operation, that of the operation. */
  readonly subject: string
  readonly name?: string
}

/** A function as it is registered now. */
export interface FunctionChange {
  readonly environment: string
  readonly registration: FunctionRegistration
  /** The function is kept only for its runs: nothing starts it, and no list shows it. */
  readonly deleted?: boolean
  /** Set while the function is paused, so that its new runs wait. */
  readonly paused?: StoredPause
  /** Its runs may be pinned to the version with which they began. Also set when only earlier registrations pinned them. */
  readonly pins?: boolean
  /** Set when the function was not registered before, and when its registration differs from the one before. */
  readonly changed?: "new" | "changed"
}

/** Since when a function is paused, epoch milliseconds, and who paused it. */
export interface StoredPause {
  readonly at: number
  readonly by: string
  readonly reason?: string
}

/** A configuration as it was written. */
export interface ConfigChange {
  readonly environment: string
  readonly name: string
  /** Absent when it was deleted. */
  readonly data?: JsonText
  readonly revision: number
  /** Epoch milliseconds. */
  readonly updatedAt: number
}

/** A change of a key. */
export interface KvChange {
  readonly key: string
  readonly revision: number
  readonly operation: KvOperation
  /** Empty unless the operation is `put`. */
  readonly value: StoredValue
  /** Epoch milliseconds. */
  readonly createdAt: number
  /** The bucket's number: a bucket that is created again has another one. */
  readonly bucket: number
}

/** What a save changed in the visible state of a managed projection. */
export interface ProjectionChange {
  readonly environment: string
  readonly name: string
  readonly status: ProjectionStatus
  readonly errorMessage?: string
  /** The cursor after this change; see `readProjectionChanges` in `Projections/ProjectionChanges.ts`. */
  readonly cursor: string
  readonly states: ReadonlyArray<ProjectionState & { readonly eventName?: string }>
  /** A rebuild has ended: any state may have changed, whether it is in `states` or not. */
  readonly rebuilt: boolean
}

/** A change to access: a record as it is now, or the id of a deleted one. */
export type AccessChange =
  | { readonly _tag: "Key"; readonly key: KeyRecord }
  | { readonly _tag: "KeyDeleted"; readonly id: string }
  | { readonly _tag: "Org"; readonly org: OrgRecord }
  | { readonly _tag: "OrgDeleted"; readonly id: string }
  | { readonly _tag: "Role"; readonly role: RoleRecord }
  | { readonly _tag: "RoleDeleted"; readonly id: string }
  | { readonly _tag: "Policy"; readonly policy: PolicyRecord }
  | { readonly _tag: "PolicyDeleted"; readonly id: string }
