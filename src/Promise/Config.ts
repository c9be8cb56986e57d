/** The client for configurations in the Promise API. */
import * as Effect from "effect/Effect"
import type { EffectKind, PromiseKind } from "../Client/Client.ts"
import {
  Config,
  type ConfigApi,
  configMethods,
  type ConfigWatchEvent,
  type ConfigWatchOptions
} from "../Client/Config.ts"
import { serverKeys, type ServerOptions } from "../Client/HttpOptions.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ValidationError } from "../Errors.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { getConfig, listConfigs } from "../Protocol/Config.ts"
import { pathOf } from "../Protocol/Http/CallAddress.ts"
import { type OnError, openRuntime, withErrorCallback } from "./AreaClient.ts"
import { namesOf } from "../Client/Methods.ts"
import { promisify, type RuntimeHandle } from "./Promisify.ts"
import { startWatch, type WatchCallbacks, type Watcher } from "./Watcher.ts"

/** Options of a client for configurations. */
export interface ConfigClientConfig extends ServerOptions {
  /**
   * Called with the error of each failed call. Once `onError` is done, the failed call rejects with the error. Errors
   * in `onError` are ignored. A watch has an `onError` of its own.
   */
  readonly onError?: OnError
}

/** The callbacks of a watch of a configuration. */
export type ConfigWatchCallbacks = WatchCallbacks<ConfigWatchEvent>
/** An active watch of a configuration. */
export type ConfigWatcher = Watcher<ConfigWatchEvent>

type ClientRuntimeHandle = RuntimeHandle<ClientServices, ValidationError>

/** The configurations of an environment: what `client.config()` returns. */
// oxlint-disable-next-line typescript/no-unsafe-declaration-merging -- the constructor assigns all methods
export interface ConfigClient extends ConfigApi<PromiseKind> {}

export class ConfigClient implements AsyncDisposable {
  readonly #handle: ClientRuntimeHandle
  readonly #isShared: boolean

  /**
   * Creates a client of the configured server. `client.config()` passes a `handle`, so that closing `client`
   * also closes this client. Throws `ValidationError` when the configuration is invalid.
   */
  constructor(config: ConfigClientConfig = {}, handle?: ClientRuntimeHandle) {
    checkKeys(config, { ...serverKeys, onError: true } satisfies Keys<ConfigClientConfig>, "ConfigClient")
    this.#handle = handle ?? openRuntime(config, "ConfigClient", "configuration client")
    this.#isShared = handle !== undefined
    const methods = promisify<ConfigApi<PromiseKind>, ConfigApi<EffectKind>, ClientServices, ValidationError>(
      this.#handle,
      Config,
      namesOf(configMethods)
    )
    Object.assign(
      this,
      withErrorCallback(methods, namesOf(configMethods), config.onError, (method, [name]) => ({
        method: `config.${method}`,
        endpoint: method === "list" ? listConfigs.path : pathOf(getConfig, { name: String(name) })
      }))
    )
  }

  /**
   * Watches the changes of a configuration, as an async iterable or with callbacks. The watch is active once
   * `ready` has resolved.
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
      this.#handle,
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

  /**
   * Rejects the calls in flight and all later calls. Does nothing for a client from `client.config()`, which closes
   * together with `client`.
   */
  async close(): Promise<void> {
    if (this.#isShared) return
    this.#handle.isClosed = true
    await this.#handle.runtime.dispose()
  }

  /** Closes the client, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
