/** The client of the Promise face: emit events, look at runs, steer them. */
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
import { serverKeys, type ServerOptions } from "../Client/HttpConfig.ts"
import type { ValidationError } from "../Errors.ts"
import type { AnyEvents } from "../Event.ts"
import { checkName } from "../Limits.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { ConfigClient } from "./Config.ts"
import { connectionOf, type EngineHandle } from "./Connection.ts"
import { KVClient } from "./Kv.ts"
import { overHttp } from "./OverHttp.ts"
import { promiseProjections, type ProjectionsClient } from "./Projections.ts"
import { makeRim, promisify, type Rim } from "./Promisify.ts"
import { promiseStreams } from "./Streams.ts"

/** A client of a server elsewhere. */
interface ServerClientConfig extends ServerOptions, ReadingOptions {
  /** An engine of this process is the other way to configure a client. */
  readonly engine?: undefined
}

/** A client of an engine in this process. */
interface EngineClientConfig extends ReadingOptions {
  /** The engine to talk to: what `startEngine()` resolves to. */
  readonly engine: EngineHandle
  /** The environment to work in; that of the engine by default. */
  readonly environment?: string | undefined
}

/** Options of `createClient`: a server's address, or an engine of this process. */
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
 * Talks to an engine or server. Every method rejects with our error classes; one that takes options takes a `signal` among them,
 * whose abort rejects the call with the signal's reason. After `close()` calls reject with code `CLOSED`. `Events` has the data of
 * events by their names.
 */
// oxlint-disable-next-line typescript/no-unsafe-declaration-merging -- the constructor assigns all of them
export interface IronflowClient<Events extends object = AnyEvents> extends ClientApi<PromiseKind, Events> {
  /** Entity streams. */
  readonly streams: StreamsApi<PromiseKind, AsyncIterableKind>
}

export class IronflowClient<Events extends object = AnyEvents> implements AsyncDisposable {
  /** Handlers in push mode that the server calls. */
  readonly pushEndpoints: PushEndpointsApi<PromiseKind>
  /** Consumer groups: what they have, why they get nothing, and steering them. */
  readonly consumerGroups: ConsumerGroupsApi<PromiseKind>
  /** API keys: who may use the engine. */
  readonly apiKeys: ApiKeysApi<PromiseKind>
  /** Organizations. */
  readonly orgs: OrgsApi<PromiseKind>
  /** What keys have, and policies are assigned to. */
  readonly roles: RolesApi<PromiseKind>
  /** Which actions on which resources are allowed or denied. */
  readonly policies: PoliciesApi<PromiseKind>
  /** What handlers get and nobody else sees. */
  readonly secrets: SecretsApi<PromiseKind>
  readonly #rim: Rim<ClientServices, ValidationError>
  readonly #forget: () => void
  /** Reading projections, waiting for them, following and steering them. */
  readonly projections: ProjectionsClient

  /** Throws `ValidationError` when the configuration is not acceptable. */
  constructor(config: IronflowClientConfig = {}) {
    const isElsewhere = config?.engine === undefined
    checkKeys(config, isElsewhere ? serverClientKeys : engineClientKeys, "createClient()")
    const { layer, onClose } = isElsewhere ? elsewhere(config ?? {}) : inProcess(config)
    this.#rim = makeRim(ManagedRuntime.make(layer), "client")
    this.#forget = onClose(() => this.close())
    this.pushEndpoints = promisify<
      PushEndpointsApi<PromiseKind>,
      PushEndpointsApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#rim, PushEndpoints, namesOf(pushEndpointsMethods))
    Object.assign(
      this,
      promisify<ClientApi<PromiseKind>, ClientApi<EffectKind>, ClientServices, ValidationError>(
        this.#rim,
        Client,
        namesOf(clientMethods)
      ),
      { streams: promiseStreams(this.#rim) }
    )
    this.projections = promiseProjections(this.#rim)
    this.consumerGroups = promisify<
      ConsumerGroupsApi<PromiseKind>,
      ConsumerGroupsApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#rim, ConsumerGroups, namesOf(consumerGroupsMethods))
    // `promisify` cannot infer one reading from the other
    this.apiKeys = promisify<
      ApiKeysApi<PromiseKind>,
      ApiKeysApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#rim, ApiKeys, namesOf(apiKeysMethods))
    this.orgs = promisify<OrgsApi<PromiseKind>, OrgsApi<EffectKind>, ClientServices, ValidationError>(
      this.#rim,
      Orgs,
      namesOf(orgsMethods)
    )
    this.roles = promisify<RolesApi<PromiseKind>, RolesApi<EffectKind>, ClientServices, ValidationError>(
      this.#rim,
      Roles,
      namesOf(rolesMethods)
    )
    this.policies = promisify<
      PoliciesApi<PromiseKind>,
      PoliciesApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#rim, Policies, namesOf(policiesMethods))
    this.secrets = promisify<
      SecretsApi<PromiseKind>,
      SecretsApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#rim, Secrets, namesOf(secretsMethods))
  }

  /** The key-value store. */
  kv(): KVClient {
    return new KVClient({}, this.#rim)
  }

  /** Configurations that programs share. */
  config(): ConfigClient {
    return new ConfigClient({}, this.#rim)
  }

  /** Rejects the calls in flight with code `CLOSED`, and all later ones. Closing again does nothing. */
  async close(): Promise<void> {
    this.#rim.isClosed = true
    this.#forget()
    await this.#rim.runtime.dispose()
  }

  /** Closes it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/**
 * A client of the server at `serverUrl` (`IRONFLOW_SERVER_URL` by default, else `http://localhost:9123`), or of the
 * `engine` of this process. Throws `ValidationError` when the configuration is not acceptable.
 *
 * With a map of events as `Events` it takes their names only, each with its data: `createClient<{ "order.placed": Order }>()`.
 */
export const createClient = <Events extends object = AnyEvents>(
  config: IronflowClientConfig = {}
): IronflowClient<KnownEvents<Events>> => new IronflowClient<KnownEvents<Events>>(config)

/** `ReturnType<typeof createClient>` is a client without a map. */
type KnownEvents<Events extends object> = [keyof Events] extends [never] ? AnyEvents : Events

interface Behind {
  readonly layer: Layer.Layer<ClientServices, ValidationError>
  readonly onClose: (close: () => Promise<void>) => () => void
}

const inProcess = (config: EngineClientConfig): Behind => {
  const connection = connectionOf("createClient()", config.engine)
  const environment = checkName("environment", config.environment ?? connection.environment)
  return {
    layer: connection.client(environment, { eventDefinitions: config.eventDefinitions }),
    onClose: (close) => connection.onClose("client", close)
  }
}

const elsewhere = (config: ServerClientConfig): Behind => ({
  layer: overHttp(config, "createClient()"),
  onClose: () => () => undefined
})
