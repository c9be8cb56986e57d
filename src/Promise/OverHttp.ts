/** The services of a server elsewhere for the Promise face. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { resolveServer } from "../Client/HttpConfig.ts"
import type { ClientOptions } from "../Client/HttpServices.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ValidationError } from "../Errors.ts"

/** Throws `ValidationError` when the configuration is not acceptable. `caller` names whose it is. */
export const overHttp = (
  config: ClientOptions,
  caller: string
): Layer.Layer<ClientServices, ValidationError> => {
  const { eventDefinitions } = config
  const server = resolveServer(config, caller)
  // Loaded with the first call: whoever imports the main entry for something else need not pay for HTTP.
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
