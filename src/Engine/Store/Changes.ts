/** What a store tells its listeners of each commit. The listeners are other parts of the engine. */
import type { FunctionRegistration, Notice } from "../../Protocol/Worker.ts"
import type { ObservedActivity, RunFailureEvent } from "./RunActivity.ts"
import type { EndedRunRecord } from "./EndedRunRecord.ts"

import type { JsonText } from "../../Json.ts"
import type { Action } from "../../Policy.ts"
import type { KvOperation, StoredValue } from "../../KvValue.ts"
import type { ProjectionStatus } from "../../Protocol/Projections.ts"
import type { ProjectionState } from "../Records/ProjectionRecords.ts"
import type { KeyRecord, OrgRecord, RoleRecord, PolicyRecord } from "../Records/AccessRecords.ts"

/** How often things happened, for metrics. */
export interface Counts {
  /** Events stored. */
  events: number
  /** Runs created. */
  started: number
  /** Runs that completed. */
  completed: number
  /** Runs that failed for good. */
  failed: number
  /** Runs that were cancelled. */
  cancelled: number
  /**
   * Reports of turns that were refused, because the worker no longer held the lease. This count and the next three are for
   * guarantee G4 (see `Guarantees/`).
   */
  staleReports: number
  /** Lease renewals that were refused, because the worker no longer held the lease. */
  staleRenewals: number
  /** Saves of projections that were refused, because the worker no longer owned the projection. */
  staleSaves: number
  /** Acks of messages that were refused, because the message was no longer delivered to the member. */
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

/** Adds the counts of `more` to `counts`. */
export const addCounts = (counts: Counts, more: Readonly<Counts>): void => {
  for (const name of countNames) counts[name] += more[name]
}

const countNames = Object.keys(noCounts()) as ReadonlyArray<keyof Counts>

/**
 * Kinds of changes by other engines. When listeners can be told only the kind of a change, without details, they have to read again
 * what changed.
 */
export const changeKinds = [
  /** Runs have ended. */
  "ends",
  /** Runs can be claimed. */
  "ready",
  /** Something is due. */
  "due",
  /** Live turns have notices. */
  "turns",
  /** Events or messages were stored. */
  "log",
  /** Keys of buckets have changed. */
  "kv",
  /** Consumer groups have changed. */
  "groups",
  "projections",
  /** Functions or environments have changed. */
  "functions",
  /** API keys, organizations, roles or policies have changed. */
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
  /** Whether it replaces all earlier announcements about the same subject. */
  readonly isNewest?: true
}

/** The permission that a caller needs to see an announcement. */
export interface EventAccess {
  readonly action: Action
  readonly resource: string
  /**
   * The name of the event whose data is in the announcement. Callers whose policies deny that event do not see the announcement.
   */
  readonly event?: string
}

/**
 * What a commit changed that parts of the engine may be waiting for. Commits of other engines on the same database are told in the
 * same way, but with less: then `counts`, `endings`, `runFailures`, `warnings`, `accessLog`, `activity`, `states`, `configs`, `kv`,
 * `access`, `functions` and `environments` are empty, and `stale`, `bucketsChangedByOthers` and `groups` name what has to be read.
 */
export interface Changes {
  /** Whether another engine has made this commit. Listeners may be told of such a commit after later commits of this engine. */
  readonly isFromOtherEngine: boolean
  /**
   * The kinds of changes that another engine has made and of which no details are known: listeners that wait for such a kind read
   * again what they need.
   */
  readonly stale: ReadonlySet<ChangeKind>
  /** Whether the listeners have been told of all earlier commits, including those of other engines. */
  readonly isInOrder: boolean
  /** What other engines have announced, in order. */
  readonly announced: ReadonlyArray<Announced>
  readonly counts: Readonly<Counts>
  /** Notices for live turns. */
  readonly notices: ReadonlyArray<{ readonly workerId: string; readonly notice: Notice }>
  /** Ids of the runs that completed, failed or were cancelled. */
  readonly ended: ReadonlyArray<string>
  /** How runs ended, by run id: only the endings that listeners need not read from the database; see `RunRows.showEnding`. */
  readonly endings: ReadonlyMap<string, EndedRunRecord>
  /** What happened in runs; empty while nobody observes runs. */
  readonly activity: ReadonlyArray<ObservedActivity>
  /** What went wrong in runs. */
  readonly runFailures: ReadonlyArray<RunFailureEvent>
  /** Changes of keys in buckets, ordered by revision. */
  readonly kv: ReadonlyArray<KvChange>
  /** The numbers of the buckets with keys that other engines changed. */
  readonly bucketsChangedByOthers: ReadonlyArray<number>
  /** The numbers of the buckets that were deleted. */
  readonly deletedBuckets: ReadonlyArray<number>
  /** Warnings that no caller gets, so they are logged: trigger expressions that failed for an event of a `step.tx`. */
  readonly warnings: ReadonlyArray<string>
  /** The projections that were saved, claimed, released or controlled, by their `projectionKey`. */
  readonly projections: ReadonlyArray<string>
  /** Keys of the consumer groups that were updated, paused, resumed or deleted. */
  readonly groups: ReadonlyArray<number>
  /**
   * Keys of the consumer groups to which members returned messages. Only listeners of this engine need them: for other engines,
   * `groups` is enough.
   */
  readonly groupsWithReturns: ReadonlyArray<number>
  /** Saves of managed projections; empty while nobody observes states. */
  readonly states: ReadonlyArray<ProjectionChange>
  /** Configurations that were written or deleted. */
  readonly configs: ReadonlyArray<ConfigChange>
  /** Changes of API keys, organizations, roles and policies, oldest first. */
  readonly access: ReadonlyArray<AccessChange>
  /** New entries of the access log, oldest first. */
  readonly accessLog: ReadonlyArray<AccessNote>
  /** Functions that were registered or deleted, in the order of these changes. */
  readonly functions: ReadonlyArray<FunctionChange>
  /** Environments that were created. */
  readonly environments: ReadonlyArray<string>
  /** Whether a run has become ready. */
  readonly ready: boolean
  /**
   * Whether there may be runs to claim after this commit, also runs that earlier commits made ready. It may be `true` when there are
   * none, but is never `false` when there are some.
   */
  readonly mayHaveReady: boolean
  /** Position of the newest event or message that was stored; 0 when none was stored. */
  readonly logEnd: number
  /** The earliest time at which something new is due, epoch milliseconds; `Infinity` when nothing new is due. */
  readonly dueAt: number
}

/** Who did what to an API key, an organization, a role, a policy, a function or runs. It never has the secret of an API key. */
export interface AccessNote {
  readonly by: string
  readonly action: string
  /** The id of the changed thing; for a bulk operation, the id of the operation. */
  readonly subject: string
  readonly name?: string
}

/** A function as it is registered after the change. */
export interface FunctionChange {
  readonly environment: string
  readonly registration: FunctionRegistration
  /** Whether the function is deleted, and kept only for its runs: nothing starts it, and no list shows it. */
  readonly deleted?: boolean
  /** Set while the function is paused, which makes its new runs wait. */
  readonly paused?: StoredPause
  /**
   * Whether runs of the function may be pinned to the version with which they began. It stays set when the function no longer pins
   * its runs, because older runs are still pinned.
   */
  readonly pins?: boolean
  /** `new`: the function was not registered before. `changed`: its last registration was different. Absent when it was the same. */
  readonly changed?: "new" | "changed"
}

/** Since when (`at`, epoch milliseconds) a function is paused, and who paused it. */
export interface StoredPause {
  readonly at: number
  readonly by: string
  readonly reason?: string
}

/** A configuration that was written or deleted. */
export interface ConfigChange {
  readonly environment: string
  readonly name: string
  /** Absent when the configuration was deleted. */
  readonly data?: JsonText
  readonly revision: number
  /** Epoch milliseconds. */
  readonly updatedAt: number
}

/** A change of a key in a bucket. */
export interface KvChange {
  readonly key: string
  readonly revision: number
  readonly operation: KvOperation
  /** Empty unless the operation is `put`. */
  readonly value: StoredValue
  /** Epoch milliseconds. */
  readonly createdAt: number
  /** The number of the bucket. A bucket that was deleted and created again has another number. */
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
  /** Whether a rebuild has ended. Then any state may have changed, whether it is in `states` or not. */
  readonly rebuilt: boolean
}

/** A change of an API key, an organization, a role or a policy: the record as it is now, or the id of a deleted record. */
export type AccessChange =
  | { readonly _tag: "Key"; readonly key: KeyRecord }
  | { readonly _tag: "KeyDeleted"; readonly id: string }
  | { readonly _tag: "Org"; readonly org: OrgRecord }
  | { readonly _tag: "OrgDeleted"; readonly id: string }
  | { readonly _tag: "Role"; readonly role: RoleRecord }
  | { readonly _tag: "RoleDeleted"; readonly id: string }
  | { readonly _tag: "Policy"; readonly policy: PolicyRecord }
  | { readonly _tag: "PolicyDeleted"; readonly id: string }
