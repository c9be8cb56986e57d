/**
 * API keys, organizations, roles and policies: few rows, which the engine holds in memory. Every change tells what it
 * changed, so that the engine knows it before the caller does, and is written to the access log in the same transaction.
 */
import {
  ApiKeyNotFoundError,
  InvalidStateError,
  LimitExceededError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError,
  ValidationError
} from "../../Errors.ts"
import { listLength } from "../../Limits.ts"
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

export const readAccess = (tx: Transaction): AccessRecords => {
  const assigned = new Map<string, Array<string>>()
  for (const { role, policy } of tx.all("SELECT role, policy FROM role_policies ORDER BY policy")) {
    const policies = assigned.get(String(role))
    if (policies === undefined) assigned.set(String(role), [String(policy)])
    else policies.push(String(policy))
  }
  return {
    keys: tx.all("SELECT * FROM api_keys ORDER BY id").map(toKey),
    orgs: tx.all("SELECT * FROM orgs ORDER BY id").map(toOrg),
    roles: tx
      .all("SELECT * FROM roles ORDER BY id")
      .map((row) => toRole(row, assigned.get(String(row.id)) ?? [])),
    policies: tx.all("SELECT * FROM policies ORDER BY id").map(toPolicy)
  }
}

export const readAccessLog = (tx: Transaction, limit: number): Array<AccessLogEntry> =>
  tx.all("SELECT * FROM access_log ORDER BY seq DESC LIMIT ?", limit).map((row) => ({
    at: Number(row.at),
    by: String(row.who),
    action: String(row.action),
    subject: String(row.subject),
    // written by `log` below
    details: parseStored(String(row.details)) as { readonly [name: string]: unknown }
  }))

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

export const createApiKey = (tx: Transaction, input: NewKey, by: string): KeyRecord => {
  const isFirst = count(tx, "api_keys") === 0
  // two of them may have come at once
  if (input.byAnybody === true && !isFirst) throw keyNeeded()
  if (isFirst && input.lifeMs !== undefined) {
    throw new ValidationError(
      "The first API key must not expire: when it did, nobody would be let in any more. Make it without an end " +
        "(`ironflow apikeys create admin`), and with it the one that expires"
    )
  }
  checkRoom(tx, "api_keys", "API keys")
  const environment =
    input.byAnybody === true ? "*" : (input.environment ?? (isFirst ? "*" : input.callEnvironment))
  const roleIds = [
    ...new Set([
      ...(input.roleIds ?? [isFirst ? BuiltIn.ADMIN : BuiltIn.DEVELOPER]),
      ...(input.byAnybody === true ? [BuiltIn.ADMIN] : [])
    ])
  ]
  for (const id of roleIds) findRole(tx, id)
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
  storeKey(tx, key)
  log(tx, by, "apikey:create", key.id, { name: key.name, environment, roles: roleIds })
  return key
}

/** Makes the key of the operator's choice stand, whatever there was under its id. */
export const putBootstrapKey = (tx: Transaction, hash: string): void => {
  const row = tx.get("SELECT * FROM api_keys WHERE id = ?", BOOTSTRAP)
  if (row !== undefined && row.hash === hash) return
  if (tx.get("SELECT 1 FROM api_keys WHERE hash = ? AND id <> ?", hash, BOOTSTRAP) !== undefined) return
  const key: KeyRecord = {
    id: BOOTSTRAP,
    name: "bootstrap",
    prefix: "",
    hash,
    roleIds: [BuiltIn.ADMIN],
    createdAt: tx.now()
  }
  tx.run("DELETE FROM api_keys WHERE id = ?", BOOTSTRAP)
  storeKey(tx, key)
  log(tx, "local", row === undefined ? "apikey:create" : "apikey:rotate", BOOTSTRAP, { name: key.name })
}

