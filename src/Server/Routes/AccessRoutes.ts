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

/** Maximum number of entries of the access log in one response. */
const MAX_ENTRIES = 1000

export const accessRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const managementOf = (call: Call): ManagementOfEnvironment =>
    engine.management.in(call.environment, call.caller)
  const manageRoute = <A>(
    spec: CallSpec<A>,
    ask: (manage: ManagementOfEnvironment, call: Call) => Effect.Effect<A, IronflowError>
  ) => answerRoute(spec, (call) => ask(managementOf(call), call))
  /**
   * The route of a change. The answer has the whole organization, role or policy, so a caller whom a policy denies to
   * read it is refused.
   */
  const changeRoute = <A>(
    spec: CallSpec<A>,
    kind: "org" | "role" | "policy",
    ask: (manage: ManagementOfEnvironment, call: Call) => Effect.Effect<A, IronflowError>
  ) =>
    manageRoute(spec, (management, call) =>
      Effect.andThen(
        checked(() => call.caller?.checkNotDenied(`${kind}:read`, `${kind}:${id(call)}`, call.environment)),
        Effect.suspend(() => ask(management, call))
      )
    )
  const manageListRoute = <A>(
    spec: CallSpec<Array<A & { readonly id: string }>>,
    ask: (
      manage: ManagementOfEnvironment,
      call: Call
    ) => Effect.Effect<ReadonlyArray<A & { readonly id: string }>, IronflowError>
  ) => listRoute(spec, (call) => ask(managementOf(call), call))
  const id = (call: Call): string => variable(call, "id")
  const org = (call: Call): string | undefined => call.query.get("org_id") || undefined

  return [
    manageListRoute(callSpecs.listApiKeys, ({ apiKeys }) => apiKeys.list()),
    manageRoute(callSpecs.createApiKey, ({ apiKeys }, call) => apiKeys.create(call.body)),
    manageRoute(callSpecs.getApiKey, ({ apiKeys }, call) => apiKeys.get(id(call))),
    manageRoute(callSpecs.rotateApiKey, ({ apiKeys }, call) => apiKeys.rotate(id(call), call.body)),
    manageRoute(callSpecs.deleteApiKey, ({ apiKeys }, call) => apiKeys.delete(id(call))),
    manageRoute(callSpecs.accessLog, ({ log }) =>
      Effect.map(log(MAX_ENTRIES), (entries) =>
        entries.map((entry) => ({ ...entry, at: new Date(entry.at).toISOString() }))
      )
    ),

    manageListRoute(callSpecs.listOrgs, ({ orgs }) => orgs.list()),
    manageRoute(callSpecs.createOrg, ({ orgs }, call) => orgs.create(call.body)),
    manageRoute(callSpecs.getOrg, ({ orgs }, call) => orgs.get(id(call))),
    changeRoute(callSpecs.updateOrg, "org", ({ orgs }, call) => orgs.update(id(call), call.body)),
    manageRoute(callSpecs.deleteOrg, ({ orgs }, call) => orgs.delete(id(call))),

    manageListRoute(callSpecs.listRoles, ({ roles }, call) => roles.list(org(call))),
    manageRoute(callSpecs.createRole, ({ roles }, call) => roles.create(call.body)),
    manageRoute(callSpecs.getRole, ({ roles }, call) => roles.get(id(call))),
    changeRoute(callSpecs.updateRole, "role", ({ roles }, call) => roles.update(id(call), call.body)),
    manageRoute(callSpecs.deleteRole, ({ roles }, call) => roles.delete(id(call))),
    manageListRoute(callSpecs.listRolePolicies, ({ policies, roles }, call) =>
      Effect.flatMap(roles.get(id(call)), ({ policy_ids = [] }) =>
        Effect.forEach(
          policy_ids.filter((id) => isShown(callSpecs.listRolePolicies, id, call)),
          (id) => policies.get(id)
        )
      )
    ),
    manageRoute(callSpecs.assignPolicy, ({ roles }, call) =>
      Effect.flatMap(
        checked(() => policyIdIn(call.body)),
        (policyId) => roles.assignPolicy(id(call), policyId)
      )
    ),
    manageRoute(callSpecs.removePolicy, ({ roles }, call) =>
      roles.removePolicy(id(call), variable(call, "policyId"))
    ),

    manageListRoute(callSpecs.listPolicies, ({ policies }, call) => policies.list(org(call))),
    manageRoute(callSpecs.createPolicy, ({ policies }, call) => policies.create(call.body)),
    manageRoute(callSpecs.getPolicy, ({ policies }, call) => policies.get(id(call))),
    changeRoute(callSpecs.updatePolicy, "policy", ({ policies }, call) =>
      policies.update(id(call), call.body)
    ),
    manageRoute(callSpecs.deletePolicy, ({ policies }, call) => policies.delete(id(call)))
  ]
}

/** Whether the response may show this name. A call whose spec has `secondAction` does not show names that a policy denies. */
const isShown = ({ secondAction }: CallSpec, name: string, { caller, environment }: Call): boolean =>
  secondAction === undefined ||
  (caller?.isNotDenied(secondAction.action, `${secondAction.kind}:${name}`, environment) ?? true)

const NO_POLICY = "Assign: `policy_id` must be the id of a policy"
const readAssignment = memberReader(AssignPolicy, () => NO_POLICY)

const policyIdIn = (body: unknown): string => {
  const { policy_id } = readAssignment(body)
  if (typeof policy_id === "string") return policy_id
  throw new ValidationError(NO_POLICY)
}
