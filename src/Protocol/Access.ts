/** API keys, organizations, roles, policies, and the log of who changed them: how they travel, and the calls about them. */
import type { Duration } from "../Duration.ts"
import {
  ApiKeyNotFoundError,
  InvalidStateError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError
} from "../Errors.ts"
import type { PolicyEffect } from "../Policy.ts"
import {
  anyOf,
  type Codec,
  fields,
  filled,
  flag,
  list,
  number,
  object,
  oneOf,
  optional,
  orElse,
  ours,
  some,
  struct,
  text
} from "./Codec.ts"
import { all, operation, row } from "./Row.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** An API key, without its secret. Times are ISO strings. */
export interface APIKey {
  /** Id of the key, `key_...`. */
  readonly id: string
  /** What it is called. */
  readonly name: string
  /** How the key begins, to tell keys apart. */
  readonly key_prefix: string
  /** `env_<name>`, or `*` for a key that spans all environments. */
  readonly env_id?: string
  /** Ids of the roles that it has. */
  readonly role_ids?: Array<string>
  /** When it was created. */
  readonly created_at: string
  /** When it ends; absent when it does not. */
  readonly expires_at?: string
  /** At most a few seconds late. */
  readonly last_used_at?: string
  /** When the secret before the last rotation ends, which works until then. */
  readonly previous_expires_at?: string
}

/** An API key as `create` and `rotate` answer. */
export interface APIKeyWithSecret extends APIKey {
  /** The key itself. It is not stored, and cannot be shown again. */
  readonly secret: string
  /** The same. */
  readonly key: string
}

/** A key that is to be made. */
export interface CreateAPIKeyInput {
  /** What to call it. */
  readonly name: string
  /**
   * `env_<name>` or the name of an environment, `*` for all; the client's by default. The first key of a server spans all,
   * whatever is said here.
   */
  readonly envId?: string
  /** The same as `envId`. */
  readonly env_id?: string
  /** The developer's role by default; a key with `[]` may do nothing. The first key of a server has the admin's role as well. */
  readonly role_ids?: ReadonlyArray<string>
  /** The same as `role_ids`. */
  readonly roleIds?: ReadonlyArray<string>
  /** When it ends, from now on: `"90d"`. Never by default. */
  readonly expires_in?: Duration
  /** The same as `expires_in`. */
  readonly expiresIn?: Duration
}

/** Options of `rotate`. */
export interface RotateAPIKeyOptions {
  /** How long the old secret goes on working beside the new one: `"24h"`, 30 days at most. It ends at once by default. */
  readonly overlap?: Duration
}

/** Times are ISO strings. */
export interface Organization {
  /** Id of the organization. */
  readonly id: string
  /** What it is called. */
  readonly name: string
  /** When it was created. */
  readonly created_at: string
  /** When it was changed last. */
  readonly updated_at: string
}

/** An organization that is to be made. */
export interface CreateOrgInput {
  /** What to call it. */
  readonly name: string
}

/** What to change of an organization. */
export interface UpdateOrgInput {
  /** What to call it; as before when left out. */
  readonly name?: string
}

/** What keys have to do what policies allow. */
export interface Role {
  /** Id of the role, `role_...`. */
  readonly id: string
  /** Id of its organization. */
  readonly org_id: string
  /** What it is called. */
  readonly name: string
  /** Whether it is built in, and cannot be changed. */
  readonly is_default: boolean
  /** Ids of the policies that are assigned to it; legacy servers leave them out. */
  readonly policy_ids?: Array<string>
  /** ISO string. */
  readonly created_at: string
}

/** A role that is to be made. */
export interface CreateRoleInput {
  /** What to call it. */
  readonly name: string
  /** The built-in organization by default. */
  readonly org_id?: string
}

/** What to change of a role. */
export interface UpdateRoleInput {
  /** What to call it; as before when left out. */
  readonly name?: string
}

/** Times are ISO strings. */
export interface Policy {
  /** Id of the policy, `policy_...`. */
  readonly id: string
  /** Id of its organization. */
  readonly org_id: string
  /** What it is called. */
  readonly name: string
  /** Whether it allows or denies. */
  readonly effect: PolicyEffect
  /** Patterns separated by commas, `*` for any characters: `emit:*, run:cancel`. */
  readonly actions: string
  /** Patterns over `<kind>:<name>`: `event:order.*`; `*` for all. */
  readonly resources: string
  /** A CEL expression over `request`; the policy applies where it is true. */
  readonly condition?: string
  /** When it was created. */
  readonly created_at: string
  /** When it was changed last. */
  readonly updated_at: string
}

