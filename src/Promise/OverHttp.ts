/** The services of a remote server for the Promise API. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { resolveServer } from "../Client/HttpOptions.ts"
import type { ClientOptions } from "../Client/HttpServices.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ValidationError } from "../Errors.ts"

/** Throws `ValidationError` when the configuration is invalid. `caller` is named in its message. */
export const overHttp = (
  config: ClientOptions,
  caller: string
): Layer.Layer<ClientServices, ValidationError> => {
  const { eventDefinitions } = config
  const server = resolveServer(config, caller)
  // Loaded with the first call: programs that use other parts of the main entry do not load HTTP.
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
