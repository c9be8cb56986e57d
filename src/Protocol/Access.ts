/** API keys, organizations, roles, policies and the access log: their messages and calls. */
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
  onlyLegacyMayLack,
  anyOf,
  type Codec,
  fields,
  nonEmptyText,
  flag,
  lenientList,
  list,
  number,
  object,
  oneOf,
  optional,
  orElse,
  struct,
  text
} from "./Codec.ts"
import { all, operation, callSpec } from "./CallSpec.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** An API key, without its secret. Times are ISO strings. */
export interface APIKey {
  /** Id of the key, `key_...`. */
  readonly id: string
  /** Display name. */
  readonly name: string
  /** The first characters of the secret, to tell keys apart. */
  readonly key_prefix: string
  /** `env_<name>`, or `*` for a key that spans all environments. */
  readonly env_id?: string
  /** Ids of the roles of the key. */
  readonly role_ids?: Array<string>
  /** When the key was created. */
  readonly created_at: string
  /** When the key expires; absent when it never expires. */
  readonly expires_at?: string
  /** When the key was last used. A use may take a few seconds to appear here. */
  readonly last_used_at?: string
  /** Until when the previous secret works, after a rotation. */
  readonly previous_expires_at?: string
}

/** The result of `create` and `rotate`: an API key with its secret. */
export interface APIKeyWithSecret extends APIKey {
  /** The secret. It is not stored, and cannot be shown again. */
  readonly secret: string
  /** Another name of `secret`, with the same value. */
  readonly key: string
}

/** An API key to create. */
export interface CreateAPIKeyInput {
  /** Display name. */
  readonly name: string
  /**
   * The environment of the key: the name of the environment, with or without the prefix `env_`, or `*` for all
   * environments. By default the environment of the client. The first key of a server always spans all environments.
   */
  readonly envId?: string
  /** Another name of `envId`. */
  readonly env_id?: string
  /**
   * Ids of the key's roles; the developer role by default. A key with `[]` may do nothing. The first key of a
   * server also has the admin role.
   */
  readonly role_ids?: ReadonlyArray<string>
  /** Another name of `role_ids`. */
  readonly roleIds?: ReadonlyArray<string>
  /** Lifetime of the key, such as `"90d"`; unlimited by default. */
  readonly expires_in?: Duration
  /** Another name of `expires_in`. */
  readonly expiresIn?: Duration
}

/** Options of `rotate`. */
export interface RotateAPIKeyOptions {
  /**
   * How long the old secret keeps working beside the new one, such as `"24h"`; at most 30 days. By default
   * the old secret stops at once.
   */
  readonly overlap?: Duration
}

/** An organization. Times are ISO strings. */
export interface Organization {
  /** Id of the organization. */
  readonly id: string
  /** Display name. */
  readonly name: string
  /** When it was created. */
  readonly created_at: string
  /** When it was last changed. */
  readonly updated_at: string
}

/** An organization to create. */
export interface CreateOrgInput {
  /** Display name. */
  readonly name: string
}

/** Changes of an organization. */
export interface UpdateOrgInput {
  /** Display name; unchanged if absent. */
  readonly name?: string
}

/** A role. Keys have roles, and roles have policies. */
export interface Role {
  /** Id of the role, `role_...`. */
  readonly id: string
  /** Id of its organization. */
  readonly org_id: string
  /** Display name. */
  readonly name: string
  /** Whether the role is built in. Such a role cannot be changed. */
  readonly is_default: boolean
  /** Ids of the policies of the role. Legacy servers leave this member out. */
  readonly policy_ids?: Array<string>
  /** When the role was created, as an ISO string. */
  readonly created_at: string
}

/** A role to create. */
export interface CreateRoleInput {
  /** Display name. */
  readonly name: string
  /** Id of its organization; by default that of the built-in organization. */
  readonly org_id?: string
}

/** Changes of a role. */
export interface UpdateRoleInput {
  /** Display name; unchanged if absent. */
  readonly name?: string
}

/** A policy. Times are ISO strings. */
export interface Policy {
  /** Id of the policy, `policy_...`. */
  readonly id: string
  /** Id of its organization. */
  readonly org_id: string
  /** Display name. */
  readonly name: string
  /** Whether the policy allows or denies. */
  readonly effect: PolicyEffect
  /** Patterns of actions, separated by commas, such as `emit:*, run:cancel`; `*` matches any characters. */
  readonly actions: string
  /** Patterns of `<kind>:<name>`, separated by commas, such as `event:order.*`; `*` for all. */
  readonly resources: string
  /** CEL expression over `request`. The policy applies only when the expression is true. */
  readonly condition?: string
  /** When it was created. */
  readonly created_at: string
  /** When it was last changed. */
  readonly updated_at: string
}

