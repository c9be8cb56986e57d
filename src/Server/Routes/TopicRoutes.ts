/** Calls of clients about topics over HTTP. */
import type { EngineService } from "../../Engine/Engine.ts"
import { callSpecs } from "../../Protocol/Topics.ts"
import { visibleItems } from "../Http/PagedReply.ts"
import type { Route } from "../Http/Route.ts"
import { pageRoute, bodyRoute } from "./CallRoute.ts"

export const topicRoutes = (engine: EngineService): ReadonlyArray<Route> => [
  bodyRoute(callSpecs.publish, "Publish", ({ data, idempotencyKey, topic }, call) =>
    engine
      .client(call.environment)
      // some clients send an empty string for no key
      .publish(topic, data, idempotencyKey ? { idempotencyKey } : {})
  ),
  pageRoute(callSpecs.listTopics, (call, page) =>
    visibleItems(call, engine.topics.page(call.environment, page))
  ),
  bodyRoute(callSpecs.getTopicStats, "GetTopicStats", ({ topic }, call) =>
    engine.client(call.environment).getTopicStats(topic)
  )
]
