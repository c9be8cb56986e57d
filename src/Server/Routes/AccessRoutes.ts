/**
 * Manages API keys, organizations, roles and policies over HTTP. The methods of the engine check the bodies.
 */
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import type { ManagementOfEnvironment } from "../../Engine/Access/Management.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { AssignPolicy, callSpecs } from "../../Protocol/Access.ts"
import { memberReader } from "../../Protocol/ServerCodec.ts"
import type { CallSpec } from "../../Protocol/CallSpec.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { answerRoute, listRoute } from "./CallRoute.ts"

/** The most entries of the access log in one response. */
const MOST_ENTRIES = 1000

export const accessRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const managing = (call: Call): ManagementOfEnvironment =>
    engine.management.in(call.environment, call.caller)
  const manage = <A>(
    spec: CallSpec<A>,
    ask: (manage: ManagementOfEnvironment, call: Call) => Effect.Effect<A, IronflowError>
  ) => answerRoute(spec, (call) => ask(managing(call), call))
  /**
   * The route of a change. The answer has the whole organization, role or policy, so a caller whom a policy denies to
   * read it is refused.
   */
  const change = <A>(
    spec: CallSpec<A>,
    kind: "org" | "role" | "policy",
    ask: (manage: ManagementOfEnvironment, call: Call) => Effect.Effect<A, IronflowError>
  ) =>
    manage(spec, (management, call) =>
      Effect.andThen(
        checked(() => call.caller?.checkNotDenied(`${kind}:read`, `${kind}:${id(call)}`, call.environment)),
        Effect.suspend(() => ask(management, call))
      )
    )
  const all = <A>(
    spec: CallSpec<Array<A & { readonly id: string }>>,
    ask: (
      manage: ManagementOfEnvironment,
      call: Call
    ) => Effect.Effect<ReadonlyArray<A & { readonly id: string }>, IronflowError>
  ) => listRoute(spec, (call) => ask(managing(call), call))
  const id = (call: Call): string => variable(call, "id")
  const org = (call: Call): string | undefined => call.query.get("org_id") || undefined

  return [
    all(callSpecs.listApiKeys, ({ apiKeys }) => apiKeys.list()),
    manage(callSpecs.createApiKey, ({ apiKeys }, call) => apiKeys.create(call.body)),
    manage(callSpecs.getApiKey, ({ apiKeys }, call) => apiKeys.get(id(call))),
    manage(callSpecs.rotateApiKey, ({ apiKeys }, call) => apiKeys.rotate(id(call), call.body)),
    manage(callSpecs.deleteApiKey, ({ apiKeys }, call) => apiKeys.delete(id(call))),
    manage(callSpecs.accessLog, ({ log }) =>
      Effect.map(log(MOST_ENTRIES), (entries) =>
        entries.map((entry) => ({ ...entry, at: new Date(entry.at).toISOString() }))
      )
    ),

    all(callSpecs.listOrgs, ({ orgs }) => orgs.list()),
    manage(callSpecs.createOrg, ({ orgs }, call) => orgs.create(call.body)),
    manage(callSpecs.getOrg, ({ orgs }, call) => orgs.get(id(call))),
    change(callSpecs.updateOrg, "org", ({ orgs }, call) => orgs.update(id(call), call.body)),
    manage(callSpecs.deleteOrg, ({ orgs }, call) => orgs.delete(id(call))),

    all(callSpecs.listRoles, ({ roles }, call) => roles.list(org(call))),
    manage(callSpecs.createRole, ({ roles }, call) => roles.create(call.body)),
    manage(callSpecs.getRole, ({ roles }, call) => roles.get(id(call))),
    change(callSpecs.updateRole, "role", ({ roles }, call) => roles.update(id(call), call.body)),
    manage(callSpecs.deleteRole, ({ roles }, call) => roles.delete(id(call))),
    all(callSpecs.listRolePolicies, ({ policies, roles }, call) =>
      Effect.flatMap(roles.get(id(call)), ({ policy_ids = [] }) =>
        Effect.forEach(
          policy_ids.filter((id) => isShown(callSpecs.listRolePolicies, id, call)),
          (id) => policies.get(id)
        )
      )
    ),
    manage(callSpecs.assignPolicy, ({ roles }, call) =>
      Effect.flatMap(
        checked(() => policyIdIn(call.body)),
        (policyId) => roles.assignPolicy(id(call), policyId)
      )
    ),
    manage(callSpecs.removePolicy, ({ roles }, call) =>
      roles.removePolicy(id(call), variable(call, "policyId"))
    ),

    all(callSpecs.listPolicies, ({ policies }, call) => policies.list(org(call))),
    manage(callSpecs.createPolicy, ({ policies }, call) => policies.create(call.body)),
    manage(callSpecs.getPolicy, ({ policies }, call) => policies.get(id(call))),
    change(callSpecs.updatePolicy, "policy", ({ policies }, call) => policies.update(id(call), call.body)),
    manage(callSpecs.deletePolicy, ({ policies }, call) => policies.delete(id(call)))
  ]
}

/**
 * Whether the response may show this name. A call whose spec has `respects` does not show names that a policy denies.
 */
const isShown = ({ respects }: CallSpec, name: string, { caller, environment }: Call): boolean =>
  respects === undefined ||
  (caller?.isNotDenied(respects.action, `${respects.kind}:${name}`, environment) ?? true)

const NO_POLICY = "Assign: `policy_id` must be the id of a policy"
const takeAssigned = memberReader(AssignPolicy, () => NO_POLICY)

const policyIdIn = (body: unknown): string => {
  const { policy_id } = takeAssigned(body)
  if (typeof policy_id === "string") return policy_id
  throw new ValidationError(NO_POLICY)
}
