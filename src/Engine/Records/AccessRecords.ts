/** API keys, organizations, roles and policies, as they are stored. Times are epoch milliseconds. */
import type { PolicyEffect } from "../../Policy.ts"

export interface KeyRecord {
  readonly id: string
  readonly name: string
  /** The beginning of the secret, by which a person recognizes the key; empty for the bootstrap key. */
  readonly prefix: string
  /** SHA-256 of the secret, in hex: the secret itself is not stored. */
  readonly hash: string
  /** Absent when the key is for all environments. */
  readonly environment?: string
  readonly roleIds: ReadonlyArray<string>
  readonly createdAt: number
  readonly expiresAt?: number
  readonly lastUsedAt?: number
  /** The previous secret, after a rotation. It works until `endsAt`, or until the key expires if that is earlier. */
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

/** An entry of the access log. `by` is the id of the caller's key, or `local` for a caller without a key. */
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
  /**
   * The environment of the key; `"*"` for all environments. When absent, it is `callEnvironment`; for the first key, all
   * environments.
   */
  readonly environment?: string
  /** The environment of the call that creates the key. */
  readonly callEnvironment: string
  /** When absent, the key has the developer role; the first key has the admin role. */
  readonly roleIds?: ReadonlyArray<string>
  /** For how many milliseconds the key works after it is stored. */
  readonly lifeMs?: number
  /** The latest time at which the key may end, in epoch milliseconds. */
  readonly latestEnd?: number
  /**
   * Whether the new key must be the first one: the caller that creates it was accepted only because there were no keys. The first
   * key may do everything in all environments.
   */
  readonly mustBeFirst?: boolean
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
