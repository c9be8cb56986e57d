/** The built-in organization, roles and policies of every engine. They are part of the program and cannot be changed. */
import type { OrgRecord, PolicyRecord, RoleRecord } from "../Records/AccessRecords.ts"

export const DEFAULT_ORG = "org_default"

const BUILT_IN_TIMES = { createdAt: 0, updatedAt: 0 }

export const orgs: ReadonlyArray<OrgRecord> = [{ id: DEFAULT_ORG, name: "Default", ...BUILT_IN_TIMES }]

const READ_ACTIONS = "run:read, function:read, worker:read, topic:read, engine:read"
const DATA_ACTIONS = "kv:*, config:*, stream:*, projection:*, subscription:*"

const allowPolicy = (name: string, actions: string): PolicyRecord => ({
  id: `policy_${name}`,
  orgId: DEFAULT_ORG,
  name,
  effect: "allow",
  actions,
  resources: "*",
  ...BUILT_IN_TIMES
})

const admin = allowPolicy("admin", "*")

/** Policies that together allow everything. */
export const allowEverything: ReadonlyArray<PolicyRecord> = [admin]

export const policies: ReadonlyArray<PolicyRecord> = [
  admin,
  allowPolicy(
    "developer",
    `emit:*, publish:*, run:*, function:*, worker:*, secret:*, topic:read, engine:read, ${DATA_ACTIONS}`
  ),
  allowPolicy(
    "worker",
    `worker:run, function:register, function:read, emit:*, publish:*, run:read, secret:read, engine:read, ${DATA_ACTIONS}`
  ),
  allowPolicy(
    "viewer",
    `${READ_ACTIONS}, secret:read, kv:read, config:read, stream:read, projection:read, subscription:read`
  )
]

export const ADMIN = "role_admin"
export const DEVELOPER = "role_developer"

export const roles: ReadonlyArray<RoleRecord> = policies.map(({ id, name }) => ({
  id: `role_${name}`,
  orgId: DEFAULT_ORG,
  name,
  policyIds: [id],
  createdAt: 0
}))

const ids: ReadonlySet<string> = new Set([...orgs, ...roles, ...policies].map(({ id }) => id))

export const isBuiltIn = (id: string): boolean => ids.has(id)
