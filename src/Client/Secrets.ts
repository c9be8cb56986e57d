/** Managing secrets: values go in, and come out in handlers only. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { MasterKeyError, SecretNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { byId, call, type Methods } from "./Methods.ts"
import type { SecretInfo } from "../Protocol/Secrets.ts"

export type { SecretInfo } from "../Protocol/Secrets.ts"

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

const ofSecret = { SecretNotFoundError: true } as const
/** What each method is called by, and takes. */
export const secretsMethods: Methods<SecretsApi<PromiseKind>, SecretsApi<EffectKind>> = {
  set: [[null, null, call], { MasterKeyError: true }],
  get: [byId, ofSecret],
  list: [[call]],
  delete: [byId, ofSecret]
}

/** Stores and deletes secrets. Nobody reads one but the handlers of functions that name it. */
export class Secrets extends Context.Service<Secrets, SecretsApi<EffectKind>>()("@ironflow/node/Secrets") {}
