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
import { make as makeAccess } from "./AccessHttp.ts"
import { ApiKeys } from "./ApiKeys.ts"
import { Client } from "./Client.ts"
import { make } from "./Http.ts"
import { checked } from "./HttpCalls.ts"
import { resolveServer, type ServerOptions } from "./HttpConfig.ts"
import { type Connection, make as connect } from "./HttpConnection.ts"
import { Orgs } from "./Orgs.ts"
import { Policies } from "./Policies.ts"
import { Roles } from "./Roles.ts"
import { Secrets } from "./Secrets.ts"
import type { ClientServices } from "./Services.ts"

/** The client of the server that the options name. Fails with `ValidationError` when they are not acceptable. */
export const layer = (
  options: ServerOptions = {}
): Layer.Layer<ClientServices, ValidationError, HttpClient.HttpClient> =>
  Layer.effectContext(
    Effect.suspend(() => {
      const server = checked(() => resolveServer(options, "Client.layerHttp"))
      return Effect.map(Effect.flatMap(server, connect), servicesOver)
    })
  )

const servicesOver = (connection: Connection): Context.Context<ClientServices> => {
  const { apiKeys, orgs, policies, roles, secrets } = makeAccess(connection)
  return Context.make(Client, make(connection)).pipe(
    Context.add(ApiKeys, apiKeys),
    Context.add(Orgs, orgs),
    Context.add(Policies, policies),
    Context.add(Roles, roles),
    Context.add(Secrets, secrets)
  )
}
