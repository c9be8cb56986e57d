/** How commands call a server: with the public client. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import { Client, type ClientApi, type EffectKind } from "../Client/Client.ts"
import type { ClientServices } from "../Client/Services.ts"
import * as ClientHttp from "../Client/HttpServices.ts"
import { resolveServer } from "../Client/HttpOptions.ts"
import { make as connect } from "../Client/HttpConnection.ts"
import type { Answer, Request } from "../Client/HttpExchange.ts"
import { failureOf, isMissingEndpoint, unsupported } from "../Client/HttpFailures.ts"
import { type IronflowError, isIronflowError } from "../Errors.ts"
import { restHealth } from "../Protocol/Server.ts"
import { serverOptions } from "./Ironflow.ts"

/** The server of the flags. */
export const server = Effect.flatMap(serverOptions, (options) =>
  Effect.try({
    try: () => resolveServer(options, "ironflow"),
    catch: (error): IronflowError => {
      if (isIronflowError(error)) return error
      throw error
    }
  })
)

/** The connection to it. */
const connection = Effect.flatMap(server, connect)

/** Calls the server of the flags. */
export const callServer = <A, E>(call: (client: ClientApi<EffectKind>) => Effect.Effect<A, E>) =>
  provideServer(Effect.flatMap(Client, call))

/** Calls another service of the client. */
export const callService = <I extends ClientServices, Api, A, E>(
  service: Context.Key<I, Api>,
  call: (api: Api) => Effect.Effect<A, E>
) => provideServer(Effect.flatMap(service, call))

/** Provides the services of the server of the flags. */
export const provideServer = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const options = yield* serverOptions
    const { send } = yield* connection
    // the client would retry for seconds; a user at a terminal should see the error at once
    yield* send({ method: "GET", path: restHealth.path, what: "The command" })
    return yield* Effect.provide(effect, ClientHttp.layer(options))
  }).pipe(Effect.provide(FetchHttpClient.layer))

/** Sends a request for which the client has no method; any status but 2xx is a failure. */
export const sendRequest = (request: Request) =>
  Effect.gen(function* () {
    const { send, server } = yield* connection
    const answer: Answer = yield* send(request)
    if (answer.status >= 200 && answer.status < 300) return answer
    return yield* Effect.fail(
      isMissingEndpoint(answer)
        ? unsupported(server.url, request.what, "Upgrade the server", answer.status)
        : failureOf(answer, request.what)
    )
  }).pipe(Effect.provide(FetchHttpClient.layer))
