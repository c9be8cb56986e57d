/**
 * API keys, organizations, roles, policies and secrets over HTTP. Each method makes one request of the
 * contract.
 */
import * as Effect from "effect/Effect"
import type { IronflowError } from "../Errors.ts"
import { type APIKeyWithSecret, NewApiKey } from "../Protocol/Access.ts"
import * as calls from "../Protocol/Access.ts"
import { reader } from "../Protocol/Codec.ts"
import type { Operation } from "../Protocol/CallSpec.ts"
import * as secretCalls from "../Protocol/Secrets.ts"
import type { ApiKeysApi } from "./ApiKeys.ts"
import type { EffectKind } from "./Client.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Connection } from "./HttpConnection.ts"
import type { Raw } from "./NarrowErrors.ts"
import type { OrgsApi } from "./Orgs.ts"
import type { PoliciesApi } from "./Policies.ts"
import type { RolesApi } from "./Roles.ts"
import { bodyOf, checkVariable, makeOperationCalls } from "./OperationCalls.ts"
import type { SecretsApi } from "./Secrets.ts"

export interface AccessClients {
  readonly apiKeys: Raw<ApiKeysApi<EffectKind>>
  readonly orgs: Raw<OrgsApi<EffectKind>>
  readonly roles: Raw<RolesApi<EffectKind>>
  readonly policies: Raw<PoliciesApi<EffectKind>>
  readonly secrets: Raw<SecretsApi<EffectKind>>
}

/** Makes the methods, over a connection. */
export const make = (connection: Connection): AccessClients => {
  const { ask, list } = makeOperationCalls(connection)

  /** Makes a method whose request is about one item, by its id. */
  const on =
    <A>(operation: Operation<A>, what: string) =>
    (id: string): Effect.Effect<A, IronflowError> =>
      ask(operation, what, { variables: { id } })
  const creating =
    <A, B = A>(operation: Operation<A>, what: string, read?: (answer: unknown) => B | undefined) =>
    (input: object): Effect.Effect<B, IronflowError> =>
      Effect.flatMap(bodyOf(what, input), (body) => ask(operation, what, { body }, read))
  /** The methods that organizations, roles and policies have in common. */
  const managing = <A>(
    noun: string,
    create: Operation<A>,
    all: Operation<Array<A>>,
    get: Operation<A>,
    update: Operation<A>,
    remove: Operation<undefined>
  ) => ({
    create: creating(create, `${noun}.create`),
    list: (org_id?: string) => list(all, `${noun}.list`, { org_id }),
    get: on(get, `${noun}.get`),
    update: (id: string, input: object) => {
      const what = `${noun}.update`
      return Effect.flatMap(bodyOf(what, input), (body) => ask(update, what, { variables: { id }, body }))
    },
    delete: on(remove, `${noun}.delete`)
  })

  const createKey = creating(calls.createApiKey, "apiKeys.create", readNewKey)
  const deleteKey = on(calls.deleteApiKey, "apiKeys.delete")

  /** The id of the server's first key, while this client uses that key because it has created it. */
  let own: string | undefined
  const goOnWith = (id: string | undefined, apiKey: string | undefined) =>
    Effect.sync(() => {
      own = id
      connection.goOnWith(apiKey)
    })

  return {
    apiKeys: {
      create: (input) =>
        Effect.tap(createKey(input), ({ env_id, id, secret }) =>
          // a client without a key can only create the first key of a server, which spans all environments
          connection.server.apiKey === undefined && env_id === "*" ? goOnWith(id, secret) : Effect.void
        ),
      list: () => list(calls.listApiKeys, "apiKeys.list"),
      get: on(calls.getApiKey, "apiKeys.get"),
      rotate: (id, { overlap } = {}) =>
        Effect.tap(
          ask(
            calls.rotateApiKey,
            "apiKeys.rotate",
            { variables: { id }, ...(overlap === undefined ? {} : { body: { overlap } }) },
            readNewKey
          ),
          ({ secret }) => (id === own ? goOnWith(id, secret) : Effect.void)
        ),
      delete: (id) =>
        Effect.tap(deleteKey(id), () => (id === own ? goOnWith(undefined, undefined) : Effect.void))
    },
    orgs: managing("orgs", calls.createOrg, calls.listOrgs, calls.getOrg, calls.updateOrg, calls.deleteOrg),
    roles: {
      ...managing(
        "roles",
        calls.createRole,
        calls.listRoles,
        calls.getRole,
        calls.updateRole,
        calls.deleteRole
      ),
      assignPolicy: (id, policyId) =>
        Effect.flatMap(
          validated(() => checkVariable("roles.assignPolicy", policyId)),
          (policy_id) =>
            ask(calls.assignPolicy, "roles.assignPolicy", { variables: { id }, body: { policy_id } })
        ),
      removePolicy: (id, policyId) =>
        ask(calls.removePolicy, "roles.removePolicy", { variables: { id, policyId } })
    },
    policies: managing(
      "policies",
      calls.createPolicy,
      calls.listPolicies,
      calls.getPolicy,
      calls.updatePolicy,
      calls.deletePolicy
    ),
    secrets: {
      set: (name, value) => ask(secretCalls.setSecret, "secrets.set", { body: { name, value } }),
      get: (name) => ask(secretCalls.getSecret, "secrets.get", { variables: { name } }),
      list: () => list(secretCalls.listSecrets, "secrets.list"),
      delete: (name) => ask(secretCalls.deleteSecret, "secrets.delete", { variables: { name } })
    }
  }
}

const readKey = reader(NewApiKey)

/** Reads a new key. Servers return its secret as `key`, `secret`, or both. */
const readNewKey = (answer: unknown): APIKeyWithSecret | undefined => {
  const read = readKey(answer)
  const secret = read?.secret ?? read?.key
  return read === undefined || secret === undefined ? undefined : { ...read, secret, key: secret }
}
