/**
 * The services of a server elsewhere: every method is a request over Effect's `HttpClient`, so that sockets, a handler in
 * memory and recorded answers are a matter of that layer.
 *
 * ```ts
 * const Live = Client.layerHttp({ serverUrl: "http://localhost:9123" }).pipe(Layer.provide(FetchHttpClient.layer))
 * ```
 */
import type { ConfigError } from "effect/Config"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import { configured, type ConfigOptions } from "../ConfigOptions.ts"
import type { ValidationError } from "../Errors.ts"
import { currentLogger } from "../EffectLogger.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { currentVariables } from "../Variables.ts"
import { make as makeAccess } from "./AccessHttp.ts"
import { checkedServices, type RawServices } from "./CheckedServices.ts"
import * as ConfigHttp from "./ConfigHttp.ts"
import * as ConsumerGroupsHttp from "./ConsumerGroupsHttp.ts"
import { make } from "./Http.ts"
import { validated } from "../Checked.ts"
import { resolveServer, type ResolvedServer, serverKeys, type ServerOptions } from "./HttpConfig.ts"
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

/** What a client over HTTP may be given. */
export interface ClientOptions extends ServerOptions, ReadingOptions {}

const clientKeys = { ...serverKeys, eventDefinitions: true } satisfies Keys<ClientOptions>

/**
 * The client of the server that the options name. What they leave out is said by `IRONFLOW_SERVER_URL`, `IRONFLOW_API_KEY` and
 * `IRONFLOW_ENV`, by way of the `ConfigProvider` in context. Fails with `ValidationError` when they are not acceptable.
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

/** {@link ClientOptions} whose settings may be `Config`s. */
export type ClientConfigOptions = ConfigOptions<ClientOptions, (typeof configNames)[number]>

/**
 * {@link layer} by `Config`s, for settings under names of your own:
 *
 * ```ts
 * Client.layerConfig({ serverUrl: Config.String("SHOP_IRONFLOW_URL"), apiKey: Config.Redacted("SHOP_IRONFLOW_KEY") })
 * ```
 */
export const layerConfig = (
  options: ClientConfigOptions = {}
): Layer.Layer<ClientServices, ValidationError | ConfigError, HttpClient.HttpClient> =>
  Layer.unwrap(
    Effect.map(configured<ClientOptions, (typeof configNames)[number]>(options, configNames), layer)
  )

/** The client of a server. */
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
