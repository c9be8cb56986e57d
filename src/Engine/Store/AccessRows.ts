/**
 * API keys, organizations, roles and policies: few rows, which the engine holds in memory. Every change tells what it
 * changed, so that the engine knows it before the caller does, and is written to the access log in the same transaction.
 */
import { affected, all, get, insert, statement, type Program, variant, write } from "./Program.ts"
import {
  ApiKeyNotFoundError,
  InvalidStateError,
  LimitExceededError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError,
  UnauthorizedError,
  ValidationError
} from "../../Errors.ts"
import { policiesOfRole, roleLength } from "../../Limits.ts"
import { keyNeeded } from "../Access/Access.ts"
import * as BuiltIn from "../Access/BuiltIn.ts"
import type {
  AccessLogEntry,
  AccessRecords,
  KeyRecord,
  NewKey,
  NewPolicy,
  NewSecret,
  OrgRecord,
  PolicyChanges,
  PolicyRecord,
  RoleRecord
} from "./AccessRecords.ts"
import type { Row, Transaction } from "./Transaction.ts"
import { parseStored } from "./StoredJson.ts"

/** Most keys, organizations, roles and policies each. */
export const MOST = 10_000

/** Entries of the access log that are kept. */
export const LOGGED = 10_000

const BOOTSTRAP = "key_bootstrap"

// ---------------------------------------------------------------------------------------------------------------------
// Reading
// ---------------------------------------------------------------------------------------------------------------------

const READ_ACCESS = statement(
  "AccessRows.readAccess",
  "SELECT role, policy FROM role_policies ORDER BY policy",
  { scans: "the access of an engine is held in memory, and bounded" }
)

const READ_ACCESS_2 = statement("AccessRows.readAccess.2", "SELECT * FROM api_keys ORDER BY id", {
  scans: "the access of an engine is held in memory, and bounded"
})

const READ_ACCESS_3 = statement("AccessRows.readAccess.3", "SELECT * FROM orgs ORDER BY id", {
  scans: "the access of an engine is held in memory, and bounded"
})

const READ_ACCESS_4 = statement("AccessRows.readAccess.4", "SELECT * FROM roles ORDER BY id", {
  scans: "the access of an engine is held in memory, and bounded"
})

const READ_ACCESS_5 = statement("AccessRows.readAccess.5", "SELECT * FROM policies ORDER BY id", {
  scans: "the access of an engine is held in memory, and bounded"
})

export function* readAccess(): Program<AccessRecords> {
  const assigned = new Map<string, Array<string>>()
  for (const { role, policy } of yield* all(READ_ACCESS)) {
    const policies = assigned.get(String(role))
    if (policies === undefined) assigned.set(String(role), [String(policy)])
    else policies.push(String(policy))
  }
  return {
    keys: (yield* all(READ_ACCESS_2)).map(toKey),
    orgs: (yield* all(READ_ACCESS_3)).map(toOrg),
    roles: (yield* all(READ_ACCESS_4)).map((row) => toRole(row, assigned.get(String(row.id)) ?? [])),
    policies: (yield* all(READ_ACCESS_5)).map(toPolicy)
  }
}

const READ_ACCESS_LOG = statement(
  "AccessRows.readAccessLog",
  "SELECT * FROM access_log ORDER BY seq DESC LIMIT ?",
  { scans: "newest first, up to a limit" }
)

export function* readAccessLog(limit: number): Program<Array<AccessLogEntry>> {
  return (yield* all(READ_ACCESS_LOG, limit)).map((row) => ({
    at: Number(row.at),
    by: String(row.who),
    action: String(row.action),
    subject: String(row.subject),
    // written by `log` below
    details: parseStored(String(row.details)) as { readonly [name: string]: unknown }
  }))
}

const toKey = (row: Row): KeyRecord => ({
  id: String(row.id),
  name: String(row.name),
  prefix: String(row.prefix),
  hash: String(row.hash),
  // written by `storeKey` below
  roleIds: parseStored(String(row.roles)) as Array<string>,
  createdAt: Number(row.created_at),
  ...(row.environment === null ? {} : { environment: String(row.environment) }),
  ...(row.expires_at === null ? {} : { expiresAt: Number(row.expires_at) }),
  ...(row.last_used_at === null ? {} : { lastUsedAt: Number(row.last_used_at) }),
  ...(row.previous_hash === null
    ? {}
    : { previous: { hash: String(row.previous_hash), endsAt: Number(row.previous_ends_at) } })
})