export const rotateApiKey = (
  tx: Transaction,
  id: string,
  { hash, overlapMs, prefix }: NewSecret,
  by: string
): KeyRecord => {
  const { previous: _, ...before } = findKey(tx, id)
  const previous = overlapMs === undefined ? undefined : { hash: before.hash, endsAt: tx.now() + overlapMs }
  const key: KeyRecord = { ...before, hash, prefix, ...(previous === undefined ? {} : { previous }) }
  tx.run(
    "UPDATE api_keys SET hash = ?, prefix = ?, previous_hash = ?, previous_ends_at = ? WHERE id = ?",
    hash,
    prefix,
    previous?.hash ?? null,
    previous?.endsAt ?? null,
    id
  )
  tx.changes.access.push({ _tag: "Key", key })
  log(tx, by, "apikey:rotate", id, {
    name: key.name,
    ...(previous === undefined ? {} : { overlapMs })
  })
  return key
}

export const deleteApiKey = (tx: Transaction, id: string, by: string): void => {
  const { name } = findKey(tx, id)
  tx.run("DELETE FROM api_keys WHERE id = ?", id)
  tx.changes.access.push({ _tag: "KeyDeleted", id })
  log(tx, by, "apikey:delete", id, { name })
}

/** Notes when keys were last used; those that are gone are left out. */
export const touchApiKeys = (
  tx: Transaction,
  uses: ReadonlyArray<{ readonly id: string; readonly at: number }>
): void => {
  for (const { id, at } of uses) tx.run("UPDATE api_keys SET last_used_at = ? WHERE id = ?", at, id)
}

