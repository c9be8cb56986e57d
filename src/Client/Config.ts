/**
 * Configurations: named JSON objects that programs share, with a revision that grows with every change.
 *
 * {@link ConfigApi} is declared once, for two kinds: the {@link Config} service returns Effects, and
 * `client.config()` returns Promises.
 */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type * as Stream from "effect/Stream"
import type { ConfigNotFoundError, RevisionGoneError, ValidationError } from "../Errors.ts"
import type { ConfigEntry, ConfigResponse, ConfigSetResult, ConfigWatchEvent } from "../Protocol/Config.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { idArguments, callKeys, type Methods, type StreamMethods } from "./Methods.ts"

export type { ConfigEntry, ConfigResponse, ConfigSetResult, ConfigWatchEvent } from "../Protocol/Config.ts"

/** Options of `watch`. */
export interface ConfigWatchOptions {
  /**
   * The watch begins after this revision; 0 begins with the current data. By default it begins with the first
   * change after the watch is open.
   */
  readonly fromRevision?: number
  /**
   * Called when the watch is open, with the revision after which the watch sees every change. Called again after
   * each reconnection.
   */
  readonly onOpen?: (revision: number) => void
}

/** The methods of configurations, for the API kind `F`. */
export interface ConfigApi<F extends HKT.TypeLambda> {
  /** Creates or replaces a configuration. `data` is an object of at most 1 MiB as JSON. */
  set(name: string, data: object, ...options: CallArgs<F>): Kind<F, ConfigSetResult, ClientError>
  /** Returns a configuration and its revision. */
  get(name: string, ...options: CallArgs<F>): Kind<F, ConfigResponse, ConfigNotFoundError | ClientError>
  /**
   * Replaces the members that `data` has, and keeps the others. Two patches at the same time both take effect.
   */
  patch(
    name: string,
    data: object,
    ...options: CallArgs<F>
  ): Kind<F, ConfigSetResult, ConfigNotFoundError | ClientError>
  /** Lists the configurations, sorted by name. */
  list(...options: CallArgs<F>): Kind<F, Array<ConfigEntry>, ClientError>
  /** Deletes a configuration. Does nothing if it does not exist. */
  delete(name: string, ...options: CallArgs<F>): Kind<F, void, ClientError>
}

const configErrors = { ConfigNotFoundError: true } as const
/** Names, options and errors of the methods. */
export const configMethods: Methods<ConfigApi<PromiseKind>, ConfigApi<EffectKind>> = {
  set: [[null, null, callKeys]],
  get: [idArguments, configErrors],
  patch: [[null, null, callKeys], configErrors],
  list: [[callKeys]],
  delete: [idArguments]
}

/** The configurations of an environment, as Effects. */
export interface ConfigService extends ConfigApi<EffectKind> {
  /**
   * Streams the changes of a configuration, which need not exist yet. Over HTTP the stream continues after a
   * reconnection.
   */
  watch(
    name: string,
    options?: ConfigWatchOptions
  ): Stream.Stream<ConfigWatchEvent, ValidationError | RevisionGoneError | ClientError>
}

/** Name, options and errors of `watch`. */
export const configWatch: StreamMethods<Pick<ConfigService, "watch">> = {
  watch: [[null, { fromRevision: true, onOpen: true }], { RevisionGoneError: true }]
}

/** Configurations as an Effect service. */
export class Config extends Context.Service<Config, ConfigService>()("@ironflow/node/Config") {}
