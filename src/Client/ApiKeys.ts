/** Managing API keys. The members of a key have names in snake case, as in the HTTP API. Times are ISO strings. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { ApiKeyNotFoundError, RoleNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Client.ts"
import { idArguments, callKeys, type Methods } from "./Methods.ts"
import type { APIKey, APIKeyWithSecret, CreateAPIKeyInput, RotateAPIKeyOptions } from "../Protocol/Access.ts"

export type { APIKey, APIKeyWithSecret, CreateAPIKeyInput, RotateAPIKeyOptions } from "../Protocol/Access.ts"

/** The methods, for the API kind `F`. */
export interface ApiKeysApi<F extends HKT.TypeLambda> {
  /**
   * Creates a key. Only this result has the key's secret.
   *
   * Once a key exists, every call needs a key. When a client without a key creates the first key of a server, this client uses
   * the new key from then on. Other clients do not: give them the secret.
   */
  create(
    input: CreateAPIKeyInput,
    ...options: CallArgs<F>
  ): Kind<F, APIKeyWithSecret, RoleNotFoundError | ClientError>
  /**
   * Lists the keys of the environment, newest first, or all keys when the key of this client spans all
   * environments.
   */
  list(...options: CallArgs<F>): Kind<F, Array<APIKey>, ClientError>
  /** Returns one key. Like `rotate` and `delete`, fails with `ApiKeyNotFoundError` when there is no such key. */
  get(id: string, ...options: CallArgs<F>): Kind<F, APIKey, ApiKeyNotFoundError | ClientError>
  /**
   * Gives the key a new secret. The previous secret stops working after `overlap`, or at once without this
   * option. Any older secret stops at once.
   */
  rotate(
    id: string,
    options?: Options<F, RotateAPIKeyOptions>
  ): Kind<F, APIKeyWithSecret, ApiKeyNotFoundError | ClientError>
  /** Deletes the key. The key stops working at once, even for connections that are open with it. */
  delete(id: string, ...options: CallArgs<F>): Kind<F, void, ApiKeyNotFoundError | ClientError>
}

const keyErrors = { ApiKeyNotFoundError: true } as const
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
  get: [idArguments, keyErrors],
  rotate: [[null, { ...callKeys, overlap: true }], keyErrors],
  delete: [idArguments, keyErrors]
}

/** Creates, rotates and deletes API keys. */
export class ApiKeys extends Context.Service<ApiKeys, ApiKeysApi<EffectKind>>()("@ironflow/node/ApiKeys") {}
