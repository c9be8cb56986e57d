/** Rows of organizations. */
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { OrgRecord } from "../Records/AccessRecords.ts"
import { statement, acrossEnvironments, type Program, write, get, refuse } from "../Store/Program.ts"
import { type LimitExceededError, InvalidStateError, OrgNotFoundError } from "../../Errors.ts"
import { checkCapacity, refuseBuiltIn } from "./AccessLimits.ts"
import { logAccess } from "./AccessLog.ts"
import * as BuiltIn from "./BuiltIn.ts"

export const toOrg = (row: Row): OrgRecord => ({
  id: String(row.id),
  name: String(row.name),
  createdAt: Number(row.created_at),
  updatedAt: Number(row.updated_at)
})

const INSERT_ORG = statement(
  "OrgRows.insertOrg",
  "INSERT INTO orgs (id, name, created_at, updated_at) VALUES (?, ?, ?, ?)"
)

export const createOrg = acrossEnvironments(
  "createOrg",
  function* (tx: Transaction, name: string, by: string): Program<OrgRecord, LimitExceededError> {
    yield* checkCapacity("orgs", "organizations")
    const now = tx.now()
    const org = { id: tx.ids.org(), name, createdAt: now, updatedAt: now }
    yield* write(INSERT_ORG, org.id, name, now, now)
    tx.changes.access.push({ _tag: "Org", org })
    yield* logAccess(tx, by, "org:create", org.id, { name })
    return org
  },
  () => "store an organization"
)

const UPDATE_ORG = statement("OrgRows.updateOrg", "UPDATE orgs SET name = ?, updated_at = ? WHERE id = ?")

export const updateOrg = acrossEnvironments(
  "updateOrg",
  function* (
    tx: Transaction,
    id: string,
    name: string | undefined,
    by: string
  ): Program<OrgRecord, InvalidStateError | OrgNotFoundError> {
    yield* refuseBuiltIn("organization", id)
    const oldOrg = yield* findOrg(id)
    if (name === undefined) return oldOrg
    const org = { ...oldOrg, name, updatedAt: tx.now() }
    yield* write(UPDATE_ORG, name, org.updatedAt, id)
    tx.changes.access.push({ _tag: "Org", org })
    yield* logAccess(tx, by, "org:update", id, { name })
    return org
  },
  (id) => `change organization ${id}`
)

const COUNT_ROLES_OF_ORG = statement(
  "OrgRows.countRolesOfOrg",
  "SELECT count(*) AS n FROM roles WHERE org = ?"
)

const COUNT_POLICIES_OF_ORG = statement(
  "OrgRows.countPoliciesOfOrg",
  "SELECT count(*) AS n FROM policies WHERE org = ?"
)

const DELETE_ORG = statement("OrgRows.deleteOrg", "DELETE FROM orgs WHERE id = ?")

/** Deletes an organization. Refuses while the organization has roles or policies. */
export const deleteOrg = acrossEnvironments(
  "deleteOrg",
  function* (tx: Transaction, id: string, by: string): Program<void, InvalidStateError | OrgNotFoundError> {
    yield* refuseBuiltIn("organization", id)
    const { name } = yield* findOrg(id)
    const roles = Number((yield* get(COUNT_ROLES_OF_ORG, id))?.n)
    const policies = Number((yield* get(COUNT_POLICIES_OF_ORG, id))?.n)
    if (roles + policies > 0) {
      return yield* refuse(
        new InvalidStateError(
          `Organization "${name}" (${id}) is in use: it has ${count(roles, "role", "roles")} and ${count(policies, "policy", "policies")}. Delete these first`
        )
      )
    }
    yield* write(DELETE_ORG, id)
    tx.changes.access.push({ _tag: "OrgDeleted", id })
    yield* logAccess(tx, by, "org:delete", id, { name })
  },
  (id) => `delete organization ${id}`
)

const count = (n: number, one: string, many: string): string => `${n} ${n === 1 ? one : many}`

const FIND_ORG = statement("OrgRows.findOrg", "SELECT * FROM orgs WHERE id = ?")

export function* findOrg(id: string): Program<OrgRecord, OrgNotFoundError> {
  const builtIn = BuiltIn.orgs.find((org) => org.id === id)
  if (builtIn !== undefined) return builtIn
  const row = yield* get(FIND_ORG, id)
  if (row === undefined) return yield* refuse(new OrgNotFoundError(id))
  return toOrg(row)
}
