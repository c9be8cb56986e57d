/** What a commit means for others: it is told once per commit to those who listen. */
import type { FunctionRegistration, Notice } from "../../Protocol/Worker.ts"
import type { Seen, Trouble } from "./Activity.ts"
import type { RunEnding } from "./RunEnding.ts"

import type { JsonText } from "../../Json.ts"
import type { Action } from "../../Policy.ts"
import type { KvOperation, StoredValue } from "../../KvValue.ts"
import type { ProjectionStatus } from "../../Protocol/Projections.ts"
import type { ProjectionState } from "../Projections/ProjectionRecords.ts"
import type { KeyRecord, OrgRecord, RoleRecord, PolicyRecord } from "../Access/AccessRecords.ts"

/** How often something happened, for metrics. */
export interface Counts {
  /** Events stored. */
  events: number
  /** Runs created, completed, failed and cancelled. */
  started: number
  completed: number
  failed: number
  cancelled: number
  /**
   * Refused, because whoever wrote does not hold what it wrote about (guarantee G4): reports of turns, renewals of leases,
   * saves of projections, acks of messages.
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

/** Adds up `more` in `counts`. */
export const addCounts = (counts: Counts, more: Readonly<Counts>): void => {
  for (const name of countNames) counts[name] += more[name]
}

const countNames = Object.keys(noCounts()) as ReadonlyArray<keyof Counts>

/** What listeners may have to look at again, because it has changed elsewhere and is not told. */
export const subjects = [
  /** Runs have ended. */
  "ends",
  /** Runs can be claimed. */
  "ready",
  /** Something is due. */
  "due",
  /** Turns in flight have something to hear. */
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
  /** What was announced. */
  "announced"
] as const

export type Subject = (typeof subjects)[number]

/** Something that is announced, and not stored: see `SystemEvents.ts`, which says what is in it. */
export interface Announced {
  readonly id: string
  readonly environment: string
  readonly topic: string
  readonly data: JsonText
  readonly access?: EventAccess
  /** It says what something is now: what it was before is of no interest any more. */
  readonly isNewest?: true
}

export interface EventAccess {
  readonly action: Action
  readonly resource: string
  /** The name of an event whose data is told: not to those to whom a policy denies it. */
  readonly event?: string
}

/**
 * What a commit changed that somebody may be waiting for. What other engines on the same database have committed is told in the same
 * way, as far as they tell it: `counts`, `troubles`, `warnings`, `accessLog`, `activity`, `states`, `configs` and `functions` are
 * told, counted and logged where it was done, and what has to be read is named by `look`.
 */
export interface Changes {
  /** Another engine has committed it. Such news come after commits of this engine that were made later, too. */
  readonly elsewhere: boolean
  /** What has changed elsewhere and is not told: whoever waits for it looks again. */
  readonly look: ReadonlySet<Subject>
  /** Whether all that was committed before it has been told, by others too. */
  readonly inOrder: boolean
  /** What other engines have announced, in order. */
  readonly announced: ReadonlyArray<Announced>
  readonly counts: Readonly<Counts>
  /** Messages for turns in flight. */
  readonly notices: ReadonlyArray<{ readonly workerId: string; readonly notice: Notice }>
  /** Ids of the runs that completed, failed or were cancelled. */
  readonly ended: ReadonlyArray<string>
  /** How those of them have ended that need not be read, by id: what `RunRows.showEnding` shows. */
  readonly endings: ReadonlyMap<string, RunEnding>
  /** What happened to runs; empty while nobody observes. */
  readonly activity: ReadonlyArray<Seen>
  /** What went wrong in runs. */
  readonly troubles: ReadonlyArray<Trouble>
  /** What happened to keys, in the order of their revisions. */
  readonly kv: ReadonlyArray<KvChange>
  /** Buckets with keys that were changed elsewhere. */
  readonly kvElsewhere: ReadonlyArray<number>
  /** Buckets that were deleted. */
  readonly kvDeleted: ReadonlyArray<number>
  /** What a person should hear of and no caller is told: trigger expressions that failed for an event of a `step.tx`. */
  readonly warnings: ReadonlyArray<string>
  /** The projections that were saved, claimed, released or steered, by their `projectionKey`. */
  readonly projections: ReadonlyArray<string>
  /** Keys of the consumer groups that were updated, paused, resumed or deleted. */
  readonly groups: ReadonlyArray<number>
  /** Groups to which members gave something back: those who listen here have it already, and others are told by `groups`. */
  readonly givenBack: ReadonlyArray<number>
  /** What was saved of managed projections; empty while nobody observes states. */
  readonly states: ReadonlyArray<ProjectionChange>
  /** Configurations that were written or deleted. */
  readonly configs: ReadonlyArray<ConfigChange>
  /** What changed of keys, organizations, roles and policies, in order. */
  readonly access: ReadonlyArray<AccessChange>
  /** What the access log has got, in order. */
  readonly accessLog: ReadonlyArray<AccessNote>
  /** Functions that were registered or deleted, in order. */
  readonly functions: ReadonlyArray<FunctionChange>
  /** Environments that came into being. */
  readonly environments: ReadonlyArray<string>
  /** A run can be claimed that could not before. */
  readonly ready: boolean
  /** Whether any run may be claimed after this commit, whatever was in it: a hint, wrong only in saying yes. */
  readonly mayHaveReady: boolean
  /** Position of the newest row of the log that was stored; 0 when none was. */
  readonly logEnd: number
  /** The earliest time at which something new is due, epoch milliseconds; `Infinity` when nothing is. */
  readonly dueAt: number
}

/** Who did what to a key, an organization, a role or a policy; never with a key in it. */
export interface AccessNote {
  readonly by: string
  readonly action: string
  /** The id of what it was done to. */
  readonly subject: string
  readonly name?: string
}

/** A function as it is registered now. */
export interface FunctionChange {
  readonly environment: string
  readonly registration: FunctionRegistration
  /** It is kept for the sake of its runs: nothing starts it, and nobody lists it. */
  readonly deleted?: boolean
  /** New runs of it wait. */
  readonly paused?: StoredPause
  /** Runs of it may be pinned to the version that they began with, or have been. */
  readonly pins?: boolean
  /** It was not registered like this before. */
  readonly changed?: "new" | "changed"
}

/** Since when a function is paused, in epoch milliseconds, and by whom. */
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

/** What happened to a key. */
export interface KvChange {
  readonly key: string
  readonly revision: number
  readonly operation: KvOperation
  /** Without bytes unless the operation is `put`. */
  readonly value: StoredValue
  /** Epoch milliseconds. */
  readonly createdAt: number
  /** The bucket's number, which one made anew does not share. */
  readonly bucket: number
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

/** What a commit changed in it: a record as it is now, or the id of one that is gone. */
export type AccessChange =
  | { readonly _tag: "Key"; readonly key: KeyRecord }
  | { readonly _tag: "KeyDeleted"; readonly id: string }
  | { readonly _tag: "Org"; readonly org: OrgRecord }
  | { readonly _tag: "OrgDeleted"; readonly id: string }
  | { readonly _tag: "Role"; readonly role: RoleRecord }
  | { readonly _tag: "RoleDeleted"; readonly id: string }
  | { readonly _tag: "Policy"; readonly policy: PolicyRecord }
  | { readonly _tag: "PolicyDeleted"; readonly id: string }
