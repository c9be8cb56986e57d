/** Rows of policies. */
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { PolicyRecord, NewPolicy, PolicyChanges } from "../Records/AccessRecords.ts"
import { statement, acrossEnvironments, type Program, write, all, refuse, get } from "../Store/Program.ts"
import {
  LimitExceededError,
  type OrgNotFoundError,
  InvalidStateError,
  PolicyNotFoundError
} from "../../Errors.ts"
import { checkCapacity, refuseBuiltIn } from "./AccessLimits.ts"
import { findOrg } from "./OrgRows.ts"
import { logAccess } from "./AccessLog.ts"
import { roleLength } from "../../Limits.ts"
import * as BuiltIn from "./BuiltIn.ts"

export const toPolicy = (row: Row): PolicyRecord => ({
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

const INSERT_POLICY = statement(
  "PolicyRows.insertPolicy",
  `INSERT INTO policies (id, org, name, effect, actions, resources, condition, created_at, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

export const createPolicy = acrossEnvironments(
  "createPolicy",
  function* (
    tx: Transaction,
    input: NewPolicy,
    by: string
  ): Program<PolicyRecord, LimitExceededError | OrgNotFoundError> {
    yield* checkCapacity("policies", "policies")
    yield* findOrg(input.orgId)
    const now = tx.now()
    const policy: PolicyRecord = { id: tx.ids.policy(), ...input, createdAt: now, updatedAt: now }
    yield* write(
      INSERT_POLICY,
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
    yield* logAccess(tx, by, "policy:create", policy.id, { ...input })
    return policy
  },
  () => "store a policy"
)

const UPDATE_POLICY = statement(
  "PolicyRows.updatePolicy",
  "UPDATE policies SET name = ?, effect = ?, actions = ?, resources = ?, condition = ?, updated_at = ? WHERE id = ?"
)

export const updatePolicy = acrossEnvironments(
  "updatePolicy",
  function* (
    tx: Transaction,
    id: string,
    changes: PolicyChanges,
    by: string
  ): Program<PolicyRecord, InvalidStateError | LimitExceededError | PolicyNotFoundError> {
    yield* refuseBuiltIn("policy", id)
    const oldPolicy = yield* findPolicy(id)
    const { condition, ...rest } = { ...oldPolicy, ...changes }
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
    if (lengthOf(policy) > lengthOf(oldPolicy)) yield* checkLengths(id)
    tx.changes.access.push({ _tag: "Policy", policy })
    yield* logAccess(tx, by, "policy:update", id, { ...changes })
    return policy
  },
  (id) => `change policy ${id}`
)

const LIST_ROLES_WITH_POLICY = statement(
  "PolicyRows.listRolesWithPolicy",
  "SELECT role FROM role_policies WHERE policy = ? ORDER BY role LIMIT 3"
)

const DELETE_POLICY = statement("PolicyRows.deletePolicy", "DELETE FROM policies WHERE id = ?")

/** Deletes a policy. Refuses while roles have it. */
export const deletePolicy = acrossEnvironments(
  "deletePolicy",
  function* (
    tx: Transaction,
    id: string,
    by: string
  ): Program<void, InvalidStateError | PolicyNotFoundError> {
    yield* refuseBuiltIn("policy", id)
    const { name } = yield* findPolicy(id)
    const roles = yield* all(LIST_ROLES_WITH_POLICY, id)
    if (roles.length > 0) {
      return yield* refuse(
        new InvalidStateError(
          `Policy "${name}" (${id}) is in use: it is assigned to roles, such as ${roles.map(({ role }) => String(role)).join(", ")}. ` +
            "Remove it from all its roles first"
        )
      )
    }
    yield* write(DELETE_POLICY, id)
    tx.changes.access.push({ _tag: "PolicyDeleted", id })
    yield* logAccess(tx, by, "policy:delete", id, { name })
  },
  (id) => `delete policy ${id}`
)

const lengthOf = ({ actions, condition = "", resources }: NewPolicy): number =>
  actions.length + resources.length + condition.length

const LIST_LONG_ROLES = statement(
  "PolicyRows.listLongRoles",
  `SELECT r.name AS name, sum(length(p.actions) + length(p.resources) + coalesce(length(p.condition), 0)) AS size
     FROM roles r JOIN role_policies a ON a.role = r.id JOIN policies p ON p.id = a.policy
     WHERE r.id IN (SELECT role FROM role_policies WHERE policy = ?) GROUP BY r.id HAVING sum(length(p.actions) + length(p.resources) + coalesce(length(p.condition), 0)) > ? LIMIT 1`
)

/** Refuses a change after which the policies of a role with this policy are too long to be evaluated for each call. */
export function* checkLengths(policyId: string): Program<void, LimitExceededError> {
  const longRole = yield* get(LIST_LONG_ROLES, policyId, roleLength)
  if (longRole === undefined) return
  return yield* refuse(
    new LimitExceededError(
      `The total size of the policies of role "${String(longRole.name)}"`,
      Number(longRole.size),
      roleLength,
      "characters"
    )
  )
}

const FIND_POLICY = statement("PolicyRows.findPolicy", "SELECT * FROM policies WHERE id = ?")

export function* findPolicy(id: string): Program<PolicyRecord, PolicyNotFoundError> {
  const builtIn = BuiltIn.policies.find((policy) => policy.id === id)
  if (builtIn !== undefined) return builtIn
  const row = yield* get(FIND_POLICY, id)
  if (row === undefined) return yield* refuse(new PolicyNotFoundError(id))
  return toPolicy(row)
}
