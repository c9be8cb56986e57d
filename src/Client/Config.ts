/**
 * Configurations: named JSON objects that programs share, with a revision that grows with every change.
 *
 * {@link ConfigApi} is written once and read twice: as Effects by the {@link Config} service, as Promises by
 * `client.config()`.
 */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type * as Stream from "effect/Stream"
import type { ConfigNotFoundError, RevisionGoneError, ValidationError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind } from "./Client.ts"

export interface ConfigResponse {
  readonly name: string
  readonly data: Record<string, any>
  readonly revision: number
  /** ISO string. */
  readonly updatedAt: string
}

export interface ConfigEntry {
  readonly name: string
  /** Absent from servers that list names only. */
  readonly data?: Record<string, any>
  readonly revision: number
  /** ISO string. */
  readonly updatedAt: string
}

export interface ConfigSetResult {
  readonly name: string
  readonly revision: number
}

/** A change of a configuration. */
export interface ConfigWatchEvent {
  readonly name: string
  /** `undefined` when the configuration was deleted. */
  readonly data?: Record<string, any>
  readonly revision: number
  /** ISO string. */
  readonly updatedAt: string
}

export interface ConfigWatchOptions {
  /** Begins after this revision; 0 begins with the present data. By default with the first change after it stands. */
  readonly fromRevision?: number
  /** Called when the watch stands, with the revision after which it sees every change; again after each reconnection. */
  readonly onOpen?: (revision: number) => void
}

/** The methods of configurations, in the reading `F`. */
export interface ConfigApi<F extends HKT.TypeLambda> {
  /** Replaces a configuration, or makes it. `data` is an object of at most 1 MiB as JSON. */
  set(name: string, data: object, ...options: CallArgs<F>): Kind<F, ConfigSetResult, ClientError>
  get(name: string, ...options: CallArgs<F>): Kind<F, ConfigResponse, ConfigNotFoundError | ClientError>
  /** Replaces the members of a configuration that `data` names and keeps the others. Two patches at once both count. */
  patch(
    name: string,
    data: object,
    ...options: CallArgs<F>
  ): Kind<F, ConfigSetResult, ConfigNotFoundError | ClientError>
  /** By name. */
  list(...options: CallArgs<F>): Kind<F, Array<ConfigEntry>, ClientError>
  /** Deletes a configuration. Deleting what is not there does nothing. */
  delete(name: string, ...options: CallArgs<F>): Kind<F, void, ClientError>
}

/** Every method of {@link ConfigApi} by name. */
export const configMethods = ["set", "get", "patch", "list", "delete"] as const satisfies ReadonlyArray<
  keyof ConfigApi<EffectKind>
>

export interface ConfigService extends ConfigApi<EffectKind> {
  /** The changes of a configuration, which need not exist yet. Over HTTP it goes on after a lost connection. */
  watch(
    name: string,
    options?: ConfigWatchOptions
  ): Stream.Stream<ConfigWatchEvent, ValidationError | RevisionGoneError | ClientError>
}

/** Configurations as an Effect service. */
export class Config extends Context.Service<Config, ConfigService>()("@ironflow/node/Config") {}