/** A policy that is to be made. */
export interface CreatePolicyInput {
  /** What to call it. */
  readonly name: string
  /** Whether it allows or denies. */
  readonly effect: PolicyEffect
  /** Patterns separated by commas, `*` for any characters: `emit:*, run:cancel`. */
  readonly actions: string
  /** Patterns over `<kind>:<name>`: `event:order.*`; `*` for all. */
  readonly resources: string
  /** A CEL expression over `request`; the policy applies where it is true. Always by default. */
  readonly condition?: string
  /** The built-in organization by default. */
  readonly org_id?: string
}

/** What to change of a policy. What is left out stays as it is. */
export interface UpdatePolicyInput {
  /** What to call it. */
  readonly name?: string
  /** Whether it allows or denies. */
  readonly effect?: PolicyEffect
  /** Patterns of actions, separated by commas. */
  readonly actions?: string
  /** Patterns over `<kind>:<name>`. */
  readonly resources?: string
  /** An empty one takes the condition away. */
  readonly condition?: string
}

/** A text that answers of legacy servers may lack. */
const said = orElse(text, "")

const keyFields = {
  id: text,
  name: said,
  key_prefix: said,
  env_id: ours(filled),
  role_ids: ours(some(text)),
  created_at: said,
  expires_at: optional(filled),
  last_used_at: optional(filled),
  previous_expires_at: optional(filled)
}
const ApiKey: Codec<APIKey> = fields<APIKey>(keyFields)
/** The only answers that hold the key itself; servers name it `key`, `secret`, or both. */
export const NewApiKey = fields<APIKey & Partial<Pick<APIKeyWithSecret, "secret" | "key">>>({
  ...keyFields,
  secret: ours(filled),
  key: ours(filled)
})
const duration = anyOf(text, number)
export const CreateApiKey = struct({
  name: text,
  env_id: optional(text),
  role_ids: optional(list(text)),
  expires_in: optional(duration)
})
export const RotateApiKey = struct({ overlap: optional(duration) })
const AccessLog = list(struct({ at: text, by: text, action: text, subject: text, details: object }))

const Org = fields<Organization>({ id: text, name: said, created_at: said, updated_at: said })
export const CreateOrg = fields<CreateOrgInput>({ name: text })
export const UpdateOrg = fields<UpdateOrgInput>({ name: optional(text) })

const RoleAnswer = fields<Role>({
  id: text,
  org_id: said,
  name: said,
  is_default: orElse(flag, false),
  policy_ids: ours(some(text)),
  created_at: said
})
export const CreateRole = fields<CreateRoleInput>({ name: text, org_id: optional(text) })
export const UpdateRole = fields<UpdateRoleInput>({ name: optional(text) })
export const AssignPolicy = struct({ policy_id: text })

const effect = oneOf("allow", "deny")
const PolicyAnswer = fields<Policy>({
  id: text,
  org_id: said,
  name: said,
  effect: orElse(effect, "allow"),
  actions: said,
  resources: said,
  condition: optional(filled),
  created_at: said,
  updated_at: said
})
export const CreatePolicy = fields<CreatePolicyInput>({
  name: text,
  effect,
  actions: text,
  resources: text,
  condition: optional(text),
  org_id: optional(text)
})
export const UpdatePolicy = fields<UpdatePolicyInput>({
  name: optional(text),
  effect: optional(effect),
  actions: optional(text),
  resources: optional(text),
  condition: optional(text)
})

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

/** It is built in, or in use. */
const stays = { 409: InvalidStateError } as const

export const listApiKeys = operation("GET /api/v1/apikeys", { answer: list(ApiKey), page: "api_keys" })
export const createApiKey = operation("POST /api/v1/apikeys", { answer: NewApiKey })
export const getApiKey = operation("GET /api/v1/apikeys/:id", {
  answer: ApiKey,
  missing: ApiKeyNotFoundError
})
export const deleteApiKey = operation("DELETE /api/v1/apikeys/:id", { missing: ApiKeyNotFoundError })
export const rotateApiKey = operation("POST /api/v1/apikeys/:id/rotate", {
  answer: NewApiKey,
  missing: ApiKeyNotFoundError
})

export const accessLog = operation("GET /api/v1/access-log", { answer: AccessLog })

export const listOrgs = operation("GET /api/v1/orgs", { answer: list(Org), page: "orgs" })
export const createOrg = operation("POST /api/v1/orgs", { answer: Org })
export const getOrg = operation("GET /api/v1/orgs/:id", { answer: Org, missing: OrgNotFoundError })
export const updateOrg = operation("PATCH /api/v1/orgs/:id", { answer: Org, missing: OrgNotFoundError })
export const deleteOrg = operation("DELETE /api/v1/orgs/:id", { missing: OrgNotFoundError })