const storeKey = (tx: Transaction, key: KeyRecord): void => {
  tx.run(
    `INSERT INTO api_keys (id, name, prefix, hash, environment, roles, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
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

const findKey = (tx: Transaction, id: string): KeyRecord => {
  const row = tx.get("SELECT * FROM api_keys WHERE id = ?", id)
  if (row === undefined) throw new ApiKeyNotFoundError(id)
  return toKey(row)
}

// ---------------------------------------------------------------------------------------------------------------------
// Organizations
// ---------------------------------------------------------------------------------------------------------------------

export const createOrg = (tx: Transaction, name: string, by: string): OrgRecord => {
  checkRoom(tx, "orgs", "organizations")
  const now = tx.now()
  const org = { id: tx.ids.org(), name, createdAt: now, updatedAt: now }
  tx.run("INSERT INTO orgs (id, name, created_at, updated_at) VALUES (?, ?, ?, ?)", org.id, name, now, now)
  tx.changes.access.push({ _tag: "Org", org })
  log(tx, by, "org:create", org.id, { name })
  return org
}

export const updateOrg = (tx: Transaction, id: string, name: string | undefined, by: string): OrgRecord => {
  refuseBuiltIn("organization", id)
  const before = findOrg(tx, id)
  if (name === undefined) return before
  const org = { ...before, name, updatedAt: tx.now() }
  tx.run("UPDATE orgs SET name = ?, updated_at = ? WHERE id = ?", name, org.updatedAt, id)
  tx.changes.access.push({ _tag: "Org", org })
  log(tx, by, "org:update", id, { name })
  return org
}

export const deleteOrg = (tx: Transaction, id: string, by: string): void => {
  refuseBuiltIn("organization", id)
  const { name } = findOrg(tx, id)
  const roles = Number(tx.get("SELECT count(*) AS n FROM roles WHERE org = ?", id)?.n)
  const policies = Number(tx.get("SELECT count(*) AS n FROM policies WHERE org = ?", id)?.n)
  if (roles + policies > 0) {
    throw new InvalidStateError(
      `Organization "${name}" (${id}) is in use: it has ${roles} roles and ${policies} policies. Delete these first`
    )
  }
  tx.run("DELETE FROM orgs WHERE id = ?", id)
  tx.changes.access.push({ _tag: "OrgDeleted", id })
  log(tx, by, "org:delete", id, { name })
}

const findOrg = (tx: Transaction, id: string): OrgRecord => {
  const builtIn = BuiltIn.orgs.find((org) => org.id === id)
  if (builtIn !== undefined) return builtIn
  const row = tx.get("SELECT * FROM orgs WHERE id = ?", id)
  if (row === undefined) throw new OrgNotFoundError(id)
  return toOrg(row)
}

// ---------------------------------------------------------------------------------------------------------------------
// Roles
// ---------------------------------------------------------------------------------------------------------------------

export const createRole = (
  tx: Transaction,
  input: Pick<RoleRecord, "name" | "orgId">,
  by: string
): RoleRecord => {
  checkRoom(tx, "roles", "roles")
  findOrg(tx, input.orgId)
  const role: RoleRecord = { id: tx.ids.role(), ...input, policyIds: [], createdAt: tx.now() }
  tx.run(
    "INSERT INTO roles (id, org, name, created_at) VALUES (?, ?, ?, ?)",
    role.id,
    role.orgId,
    role.name,
    role.createdAt
  )
  tx.changes.access.push({ _tag: "Role", role })
  log(tx, by, "role:create", role.id, { name: role.name })
  return role
}

export const updateRole = (tx: Transaction, id: string, name: string | undefined, by: string): RoleRecord => {
  refuseBuiltIn("role", id)
  const before = findRole(tx, id)
  if (name === undefined) return before
  const role = { ...before, name }
  tx.run("UPDATE roles SET name = ? WHERE id = ?", name, id)
  tx.changes.access.push({ _tag: "Role", role })
  log(tx, by, "role:update", id, { name })
  return role
}

export const deleteRole = (tx: Transaction, id: string, by: string): void => {
  refuseBuiltIn("role", id)
  const { name } = findRole(tx, id)
  const holders = tx.all(
    "SELECT id FROM api_keys WHERE EXISTS (SELECT 1 FROM json_each(roles) WHERE value = ?) ORDER BY id LIMIT 3",
    id
  )
  if (holders.length > 0) {
    throw new InvalidStateError(
      `Role "${name}" (${id}) is in use: API keys have it, such as ${holders.map((key) => String(key.id)).join(", ")}. ` +
        "Delete these first"
    )
  }
  tx.run("DELETE FROM role_policies WHERE role = ?", id)
  tx.run("DELETE FROM roles WHERE id = ?", id)
  tx.changes.access.push({ _tag: "RoleDeleted", id })
  log(tx, by, "role:delete", id, { name })
}

export const assignPolicy = (tx: Transaction, roleId: string, policyId: string, by: string): void => {
  refuseBuiltIn("role", roleId)
  const role = findRole(tx, roleId)
  const policy = findPolicy(tx, policyId)
  if (policy.orgId !== role.orgId && !BuiltIn.isBuiltIn(policyId)) {
    throw new ValidationError(
      `Policy "${policy.name}" belongs to organization ${policy.orgId} and role "${role.name}" to ${role.orgId}: assign one of the role's own organization, or a built-in one`
    )
  }
  if (role.policyIds.includes(policyId)) return
  if (role.policyIds.length >= listLength) {
    throw new LimitExceededError(
      `The list of policies of role "${role.name}"`,
      role.policyIds.length + 1,
      listLength,
      "policies"
    )
  }
  tx.run("INSERT INTO role_policies (role, policy) VALUES (?, ?)", roleId, policyId)
  changedPolicies(tx, roleId)
  log(tx, by, "role:assign", roleId, { policy: policyId })
}

/** One that is not assigned is left as it is. */
export const removePolicy = (tx: Transaction, roleId: string, policyId: string, by: string): void => {
  refuseBuiltIn("role", roleId)
  findRole(tx, roleId)
  findPolicy(tx, policyId)
  if (tx.run("DELETE FROM role_policies WHERE role = ? AND policy = ?", roleId, policyId) === 0) return
  changedPolicies(tx, roleId)
  log(tx, by, "role:remove", roleId, { policy: policyId })
}

const changedPolicies = (tx: Transaction, roleId: string): void => {
  tx.changes.access.push({ _tag: "Role", role: findRole(tx, roleId) })
}

const findRole = (tx: Transaction, id: string): RoleRecord => {
  const builtIn = BuiltIn.roles.find((role) => role.id === id)
  if (builtIn !== undefined) return builtIn
  const row = tx.get("SELECT * FROM roles WHERE id = ?", id)
  if (row === undefined) throw new RoleNotFoundError(id)
  return toRole(
    row,
    tx
      .all("SELECT policy FROM role_policies WHERE role = ? ORDER BY policy", id)
      .map(({ policy }) => String(policy))
  )
}

