/** Push endpoints of a server elsewhere. */
import * as Effect from "effect/Effect"
import { EndpointNotFoundError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import { endpoints } from "../Protocol/Http/Endpoints.ts"
import type { EffectKind } from "./Client.ts"
import { done, makeCalls, quote } from "./HttpCalls.ts"
import type { Raw } from "./Named.ts"
import type { Connection } from "./HttpConnection.ts"
import type { PushEndpoint, PushEndpointsApi } from "./PushEndpoints.ts"

/** The methods over a connection. */
export const make = (connection: Connection): Raw<PushEndpointsApi<EffectKind>> => {
  const { call, withoutEndpoint } = makeCalls(connection)
  const instead = "Register the functions with it by its own means"
  return {
    register: (url) => {
      const what = `pushEndpoints.register(${quote(url)})`
      return call({
        endpoint: endpoints.registerPushEndpoint,
        body: JSON.stringify({ url }),
        what,
        repeatable: false,
        orElse: withoutEndpoint(what, instead),
        read: (answer) =>
          isObject(answer) && Array.isArray(answer.functions)
            ? answer.functions.filter(isObject).map(({ id }) => String(id))
            : undefined
      })
    },
    list: () =>
      call({
        endpoint: endpoints.listPushEndpoints,
        what: "pushEndpoints.list()",
        repeatable: true,
        orElse: withoutEndpoint("pushEndpoints.list()", instead),
        read: (answer) =>
          isObject(answer) && Array.isArray(answer.endpoints)
            ? answer.endpoints.filter(isObject).map(readEndpoint)
            : undefined
      }),
    remove: (url) => {
      const what = `pushEndpoints.remove(${quote(url)})`
      return Effect.catchIf(
        Effect.as(
          call({
            endpoint: endpoints.removePushEndpoint,
            query: `?url=${encodeURIComponent(url)}`,
            what,
            repeatable: true,
            orElse: withoutEndpoint(what, instead),
            read: () => done
          }),
          true
        ),
        (error) => error instanceof EndpointNotFoundError,
        () => Effect.succeed(false)
      )
    }
  }
}

const readEndpoint = ({
  available,
  functionIds,
  problem,
  url
}: {
  readonly [field: string]: unknown
}): PushEndpoint => ({
  url: String(url),
  functionIds: Array.isArray(functionIds) ? functionIds.map(String) : [],
  available: available === true,
  ...(typeof problem === "string" ? { problem } : {})
})
