/** Rows of roles, and the policies that are assigned to them. */
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { RoleRecord } from "../Records/AccessRecords.ts"
import {
  statement,
  acrossEnvironments,
  type Program,
  write,
  all,
  refuse,
  affected,
  get
} from "../Store/Program.ts"
import {
  LimitExceededError,
  type OrgNotFoundError,
  InvalidStateError,
  RoleNotFoundError,
  type PolicyNotFoundError,
  ValidationError
} from "../../Errors.ts"
import { checkCapacity, refuseBuiltIn } from "./AccessLimits.ts"
import { findOrg } from "./OrgRows.ts"
import { logAccess } from "./AccessLog.ts"
import { findPolicy, checkLengths } from "./PolicyRows.ts"
import * as BuiltIn from "./BuiltIn.ts"
import { policiesOfRole } from "../../Limits.ts"

export const toRole = (row: Row, policyIds: ReadonlyArray<string>): RoleRecord => ({
  id: String(row.id),
  orgId: String(row.org),
  name: String(row.name),
  policyIds,
  createdAt: Number(row.created_at)
})

const INSERT_ROLE = statement(
  "RoleRows.insertRole",
  "INSERT INTO roles (id, org, name, created_at) VALUES (?, ?, ?, ?)"
)

export const createRole = acrossEnvironments(
  "createRole",
  function* (
    tx: Transaction,
    input: Pick<RoleRecord, "name" | "orgId">,
    by: string
  ): Program<RoleRecord, LimitExceededError | OrgNotFoundError> {
    yield* checkCapacity("roles", "roles")
    yield* findOrg(input.orgId)
    const role: RoleRecord = { id: tx.ids.role(), ...input, policyIds: [], createdAt: tx.now() }
    yield* write(INSERT_ROLE, role.id, role.orgId, role.name, role.createdAt)
    tx.changes.access.push({ _tag: "Role", role })
    yield* logAccess(tx, by, "role:create", role.id, { name: role.name })
    return role
  },
  () => "store a role"
)

const UPDATE_ROLE = statement("RoleRows.updateRole", "UPDATE roles SET name = ? WHERE id = ?")

export const updateRole = acrossEnvironments(
  "updateRole",
  function* (
    tx: Transaction,
    id: string,
    name: string | undefined,
    by: string
  ): Program<RoleRecord, InvalidStateError | RoleNotFoundError> {
    yield* refuseBuiltIn("role", id)
    const oldRole = yield* findRole(id)
    if (name === undefined) return oldRole
    const role = { ...oldRole, name }
    yield* write(UPDATE_ROLE, name, id)
    tx.changes.access.push({ _tag: "Role", role })
    yield* logAccess(tx, by, "role:update", id, { name })
    return role
  },
  (id) => `change role ${id}`
)

const LIST_KEYS_WITH_ROLE = statement(
  "RoleRows.listKeysWithRole",
  "SELECT id FROM api_keys WHERE EXISTS (SELECT 1 FROM json_each(roles) WHERE value = ?) ORDER BY id LIMIT 3",
  { scans: "keys are few, and roles are deleted seldom" }
)

const DELETE_POLICIES_OF_ROLE = statement(
  "RoleRows.deletePoliciesOfRole",
  "DELETE FROM role_policies WHERE role = ?"
)

const DELETE_ROLE = statement("RoleRows.deleteRole", "DELETE FROM roles WHERE id = ?")

/** Deletes a role. Refuses while keys have it. */
export const deleteRole = acrossEnvironments(
  "deleteRole",
  function* (tx: Transaction, id: string, by: string): Program<void, InvalidStateError | RoleNotFoundError> {
    yield* refuseBuiltIn("role", id)
    const { name } = yield* findRole(id)
    const holders = yield* all(LIST_KEYS_WITH_ROLE, id)
    if (holders.length > 0) {
      return yield* refuse(
        new InvalidStateError(
          `Role "${name}" (${id}) is in use: API keys have it, such as ${holders.map((key) => String(key.id)).join(", ")}. ` +
            "Delete all keys that have it first"
        )
      )
    }
    yield* write(DELETE_POLICIES_OF_ROLE, id)
    yield* write(DELETE_ROLE, id)
    tx.changes.access.push({ _tag: "RoleDeleted", id })
    yield* logAccess(tx, by, "role:delete", id, { name })
  },
  (id) => `delete role ${id}`
)