const toOrg = (row: Row): OrgRecord => ({
  id: String(row.id),
  name: String(row.name),
  createdAt: Number(row.created_at),
  updatedAt: Number(row.updated_at)
})

const toRole = (row: Row, policyIds: ReadonlyArray<string>): RoleRecord => ({
  id: String(row.id),
  orgId: String(row.org),
  name: String(row.name),
  policyIds,
  createdAt: Number(row.created_at)
})

const toPolicy = (row: Row): PolicyRecord => ({
  id: String(row.id),
  orgId: String(row.org),
  name: String(row.name),
  effect: row.effect === "deny" ? "deny" : "allow",
  actions: String(row.actions),
  resources: String(row.resources),
  ...(row.condition === null ? {} : { condition: String(row.condition) }),
  createdAt: Number(row.created_at),
  updatedAt: Number(row.updated_at)
})

// ---------------------------------------------------------------------------------------------------------------------
// Keys
// ---------------------------------------------------------------------------------------------------------------------

export function* createApiKey(tx: Transaction, input: NewKey, by: string): Program<KeyRecord> {
  const isFirst = (yield* count("api_keys")) === 0
  // two of them may have come at once
  if (input.byAnybody === true && !isFirst) throw keyNeeded()
  if (isFirst && input.lifeMs !== undefined) {
    throw new ValidationError(
      "The first API key must not expire: when it did, nobody would be let in any more. Make it without an end " +
        "(`ironflow apikeys create admin`), and with it the one that expires"
    )
  }
  yield* checkRoom("api_keys", "API keys")
  const environment =
    input.byAnybody === true ? "*" : (input.environment ?? (isFirst ? "*" : input.callEnvironment))
  const roleIds = [
    ...new Set([
      ...(input.roleIds ?? [isFirst ? BuiltIn.ADMIN : BuiltIn.DEVELOPER]),
      ...(input.byAnybody === true ? [BuiltIn.ADMIN] : [])
    ])
  ]
  for (const id of roleIds) yield* findRole(id)
  const createdAt = tx.now()
  const expiresAt = Math.min(
    input.endsBy ?? Number.POSITIVE_INFINITY,
    createdAt + (input.lifeMs ?? Number.POSITIVE_INFINITY)
  )
  const key: KeyRecord = {
    id: tx.ids.apiKey(),
    name: input.name,
    prefix: input.prefix,
    hash: input.hash,
    roleIds,
    createdAt,
    ...(environment === "*" ? {} : { environment }),
    ...(expiresAt === Number.POSITIVE_INFINITY ? {} : { expiresAt })
  }
  yield* storeKey(tx, key)
  yield* log(tx, by, "apikey:create", key.id, { name: key.name, environment, roles: roleIds })
  return key
}

const PUT_BOOTSTRAP_KEY = statement("AccessRows.putBootstrapKey", "SELECT * FROM api_keys WHERE id = ?")

const PUT_BOOTSTRAP_KEY_2 = statement(
  "AccessRows.putBootstrapKey.2",
  "SELECT 1 FROM api_keys WHERE hash = ? AND id <> ?"
)

const PUT_BOOTSTRAP_KEY_3 = statement("AccessRows.putBootstrapKey.3", "DELETE FROM api_keys WHERE id = ?")

/** Makes the key of the operator's choice stand, whatever there was under its id. */
export function* putBootstrapKey(tx: Transaction, hash: string): Program<void> {
  const row = yield* get(PUT_BOOTSTRAP_KEY, BOOTSTRAP)
  if (row !== undefined && row.hash === hash) return
  if ((yield* get(PUT_BOOTSTRAP_KEY_2, hash, BOOTSTRAP)) !== undefined) return
  const key: KeyRecord = {
    id: BOOTSTRAP,
    name: "bootstrap",
    prefix: "",
    hash,
    roleIds: [BuiltIn.ADMIN],
    createdAt: tx.now()
  }
  yield* write(PUT_BOOTSTRAP_KEY_3, BOOTSTRAP)
  yield* storeKey(tx, key)
  yield* log(tx, "local", row === undefined ? "apikey:create" : "apikey:rotate", BOOTSTRAP, {
    name: key.name
  })
}

