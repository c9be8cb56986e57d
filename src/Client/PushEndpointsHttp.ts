/** Push endpoints over HTTP. */
import * as Effect from "effect/Effect"
import { EndpointNotFoundError } from "../Errors.ts"
import * as operations from "../Protocol/Push.ts"
import type { EffectKind } from "./Client.ts"
import { quote } from "./HttpCalls.ts"
import type { Connection } from "./HttpConnection.ts"
import type { Raw } from "./NarrowErrors.ts"
import type { PushEndpointsApi } from "./PushEndpoints.ts"
import { makeOperationCalls } from "./OperationCalls.ts"

/** Makes the methods, over a connection. */
export const make = (connection: Connection): Raw<PushEndpointsApi<EffectKind>> => {
  const { ask, failUnsupported } = makeOperationCalls(connection)
  const whenUnsupported = (call: string) =>
    failUnsupported(`pushEndpoints.${call}`, "Register the functions with the tools of that server")
  return {
    register: (url) =>
      Effect.map(
        ask(operations.registerPushEndpoint, "pushEndpoints.register", {
          subject: url,
          body: { url },
          whenUnsupported: whenUnsupported(`register(${quote(url)})`)
        }),
        ({ functions }) => functions.map(({ id }) => id)
      ),
    list: () =>
      Effect.map(
        ask(operations.listPushEndpoints, "pushEndpoints.list", {
          whenUnsupported: whenUnsupported("list()")
        }),
        ({ endpoints }) => endpoints
      ),
    remove: (url) =>
      Effect.catchIf(
        Effect.as(
          ask(operations.removePushEndpoint, "pushEndpoints.remove", {
            subject: url,
            query: `?url=${encodeURIComponent(url)}`,
            whenUnsupported: whenUnsupported(`remove(${quote(url)})`)
          }),
          true
        ),
        (error) => error instanceof EndpointNotFoundError,
        () => Effect.succeed(false)
      )
  }
}
