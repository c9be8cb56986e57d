/** API keys, organizations, roles, policies and secrets of a server elsewhere: every method is a request. */
import * as Effect from "effect/Effect"
import {
  ApiKeyNotFoundError,
  type IronflowError,
  type NotFoundError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError,
  SecretNotFoundError,
  ValidationError
} from "../Errors.ts"
import { isObject } from "../Json.ts"
import { type Endpoint, endpoints } from "../Protocol/Http/Endpoints.ts"
import { listOf, readApiKey, readNewKey, readOrg, readPolicy, readRole, readSecret } from "./AccessAnswers.ts"
import type { ApiKeysApi } from "./ApiKeys.ts"
import type { EffectKind } from "./Client.ts"
import { checked, done, makeCalls, quote } from "./HttpCalls.ts"
import type { Connection } from "./HttpConnection.ts"
import { callPages } from "./HttpPages.ts"
import type { Raw } from "./Named.ts"
import type { OrgsApi } from "./Orgs.ts"
import type { PoliciesApi } from "./Policies.ts"
import type { RolesApi } from "./Roles.ts"
import type { SecretsApi } from "./Secrets.ts"

export interface AccessClients {
  readonly apiKeys: Raw<ApiKeysApi<EffectKind>>
  readonly orgs: Raw<OrgsApi<EffectKind>>
  readonly roles: Raw<RolesApi<EffectKind>>
  readonly policies: Raw<PoliciesApi<EffectKind>>
  readonly secrets: Raw<SecretsApi<EffectKind>>
}

