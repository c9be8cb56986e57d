/** The client of the Promise face: emit events, look at runs, steer them. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { ApiKeys, type ApiKeysApi, apiKeysMethods } from "../Client/ApiKeys.ts"
import { Client, type ClientApi, clientMethods, type EffectKind, type PromiseKind } from "../Client/Client.ts"
import { Orgs, type OrgsApi, orgsMethods } from "../Client/Orgs.ts"
import { Policies, type PoliciesApi, policiesMethods } from "../Client/Policies.ts"
import { Roles, type RolesApi, rolesMethods } from "../Client/Roles.ts"
import { Secrets, type SecretsApi, secretsMethods } from "../Client/Secrets.ts"
import type { ClientServices } from "../Client/Services.ts"
import { resolveServer, type ServerOptions } from "../Client/HttpConfig.ts"
import type { ValidationError } from "../Errors.ts"
import { checkName } from "../Limits.ts"
import { connectionOf, type EngineHandle } from "./Connection.ts"
import { promisify, type Rim } from "./Promisify.ts"

/** A client of a server elsewhere. */
export interface ServerClientConfig extends ServerOptions {
  readonly engine?: undefined
}

/** A client of an engine in this process. */
export interface EngineClientConfig {
  /** The engine to talk to: what `startEngine()` resolves to. */
  readonly engine: EngineHandle
  /** The environment to work in; that of the engine by default. */
  readonly environment?: string | undefined
}

export type IronflowClientConfig = ServerClientConfig | EngineClientConfig

/**
 * Talks to an engine or server. Every method rejects with our error classes; one that takes options takes a `signal` among them,
 * whose abort rejects the call with the signal's reason. After `close()` calls reject with code `CLOSED`.
 */
// oxlint-disable-next-line typescript/no-unsafe-declaration-merging -- the constructor assigns all of them
export interface IronflowClient extends ClientApi<PromiseKind> {}

export class IronflowClient implements AsyncDisposable {
  /** API keys: who may use the engine. */
  readonly apiKeys: ApiKeysApi<PromiseKind>
  readonly orgs: OrgsApi<PromiseKind>
  /** What keys have, and policies are assigned to. */
  readonly roles: RolesApi<PromiseKind>
  /** Which actions on which resources are allowed or denied. */
  readonly policies: PoliciesApi<PromiseKind>
  /** What handlers get and nobody else sees. */
  readonly secrets: SecretsApi<PromiseKind>
  readonly #rim: Rim<ClientServices, ValidationError>
  readonly #forget: () => void

  /** Throws `ValidationError` when the configuration is not acceptable. */
  constructor(config: IronflowClientConfig = {}) {
    const { layer, onClose } = config?.engine === undefined ? overHttp(config ?? {}) : inProcess(config)
    this.#rim = { runtime: ManagedRuntime.make(layer), what: "client", isClosed: false }
    this.#forget = onClose(() => this.close())
    Object.assign(
      this,
      promisify<ClientApi<PromiseKind>, ClientApi<EffectKind>, ClientServices, ValidationError>(
        this.#rim,
        Client,
        clientMethods
      )
    )
    // `promisify` cannot infer one reading from the other
    this.apiKeys = promisify<
      ApiKeysApi<PromiseKind>,
      ApiKeysApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#rim, ApiKeys, apiKeysMethods)
    this.orgs = promisify<OrgsApi<PromiseKind>, OrgsApi<EffectKind>, ClientServices, ValidationError>(
      this.#rim,
      Orgs,
      orgsMethods
    )
    this.roles = promisify<RolesApi<PromiseKind>, RolesApi<EffectKind>, ClientServices, ValidationError>(
      this.#rim,
      Roles,
      rolesMethods
    )
    this.policies = promisify<
      PoliciesApi<PromiseKind>,
      PoliciesApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#rim, Policies, policiesMethods)
    this.secrets = promisify<
      SecretsApi<PromiseKind>,
      SecretsApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#rim, Secrets, secretsMethods)
  }

  /** Rejects the calls in flight with code `CLOSED`, and all later ones. Closing again does nothing. */
  async close(): Promise<void> {
    this.#rim.isClosed = true
    this.#forget()
    await this.#rim.runtime.dispose()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/**
 * A client of the server at `serverUrl` (`IRONFLOW_SERVER_URL` by default, else `http://localhost:9123`), or of the
 * `engine` of this process. Throws `ValidationError` when the configuration is not acceptable.
 */
export const createClient = (config: IronflowClientConfig = {}): IronflowClient => new IronflowClient(config)

interface Behind {
  readonly layer: Layer.Layer<ClientServices, ValidationError>
  readonly onClose: (close: () => Promise<void>) => () => void
}

const inProcess = (config: EngineClientConfig): Behind => {
  const connection = connectionOf("createClient()", config.engine)
  const environment = checkName("environment", config.environment ?? connection.environment)
  return {
    layer: connection.client(environment),
    onClose: (close) => connection.onClose("client", close)
  }
}

const overHttp = (config: ServerClientConfig): Behind => {
  // checked, and the process's environment variables read, now rather than with the first call
  const { apiKey, environment, namesEnvironment, timeoutMs, url } = resolveServer(config, "createClient()")
  const named = namesEnvironment ? environment : undefined
  // Loaded with the first call: whoever imports the main entry for something else need not pay for HTTP.
  const load = Effect.promise(() =>
    Promise.all([
      import("../Client/HttpServices.ts"),
      import("../Client/Channel.ts"),
      import("effect/http/FetchHttpClient")
    ])
  )
  return {
    layer: Layer.unwrap(
      Effect.map(load, ([http, channel, fetch]) =>
        Layer.provide(http.layer({ serverUrl: url, apiKey, environment: named, timeout: timeoutMs }), [
          fetch.layer,
          channel.layer
        ])
      )
    ),
    onClose: () => () => undefined
  }
}