/** A policy to create. */
export interface CreatePolicyInput {
  /** Display name. */
  readonly name: string
  /** Whether the policy allows or denies. */
  readonly effect: PolicyEffect
  /** Patterns of actions, separated by commas, such as `emit:*, run:cancel`; `*` matches any characters. */
  readonly actions: string
  /** Patterns of `<kind>:<name>`, separated by commas, such as `event:order.*`; `*` for all. */
  readonly resources: string
  /**
   * CEL expression over `request`. The policy only applies when the expression is true; without an expression it
   * always applies.
   */
  readonly condition?: string
  /** Id of its organization; by default that of the built-in organization. */
  readonly org_id?: string
}

/** Changes of a policy; absent members stay as they are. */
export interface UpdatePolicyInput {
  /** Display name. */
  readonly name?: string
  /** Whether the policy allows or denies. */
  readonly effect?: PolicyEffect
  /** Patterns of actions, separated by commas. */
  readonly actions?: string
  /** Patterns of `<kind>:<name>`, separated by commas. */
  readonly resources?: string
  /** CEL expression over `request`. An empty string removes the condition. */
  readonly condition?: string
}

/** A string; empty when a legacy server leaves it out. */
const textOrEmpty = orElse(text, "")

const keyFields = {
  id: text,
  name: textOrEmpty,
  key_prefix: textOrEmpty,
  env_id: onlyLegacyMayLack(nonEmptyText),
  role_ids: onlyLegacyMayLack(lenientList(text)),
  created_at: textOrEmpty,
  expires_at: optional(nonEmptyText),
  last_used_at: optional(nonEmptyText),
  previous_expires_at: optional(nonEmptyText)
}
const ApiKey: Codec<APIKey> = fields<APIKey>(keyFields)
/**
 * A key with its secret, as the answers of `createApiKey` and `rotateApiKey` contain it. The engine of this package
 * sends the secret as `key` and as `secret`; legacy servers may send only one of the two.
 */
