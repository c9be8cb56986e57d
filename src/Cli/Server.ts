/** What a command asks a server, by the client that everybody uses. */
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import { Client, type ClientApi, type EffectKind } from "../Client/Client.ts"
import * as ClientHttp from "../Client/Http.ts"
import { resolveServer } from "../Client/HttpConfig.ts"
import { type Answer, make as connect, type Request } from "../Client/HttpConnection.ts"
import { failureOf, isMissingEndpoint, unsupported } from "../Client/HttpFailures.ts"
import { type IronflowError, isIronflowError } from "../Errors.ts"
import { serverOptions } from "./Ironflow.ts"

/** Calls the server that the flags name. */
export const ask = <A, E>(call: (client: ClientApi<EffectKind>) => Effect.Effect<A, E>) =>
  Effect.flatMap(serverOptions, (options) =>
    Effect.flatMap(Client, call).pipe(
      Effect.provide(ClientHttp.layer(options)),
      Effect.provide(FetchHttpClient.layer)
    )
  )

/** Sends a request for which the client has no method; anything but 2xx is a failure. */
export const send = (request: Request) =>
  Effect.gen(function* () {
    const options = yield* serverOptions
    const server = yield* Effect.try({
      try: () => resolveServer(options, "ironflow"),
      catch: (error): IronflowError => {
        if (isIronflowError(error)) return error
        throw error
      }
    })
    const connection = yield* Effect.provide(connect(server), FetchHttpClient.layer)
    const answer: Answer = yield* connection.send(request)
    if (answer.status >= 200 && answer.status < 300) return answer
    return yield* Effect.fail(
      isMissingEndpoint(answer)
        ? unsupported(server.url, request.what, "Upgrade the server")
        : failureOf(answer, request.what)
    )
  })
