/** Managing API keys. Objects are spelled as they travel, in snake case. Times are ISO strings. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { ApiKeyNotFoundError, RoleNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Client.ts"
import { byId, call, type Methods } from "./Methods.ts"
import type { APIKey, APIKeyWithSecret, CreateAPIKeyInput, RotateAPIKeyOptions } from "../Protocol/Access.ts"

export type { APIKey, APIKeyWithSecret, CreateAPIKeyInput, RotateAPIKeyOptions } from "../Protocol/Access.ts"

/** The methods, in the reading `F`. */
export interface ApiKeysApi<F extends HKT.TypeLambda> {
  /**
   * Makes a key. The result is the only one that holds it.
   *
   * As soon as there is one, every call needs a key. A client without a key that makes the first key of a server goes on with
   * that key, as long as it lives; nobody else has it.
   */
  create(
    input: CreateAPIKeyInput,
    ...options: CallArgs<F>
  ): Kind<F, APIKeyWithSecret, RoleNotFoundError | ClientError>
  /** The keys of the environment, newest first; all of them for a key that spans all. */
  list(...options: CallArgs<F>): Kind<F, Array<APIKey>, ClientError>
  /** Fails with `ApiKeyNotFoundError`, as do those below. */
  get(id: string, ...options: CallArgs<F>): Kind<F, APIKey, ApiKeyNotFoundError | ClientError>
  /** Gives the key another secret. The old one stops working at once, or after `overlap`; one before that ends in any case. */
  rotate(
    id: string,
    options?: Options<F, RotateAPIKeyOptions>
  ): Kind<F, APIKeyWithSecret, ApiKeyNotFoundError | ClientError>
  /** The key stops working at once, also where it is in use. */
  delete(id: string, ...options: CallArgs<F>): Kind<F, void, ApiKeyNotFoundError | ClientError>
}

const ofKey = { ApiKeyNotFoundError: true } as const
/** What each method is called by, and takes. */
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
      call
    ],
    { RoleNotFoundError: true }
  ],
  list: [[call]],
  get: [byId, ofKey],
  rotate: [[null, { ...call, overlap: true }], ofKey],
  delete: [byId, ofKey]
}

/** Creates, rotates and deletes API keys. */
export class ApiKeys extends Context.Service<ApiKeys, ApiKeysApi<EffectKind>>()("@ironflow/node/ApiKeys") {}
