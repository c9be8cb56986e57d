/**
 * API keys, organizations, roles and policies: few rows, which the engine keeps in memory. Every write tells what it changed, so
 * that the engine knows before the caller is answered, and adds to the access log in the same transaction.
 */
import { all, statement, type Program, acrossEnvironments } from "../Store/Program.ts"
import type { AccessRecords } from "./AccessRecords.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { toKey } from "./KeyRows.ts"
import { toOrg } from "./OrgRows.ts"
import { toRole } from "./RoleRows.ts"
import { toPolicy } from "./PolicyRows.ts"

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

/** All keys, organizations, roles and policies, by id, without the built-in ones. */
export const readAccess = acrossEnvironments(
  "readAccess",
  function* (_tx: Transaction): Program<AccessRecords> {
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
  },
  () => "read who may do what"
)
