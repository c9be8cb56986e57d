/** API keys, organizations, roles and policies as stored. Times are epoch milliseconds. */
import type { PolicyEffect } from "../../Policy.ts"

export interface KeyRecord {
  readonly id: string
  readonly name: string
  /** The beginning of the key, to recognize it. */
  readonly prefix: string
  /** SHA-256 of the key, in hex: the key itself is not stored. */
  readonly hash: string
  /** Absent when it is for all environments. */
  readonly environment?: string
  readonly roleIds: ReadonlyArray<string>
  readonly createdAt: number
  readonly expiresAt?: number
  readonly lastUsedAt?: number
  /** The secret before this one, which also works until its own end. */
  readonly previous?: { readonly hash: string; readonly endsAt: number }
}

export interface OrgRecord {
  readonly id: string
  readonly name: string
  readonly createdAt: number
  readonly updatedAt: number
}

export interface RoleRecord {
  readonly id: string
  readonly orgId: string
  readonly name: string
  readonly policyIds: ReadonlyArray<string>
  readonly createdAt: number
}

export interface PolicyRecord {
  readonly id: string
  readonly orgId: string
  readonly name: string
  readonly effect: PolicyEffect
  readonly actions: string
  readonly resources: string
  readonly condition?: string
  readonly createdAt: number
  readonly updatedAt: number
}

/** All access records. */
export interface AccessRecords {
  readonly keys: ReadonlyArray<KeyRecord>
  readonly orgs: ReadonlyArray<OrgRecord>
  readonly roles: ReadonlyArray<RoleRecord>
  readonly policies: ReadonlyArray<PolicyRecord>
}

/** An entry of the access log. `by` is the id of a key, or `local` for the process or machine of the engine. */
export interface AccessLogEntry {
  readonly at: number
  readonly by: string
  /** The action, such as `apikey:create`. */
  readonly action: string
  /** The id of what was changed. */
  readonly subject: string
  readonly details: { readonly [name: string]: unknown }
}

export interface NewKey {
  readonly name: string
  readonly prefix: string
  readonly hash: string
  /** `"*"` for all environments; absent for `callEnvironment`, or for all when it is the first key. */
  readonly environment?: string
  readonly callEnvironment: string
  /** Absent for the developer role, or the admin role when it is the first key. */
  readonly roleIds?: ReadonlyArray<string>
  /** Lifetime, milliseconds from when it is stored. */
  readonly lifeMs?: number
  /** The latest end, epoch milliseconds. */
  readonly endsBy?: number
  /** The caller was accepted only because there are no keys: the key must be the first one, and may do everything everywhere. */
  readonly byAnybody?: boolean
}

/** The new secret of a key. */
export interface NewSecret {
  readonly hash: string
  readonly prefix: string
  /** How long the old secret goes on working, milliseconds; absent to end it at once. */
  readonly overlapMs?: number
}

export type NewPolicy = Pick<
  PolicyRecord,
  "orgId" | "name" | "effect" | "actions" | "resources" | "condition"
>

/** Changes of a policy; an empty condition removes it. */
export type PolicyChanges = Partial<Omit<NewPolicy, "orgId">>