const ROTATE_API_KEY = statement(
  "AccessRows.rotateApiKey",
  "UPDATE api_keys SET hash = ?, prefix = ?, previous_hash = ?, previous_ends_at = ? WHERE id = ?"
)

export function* rotateApiKey(
  tx: Transaction,
  id: string,
  { hash, overlapMs, prefix }: NewSecret,
  by: string
): Program<KeyRecord> {
  const { previous: _, ...before } = yield* findKey(id)
  const previous = overlapMs === undefined ? undefined : { hash: before.hash, endsAt: tx.now() + overlapMs }
  const key: KeyRecord = { ...before, hash, prefix, ...(previous === undefined ? {} : { previous }) }
  yield* write(ROTATE_API_KEY, hash, prefix, previous?.hash ?? null, previous?.endsAt ?? null, id)
  tx.changes.access.push({ _tag: "Key", key })
  yield* log(tx, by, "apikey:rotate", id, {
    name: key.name,
    ...(previous === undefined ? {} : { overlapMs })
  })
  return key
}

const DELETE_API_KEY = statement("AccessRows.deleteApiKey", "DELETE FROM api_keys WHERE id = ?")

export function* deleteApiKey(
  tx: Transaction,
  id: string,
  by: string,
  { mayOpen = true }: { readonly mayOpen?: boolean } = {}
): Program<void> {
  const { name } = yield* findKey(id)
  if (!mayOpen && (yield* count("api_keys")) === 1) {
    throw new UnauthorizedError(
      `The API key "${name}" is the last one: without it everybody who reaches the engine might do everything, so it is deleted only ` +
        "with a key that may do everything itself, in all environments and without an end"
    )
  }
  yield* write(DELETE_API_KEY, id)
  tx.changes.access.push({ _tag: "KeyDeleted", id })
  yield* log(tx, by, "apikey:delete", id, { name })
}

const TOUCH_API_KEYS = statement(
  "AccessRows.touchApiKeys",
  "UPDATE api_keys SET last_used_at = ? WHERE id = ?"
)

/** Notes when keys were last used; those that are gone are left out. */
export function* touchApiKeys(
  uses: ReadonlyArray<{ readonly id: string; readonly at: number }>
): Program<void> {
  for (const { id, at } of uses) yield* write(TOUCH_API_KEYS, at, id)
}

