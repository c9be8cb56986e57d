/** Managing secrets. Clients can write their values, and only handlers can read these. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { MasterKeyError, SecretNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { byId, callKeys, type Methods } from "./Methods.ts"
import type { SecretInfo } from "../Protocol/Secrets.ts"

export type { SecretInfo } from "../Protocol/Secrets.ts"

/** The methods, for the API kind `F`. */
export interface SecretsApi<F extends HKT.TypeLambda> {
  /** Creates or replaces a secret. Fails with code `MASTER_KEY_MISSING` when the engine has no master key. */
  set(name: string, value: string, ...options: CallArgs<F>): Kind<F, SecretInfo, MasterKeyError | ClientError>
  /** Returns a secret without its value. Fails with `SecretNotFoundError` when there is none of this name. */
  get(name: string, ...options: CallArgs<F>): Kind<F, SecretInfo, SecretNotFoundError | ClientError>
  /** Lists the secrets without their values, sorted by name. */
  list(...options: CallArgs<F>): Kind<F, Array<SecretInfo>, ClientError>
  /** Deletes a secret. Fails with `SecretNotFoundError` when there is none of this name. */
  delete(name: string, ...options: CallArgs<F>): Kind<F, void, SecretNotFoundError | ClientError>
}

const ofSecret = { SecretNotFoundError: true } as const
/** Names, options and errors of the methods. */
export const secretsMethods: Methods<SecretsApi<PromiseKind>, SecretsApi<EffectKind>> = {
  set: [[null, null, callKeys], { MasterKeyError: true }],
  get: [byId, ofSecret],
  list: [[callKeys]],
  delete: [byId, ofSecret]
}

/** Writes and deletes secrets. Only the handlers of functions that name a secret can read it. */
export class Secrets extends Context.Service<Secrets, SecretsApi<EffectKind>>()("@ironflow/node/Secrets") {}
