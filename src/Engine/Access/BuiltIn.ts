/** The built-in organization, roles and policies of every engine. They are part of the program and cannot be changed. */
import type { OrgRecord, PolicyRecord, RoleRecord } from "./AccessRecords.ts"

export const DEFAULT_ORG = "org_default"

const BUILT_IN_TIMES = { createdAt: 0, updatedAt: 0 }

export const orgs: ReadonlyArray<OrgRecord> = [{ id: DEFAULT_ORG, name: "Default", ...BUILT_IN_TIMES }]

const readable = "run:read, function:read, worker:read, topic:read, engine:read"
const data = "kv:*, config:*, stream:*, projection:*, subscription:*"

const allowing = (name: string, actions: string): PolicyRecord => ({
  id: `policy_${name}`,
  orgId: DEFAULT_ORG,
  name,
  effect: "allow",
  actions,
  resources: "*",
  ...BUILT_IN_TIMES
})

const admin = allowing("admin", "*")

/** The policies that allow everything. */
export const everything: ReadonlyArray<PolicyRecord> = [admin]

export const policies: ReadonlyArray<PolicyRecord> = [
  admin,
  allowing(
    "developer",
    `emit:*, publish:*, run:*, function:*, worker:*, secret:*, topic:read, engine:read, ${data}`
  ),
  allowing(
    "worker",
    `worker:run, function:register, function:read, emit:*, publish:*, run:read, secret:read, engine:read, ${data}`
  ),
  allowing(
    "viewer",
    `${readable}, secret:read, kv:read, config:read, stream:read, projection:read, subscription:read`
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