const STORE_KEY = statement(
  "AccessRows.storeKey",
  `INSERT INTO api_keys (id, name, prefix, hash, environment, roles, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
)

function* storeKey(tx: Transaction, key: KeyRecord): Program<void> {
  yield* write(
    STORE_KEY,
    key.id,
    key.name,
    key.prefix,
    key.hash,
    key.environment ?? null,
    JSON.stringify(key.roleIds),
    key.createdAt,
    key.expiresAt ?? null
  )
  tx.changes.access.push({ _tag: "Key", key })
}

const FIND_KEY = statement("AccessRows.findKey", "SELECT * FROM api_keys WHERE id = ?")

function* findKey(id: string): Program<KeyRecord> {
  const row = yield* get(FIND_KEY, id)
  if (row === undefined) throw new ApiKeyNotFoundError(id)
  return toKey(row)
}

// ---------------------------------------------------------------------------------------------------------------------
// Organizations
// ---------------------------------------------------------------------------------------------------------------------

const CREATE_ORG = statement(
  "AccessRows.createOrg",
  "INSERT INTO orgs (id, name, created_at, updated_at) VALUES (?, ?, ?, ?)"
)

export function* createOrg(tx: Transaction, name: string, by: string): Program<OrgRecord> {
  yield* checkRoom("orgs", "organizations")
  const now = tx.now()
  const org = { id: tx.ids.org(), name, createdAt: now, updatedAt: now }
  yield* write(CREATE_ORG, org.id, name, now, now)
  tx.changes.access.push({ _tag: "Org", org })
  yield* log(tx, by, "org:create", org.id, { name })
  return org
}

const UPDATE_ORG = statement("AccessRows.updateOrg", "UPDATE orgs SET name = ?, updated_at = ? WHERE id = ?")

export function* updateOrg(
  tx: Transaction,
  id: string,
  name: string | undefined,
  by: string
): Program<OrgRecord> {
  refuseBuiltIn("organization", id)
  const before = yield* findOrg(id)
  if (name === undefined) return before
  const org = { ...before, name, updatedAt: tx.now() }
  yield* write(UPDATE_ORG, name, org.updatedAt, id)
  tx.changes.access.push({ _tag: "Org", org })
  yield* log(tx, by, "org:update", id, { name })
  return org
}

const DELETE_ORG = statement("AccessRows.deleteOrg", "SELECT count(*) AS n FROM roles WHERE org = ?")

const DELETE_ORG_2 = statement("AccessRows.deleteOrg.2", "SELECT count(*) AS n FROM policies WHERE org = ?")

const DELETE_ORG_3 = statement("AccessRows.deleteOrg.3", "DELETE FROM orgs WHERE id = ?")

export function* deleteOrg(tx: Transaction, id: string, by: string): Program<void> {
  refuseBuiltIn("organization", id)
  const { name } = yield* findOrg(id)
  const roles = Number((yield* get(DELETE_ORG, id))?.n)
  const policies = Number((yield* get(DELETE_ORG_2, id))?.n)
  if (roles + policies > 0) {
    throw new InvalidStateError(
      `Organization "${name}" (${id}) is in use: it has ${roles} roles and ${policies} policies. Delete these first`
    )
  }
  yield* write(DELETE_ORG_3, id)
  tx.changes.access.push({ _tag: "OrgDeleted", id })
  yield* log(tx, by, "org:delete", id, { name })
}

const FIND_ORG = statement("AccessRows.findOrg", "SELECT * FROM orgs WHERE id = ?")

function* findOrg(id: string): Program<OrgRecord> {
  const builtIn = BuiltIn.orgs.find((org) => org.id === id)
  if (builtIn !== undefined) return builtIn
  const row = yield* get(FIND_ORG, id)
  if (row === undefined) throw new OrgNotFoundError(id)
  return toOrg(row)
}

// ---------------------------------------------------------------------------------------------------------------------
// Roles
// ---------------------------------------------------------------------------------------------------------------------

const CREATE_ROLE = statement(
  "AccessRows.createRole",
  "INSERT INTO roles (id, org, name, created_at) VALUES (?, ?, ?, ?)"
)

export function* createRole(
  tx: Transaction,
  input: Pick<RoleRecord, "name" | "orgId">,
  by: string
): Program<RoleRecord> {
  yield* checkRoom("roles", "roles")
  yield* findOrg(input.orgId)
  const role: RoleRecord = { id: tx.ids.role(), ...input, policyIds: [], createdAt: tx.now() }
  yield* write(CREATE_ROLE, role.id, role.orgId, role.name, role.createdAt)
  tx.changes.access.push({ _tag: "Role", role })
  yield* log(tx, by, "role:create", role.id, { name: role.name })
  return role
}

const UPDATE_ROLE = statement("AccessRows.updateRole", "UPDATE roles SET name = ? WHERE id = ?")

export function* updateRole(
  tx: Transaction,
  id: string,
  name: string | undefined,
  by: string
): Program<RoleRecord> {
  refuseBuiltIn("role", id)
  const before = yield* findRole(id)
  if (name === undefined) return before
  const role = { ...before, name }
  yield* write(UPDATE_ROLE, name, id)
  tx.changes.access.push({ _tag: "Role", role })
  yield* log(tx, by, "role:update", id, { name })
  return role
}

const DELETE_ROLE = statement(
  "AccessRows.deleteRole",
  "SELECT id FROM api_keys WHERE EXISTS (SELECT 1 FROM json_each(roles) WHERE value = ?) ORDER BY id LIMIT 3",
  { scans: "keys are few, and roles are deleted seldom" }
)

const DELETE_ROLE_2 = statement("AccessRows.deleteRole.2", "DELETE FROM role_policies WHERE role = ?")

const DELETE_ROLE_3 = statement("AccessRows.deleteRole.3", "DELETE FROM roles WHERE id = ?")

export function* deleteRole(tx: Transaction, id: string, by: string): Program<void> {
  refuseBuiltIn("role", id)
  const { name } = yield* findRole(id)
  const holders = yield* all(DELETE_ROLE, id)
  if (holders.length > 0) {
    throw new InvalidStateError(
      `Role "${name}" (${id}) is in use: API keys have it, such as ${holders.map((key) => String(key.id)).join(", ")}. ` +
        "Delete these first"
    )
  }
  yield* write(DELETE_ROLE_2, id)
  yield* write(DELETE_ROLE_3, id)
  tx.changes.access.push({ _tag: "RoleDeleted", id })
  yield* log(tx, by, "role:delete", id, { name })
}

const ASSIGN_POLICY = statement(
  "AccessRows.assignPolicy",
  "INSERT INTO role_policies (role, policy) VALUES (?, ?)"
)

export function* assignPolicy(tx: Transaction, roleId: string, policyId: string, by: string): Program<void> {
  refuseBuiltIn("role", roleId)
  const role = yield* findRole(roleId)
  const policy = yield* findPolicy(policyId)
  if (policy.orgId !== role.orgId && !BuiltIn.isBuiltIn(policyId)) {
    throw new ValidationError(
      `Policy "${policy.name}" belongs to organization ${policy.orgId} and role "${role.name}" to ${role.orgId}: assign one of the role's own organization, or a built-in one`
    )
  }
  if (role.policyIds.includes(policyId)) return
  if (role.policyIds.length >= policiesOfRole) {
    throw new LimitExceededError(
      `The list of policies of role "${role.name}"`,
      role.policyIds.length + 1,
      policiesOfRole,
      "policies"
    )
  }
  yield* write(ASSIGN_POLICY, roleId, policyId)
  yield* checkLengths(policyId)
  yield* changedPolicies(tx, roleId)
  yield* log(tx, by, "role:assign", roleId, { policy: policyId })
}

