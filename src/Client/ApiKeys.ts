/** Managing API keys. Field names are in snake case, as on the wire. Times are ISO strings. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { ApiKeyNotFoundError, RoleNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Client.ts"
import { byId, callKeys, type Methods } from "./Methods.ts"
import type { APIKey, APIKeyWithSecret, CreateAPIKeyInput, RotateAPIKeyOptions } from "../Protocol/Access.ts"

export type { APIKey, APIKeyWithSecret, CreateAPIKeyInput, RotateAPIKeyOptions } from "../Protocol/Access.ts"

/** The methods, for the API kind `F`. */
export interface ApiKeysApi<F extends HKT.TypeLambda> {
  /**
   * Creates a key. Only this result has the key's secret.
   *
   * Once a key exists, every call needs a key. A client without a key that creates the first key of a server uses that key from
   * then on. No other client receives it.
   */
  create(
    input: CreateAPIKeyInput,
    ...options: CallArgs<F>
  ): Kind<F, APIKeyWithSecret, RoleNotFoundError | ClientError>
  /**
   * Lists the keys of the environment, newest first. With a key that spans all environments, lists all keys.
   */
  list(...options: CallArgs<F>): Kind<F, Array<APIKey>, ClientError>
  /**
   * Returns one key. This method and those below fail with `ApiKeyNotFoundError` when there is no such key.
   */
  get(id: string, ...options: CallArgs<F>): Kind<F, APIKey, ApiKeyNotFoundError | ClientError>
  /** Gives the key a new secret. The old one stops working at once, or after `overlap`. An even older one stops at once. */
  rotate(
    id: string,
    options?: Options<F, RotateAPIKeyOptions>
  ): Kind<F, APIKeyWithSecret, ApiKeyNotFoundError | ClientError>
  /** Deletes the key. It stops working at once, even where it is in use. */
  delete(id: string, ...options: CallArgs<F>): Kind<F, void, ApiKeyNotFoundError | ClientError>
}

const ofKey = { ApiKeyNotFoundError: true } as const
/** Names, options and errors of the methods. */
export const apiKeysMethods: Methods<ApiKeysApi<PromiseKind>, ApiKeysApi<EffectKind>> = {
  create: [
    [
      {
        name: true,
        envId: true,
        env_id: true,
        role_ids: true,
        roleIds: true,
        expires_in: true,
        expiresIn: true
      },
      callKeys
    ],
    { RoleNotFoundError: true }
  ],
  list: [[callKeys]],
  get: [byId, ofKey],
  rotate: [[null, { ...callKeys, overlap: true }], ofKey],
  delete: [byId, ofKey]
}

/** Creates, rotates and deletes API keys. */
export class ApiKeys extends Context.Service<ApiKeys, ApiKeysApi<EffectKind>>()("@ironflow/node/ApiKeys") {}