export const listRoles = operation("GET /api/v1/roles", { answer: list(RoleAnswer), page: "roles" })
export const createRole = operation("POST /api/v1/roles", { answer: RoleAnswer })
export const getRole = operation("GET /api/v1/roles/:id", { answer: RoleAnswer, missing: RoleNotFoundError })
export const updateRole = operation("PATCH /api/v1/roles/:id", {
  answer: RoleAnswer,
  missing: RoleNotFoundError
})
export const deleteRole = operation("DELETE /api/v1/roles/:id", { missing: RoleNotFoundError })
export const assignPolicy = operation("POST /api/v1/roles/:id/policies", { missing: RoleNotFoundError })
export const removePolicy = operation("DELETE /api/v1/roles/:id/policies/:policyId", {
  missing: RoleNotFoundError
})

export const listPolicies = operation("GET /api/v1/policies", {
  answer: list(PolicyAnswer),
  page: "policies"
})
export const createPolicy = operation("POST /api/v1/policies", { answer: PolicyAnswer })
export const getPolicy = operation("GET /api/v1/policies/:id", {
  answer: PolicyAnswer,
  missing: PolicyNotFoundError
})
export const updatePolicy = operation("PATCH /api/v1/policies/:id", {
  answer: PolicyAnswer,
  missing: PolicyNotFoundError
})
export const deletePolicy = operation("DELETE /api/v1/policies/:id", { missing: PolicyNotFoundError })

export const rows = {
  /** The keys that may be seen: those of the environment, or all of them for a key that spans all. */
  listApiKeys: row(listApiKeys, "apikey:read"),
  /** Makes a key. The answer is the only one that ever holds the key itself. */
  createApiKey: row(createApiKey, "apikey:create", {
    body: CreateApiKey,
    status: 201,
    errors: { 404: RoleNotFoundError }
  }),
  /** One key, without its secret. */
  getApiKey: row(getApiKey, "apikey:read"),
  /** The key stops working at once. */
  deleteApiKey: row(deleteApiKey, "apikey:delete"),
  /** Gives the key another secret. The one before ends at once, or after `overlap`. */
  rotateApiKey: row(rotateApiKey, "apikey:rotate", { body: RotateApiKey }),
  /** Who changed keys, organizations, roles and policies; newest first. */
  accessLog: row(accessLog, all("audit:read", "engine")),

  /** The organizations. */
  listOrgs: row(listOrgs, "org:read"),
  /** Makes an organization. */
  createOrg: row(createOrg, "org:create", { body: CreateOrg, status: 201 }),
  /** One organization. */
  getOrg: row(getOrg, "org:read"),
  /** Renames an organization. */
  updateOrg: row(updateOrg, "org:update", { body: UpdateOrg, errors: stays }),
  /** Deletes an organization that has no roles and policies. */
  deleteOrg: row(deleteOrg, "org:delete", { errors: stays }),

  /** The roles, or those of one organization. */
  listRoles: row(listRoles, "role:read", { query: ["org_id"] }),
  /** Makes a role. It may do nothing until it has policies. */
  createRole: row(createRole, "role:create", {
    body: CreateRole,
    status: 201,
    errors: { 404: OrgNotFoundError }
  }),
  /** One role. */
  getRole: row(getRole, "role:read"),
  /** Renames a role. */
  updateRole: row(updateRole, "role:update", { body: UpdateRole, errors: stays }),
  /** Deletes a role that no key has. */
  deleteRole: row(deleteRole, "role:delete", { errors: stays }),
  /** The policies of a role. */
  listRolePolicies: row("GET /api/v1/roles/:id/policies", "role:read", {
    answer: list(PolicyAnswer),
    page: "policies",
    missing: RoleNotFoundError,
    respects: { action: "policy:read", kind: "policy" }
  }),
  /** Gives a role a policy: all keys of the role have it at once. */
  assignPolicy: row(assignPolicy, "role:assign", {
    body: AssignPolicy,
    errors: { 404: PolicyNotFoundError, 409: InvalidStateError }
  }),
  /** Takes a policy from a role, if it has it. */
  removePolicy: row(removePolicy, "role:assign", { errors: stays }),

  /** The policies, or those of one organization. */
  listPolicies: row(listPolicies, "policy:read", { query: ["org_id"] }),
  /** Makes a policy, which does nothing until a role has it. */
  createPolicy: row(createPolicy, "policy:create", {
    body: CreatePolicy,
    status: 201,
    errors: { 404: OrgNotFoundError }
  }),
  /** One policy. */
  getPolicy: row(getPolicy, "policy:read"),
  /** Changes a policy, for all keys that it is about at once. */
  updatePolicy: row(updatePolicy, "policy:update", { body: UpdatePolicy, errors: stays }),
  /** Deletes a policy that no role has. */
  deletePolicy: row(deletePolicy, "policy:delete", { errors: stays })
}