/** The methods over a connection. */
export const make = (connection: Connection): AccessClients => {
  const calls = makeCalls(connection)
  const { call } = calls

  /** Asks for something, or does something to it. */
  const on = <A>(
    endpoint: Endpoint,
    method: string,
    kind: Kind,
    id: string,
    read: (answer: unknown) => A | undefined,
    more: { readonly body?: object; readonly variables?: { readonly [name: string]: string } } = {}
  ): Effect.Effect<A, IronflowError> =>
    Effect.flatMap(
      checked(() => {
        const { body, variables = { [kind.variable]: id } } = more
        for (const variable of Object.values(variables)) checkId(method, variable)
        return { variables, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }
      }),
      (input) =>
        call({
          endpoint,
          ...input,
          what: `${method}(${quote(id)})`,
          repeatable: endpoint.method === "GET",
          notFound: () => new kind.NotFound(id),
          read
        })
    )

  const nothing = () => done

  const deleting = (endpoint: Endpoint, method: string, kind: Kind) => (id: string) =>
    Effect.asVoid(on(endpoint, method, kind, id, nothing))

  const creating = <A>(
    endpoint: Endpoint,
    method: string,
    input: unknown,
    read: (answer: unknown) => A | undefined
  ) =>
    Effect.flatMap(
      checked(() => bodyOf(method, input)),
      (body) => call({ endpoint, body: JSON.stringify(body), what: `${method}()`, repeatable: false, read })
    )

  const updating =
    <A>(endpoint: Endpoint, method: string, kind: Kind, read: (answer: unknown) => A | undefined) =>
    (id: string, input: object) =>
      Effect.flatMap(
        checked(() => bodyOf(method, input)),
        (body) => on(endpoint, method, kind, id, read, { body })
      )

  const listing = <A>(
    endpoint: Endpoint,
    method: string,
    list: "api_keys" | "orgs" | "roles" | "policies" | "secrets",
    read: (answer: unknown) => A | undefined,
    orgId?: string
  ) =>
    Effect.flatMap(
      checked(() => new URLSearchParams(orgId === undefined ? {} : { org_id: checkId(method, orgId) })),
      (query) => {
        const it = {
          endpoint,
          what: `${method}()`,
          repeatable: true,
          read: (answer: unknown) => listOf(read)(isObject(answer) ? answer[list] : answer)
        }
        return Effect.catchIf(
          call<Array<A>>({ ...it, query: query.size === 0 ? "" : `?${query}` }),
          // too much for one answer; pages come by id
          ({ code }) => code === "LIMIT_EXCEEDED",
          () => callPages<A>(calls, { ...it, query: Object.fromEntries(query) })
        )
      }
    )

  /** The id of the key that this client has made as the first one of the server, and goes on with. */
  let own: string | undefined
  const goOnWith = (id: string | undefined, apiKey: string | undefined) =>
    Effect.sync(() => {
      own = id
      connection.goOnWith(apiKey)
    })

  return {
    apiKeys: {
      create: (input) =>
        Effect.tap(
          creating(endpoints.createApiKey, "apiKeys.create", input, readNewKey),
          ({ env_id, id, secret }) =>
            // nobody without a key makes another than the first, and that is the one for all environments
            connection.server.apiKey === undefined && env_id === "*" ? goOnWith(id, secret) : Effect.void
        ),
      list: () => listing(endpoints.listApiKeys, "apiKeys.list", "api_keys", readApiKey),
      get: (id) => on(endpoints.getApiKey, "apiKeys.get", apiKey, id, readApiKey),
      rotate: (id, { overlap } = {}) =>
        Effect.tap(
          on(
            endpoints.rotateApiKey,
            "apiKeys.rotate",
            apiKey,
            id,
            readNewKey,
            overlap === undefined ? {} : { body: { overlap } }
          ),
          ({ secret }) => (id === own ? goOnWith(id, secret) : Effect.void)
        ),
      delete: (id) =>
        Effect.tap(deleting(endpoints.deleteApiKey, "apiKeys.delete", apiKey)(id), () =>
          id === own ? goOnWith(undefined, undefined) : Effect.void
        )
    },
    orgs: {
      create: (input) => creating(endpoints.createOrg, "orgs.create", input, readOrg),
      list: () => listing(endpoints.listOrgs, "orgs.list", "orgs", readOrg),
      get: (id) => on(endpoints.getOrg, "orgs.get", org, id, readOrg),
      update: updating(endpoints.updateOrg, "orgs.update", org, readOrg),
      delete: deleting(endpoints.deleteOrg, "orgs.delete", org)
    },
    roles: {
      create: (input) => creating(endpoints.createRole, "roles.create", input, readRole),
      list: (orgId) => listing(endpoints.listRoles, "roles.list", "roles", readRole, orgId),
      get: (id) => on(endpoints.getRole, "roles.get", role, id, readRole),
      update: updating(endpoints.updateRole, "roles.update", role, readRole),
      delete: deleting(endpoints.deleteRole, "roles.delete", role),
      assignPolicy: (id, policyId) =>
        Effect.andThen(
          checked(() => checkId("roles.assignPolicy", policyId)),
          Effect.asVoid(
            on(endpoints.assignPolicy, "roles.assignPolicy", role, id, nothing, {
              body: { policy_id: policyId }
            })
          )
        ),
      removePolicy: (id, policyId) =>
        Effect.asVoid(
          on(endpoints.removePolicy, "roles.removePolicy", role, id, nothing, { variables: { id, policyId } })
        )
    },
    policies: {
      create: (input) => creating(endpoints.createPolicy, "policies.create", input, readPolicy),
      list: (orgId) => listing(endpoints.listPolicies, "policies.list", "policies", readPolicy, orgId),
      get: (id) => on(endpoints.getPolicy, "policies.get", policy, id, readPolicy),
      update: updating(endpoints.updatePolicy, "policies.update", policy, readPolicy),
      delete: deleting(endpoints.deletePolicy, "policies.delete", policy)
    },
    secrets: {
      set: (name, value) => creating(endpoints.setSecret, "secrets.set", { name, value }, readSecret),
      get: (name) => on(endpoints.getSecret, "secrets.get", secret, name, readSecret),
      list: () => listing(endpoints.listSecrets, "secrets.list", "secrets", readSecret),
      delete: deleting(endpoints.deleteSecret, "secrets.delete", secret)
    }
  }
}

interface Kind {
  readonly variable: "id" | "name"
  /** The error when there is none. */
  readonly NotFound: new (id: string) => NotFoundError
}

const apiKey: Kind = { variable: "id", NotFound: ApiKeyNotFoundError }
const org: Kind = { variable: "id", NotFound: OrgNotFoundError }
const role: Kind = { variable: "id", NotFound: RoleNotFoundError }
const policy: Kind = { variable: "id", NotFound: PolicyNotFoundError }
const secret: Kind = { variable: "name", NotFound: SecretNotFoundError }

const bodyOf = (method: string, input: unknown): object => {
  if (isObject(input)) return input
  throw new ValidationError(`${method}() wants an object, got ${input === null ? "null" : typeof input}`)
}

/** An empty one would ask for something else. */
const checkId = (method: string, id: unknown): string => {
  if (typeof id === "string" && id !== "" && id !== "." && id !== "..") return id
  throw new ValidationError(`${method}() wants a text that is not empty, got ${quote(id)}`)
}
