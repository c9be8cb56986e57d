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
import type { ConfigEntry, ConfigResponse, ConfigSetResult, ConfigWatchEvent } from "../Protocol/Config.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { byId, call, type Methods, type StreamMethods } from "./Methods.ts"

export type { ConfigEntry, ConfigResponse, ConfigSetResult, ConfigWatchEvent } from "../Protocol/Config.ts"

/** Options of `watch`. */
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
  /** A configuration by its name, with its revision. */
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

const ofConfig = { ConfigNotFoundError: true } as const
/** What each method is called by, and takes. */
export const configMethods: Methods<ConfigApi<PromiseKind>, ConfigApi<EffectKind>> = {
  set: [[null, null, call]],
  get: [byId, ofConfig],
  patch: [[null, null, call], ofConfig],
  list: [[call]],
  delete: [byId]
}

/** The configurations of an environment, as Effects. */
export interface ConfigService extends ConfigApi<EffectKind> {
  /** The changes of a configuration, which need not exist yet. Over HTTP it goes on after a lost connection. */
  watch(
    name: string,
    options?: ConfigWatchOptions
  ): Stream.Stream<ConfigWatchEvent, ValidationError | RevisionGoneError | ClientError>
}

/** How a watch is called. */
export const configWatch: StreamMethods<Pick<ConfigService, "watch">> = {
  watch: [[null, { fromRevision: true, onOpen: true }], { RevisionGoneError: true }]
}

/** Configurations as an Effect service. */
export class Config extends Context.Service<Config, ConfigService>()("@ironflow/node/Config") {}
