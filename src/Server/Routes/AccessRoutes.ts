/**
 * Manages API keys, organizations, roles and policies over HTTP. The methods of the engine check the bodies.
 */
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import type { ManagementOfEnvironment } from "../../Engine/Access/Management.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { AssignPolicy, endpoints } from "../../Protocol/Access.ts"
import { taker } from "../../Protocol/ServerCodec.ts"
import type { EndpointSpec } from "../../Protocol/EndpointSpec.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { answering, listing } from "./EndpointRoute.ts"

/** The most entries of the access log in one response. */
const MOST_ENTRIES = 1000

export const accessRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const managing = (call: Call): ManagementOfEnvironment =>
    engine.management.in(call.environment, call.caller)
  const manage = <A>(
    endpoint: EndpointSpec<A>,
    ask: (manage: ManagementOfEnvironment, call: Call) => Effect.Effect<A, IronflowError>
  ) => answering(endpoint, (call) => ask(managing(call), call))
  /** The route of a change. It answers with the whole entry, so the caller must not be denied to read it. */
  const change = <A>(
    endpoint: EndpointSpec<A>,
    kind: "org" | "role" | "policy",
    ask: (manage: ManagementOfEnvironment, call: Call) => Effect.Effect<A, IronflowError>
  ) =>
    manage(endpoint, (management, call) =>
      Effect.andThen(
        checked(() => call.caller?.checkNotDenied(`${kind}:read`, `${kind}:${id(call)}`, call.environment)),
        Effect.suspend(() => ask(management, call))
      )
    )
  const all = <A>(
    endpoint: EndpointSpec<Array<A & { readonly id: string }>>,
    ask: (
      manage: ManagementOfEnvironment,
      call: Call
    ) => Effect.Effect<ReadonlyArray<A & { readonly id: string }>, IronflowError>
  ) => listing(endpoint, (call) => ask(managing(call), call))
  const id = (call: Call): string => variable(call, "id")
  const org = (call: Call): string | undefined => call.query.get("org_id") || undefined

  return [
    all(endpoints.listApiKeys, ({ apiKeys }) => apiKeys.list()),
    manage(endpoints.createApiKey, ({ apiKeys }, call) => apiKeys.create(call.body)),
    manage(endpoints.getApiKey, ({ apiKeys }, call) => apiKeys.get(id(call))),
    manage(endpoints.rotateApiKey, ({ apiKeys }, call) => apiKeys.rotate(id(call), call.body)),
    manage(endpoints.deleteApiKey, ({ apiKeys }, call) => apiKeys.delete(id(call))),
    manage(endpoints.accessLog, ({ log }) =>
      Effect.map(log(MOST_ENTRIES), (entries) =>
        entries.map((entry) => ({ ...entry, at: new Date(entry.at).toISOString() }))
      )
    ),

    all(endpoints.listOrgs, ({ orgs }) => orgs.list()),
    manage(endpoints.createOrg, ({ orgs }, call) => orgs.create(call.body)),
    manage(endpoints.getOrg, ({ orgs }, call) => orgs.get(id(call))),
    change(endpoints.updateOrg, "org", ({ orgs }, call) => orgs.update(id(call), call.body)),
    manage(endpoints.deleteOrg, ({ orgs }, call) => orgs.delete(id(call))),

    all(endpoints.listRoles, ({ roles }, call) => roles.list(org(call))),
    manage(endpoints.createRole, ({ roles }, call) => roles.create(call.body)),
    manage(endpoints.getRole, ({ roles }, call) => roles.get(id(call))),
    change(endpoints.updateRole, "role", ({ roles }, call) => roles.update(id(call), call.body)),
    manage(endpoints.deleteRole, ({ roles }, call) => roles.delete(id(call))),
    all(endpoints.listRolePolicies, ({ policies, roles }, call) =>
      Effect.flatMap(roles.get(id(call)), ({ policy_ids = [] }) =>
        Effect.forEach(
          policy_ids.filter((id) => isShown(endpoints.listRolePolicies, id, call)),
          (id) => policies.get(id)
        )
      )
    ),
    manage(endpoints.assignPolicy, ({ roles }, call) =>
      Effect.flatMap(
        checked(() => policyIdIn(call.body)),
        (policyId) => roles.assignPolicy(id(call), policyId)
      )
    ),
    manage(endpoints.removePolicy, ({ roles }, call) =>
      roles.removePolicy(id(call), variable(call, "policyId"))
    ),

    all(endpoints.listPolicies, ({ policies }, call) => policies.list(org(call))),
    manage(endpoints.createPolicy, ({ policies }, call) => policies.create(call.body)),
    manage(endpoints.getPolicy, ({ policies }, call) => policies.get(id(call))),
    change(endpoints.updatePolicy, "policy", ({ policies }, call) => policies.update(id(call), call.body)),
    manage(endpoints.deletePolicy, ({ policies }, call) => policies.delete(id(call)))
  ]
}

/**
 * Whether the response may show this name. Where the endpoint respects denials, a denied name is not shown.
 */
const isShown = ({ respects }: EndpointSpec, name: string, { caller, environment }: Call): boolean =>
  respects === undefined ||
  (caller?.isNotDenied(respects.action, `${respects.kind}:${name}`, environment) ?? true)

const NO_POLICY = "Assign: `policy_id` must be the id of a policy"
const takeAssigned = taker(AssignPolicy, () => NO_POLICY)

const policyIdIn = (body: unknown): string => {
  const { policy_id } = takeAssigned(body)
  if (typeof policy_id === "string") return policy_id
  throw new ValidationError(NO_POLICY)
}
