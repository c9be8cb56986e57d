/** API keys, organizations, roles and policies as the store keeps them. Times are epoch milliseconds. */
import type { PolicyEffect } from "../../Policy.ts"

export interface KeyRecord {
  readonly id: string
  readonly name: string
  /** How the key begins, to tell keys apart. */
  readonly prefix: string
  /** SHA-256 of the key, in hex: the key itself is not stored. */
  readonly hash: string
  /** Absent when it spans all environments. */
  readonly environment?: string
  readonly roleIds: ReadonlyArray<string>
  readonly createdAt: number
  readonly expiresAt?: number
  readonly lastUsedAt?: number
  /** The secret before this one, which works until its own end too. */
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

/** All of it. */
export interface AccessRecords {
  readonly keys: ReadonlyArray<KeyRecord>
  readonly orgs: ReadonlyArray<OrgRecord>
  readonly roles: ReadonlyArray<RoleRecord>
  readonly policies: ReadonlyArray<PolicyRecord>
}

/** Who changed what. `by` is the id of a key, or `local` for the process or machine of the engine. */
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
  /** `"*"` for all; absent for `callEnvironment`, or for all when it is the first key. */
  readonly environment?: string
  readonly callEnvironment: string
  /** Absent for the developer's role, or the admin's when it is the first key. */
  readonly roleIds?: ReadonlyArray<string>
  /** Milliseconds from when it is stored to its end. */
  readonly lifeMs?: number
  /** It ends then at the latest. */
  readonly endsBy?: number
  /**
   * Whoever makes it is let in because there are no keys, and is not any more when there is one: the key has to be the first,
   * and may do everything everywhere.
   */
  readonly byAnybody?: boolean
}

/** The new secret of a key. */
export interface NewSecret {
  readonly hash: string
  readonly prefix: string
  /** How long the one before goes on working, milliseconds; it ends at once when absent. */
  readonly overlapMs?: number
}

export type NewPolicy = Pick<
  PolicyRecord,
  "orgId" | "name" | "effect" | "actions" | "resources" | "condition"
>

/** What to change of a policy; an empty condition takes it away. */
export type PolicyChanges = Partial<Omit<NewPolicy, "orgId">>