export const NewApiKey = fields<APIKey & Partial<Pick<APIKeyWithSecret, "secret" | "key">>>({
  ...keyFields,
  secret: onlyLegacyMayLack(nonEmptyText),
  key: onlyLegacyMayLack(nonEmptyText)
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

const Org = fields<Organization>({
  id: text,
  name: textOrEmpty,
  created_at: textOrEmpty,
  updated_at: textOrEmpty
})
export const CreateOrg = fields<CreateOrgInput>({ name: text })
export const UpdateOrg = fields<UpdateOrgInput>({ name: optional(text) })

const RoleAnswer = fields<Role>({
  id: text,
  org_id: textOrEmpty,
  name: textOrEmpty,
  is_default: orElse(flag, false),
  policy_ids: onlyLegacyMayLack(lenientList(text)),
  created_at: textOrEmpty
})
export const CreateRole = fields<CreateRoleInput>({ name: text, org_id: optional(text) })
export const UpdateRole = fields<UpdateRoleInput>({ name: optional(text) })
export const AssignPolicy = struct({ policy_id: text })

const effect = oneOf("allow", "deny")
const PolicyAnswer = fields<Policy>({
  id: text,
  org_id: textOrEmpty,
  name: textOrEmpty,
  effect: orElse(effect, "allow"),
  actions: textOrEmpty,
  resources: textOrEmpty,
  condition: optional(nonEmptyText),
  created_at: textOrEmpty,
  updated_at: textOrEmpty
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

/** The error of a call that cannot change or delete a resource, because it is built in or in use. */
const notChangeableErrors = { 409: InvalidStateError } as const

export const listApiKeys = operation("GET /api/v1/apikeys", { answer: list(ApiKey), page: "api_keys" })
export const createApiKey = operation("POST /api/v1/apikeys", { answer: NewApiKey })
export const getApiKey = operation("GET /api/v1/apikeys/:id", {
  answer: ApiKey,
  notFoundError: ApiKeyNotFoundError
})
export const deleteApiKey = operation("DELETE /api/v1/apikeys/:id", { notFoundError: ApiKeyNotFoundError })
export const rotateApiKey = operation("POST /api/v1/apikeys/:id/rotate", {
  answer: NewApiKey,
  notFoundError: ApiKeyNotFoundError
})

export const accessLog = operation("GET /api/v1/access-log", { answer: AccessLog })

export const listOrgs = operation("GET /api/v1/orgs", { answer: list(Org), page: "orgs" })
export const createOrg = operation("POST /api/v1/orgs", { answer: Org })
export const getOrg = operation("GET /api/v1/orgs/:id", { answer: Org, notFoundError: OrgNotFoundError })
export const updateOrg = operation("PATCH /api/v1/orgs/:id", { answer: Org, notFoundError: OrgNotFoundError })
export const deleteOrg = operation("DELETE /api/v1/orgs/:id", { notFoundError: OrgNotFoundError })

export const listRoles = operation("GET /api/v1/roles", { answer: list(RoleAnswer), page: "roles" })
export const createRole = operation("POST /api/v1/roles", { answer: RoleAnswer })
export const getRole = operation("GET /api/v1/roles/:id", {
  answer: RoleAnswer,
  notFoundError: RoleNotFoundError
})
export const updateRole = operation("PATCH /api/v1/roles/:id", {
  answer: RoleAnswer,
  notFoundError: RoleNotFoundError
})
export const deleteRole = operation("DELETE /api/v1/roles/:id", { notFoundError: RoleNotFoundError })
export const assignPolicy = operation("POST /api/v1/roles/:id/policies", { notFoundError: RoleNotFoundError })
export const removePolicy = operation("DELETE /api/v1/roles/:id/policies/:policyId", {
  notFoundError: RoleNotFoundError
})

export const listPolicies = operation("GET /api/v1/policies", {
  answer: list(PolicyAnswer),
  page: "policies"
})
export const createPolicy = operation("POST /api/v1/policies", { answer: PolicyAnswer })
export const getPolicy = operation("GET /api/v1/policies/:id", {
  answer: PolicyAnswer,
  notFoundError: PolicyNotFoundError
})
export const updatePolicy = operation("PATCH /api/v1/policies/:id", {
  answer: PolicyAnswer,
  notFoundError: PolicyNotFoundError
})
export const deletePolicy = operation("DELETE /api/v1/policies/:id", { notFoundError: PolicyNotFoundError })

export const callSpecs = {
  /** Lists the keys of the environment; lists all keys when the caller's key spans all environments. */
  listApiKeys: callSpec(listApiKeys, "apikey:read"),
  /** Creates a key. Only this answer contains its secret. */
  createApiKey: callSpec(createApiKey, "apikey:create", {
    body: CreateApiKey,
    status: 201,
    errors: { 404: RoleNotFoundError }
  }),
  /** Returns a key, without its secret. */
  getApiKey: callSpec(getApiKey, "apikey:read"),
  /** Deletes a key, which stops working at once. */
  deleteApiKey: callSpec(deleteApiKey, "apikey:delete"),
  /** Gives a key a new secret. The old secret stops working at once, or after `overlap`. */
  rotateApiKey: callSpec(rotateApiKey, "apikey:rotate", { body: RotateApiKey }),
  /** Returns the log of changes to keys, organizations, roles and policies, and of operations on functions and runs, newest first. */
  accessLog: callSpec(accessLog, all("audit:read", "engine")),

  /** Lists the organizations. */
  listOrgs: callSpec(listOrgs, "org:read"),
  /** Creates an organization. */
  createOrg: callSpec(createOrg, "org:create", { body: CreateOrg, status: 201 }),
  /** Returns an organization. */
  getOrg: callSpec(getOrg, "org:read"),
  /** Renames an organization. */
  updateOrg: callSpec(updateOrg, "org:update", { body: UpdateOrg, errors: notChangeableErrors }),
  /** Deletes an organization, which must have no roles and no policies. */
  deleteOrg: callSpec(deleteOrg, "org:delete", { errors: notChangeableErrors }),

  /** Lists the roles of all organizations, or of one (`org_id`). */
  listRoles: callSpec(listRoles, "role:read", { query: ["org_id"] }),
  /** Creates a role without policies. */
  createRole: callSpec(createRole, "role:create", {
    body: CreateRole,
    status: 201,
    errors: { 404: OrgNotFoundError }
  }),
  /** Returns a role. */
  getRole: callSpec(getRole, "role:read"),
  /** Renames a role. */
  updateRole: callSpec(updateRole, "role:update", { body: UpdateRole, errors: notChangeableErrors }),
  /** Deletes a role, which no key may have. */
  deleteRole: callSpec(deleteRole, "role:delete", { errors: notChangeableErrors }),
  /** Lists the policies of a role. */
  listRolePolicies: callSpec("GET /api/v1/roles/:id/policies", "role:read", {
    answer: list(PolicyAnswer),
    page: "policies",
    notFoundError: RoleNotFoundError,
    secondAction: { action: "policy:read", kind: "policy" }
  }),
  /** Assigns a policy to a role, with immediate effect for all keys of the role. */
  assignPolicy: callSpec(assignPolicy, "role:assign", {
    body: AssignPolicy,
    errors: { 404: PolicyNotFoundError, 409: InvalidStateError }
  }),
  /** Removes a policy from a role, if it is assigned. */
  removePolicy: callSpec(removePolicy, "role:assign", { errors: notChangeableErrors }),

  /** Lists the policies of all organizations, or of one (`org_id`). */
  listPolicies: callSpec(listPolicies, "policy:read", { query: ["org_id"] }),
  /** Creates a policy. It applies once it is assigned to a role. */
  createPolicy: callSpec(createPolicy, "policy:create", {
    body: CreatePolicy,
    status: 201,
    errors: { 404: OrgNotFoundError }
  }),
  /** Returns a policy. */
  getPolicy: callSpec(getPolicy, "policy:read"),
  /** Changes a policy, with immediate effect for all keys whose roles have it. */
  updatePolicy: callSpec(updatePolicy, "policy:update", { body: UpdatePolicy, errors: notChangeableErrors }),
  /** Deletes a policy, which no role may have. */
  deletePolicy: callSpec(deletePolicy, "policy:delete", { errors: notChangeableErrors })
}
