/**
 * API keys, organizations, roles, policies and secrets over HTTP. The methods make the calls that
 * `Protocol/Access.ts` and `Protocol/Secrets.ts` describe.
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

  /** Makes a method that takes the id of an item and makes a call about this item. */
  const idMethod =
    <A>(operation: Operation<A>, method: string) =>
    (id: string): Effect.Effect<A, IronflowError> =>
      ask(operation, method, { variables: { id } })
  /** Makes a method that takes an object and sends it as the body of a call. */
  const bodyMethod =
    <A, B = A>(operation: Operation<A>, method: string, read?: (answer: unknown) => B | undefined) =>
    (input: object): Effect.Effect<B, IronflowError> =>
      Effect.flatMap(bodyOf(method, input), (body) => ask(operation, method, { body }, read))
  /** The methods that organizations, roles and policies have in common. */
  const commonMethods = <A>(
    noun: string,
    create: Operation<A>,
    listOperation: Operation<Array<A>>,
    get: Operation<A>,
    update: Operation<A>,
    remove: Operation<undefined>
  ) => ({
    create: bodyMethod(create, `${noun}.create`),
    list: (org_id?: string) => list(listOperation, `${noun}.list`, { org_id }),
    get: idMethod(get, `${noun}.get`),
    update: (id: string, input: object) => {
      const method = `${noun}.update`
      return Effect.flatMap(bodyOf(method, input), (body) => ask(update, method, { variables: { id }, body }))
    },
    delete: idMethod(remove, `${noun}.delete`)
  })

  const createKey = bodyMethod(calls.createApiKey, "apiKeys.create", readNewKey)
  const deleteKey = idMethod(calls.deleteApiKey, "apiKeys.delete")

  /** The id of the server's first API key, if this client has created that key and has used it since. */
  let ownKeyId: string | undefined
  const useKey = (id: string | undefined, secret: string | undefined) =>
    Effect.sync(() => {
      ownKeyId = id
      connection.useApiKey(secret)
    })

  return {
    apiKeys: {
      create: (input) =>
        Effect.tap(createKey(input), ({ env_id, id, secret }) =>
          // our engine lets a client without a key create only the first key, which spans all environments; a
          // key for one environment comes from a legacy server, and might not fit the environment of this client
          connection.server.apiKey === undefined && env_id === "*" ? useKey(id, secret) : Effect.void
        ),
      list: () => list(calls.listApiKeys, "apiKeys.list"),
      get: idMethod(calls.getApiKey, "apiKeys.get"),
      rotate: (id, { overlap } = {}) =>
        Effect.tap(
          ask(
            calls.rotateApiKey,
            "apiKeys.rotate",
            { variables: { id }, ...(overlap === undefined ? {} : { body: { overlap } }) },
            readNewKey
          ),
          ({ secret }) => (id === ownKeyId ? useKey(id, secret) : Effect.void)
        ),
      delete: (id) =>
        Effect.tap(deleteKey(id), () => (id === ownKeyId ? useKey(undefined, undefined) : Effect.void))
    },
    orgs: commonMethods(
      "orgs",
      calls.createOrg,
      calls.listOrgs,
      calls.getOrg,
      calls.updateOrg,
      calls.deleteOrg
    ),
    roles: {
      ...commonMethods(
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
    policies: commonMethods(
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

/** Reads a new API key. Servers return its secret as `key`, as `secret`, or as both. */
const readNewKey = (answer: unknown): APIKeyWithSecret | undefined => {
  const key = readKey(answer)
  const secret = key?.secret ?? key?.key
  return key === undefined || secret === undefined ? undefined : { ...key, secret, key: secret }
}
