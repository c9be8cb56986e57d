/** Managing API keys, organizations, roles and policies over HTTP: bodies and answers as the client's methods have them. */
import * as Effect from "effect/Effect"
import type { CreateAPIKeyInput, RotateAPIKeyOptions } from "../../Client/ApiKeys.ts"
import type { CreateOrgInput, UpdateOrgInput } from "../../Client/Orgs.ts"
import type { CreatePolicyInput, UpdatePolicyInput } from "../../Client/Policies.ts"
import type { CreateRoleInput, UpdateRoleInput } from "../../Client/Roles.ts"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import type { EndpointName } from "../../Protocol/Http/Endpoints.ts"
import type { Management } from "../Access/Management.ts"
import type { EngineService } from "../Engine.ts"
import { LIST_PAGE, listReply, readPageQuery } from "../Pages.ts"
import { type Call, checked, json, noContent, type Route, route, variable } from "./Route.ts"

/** Entries of the access log in one answer. */
const MOST_ENTRIES = 1000

export const accessRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  /** A call that is answered with what `ask` gives. */
  const answering = (
    name: EndpointName,
    ask: (manage: Management, call: Call) => Effect.Effect<unknown, IronflowError>,
    status = 200
  ): Route =>
    route(name, (call) =>
      Effect.map(ask(engine.manageAccess(call.environment, call.caller), call), (answer) =>
        answer === undefined ? noContent : json(answer, status)
      )
    )
  /** A list that is sent bare, or in pages. */
  const listing = (
    name: EndpointName,
    list: string,
    ask: (
      manage: Management,
      call: Call
    ) => Effect.Effect<ReadonlyArray<{ readonly id: string }>, IronflowError>
  ): Route =>
    route(name, (call) =>
      Effect.flatMap(
        checked(() => readPageQuery(call.query, LIST_PAGE)),
        (page) =>
          Effect.flatMap(ask(engine.manageAccess(call.environment, call.caller), call), (items) =>
            listReply(list, items, page, undefined, (text) => `[${text}]`)
          )
      )
    )
  const id = (call: Call): string => variable(call, "id")
  const org = (call: Call): string | undefined => call.query.get("org_id") || undefined
  // the methods check what is in a body, whoever sends it
  const body = <A>(call: Call): A => call.body as A

  return [
    listing("listApiKeys", "api_keys", ({ apiKeys }) => apiKeys.list()),
    answering("createApiKey", ({ apiKeys }, call) => apiKeys.create(body<CreateAPIKeyInput>(call)), 201),
    answering("getApiKey", ({ apiKeys }, call) => apiKeys.get(id(call))),
    answering("rotateApiKey", ({ apiKeys }, call) =>
      Effect.flatMap(
        checked(() => {
          if (isObject(call.body)) return body<RotateAPIKeyOptions>(call)
          throw new ValidationError("Rotate: the body must be an object, or empty")
        }),
        ({ overlap }) => apiKeys.rotate(id(call), overlap === undefined ? {} : { overlap })
      )
    ),
    answering("deleteApiKey", ({ apiKeys }, call) => apiKeys.delete(id(call))),
    answering("accessLog", ({ log }) =>
      Effect.map(log(MOST_ENTRIES), (entries) =>
        entries.map((entry) => ({ ...entry, at: new Date(entry.at).toISOString() }))
      )
    ),

    listing("listOrgs", "orgs", ({ orgs }) => orgs.list()),
    answering("createOrg", ({ orgs }, call) => orgs.create(body<CreateOrgInput>(call)), 201),
    answering("getOrg", ({ orgs }, call) => orgs.get(id(call))),
    answering("updateOrg", ({ orgs }, call) => orgs.update(id(call), body<UpdateOrgInput>(call))),
    answering("deleteOrg", ({ orgs }, call) => orgs.delete(id(call))),

    listing("listRoles", "roles", ({ roles }, call) => roles.list(org(call))),
    answering("createRole", ({ roles }, call) => roles.create(body<CreateRoleInput>(call)), 201),
    answering("getRole", ({ roles }, call) => roles.get(id(call))),
    answering("updateRole", ({ roles }, call) => roles.update(id(call), body<UpdateRoleInput>(call))),
    answering("deleteRole", ({ roles }, call) => roles.delete(id(call))),
    listing("listRolePolicies", "policies", ({ roles, policies }, call) =>
      Effect.flatMap(roles.get(id(call)), ({ policy_ids = [] }) =>
        Effect.forEach(
          policy_ids.filter(
            (id) => call.caller?.isNotDenied("policy:read", `policy:${id}`, call.environment) ?? true
          ),
          (id) => policies.get(id)
        )
      )
    ),
    answering("assignPolicy", ({ roles }, call) =>
      Effect.flatMap(
        checked(() => policyIdIn(call.body)),
        (policyId) => roles.assignPolicy(id(call), policyId)
      )
    ),
    answering("removePolicy", ({ roles }, call) => roles.removePolicy(id(call), variable(call, "policyId"))),

    listing("listPolicies", "policies", ({ policies }, call) => policies.list(org(call))),
    answering("createPolicy", ({ policies }, call) => policies.create(body<CreatePolicyInput>(call)), 201),
    answering("getPolicy", ({ policies }, call) => policies.get(id(call))),
    answering("updatePolicy", ({ policies }, call) =>
      policies.update(id(call), body<UpdatePolicyInput>(call))
    ),
    answering("deletePolicy", ({ policies }, call) => policies.delete(id(call)))
  ]
}

const policyIdIn = (body: unknown): string => {
  const id = isObject(body) ? (body.policy_id ?? body.policyId) : undefined
  if (typeof id === "string") return id
  throw new ValidationError("Assign: `policy_id` must be the id of a policy")
}
