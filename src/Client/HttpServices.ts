/**
 * The client's services over HTTP. Each method makes its requests through Effect's `HttpClient`. The layer that
 * provides the `HttpClient` decides whether requests go over real sockets, to a handler in memory, or to recorded
 * answers.
 *
 * ```ts
 * const Live = Client.layerHttp({ serverUrl: "http://localhost:9123" }).pipe(Layer.provide(FetchHttpClient.layer))
 * ```
 */
import type { ConfigError } from "effect/Config"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import { readConfigs, type ConfigOptions } from "../LayerConfig.ts"
import type { ValidationError } from "../Errors.ts"
import { currentLogger } from "../EffectLogger.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { currentVariables } from "../ConfigProviderVariables.ts"
import { make as makeAccess } from "./AccessHttp.ts"
import { checkedServices, type RawServices } from "./CheckedServices.ts"
import * as ConfigHttp from "./ConfigHttp.ts"
import * as ConsumerGroupsHttp from "./ConsumerGroupsHttp.ts"
import { make } from "./Http.ts"
import { validated } from "../CheckAsEffect.ts"
import { resolveServer, type ResolvedServer, serverKeys, type ServerOptions } from "./HttpOptions.ts"
import { type Connection, make as connect } from "./HttpConnection.ts"
import * as KvHttp from "./KvHttp.ts"
import { make as makeProjections, makeReadChanges } from "./ProjectionsHttp.ts"
import { withUpdates } from "./ProjectionUpdates.ts"
import * as PushEndpointsHttp from "./PushEndpointsHttp.ts"
import type { ClientServices } from "./Services.ts"
import type { ReadingOptions } from "./Streams.ts"
import * as StreamsHttp from "./StreamsHttp.ts"
import { dialSocket } from "./SubscriptionSocket.ts"
import { make as makeSubscriptions } from "./Subscriptions.ts"

/** Options of a client over HTTP. */
export interface ClientOptions extends ServerOptions, ReadingOptions {}

const clientKeys = { ...serverKeys, eventDefinitions: true } satisfies Keys<ClientOptions>

/**
 * A client of the server in the options. Missing options come from `IRONFLOW_SERVER_URL`, `IRONFLOW_API_KEY` and `IRONFLOW_ENV`,
 * through the `ConfigProvider` in context. Fails with `ValidationError` when the options are invalid.
 */
export const layer = (
  options: ClientOptions = {}
): Layer.Layer<ClientServices, ValidationError, HttpClient.HttpClient> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const logger = yield* currentLogger
      const variables = yield* currentVariables
      const server = yield* validated(() => {
        checkKeys(options, clientKeys, "Client.layerHttp", logger)
        return resolveServer(options, "Client.layerHttp", variables)
      })
      return layerOf(server, options)
    })
  )

const configNames = ["serverUrl", "apiKey", "environment", "timeout"] as const

/** {@link ClientOptions}, of which `serverUrl`, `apiKey`, `environment` and `timeout` may be `Config`s. */
export type ClientConfigOptions = ConfigOptions<ClientOptions, (typeof configNames)[number]>

/**
 * Makes a {@link layer} from `Config`s, for settings in variables with names of your own:
 *
 * ```ts
 * Client.layerConfig({ serverUrl: Config.String("SHOP_IRONFLOW_URL"), apiKey: Config.Redacted("SHOP_IRONFLOW_KEY") })
 * ```
 */
export const layerConfig = (
  options: ClientConfigOptions = {}
): Layer.Layer<ClientServices, ValidationError | ConfigError, HttpClient.HttpClient> =>
  Layer.unwrap(
    Effect.map(readConfigs<ClientOptions, (typeof configNames)[number]>(options, configNames), layer)
  )

/** Makes the client of a server, from options that are checked and filled in. */
export const layerOf = (
  server: ResolvedServer,
  options: ReadingOptions
): Layer.Layer<ClientServices, never, HttpClient.HttpClient> =>
  Layer.effectContext(
    Effect.map(connect(server), (connection) => checkedServices(servicesOver(connection, options)))
  )

const servicesOver = (connection: Connection, options: ReadingOptions): RawServices => ({
  client: make(connection),
  streams: StreamsHttp.make(connection, options),
  kv: KvHttp.make(connection),
  config: ConfigHttp.make(connection),
  projections: withUpdates(
    makeProjections(connection),
    { dial: dialSocket(connection.server) },
    makeReadChanges(connection)
  ),
  pushEndpoints: PushEndpointsHttp.make(connection),
  subscriptions: makeSubscriptions({ dial: dialSocket(connection.server) }),
  consumerGroups: ConsumerGroupsHttp.make(connection),
  ...makeAccess(connection)
})
