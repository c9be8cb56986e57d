/** The client of the Promise API: emits events, reads runs and controls them. */
import type * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { ApiKeys, type ApiKeysApi, apiKeysMethods } from "../Client/ApiKeys.ts"
import { Client, type ClientApi, clientMethods, type EffectKind, type PromiseKind } from "../Client/Client.ts"
import { namesOf } from "../Client/Methods.ts"
import { ConsumerGroups, type ConsumerGroupsApi, consumerGroupsMethods } from "../Client/ConsumerGroups.ts"
import { PushEndpoints, type PushEndpointsApi, pushEndpointsMethods } from "../Client/PushEndpoints.ts"
import { Orgs, type OrgsApi, orgsMethods } from "../Client/Orgs.ts"
import { Policies, type PoliciesApi, policiesMethods } from "../Client/Policies.ts"
import { Roles, type RolesApi, rolesMethods } from "../Client/Roles.ts"
import { Secrets, type SecretsApi, secretsMethods } from "../Client/Secrets.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { AsyncIterableKind, ReadingOptions, StreamsApi } from "../Client/Streams.ts"
import { serverKeys, type ServerOptions } from "../Client/HttpOptions.ts"
import type { ValidationError } from "../Errors.ts"
import type { AnyEvents } from "../Event.ts"
import { checkName } from "../Limits.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { ConfigClient } from "./Config.ts"
import { connectionOf, type EngineHandle } from "./EngineConnection.ts"
import { KVClient } from "./Kv.ts"
import { remoteServices } from "./RemoteServices.ts"
import { promiseProjections, type ProjectionsClient } from "./Projections.ts"
import { makeRuntimeHandle, promisify, type RuntimeHandle } from "./Promisify.ts"
import { promiseStreams } from "./Streams.ts"

/** Options of a client for a remote server. */
interface ServerClientConfig extends ServerOptions, ReadingOptions {
  /** Not allowed here: a client has either a server or an engine of this process. */
  readonly engine?: undefined
}

/** Options of a client for an engine in this process. */
interface EngineClientConfig extends ReadingOptions {
  /** The engine, as `startEngine()` resolves to it. */
  readonly engine: EngineHandle
  /** The environment to work in; by default the engine's. */
  readonly environment?: string | undefined
}

/** Options of `createClient`: the address of a server, or an engine of this process. */
export type IronflowClientConfig = ServerClientConfig | EngineClientConfig

const serverClientKeys = {
  ...serverKeys,
  engine: true,
  eventDefinitions: true
} satisfies Keys<ServerClientConfig>
const engineClientKeys = {
  engine: true,
  environment: true,
  eventDefinitions: true
} satisfies Keys<EngineClientConfig>

/**
 * A client of an engine or server. Every method rejects with an Ironflow error. The options of a method may have a
 * `signal`; when the signal aborts, the call rejects with the signal's reason. After `close()`, calls reject with
 * code `CLOSED`. `Events` maps the names of events to the types of their data.
 */
// oxlint-disable-next-line typescript/no-unsafe-declaration-merging -- the constructor assigns all methods
export interface IronflowClient<Events extends object = AnyEvents> extends ClientApi<PromiseKind, Events> {
  /** Entity streams. */
  readonly streams: StreamsApi<PromiseKind, AsyncIterableKind>
}

export class IronflowClient<Events extends object = AnyEvents> implements AsyncDisposable {
  /** The endpoints of push mode: handlers that the server calls. */
  readonly pushEndpoints: PushEndpointsApi<PromiseKind>
  /** Consumer groups: shows the state of a group and why it receives nothing, and controls groups. */
  readonly consumerGroups: ConsumerGroupsApi<PromiseKind>
  /** API keys: who may use the engine. */
  readonly apiKeys: ApiKeysApi<PromiseKind>
  /** Organizations. */
  readonly orgs: OrgsApi<PromiseKind>
  /** Roles: API keys have roles, and policies are assigned to roles. */
  readonly roles: RolesApi<PromiseKind>
  /** Policies: which actions on which resources are allowed or denied. */
  readonly policies: PoliciesApi<PromiseKind>
  /** Secrets: only handlers receive their values. */
  readonly secrets: SecretsApi<PromiseKind>
  readonly #handle: RuntimeHandle<ClientServices, ValidationError>
  readonly #removeFromEngine: () => void
  /** Projections: reads their states, waits for them, subscribes to them and controls them. */
  readonly projections: ProjectionsClient

