/** How commands call a server: with the public client, or with single requests where the client has no method. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import { Client, type ClientApi, type EffectKind } from "../Client/Client.ts"
import type { ClientServices } from "../Client/Services.ts"
import * as ClientHttp from "../Client/HttpServices.ts"
import { resolveServer } from "../Client/HttpOptions.ts"
import { make as connect } from "../Client/HttpConnection.ts"
import type { Answer, Request } from "../Client/HttpExchange.ts"
import { failureOf, isCallMissing, unsupportedError } from "../Client/HttpFailures.ts"
import { type IronflowError, isIronflowError } from "../Errors.ts"
import { restHealth } from "../Protocol/Server.ts"
import { serverOptions } from "./Ironflow.ts"

/** The server that the flags name. */
export const server = Effect.flatMap(serverOptions, (options) =>
  Effect.try({
    try: () => resolveServer(options, "ironflow"),
    catch: (error): IronflowError => {
      if (isIronflowError(error)) return error
      throw error
    }
  })
)

/** Sends single requests to the server that the flags name. */
const connection = Effect.flatMap(server, connect)

/** Makes a call of the client to the server that the flags name. */
export const callServer = <A, E>(call: (client: ClientApi<EffectKind>) => Effect.Effect<A, E>) =>
  provideServer(Effect.flatMap(Client, call))

/** Like {@link callServer}, for a service other than `Client`. */
export const callService = <I extends ClientServices, Api, A, E>(
  service: Context.Key<I, Api>,
  call: (api: Api) => Effect.Effect<A, E>
) => provideServer(Effect.flatMap(service, call))

/** Provides the client's services for the server that the flags name. */
export const provideServer = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const options = yield* serverOptions
    const { send } = yield* connection
    // This request fails at once when the server cannot be reached. The client would first retry for seconds.
    yield* send({ method: "GET", path: restHealth.path, what: "The command" })
    return yield* Effect.provide(effect, ClientHttp.layer(options))
  }).pipe(Effect.provide(FetchHttpClient.layer))

/** Sends a request for which the client has no method. Fails with any status but 2xx. */
export const sendRequest = (request: Request) =>
  Effect.gen(function* () {
    const { send, server } = yield* connection
    const answer: Answer = yield* send(request)
    if (answer.status >= 200 && answer.status < 300) return answer
    return yield* Effect.fail(
      isCallMissing(answer)
        ? unsupportedError(server.url, request.what, "Upgrade the server", answer.status)
        : failureOf(answer, request.what)
    )
  }).pipe(Effect.provide(FetchHttpClient.layer))