const REMOVE_POLICY = statement(
  "AccessRows.removePolicy",
  "DELETE FROM role_policies WHERE role = ? AND policy = ?"
)

/** One that is not assigned is left as it is. */
export function* removePolicy(tx: Transaction, roleId: string, policyId: string, by: string): Program<void> {
  refuseBuiltIn("role", roleId)
  yield* findRole(roleId)
  yield* findPolicy(policyId)
  if ((yield* affected(REMOVE_POLICY, roleId, policyId)) === 0) return
  yield* changedPolicies(tx, roleId)
  yield* log(tx, by, "role:remove", roleId, { policy: policyId })
}

function* changedPolicies(tx: Transaction, roleId: string): Program<void> {
  tx.changes.access.push({ _tag: "Role", role: yield* findRole(roleId) })
}

const FIND_ROLE = statement("AccessRows.findRole", "SELECT * FROM roles WHERE id = ?")

const FIND_ROLE_2 = statement(
  "AccessRows.findRole.2",
  "SELECT policy FROM role_policies WHERE role = ? ORDER BY policy"
)

function* findRole(id: string): Program<RoleRecord> {
  const builtIn = BuiltIn.roles.find((role) => role.id === id)
  if (builtIn !== undefined) return builtIn
  const row = yield* get(FIND_ROLE, id)
  if (row === undefined) throw new RoleNotFoundError(id)
  return toRole(
    row,
    (yield* all(FIND_ROLE_2, id)).map(({ policy }) => String(policy))
  )
}

// ---------------------------------------------------------------------------------------------------------------------
// Policies
// ---------------------------------------------------------------------------------------------------------------------