  /** Throws `ValidationError` when the configuration is invalid. */
  constructor(config: IronflowClientConfig = {}) {
    const isRemote = config?.engine === undefined
    checkKeys(config, isRemote ? serverClientKeys : engineClientKeys, "createClient()")
    const { layer, onClose } = isRemote ? serverBackend(config ?? {}) : engineBackend(config)
    this.#handle = makeRuntimeHandle(ManagedRuntime.make(layer), "client")
    this.#removeFromEngine = onClose(() => this.close())
    this.pushEndpoints = promisify<
      PushEndpointsApi<PromiseKind>,
      PushEndpointsApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#handle, PushEndpoints, namesOf(pushEndpointsMethods))
    Object.assign(
      this,
      promisify<ClientApi<PromiseKind>, ClientApi<EffectKind>, ClientServices, ValidationError>(
        this.#handle,
        Client,
        namesOf(clientMethods)
      ),
      { streams: promiseStreams(this.#handle) }
    )
    this.projections = promiseProjections(this.#handle)
    this.consumerGroups = promisify<
      ConsumerGroupsApi<PromiseKind>,
      ConsumerGroupsApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#handle, ConsumerGroups, namesOf(consumerGroupsMethods))
    // the types of both APIs are given, since `promisify` cannot infer one from the other
    this.apiKeys = promisify<
      ApiKeysApi<PromiseKind>,
      ApiKeysApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#handle, ApiKeys, namesOf(apiKeysMethods))
    this.orgs = promisify<OrgsApi<PromiseKind>, OrgsApi<EffectKind>, ClientServices, ValidationError>(
      this.#handle,
      Orgs,
      namesOf(orgsMethods)
    )
    this.roles = promisify<RolesApi<PromiseKind>, RolesApi<EffectKind>, ClientServices, ValidationError>(
      this.#handle,
      Roles,
      namesOf(rolesMethods)
    )
    this.policies = promisify<
      PoliciesApi<PromiseKind>,
      PoliciesApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#handle, Policies, namesOf(policiesMethods))
    this.secrets = promisify<
      SecretsApi<PromiseKind>,
      SecretsApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#handle, Secrets, namesOf(secretsMethods))
  }

  /** The key-value store. */
  kv(): KVClient {
    return new KVClient({}, this.#handle)
  }

  /** Configurations that programs share. */
  config(): ConfigClient {
    return new ConfigClient({}, this.#handle)
  }

  /** Rejects the calls in flight and all later calls, with code `CLOSED`. A second call of `close` does nothing. */
  async close(): Promise<void> {
    this.#handle.isClosed = true
    this.#removeFromEngine()
    await this.#handle.runtime.dispose()
  }

  /** Closes the client, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/**
 * Creates a client of the server at `serverUrl`, or of an `engine` of this process. The default server is
 * that of `IRONFLOW_SERVER_URL`, or else `http://localhost:9123`. Throws `ValidationError` when the
 * configuration is invalid.
 *
 * With a map of events as `Events`, the client only accepts the names in the map, each with its data:
 * `createClient<{ "order.placed": Order }>()`.
 */
export const createClient = <Events extends object = AnyEvents>(
  config: IronflowClientConfig = {}
): IronflowClient<KnownEvents<Events>> => new IronflowClient<KnownEvents<Events>>(config)

/** The map of a client's events. Without a map it is `AnyEvents`, also in `ReturnType<typeof createClient>`. */
type KnownEvents<Events extends object> = [keyof Events] extends [never] ? AnyEvents : Events

/** What a client uses: the services of an engine of this process or of a server. */
interface Backend {
  readonly layer: Layer.Layer<ClientServices, ValidationError>
  readonly onClose: (close: () => Promise<void>) => () => void
}

const engineBackend = (config: EngineClientConfig): Backend => {
  const connection = connectionOf("createClient()", config.engine)
  const environment = checkName("environment", config.environment ?? connection.environment)
  return {
    layer: connection.client(environment, { eventDefinitions: config.eventDefinitions }),
    onClose: (close) => connection.onClose("client", close)
  }
}

const serverBackend = (config: ServerClientConfig): Backend => ({
  layer: remoteServices(config, "createClient()"),
  onClose: () => () => undefined
})
