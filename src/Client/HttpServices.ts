/**
 * The services of a server elsewhere: every method is a request over Effect's `HttpClient`, so that sockets, a handler in
 * memory and recorded answers are a matter of that layer.
 *
 * ```ts
 * const Live = Client.layerHttp({ serverUrl: "http://localhost:9123" }).pipe(Layer.provide(FetchHttpClient.layer))
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import type { ValidationError } from "../Errors.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { make as makeAccess } from "./AccessHttp.ts"
import { ApiKeys } from "./ApiKeys.ts"
import { checkedServices } from "./CheckedServices.ts"
import { Client } from "./Client.ts"
import { Config } from "./Config.ts"
import * as ConfigHttp from "./ConfigHttp.ts"
import { ConsumerGroups } from "./ConsumerGroups.ts"
import * as ConsumerGroupsHttp from "./ConsumerGroupsHttp.ts"
import { make } from "./Http.ts"
import { checked } from "./HttpCalls.ts"
import { resolveServer, type ResolvedServer, serverKeys, type ServerOptions } from "./HttpConfig.ts"
import { type Connection, make as connect } from "./HttpConnection.ts"
import { typedStreams } from "./EntityStreams.ts"
import { Kv } from "./Kv.ts"
import * as KvHttp from "./KvHttp.ts"
import { Projections } from "./Projections.ts"
import { make as makeProjections, makeReadChanges } from "./ProjectionsHttp.ts"
import { withUpdates } from "./ProjectionUpdates.ts"
import { PushEndpoints } from "./PushEndpoints.ts"
import * as PushEndpointsHttp from "./PushEndpointsHttp.ts"
import { Orgs } from "./Orgs.ts"
import { Policies } from "./Policies.ts"
import { Roles } from "./Roles.ts"
import { Secrets } from "./Secrets.ts"
import type { ClientServices } from "./Services.ts"
import { type ReadingOptions, Streams } from "./Streams.ts"
import * as StreamsHttp from "./StreamsHttp.ts"
import { dialSocket } from "./SubscriptionSocket.ts"
import { make as makeSubscriptions, Subscriptions } from "./Subscriptions.ts"
import { typedKv } from "./TypedBucket.ts"

export interface ClientOptions extends ServerOptions, ReadingOptions {}

const clientKeys = { ...serverKeys, eventDefinitions: true } satisfies Keys<ClientOptions>

/** The client of the server that the options name. Fails with `ValidationError` when they are not acceptable. */
export const layer = (
  options: ClientOptions = {}
): Layer.Layer<ClientServices, ValidationError, HttpClient.HttpClient> =>
  Layer.unwrap(
    Effect.suspend(() => {
      const server = checked(() => {
        checkKeys(options, clientKeys, "Client.layerHttp")
        return resolveServer(options, "Client.layerHttp")
      })
      return Effect.map(server, (it) => layerOf(it, options))
    })
  )

/** The client of a server. */
export const layerOf = (
  server: ResolvedServer,
  options: ReadingOptions
): Layer.Layer<ClientServices, never, HttpClient.HttpClient> =>
  Layer.effectContext(
    Effect.map(connect(server), (connection) => checkedServices(servicesOver(connection, options)))
  )

const servicesOver = (connection: Connection, options: ReadingOptions): Context.Context<ClientServices> => {
  const { apiKeys, orgs, policies, roles, secrets } = makeAccess(connection)
  return Context.make(Client, make(connection)).pipe(
    Context.add(Streams, typedStreams(StreamsHttp.make(connection, options))),
    Context.add(Kv, typedKv(KvHttp.make(connection))),
    Context.add(Config, ConfigHttp.make(connection)),
    Context.add(
      Projections,
      withUpdates(
        makeProjections(connection),
        { dial: dialSocket(connection.server) },
        makeReadChanges(connection)
      )
    ),
    Context.add(PushEndpoints, PushEndpointsHttp.make(connection)),
    Context.add(Subscriptions, makeSubscriptions({ dial: dialSocket(connection.server) })),
    Context.add(ConsumerGroups, ConsumerGroupsHttp.make(connection)),
    Context.add(ApiKeys, apiKeys),
    Context.add(Orgs, orgs),
    Context.add(Policies, policies),
    Context.add(Roles, roles),
    Context.add(Secrets, secrets)
  )
}