const CREATE_POLICY = statement(
  "AccessRows.createPolicy",
  `INSERT INTO policies (id, org, name, effect, actions, resources, condition, created_at, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

export function* createPolicy(tx: Transaction, input: NewPolicy, by: string): Program<PolicyRecord> {
  yield* checkRoom("policies", "policies")
  yield* findOrg(input.orgId)
  const now = tx.now()
  const policy: PolicyRecord = { id: tx.ids.policy(), ...input, createdAt: now, updatedAt: now }
  yield* write(
    CREATE_POLICY,
    policy.id,
    policy.orgId,
    policy.name,
    policy.effect,
    policy.actions,
    policy.resources,
    policy.condition ?? null,
    now,
    now
  )
  tx.changes.access.push({ _tag: "Policy", policy })
  yield* log(tx, by, "policy:create", policy.id, { ...input })
  return policy
}

const UPDATE_POLICY = statement(
  "AccessRows.updatePolicy",
  "UPDATE policies SET name = ?, effect = ?, actions = ?, resources = ?, condition = ?, updated_at = ? WHERE id = ?"
)

export function* updatePolicy(
  tx: Transaction,
  id: string,
  changes: PolicyChanges,
  by: string
): Program<PolicyRecord> {
  refuseBuiltIn("policy", id)
  const before = yield* findPolicy(id)
  const { condition, ...rest } = { ...before, ...changes }
  const policy: PolicyRecord = {
    ...rest,
    ...(condition === undefined || condition === "" ? {} : { condition }),
    updatedAt: tx.now()
  }
  yield* write(
    UPDATE_POLICY,
    policy.name,
    policy.effect,
    policy.actions,
    policy.resources,
    policy.condition ?? null,
    policy.updatedAt,
    id
  )
  if (lengthOf(policy) > lengthOf(before)) yield* checkLengths(id)
  tx.changes.access.push({ _tag: "Policy", policy })
  yield* log(tx, by, "policy:update", id, { ...changes })
  return policy
}

const DELETE_POLICY = statement(
  "AccessRows.deletePolicy",
  "SELECT role FROM role_policies WHERE policy = ? ORDER BY role LIMIT 3"
)

const DELETE_POLICY_2 = statement("AccessRows.deletePolicy.2", "DELETE FROM policies WHERE id = ?")

export function* deletePolicy(tx: Transaction, id: string, by: string): Program<void> {
  refuseBuiltIn("policy", id)
  const { name } = yield* findPolicy(id)
  const roles = yield* all(DELETE_POLICY, id)
  if (roles.length > 0) {
    throw new InvalidStateError(
      `Policy "${name}" (${id}) is in use: it is assigned to roles, such as ${roles.map(({ role }) => String(role)).join(", ")}. ` +
        "Remove it from these first"
    )
  }
  yield* write(DELETE_POLICY_2, id)
  tx.changes.access.push({ _tag: "PolicyDeleted", id })
  yield* log(tx, by, "policy:delete", id, { name })
}

const lengthOf = ({ actions, condition = "", resources }: NewPolicy): number =>
  actions.length + resources.length + condition.length

const LONG_ROLES = statement(
  "AccessRows.longRoles",
  `SELECT r.name AS name, sum(length(p.actions) + length(p.resources) + coalesce(length(p.condition), 0)) AS size
     FROM roles r JOIN role_policies a ON a.role = r.id JOIN policies p ON p.id = a.policy
     WHERE r.id IN (SELECT role FROM role_policies WHERE policy = ?) GROUP BY r.id HAVING size > ? LIMIT 1`
)

/** Throws when a role with the policy says more than may be looked through for each call of its keys. */
function* checkLengths(policyId: string): Program<void> {
  const long = yield* get(LONG_ROLES, policyId, roleLength)
  if (long === undefined) return
  throw new LimitExceededError(
    `The policies of role "${String(long.name)}" together`,
    Number(long.size),
    roleLength,
    "characters"
  )
}

const FIND_POLICY = statement("AccessRows.findPolicy", "SELECT * FROM policies WHERE id = ?")

function* findPolicy(id: string): Program<PolicyRecord> {
  const builtIn = BuiltIn.policies.find((policy) => policy.id === id)
  if (builtIn !== undefined) return builtIn
  const row = yield* get(FIND_POLICY, id)
  if (row === undefined) throw new PolicyNotFoundError(id)
  return toPolicy(row)
}

// ---------------------------------------------------------------------------------------------------------------------

type Table = "api_keys" | "orgs" | "roles" | "policies"

function* count(table: Table): Program<number> {
  return Number((yield* get(variant("AccessRows.count", `SELECT count(*) AS n FROM ${table}`)))?.n)
}

function* checkRoom(table: Table, what: string): Program<void> {
  if ((yield* count(table)) >= MOST)
    throw new LimitExceededError(`The number of ${what}`, MOST + 1, MOST, what)
}

const refuseBuiltIn = (what: string, id: string): void => {
  if (!BuiltIn.isBuiltIn(id)) return
  throw new InvalidStateError(`The ${what} ${id} is built in and stays as it is: make one of your own`)
}

const LOG = statement(
  "AccessRows.log",
  "INSERT INTO access_log (at, who, action, subject, details) VALUES (?, ?, ?, ?, ?)"
)

const LOG_2 = statement("AccessRows.log.2", "DELETE FROM access_log WHERE seq <= ?")

function* log(
  tx: Transaction,
  by: string,
  action: string,
  subject: string,
  details: { readonly [name: string]: unknown }
): Program<void> {
  const seq = yield* insert(LOG, tx.now(), by, action, subject, JSON.stringify(details))
  yield* write(LOG_2, seq - LOGGED)
}
