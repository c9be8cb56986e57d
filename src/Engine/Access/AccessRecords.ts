/** API keys, organizations, roles and policies as stored. Times are epoch milliseconds. */
import type { PolicyEffect } from "../../Policy.ts"

export interface KeyRecord {
  readonly id: string
  readonly name: string
  /** The beginning of the key, by which a person recognizes it; empty for the bootstrap key. */
  readonly prefix: string
  /** SHA-256 of the key, in hex: the key itself is not stored. */
  readonly hash: string
  /** Absent when the key is for all environments. */
  readonly environment?: string
  readonly roleIds: ReadonlyArray<string>
  readonly createdAt: number
  readonly expiresAt?: number
  readonly lastUsedAt?: number
  /** The previous secret, after a rotation. It works until its own end or the end of the key, whichever comes first. */
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
  /** The id of what was changed; for a bulk operation, the id of the operation. */
  readonly subject: string
  readonly details: { readonly [name: string]: unknown }
}

export interface NewKey {
  readonly name: string
  readonly prefix: string
  readonly hash: string
  /** `"*"` for all environments. When absent: `callEnvironment`, or all environments for the first key. */
  readonly environment?: string
  /** The environment of the call that creates the key. */
  readonly callEnvironment: string
  /** When absent: the developer role, or the admin role for the first key. */
  readonly roleIds?: ReadonlyArray<string>
  /** For how many milliseconds the key works, from when it is stored. */
  readonly lifeMs?: number
  /** The latest time at which the key may end, in epoch milliseconds. */
  readonly endsBy?: number
  /**
   * Whether the caller was accepted only because there are no keys. Then this key must be the first one, and may do everything in
   * all environments.
   */
  readonly byAnybody?: boolean
}

/** The new secret of a key. */
export interface NewSecret {
  readonly hash: string
  readonly prefix: string
  /** For how many milliseconds the old secret goes on working; absent if it ends at once. */
  readonly overlapMs?: number
}

export type NewPolicy = Pick<
  PolicyRecord,
  "orgId" | "name" | "effect" | "actions" | "resources" | "condition"
>

/** Changes of a policy. An empty condition removes the policy's condition. */
export type PolicyChanges = Partial<Omit<NewPolicy, "orgId">>
