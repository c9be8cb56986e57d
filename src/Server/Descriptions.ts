/** Routes that describe the server: `/openapi.json`, and `/metrics` for Prometheus. */
import * as Effect from "effect/Effect"
import { descriptions as described } from "../Protocol/Server.ts"
import { SDK_VERSION } from "../SdkVersion.ts"
import type { Route } from "./Http/Route.ts"
import type * as Metrics from "./Metrics.ts"
import { replyRoute } from "./Routes/CallRoute.ts"

/** Makes the routes that describe the server. */
export const descriptions = (metrics: ReturnType<typeof Metrics.make>): ReadonlyArray<Route> => {
  let openApi: string | undefined
  // made for the first request, since few clients ask for it
  const document = Effect.promise(async () => {
    if (openApi === undefined) {
      const { default: made } = await import("../Protocol/openapi.json", { with: { type: "json" } })
      openApi = JSON.stringify({ ...made, info: { ...made.info, version: SDK_VERSION } })
    }
    return openApi
  })
  return [
    replyRoute(described.metrics, ({ caller }) =>
      Effect.map(metrics(caller), (text) => ({ status: 200, text, type: described.metrics.type! }))
    ),
    replyRoute(described.openApi, () => Effect.map(document, (text) => ({ status: 200, text })))
  ]
}
