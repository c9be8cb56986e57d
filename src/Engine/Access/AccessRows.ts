/**
 * Reads all API keys, organizations, roles and policies. There are few of these rows, so the engine keeps them in memory: see
 * `Access.ts`. Every program that writes them (in `KeyRows.ts`, `OrgRows.ts` and so on) adds the new record to the changes of the
 * commit, so that the engine can replace the record in memory.
 */
import { all, statement, type Program, acrossEnvironments } from "../Store/Program.ts"
import type { AccessRecords } from "../Records/AccessRecords.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { toKey } from "./KeyRows.ts"
import { toOrg } from "./OrgRows.ts"
import { toRole } from "./RoleRows.ts"
import { toPolicy } from "./PolicyRows.ts"

const LIST_ROLE_POLICIES = statement(
  "AccessRows.listRolePolicies",
  "SELECT role, policy FROM role_policies ORDER BY policy",
  { scans: "the access of an engine is held in memory, and bounded" }
)

const LIST_API_KEYS = statement("AccessRows.listApiKeys", "SELECT * FROM api_keys ORDER BY id", {
  scans: "the access of an engine is held in memory, and bounded"
})

const LIST_ORGS = statement("AccessRows.listOrgs", "SELECT * FROM orgs ORDER BY id", {
  scans: "the access of an engine is held in memory, and bounded"
})

const LIST_ROLES = statement("AccessRows.listRoles", "SELECT * FROM roles ORDER BY id", {
  scans: "the access of an engine is held in memory, and bounded"
})

const LIST_POLICIES = statement("AccessRows.listPolicies", "SELECT * FROM policies ORDER BY id", {
  scans: "the access of an engine is held in memory, and bounded"
})

/** All keys, organizations, roles and policies, by id, without the built-in ones. */
export const readAccess = acrossEnvironments(
  "readAccess",
  function* (_tx: Transaction): Program<AccessRecords> {
    const assigned = new Map<string, Array<string>>()
    for (const { role, policy } of yield* all(LIST_ROLE_POLICIES)) {
      const policies = assigned.get(String(role))
      if (policies === undefined) assigned.set(String(role), [String(policy)])
      else policies.push(String(policy))
    }
    return {
      keys: (yield* all(LIST_API_KEYS)).map(toKey),
      orgs: (yield* all(LIST_ORGS)).map(toOrg),
      roles: (yield* all(LIST_ROLES)).map((row) => toRole(row, assigned.get(String(row.id)) ?? [])),
      policies: (yield* all(LIST_POLICIES)).map(toPolicy)
    }
  },
  () => "read who may do what"
)
