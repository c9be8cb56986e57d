/** Configurations of the Promise face. */
import * as Effect from "effect/Effect"
import type { EffectKind, PromiseKind } from "../Client/Client.ts"
import {
  Config,
  type ConfigApi,
  configMethods,
  type ConfigWatchEvent,
  type ConfigWatchOptions
} from "../Client/Config.ts"
import { serverKeys, type ServerOptions } from "../Client/HttpConfig.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ValidationError } from "../Errors.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { getConfig, listConfigs } from "../Protocol/Config.ts"
import { pathOf } from "../Protocol/Http/Endpoints.ts"
import { type OnError, openRim, reporting } from "./AreaClient.ts"
import { namesOf } from "../Client/Methods.ts"
import { promisify, type Rim } from "./Promisify.ts"
import { startWatch, type WatchCallbacks, type Watcher } from "./Watcher.ts"

/** Options of a client for configurations. */
export interface ConfigClientConfig extends ServerOptions {
  /** Called with every error before the call rejects with it, which waits for it. What it throws is ignored. */
  readonly onError?: OnError
}

/** Whom a watch calls. */
export type ConfigWatchCallbacks = WatchCallbacks<ConfigWatchEvent>
/** A watch that is on. */
export type ConfigWatcher = Watcher<ConfigWatchEvent>

type ClientRim = Rim<ClientServices, ValidationError>

/** The configurations of an environment: what `client.config()` returns. */
// oxlint-disable-next-line typescript/no-unsafe-declaration-merging -- the constructor assigns all of them
export interface ConfigClient extends ConfigApi<PromiseKind> {}

export class ConfigClient implements AsyncDisposable {
  readonly #rim: ClientRim
  readonly #isShared: boolean

  /**
   * A client of the server that the configuration names; with `rim`, which `client.config()` gives, one that ends with
   * another. Throws `ValidationError` when the configuration is not acceptable.
   */
  constructor(config: ConfigClientConfig = {}, rim?: ClientRim) {
    checkKeys(config, { ...serverKeys, onError: true } satisfies Keys<ConfigClientConfig>, "ConfigClient")
    this.#rim = rim ?? openRim(config, "ConfigClient", "configuration client")
    this.#isShared = rim !== undefined
    const methods = promisify<ConfigApi<PromiseKind>, ConfigApi<EffectKind>, ClientServices, ValidationError>(
      this.#rim,
      Config,
      namesOf(configMethods)
    )
    Object.assign(
      this,
      reporting(methods, namesOf(configMethods), config.onError, (method, [name]) => ({
        method: `config.${method}`,
        endpoint: method === "list" ? listConfigs.path : pathOf(getConfig, { name: String(name) })
      }))
    )
  }

  /**
   * The changes of a configuration, as an async iterable that stands when its `ready` has resolved, or by callbacks.
   *
   * ```ts
   * const watcher = client.config().watch("app-settings", { onUpdate: ({ data }) => console.log(data) })
   * await watcher.ready
   * ```
   */
  watch(name: string, options?: ConfigWatchOptions): ConfigWatcher
  watch(name: string, callbacks: ConfigWatchCallbacks, options?: ConfigWatchOptions): ConfigWatcher
  watch(
    name: string,
    second: ConfigWatchCallbacks | ConfigWatchOptions = {},
    third: ConfigWatchOptions = {}
  ): ConfigWatcher {
    const callbacks = "onUpdate" in second ? second : undefined
    const options = "onUpdate" in second ? third : second
    return startWatch<ConfigWatchEvent, Error, ClientServices, ValidationError>(
      this.#rim,
      (onOpen) =>
        Effect.map(Config, (config) =>
          config.watch(name, {
            ...options,
            onOpen: (revision) => {
              onOpen()
              options.onOpen?.(revision)
            }
          })
        ),
      callbacks
    )
  }

  /** Rejects the calls in flight, and all later ones. One that came from `client.config()` closes with its client. */
  async close(): Promise<void> {
    if (this.#isShared) return
    this.#rim.isClosed = true
    await this.#rim.runtime.dispose()
  }

  /** Closes it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
