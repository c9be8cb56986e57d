/** Manages policies: each method checks its input, and then runs one program of the store. */
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import * as Effect from "effect/Effect"
import type { EffectKind } from "../../Client/Client.ts"
import type { PoliciesApi } from "../../Client/Policies.ts"
import { CreatePolicy, type Policy, UpdatePolicy } from "../../Protocol/Access.ts"
import { PolicyNotFoundError, ValidationError } from "../../Errors.ts"
import { memberReader } from "../../Protocol/ServerCodec.ts"
import { checkName } from "../../Limits.ts"
import { checkActions, checkCondition, checkResources, type PolicyRule } from "../../Policy.ts"
import { show } from "../../Show.ts"
import type { PolicyChanges, PolicyRecord } from "../Records/AccessRecords.ts"
import { givingProblem } from "./PrivilegeEscalation.ts"
import * as PolicyRows from "./PolicyRows.ts"

import type { ManagingCaller } from "./ManagingCaller.ts"
import { notAnObject, findRecord, toIsoTime, filterByOrg, readOrgId, type Unchecked } from "./AccessInput.ts"

const take = memberReader(CreatePolicy, notAnObject("A policy"))
const takeChanges = memberReader(UpdatePolicy, notAnObject("A policy"))

export const make = (manager: ManagingCaller): Unchecked<PoliciesApi<EffectKind>> => {
  const { access, by, checkRoles, checkNotBound, policiesOf, maySee, store } = manager
  return {
    create: (input) =>
      Effect.flatMap(
        checked(() => {
          checkNotBound("A policy")
          const { actions, condition, effect, name, org_id, resources } = take(input)
          return {
            orgId: readOrgId(org_id),
            name: checkName("name of the policy", name),
            effect: readEffect(effect),
            actions: checkActions(actions),
            resources: checkResources(resources),
            ...(condition === undefined ? {} : { condition: readCondition(condition) })
          }
        }),
        (policy) => Effect.map(store.write(PolicyRows.createPolicy(policy, by)), toPolicy)
      ),
    list: (orgId) =>
      checked(() =>
        filterByOrg([...access.policies.values()], orgId)
          .filter(maySee("policy:read", "policy"))
          .map(toPolicy)
      ),
    get: (id) => checked(() => toPolicy(findRecord(access.policies, id, "policy", PolicyNotFoundError))),
    update: (id, input) =>
      Effect.flatMap(
        checked(() => {
          checkNotBound("A policy")
          const changes = readPolicyChanges(input)
          const name = checkName("id of the policy", id)
          const policy = access.policies.get(name)
          if (policy !== undefined) {
            const changedPolicy = { ...policy, ...changes }
            if (widens(policy, changedPolicy)) {
              checkRoles(`change policy "${policy.name}" of a role`, (role) =>
                role.policyIds.includes(policy.id)
                  ? policiesOf(role).map((one) => (one.id === policy.id ? changedPolicy : one))
                  : undefined
              )
            }
          }
          return { id: name, changes }
        }),
        ({ id, changes }) => Effect.map(store.write(PolicyRows.updatePolicy(id, changes, by)), toPolicy)
      ),
    delete: (id) =>
      Effect.flatMap(
        checked(() => {
          checkNotBound("A policy")
          return checkName("id of the policy", id)
        }),
        (id) => store.write(PolicyRows.deletePolicy(id, by))
      )
  }
}

const readEffect = (effect: unknown): "allow" | "deny" => {
  if (effect === "allow" || effect === "deny") return effect
  throw new ValidationError(`The effect of a policy is "allow" or "deny", got ${show(effect)}`)
}

const readCondition = (condition: unknown): string => {
  if (typeof condition === "string") return checkCondition(condition)
  throw new ValidationError(
    `The condition of a policy must be a string with a CEL expression, got ${show(condition)}`
  )
}

const readPolicyChanges = (input: unknown): PolicyChanges => {
  const { actions, condition, effect, name, resources } = takeChanges(input)
  return {
    ...(name === undefined ? {} : { name: checkName("name of the policy", name) }),
    ...(effect === undefined ? {} : { effect: readEffect(effect) }),
    ...(actions === undefined ? {} : { actions: checkActions(actions) }),
    ...(resources === undefined ? {} : { resources: checkResources(resources) }),
    ...(condition === undefined ? {} : { condition: condition === "" ? "" : readCondition(condition) })
  }
}

/** Whether a change of a policy may allow more, or deny less. */
const widens = (before: PolicyRule, after: PolicyRule): boolean => {
  if (before.effect !== after.effect) return true
  const [narrower, wider] = before.effect === "allow" ? [before, after] : [after, before]
  // `givingProblem` compares what rules allow, so rules that deny are compared as if they allowed the same
  return givingProblem([{ ...narrower, effect: "allow" }], [{ ...wider, effect: "allow" }]) !== undefined
}

const toPolicy = ({ id, orgId, createdAt, updatedAt, ...policy }: PolicyRecord): Policy => ({
  id,
  org_id: orgId,
  ...policy,
  created_at: toIsoTime(createdAt),
  updated_at: toIsoTime(updatedAt)
})