const INSERT_ROLE_POLICY = statement(
  "RoleRows.insertRolePolicy",
  "INSERT INTO role_policies (role, policy) VALUES (?, ?)"
)

export const assignPolicy = acrossEnvironments(
  "assignPolicy",
  function* (
    tx: Transaction,
    roleId: string,
    policyId: string,
    by: string
  ): Program<void, InvalidStateError | PolicyNotFoundError | RoleNotFoundError | ValidationError> {
    yield* refuseBuiltIn("role", roleId)
    const role = yield* findRole(roleId)
    const policy = yield* findPolicy(policyId)
    if (policy.orgId !== role.orgId && !BuiltIn.isBuiltIn(policyId)) {
      return yield* refuse(
        new ValidationError(
          `Policy "${policy.name}" belongs to organization ${policy.orgId} and role "${role.name}" to ${role.orgId}: assign a policy of the role's organization, or a built-in one`
        )
      )
    }
    if (role.policyIds.includes(policyId)) return
    if (role.policyIds.length >= policiesOfRole) {
      return yield* refuse(
        new LimitExceededError(
          `The list of policies of role "${role.name}"`,
          role.policyIds.length + 1,
          policiesOfRole,
          "policies"
        )
      )
    }
    yield* write(INSERT_ROLE_POLICY, roleId, policyId)
    yield* checkLengths(policyId)
    yield* noteChangedRole(tx, roleId)
    yield* logAccess(tx, by, "role:assign", roleId, { policy: policyId })
  },
  (roleId) => `assign a policy to role ${roleId}`
)

const DELETE_ROLE_POLICY = statement(
  "RoleRows.deleteRolePolicy",
  "DELETE FROM role_policies WHERE role = ? AND policy = ?"
)

/** Removes a policy from a role. Does nothing when the policy is not assigned. */
export const removePolicy = acrossEnvironments(
  "removePolicy",
  function* (
    tx: Transaction,
    roleId: string,
    policyId: string,
    by: string
  ): Program<void, InvalidStateError | PolicyNotFoundError | RoleNotFoundError> {
    yield* refuseBuiltIn("role", roleId)
    yield* findRole(roleId)
    yield* findPolicy(policyId)
    if ((yield* affected(DELETE_ROLE_POLICY, roleId, policyId)) === 0) return
    yield* noteChangedRole(tx, roleId)
    yield* logAccess(tx, by, "role:remove", roleId, { policy: policyId })
  },
  (roleId) => `remove a policy from role ${roleId}`
)

function* noteChangedRole(tx: Transaction, roleId: string): Program<void, RoleNotFoundError> {
  tx.changes.access.push({ _tag: "Role", role: yield* findRole(roleId) })
}

const FIND_ROLE = statement("RoleRows.findRole", "SELECT * FROM roles WHERE id = ?")

const LIST_POLICIES_OF_ROLE = statement(
  "RoleRows.listPoliciesOfRole",
  "SELECT policy FROM role_policies WHERE role = ? ORDER BY policy"
)

export function* findRole(id: string): Program<RoleRecord, RoleNotFoundError> {
  const builtIn = BuiltIn.roles.find((role) => role.id === id)
  if (builtIn !== undefined) return builtIn
  const row = yield* get(FIND_ROLE, id)
  if (row === undefined) return yield* refuse(new RoleNotFoundError(id))
  return toRole(
    row,
    (yield* all(LIST_POLICIES_OF_ROLE, id)).map(({ policy }) => String(policy))
  )
}
