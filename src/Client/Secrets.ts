/** Managing secrets. Clients can write the values of secrets, but only handlers of functions can read them. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { MasterKeyError, SecretNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { idArguments, callKeys, type Methods } from "./Methods.ts"
import type { SecretInfo } from "../Protocol/Secrets.ts"

export type { SecretInfo } from "../Protocol/Secrets.ts"

/** The methods, for the API kind `F`. */
export interface SecretsApi<F extends HKT.TypeLambda> {
  /** Creates or replaces a secret. Fails with code `MASTER_KEY_MISSING` when the engine has no master key. */
  set(name: string, value: string, ...options: CallArgs<F>): Kind<F, SecretInfo, MasterKeyError | ClientError>
  /** Returns a secret without its value. Fails with `SecretNotFoundError` when there is no such secret. */
  get(name: string, ...options: CallArgs<F>): Kind<F, SecretInfo, SecretNotFoundError | ClientError>
  /** Lists the secrets without their values, sorted by name. */
  list(...options: CallArgs<F>): Kind<F, Array<SecretInfo>, ClientError>
  /** Deletes a secret. Fails with `SecretNotFoundError` when there is no such secret. */
  delete(name: string, ...options: CallArgs<F>): Kind<F, void, SecretNotFoundError | ClientError>
}

const secretErrors = { SecretNotFoundError: true } as const
/** Names, options and errors of the methods. */
export const secretsMethods: Methods<SecretsApi<PromiseKind>, SecretsApi<EffectKind>> = {
  set: [[null, null, callKeys], { MasterKeyError: true }],
  get: [idArguments, secretErrors],
  list: [[callKeys]],
  delete: [idArguments, secretErrors]
}

/** Writes and deletes secrets. A secret can only be read by the handlers of functions that name it. */
export class Secrets extends Context.Service<Secrets, SecretsApi<EffectKind>>()("@ironflow/node/Secrets") {}
