/** Managing secrets: values go in, and come out in handlers only. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { MasterKeyError, SecretNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind } from "./Client.ts"

/** A secret without its value. Times are ISO strings. */
export interface SecretInfo {
  readonly name: string
  readonly createdAt: string
  readonly updatedAt: string
}

/** The methods, in the reading `F`. */
export interface SecretsApi<F extends HKT.TypeLambda> {
  /** Stores a secret or replaces its value. Fails with code `MASTER_KEY_MISSING` when the engine has no master key. */
  set(name: string, value: string, ...options: CallArgs<F>): Kind<F, SecretInfo, MasterKeyError | ClientError>
  /** Fails with `SecretNotFoundError`. */
  get(name: string, ...options: CallArgs<F>): Kind<F, SecretInfo, SecretNotFoundError | ClientError>
  /** By name. */
  list(...options: CallArgs<F>): Kind<F, Array<SecretInfo>, ClientError>
  /** Fails with `SecretNotFoundError`. */
  delete(name: string, ...options: CallArgs<F>): Kind<F, void, SecretNotFoundError | ClientError>
}

export const secretsMethods = ["set", "get", "list", "delete"] as const satisfies ReadonlyArray<
  keyof SecretsApi<EffectKind>
>

export class Secrets extends Context.Service<Secrets, SecretsApi<EffectKind>>()("@ironflow/node/Secrets") {}
