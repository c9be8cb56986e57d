/** Managing API keys. Objects are spelled as they travel, in snake case. Times are ISO strings. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { Duration } from "../Duration.ts"
import type { ApiKeyNotFoundError, RoleNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options } from "./Client.ts"

export interface APIKey {
  readonly id: string
  readonly name: string
  /** How the key begins, to tell keys apart. */
  readonly key_prefix: string
  /** `env_<name>`, or `*` for a key that spans all environments. */
  readonly env_id?: string
  readonly role_ids?: Array<string>
  readonly created_at: string
  readonly expires_at?: string
  /** At most a few seconds late. */
  readonly last_used_at?: string
  /** When the secret before the last rotation ends, which works until then. */
  readonly previous_expires_at?: string
}

export interface APIKeyWithSecret extends APIKey {
  /** The key itself. It is not stored, and cannot be shown again. */
  readonly secret: string
  /** The same. */
  readonly key: string
}

export interface CreateAPIKeyInput {
  readonly name: string
  /**
   * `env_<name>` or the name of an environment, `*` for all; the client's by default. The first key of a server spans all,
   * whatever is said here.
   */
  readonly envId?: string
  readonly env_id?: string
  /** The developer's role by default; a key with `[]` may do nothing. The first key of a server has the admin's role as well. */
  readonly role_ids?: ReadonlyArray<string>
  readonly roleIds?: ReadonlyArray<string>
  /** When it ends, from now on: `"90d"`. Never by default. */
  readonly expires_in?: Duration
  readonly expiresIn?: Duration
}

export interface RotateAPIKeyOptions {
  /** How long the old secret goes on working beside the new one: `"24h"`, 30 days at most. It ends at once by default. */
  readonly overlap?: Duration
}

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

export const apiKeysMethods = ["create", "list", "get", "rotate", "delete"] as const satisfies ReadonlyArray<
  keyof ApiKeysApi<EffectKind>
>

export class ApiKeys extends Context.Service<ApiKeys, ApiKeysApi<EffectKind>>()("@ironflow/node/ApiKeys") {}
