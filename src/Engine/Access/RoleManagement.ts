/** Manages roles: each method checks its input, and then runs one program of the store. */
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import * as Effect from "effect/Effect"
import type { EffectKind } from "../../Client/Client.ts"
import type { RolesApi } from "../../Client/Roles.ts"
import { CreateRole, type Role, UpdateRole } from "../../Protocol/Access.ts"
import { type EngineError, RoleNotFoundError } from "../../Errors.ts"
import { memberReader } from "../../Protocol/ServerCodec.ts"
import { checkName } from "../../Limits.ts"
import type { RoleRecord } from "../Records/AccessRecords.ts"
import { isBuiltIn } from "./BuiltIn.ts"
import * as RoleRows from "./RoleRows.ts"

import type { ManagingCaller } from "./ManagingCaller.ts"
import {
  notAnObject,
  findRecord,
  toIsoTime,
  filterByOrg,
  readOptionalName,
  readOrgId,
  type Unchecked
} from "./AccessInput.ts"

const take = memberReader(CreateRole, notAnObject("A role"))
const takeChanges = memberReader(UpdateRole, notAnObject("A role"))

export const make = (manager: ManagingCaller): Unchecked<RolesApi<EffectKind>> => {
  const { access, by, checkGiving, checkRoles, checkNotBound, policiesOf, maySee, store } = manager
  const rolePolicy =
    (
      change: (roleId: string, policyId: string, by: string) => Effect.Effect<void, EngineError>,
      check: (roleId: string, policyId: string) => void
    ) =>
    (roleId: unknown, policyId: unknown) =>
      Effect.flatMap(
        checked(() => {
          checkNotBound("A role")
          const ids = [checkName("id of the role", roleId), checkName("id of the policy", policyId)] as const
          check(...ids)
          return ids
        }),
        ([roleId, policyId]) => change(roleId, policyId, by)
      )

  return {
    create: (input) =>
      Effect.flatMap(
        checked(() => {
          checkNotBound("A role")
          const { name, org_id } = take(input)
          return { name: checkName("name of the role", name), orgId: readOrgId(org_id) }
        }),
        (role) => Effect.map(store.write(RoleRows.createRole(role, by)), toRole)
      ),
    list: (orgId) =>
      checked(() =>
        filterByOrg([...access.roles.values()], orgId)
          .filter(maySee("role:read", "role"))
          .map(toRole)
      ),
    get: (id) => checked(() => toRole(findRecord(access.roles, id, "role", RoleNotFoundError))),
    update: (id, input) =>
      Effect.flatMap(
        checked(() => {
          checkNotBound("A role")
          return {
            id: checkName("id of the role", id),
            name: readOptionalName("name of the role", takeChanges(input).name)
          }
        }),
        ({ id, name }) => Effect.map(store.write(RoleRows.updateRole(id, name, by)), toRole)
      ),
    delete: (id) =>
      Effect.flatMap(
        checked(() => {
          checkNotBound("A role")
          return checkName("id of the role", id)
        }),
        (id) => store.write(RoleRows.deleteRole(id, by))
      ),
    assignPolicy: rolePolicy(
      (...args) => store.write(RoleRows.assignPolicy(...args)),
      (roleId, policyId) => {
        const policy = access.policies.get(policyId)
        // a policy that denies gives no permissions, so there is nothing to check
        if (policy?.effect !== "allow") return
        const role = access.roles.get(roleId)
        const denies = role === undefined ? [] : policiesOf(role).filter(({ effect }) => effect === "deny")
        checkGiving(`assign policy "${policy.name}"`, [policy, ...denies])
      }
    ),
    removePolicy: rolePolicy(
      (...args) => store.write(RoleRows.removePolicy(...args)),
      (roleId, policyId) => {
        const policy = access.policies.get(policyId)
        if (policy?.effect !== "deny") return
        checkRoles(`remove policy "${policy.name}" from a role`, (role) =>
          role.id === roleId && role.policyIds.includes(policyId)
            ? policiesOf(role).filter(({ id }) => id !== policyId)
            : undefined
        )
      }
    )
  }
}

const toRole = ({ id, orgId, name, policyIds, createdAt }: RoleRecord): Role => ({
  id,
  org_id: orgId,
  name,
  is_default: isBuiltIn(id),
  policy_ids: [...policyIds],
  created_at: toIsoTime(createdAt)
})
