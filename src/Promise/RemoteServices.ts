/** Makes the services that the clients of the Promise API use with a remote server. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { resolveServer } from "../Client/HttpOptions.ts"
import type { ClientOptions } from "../Client/HttpServices.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ValidationError } from "../Errors.ts"

/**
 * Makes the services of the configured server. Throws `ValidationError`, which names `caller`, when the
 * configuration is invalid.
 */
export const remoteServices = (
  config: ClientOptions,
  caller: string
): Layer.Layer<ClientServices, ValidationError> => {
  const { eventDefinitions } = config
  const server = resolveServer(config, caller)
  // Loaded with the first call, so that programs which use other parts of the main entry do not load HTTP.
  const load = Effect.promise(() =>
    Promise.all([
      import("../Client/HttpServices.ts"),
      import("../Client/Channel.ts"),
      import("effect/http/FetchHttpClient")
    ])
  )
  return Layer.unwrap(
    Effect.map(load, ([http, channel, fetch]) =>
      Layer.provide(http.layerOf(server, { eventDefinitions }), [fetch.layer, channel.layer])
    )
  )
}