// ---------------------------------------------------------------------------------------------------------------------
// Policies
// ---------------------------------------------------------------------------------------------------------------------

export const createPolicy = (tx: Transaction, input: NewPolicy, by: string): PolicyRecord => {
  checkRoom(tx, "policies", "policies")
  findOrg(tx, input.orgId)
  const now = tx.now()
  const policy: PolicyRecord = { id: tx.ids.policy(), ...input, createdAt: now, updatedAt: now }
  tx.run(
    `INSERT INTO policies (id, org, name, effect, actions, resources, condition, created_at, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
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
  log(tx, by, "policy:create", policy.id, { ...input })
  return policy
}

export const updatePolicy = (
  tx: Transaction,
  id: string,
  changes: PolicyChanges,
  by: string
): PolicyRecord => {
  refuseBuiltIn("policy", id)
  const before = findPolicy(tx, id)
  const { condition, ...rest } = { ...before, ...changes }
  const policy: PolicyRecord = {
    ...rest,
    ...(condition === undefined || condition === "" ? {} : { condition }),
    updatedAt: tx.now()
  }
  tx.run(
    "UPDATE policies SET name = ?, effect = ?, actions = ?, resources = ?, condition = ?, updated_at = ? WHERE id = ?",
    policy.name,
    policy.effect,
    policy.actions,
    policy.resources,
    policy.condition ?? null,
    policy.updatedAt,
    id
  )
  tx.changes.access.push({ _tag: "Policy", policy })
  log(tx, by, "policy:update", id, { ...changes })
  return policy
}

export const deletePolicy = (tx: Transaction, id: string, by: string): void => {
  refuseBuiltIn("policy", id)
  const { name } = findPolicy(tx, id)
  const roles = tx.all("SELECT role FROM role_policies WHERE policy = ? ORDER BY role LIMIT 3", id)
  if (roles.length > 0) {
    throw new InvalidStateError(
      `Policy "${name}" (${id}) is in use: it is assigned to roles, such as ${roles.map(({ role }) => String(role)).join(", ")}. ` +
        "Remove it from these first"
    )
  }
  tx.run("DELETE FROM policies WHERE id = ?", id)
  tx.changes.access.push({ _tag: "PolicyDeleted", id })
  log(tx, by, "policy:delete", id, { name })
}

const findPolicy = (tx: Transaction, id: string): PolicyRecord => {
  const builtIn = BuiltIn.policies.find((policy) => policy.id === id)
  if (builtIn !== undefined) return builtIn
  const row = tx.get("SELECT * FROM policies WHERE id = ?", id)
  if (row === undefined) throw new PolicyNotFoundError(id)
  return toPolicy(row)
}

// ---------------------------------------------------------------------------------------------------------------------

type Table = "api_keys" | "orgs" | "roles" | "policies"

const count = (tx: Transaction, table: Table): number =>
  Number(tx.get(`SELECT count(*) AS n FROM ${table}`)?.n)

const checkRoom = (tx: Transaction, table: Table, what: string): void => {
  if (count(tx, table) >= MOST) throw new LimitExceededError(`The number of ${what}`, MOST + 1, MOST, what)
}

const refuseBuiltIn = (what: string, id: string): void => {
  if (!BuiltIn.isBuiltIn(id)) return
  throw new InvalidStateError(`The ${what} ${id} is built in and stays as it is: make one of your own`)
}

const log = (
  tx: Transaction,
  by: string,
  action: string,
  subject: string,
  details: { readonly [name: string]: unknown }
): void => {
  const seq = tx.insert(
    "INSERT INTO access_log (at, who, action, subject, details) VALUES (?, ?, ?, ?, ?)",
    tx.now(),
    by,
    action,
    subject,
    JSON.stringify(details)
  )
  tx.run("DELETE FROM access_log WHERE seq <= ?", seq - LOGGED)
}
