/** Calls of clients about topics over HTTP. */
import type { EngineService } from "../../Engine/Engine.ts"
import { endpoints } from "../../Protocol/Topics.ts"
import { visibleItems } from "../Http/PagedReply.ts"
import type { Route } from "../Http/Route.ts"
import { paging, reading } from "./EndpointRoute.ts"

export const topicRoutes = (engine: EngineService): ReadonlyArray<Route> => [
  reading(endpoints.publish, "Publish", ({ data, idempotencyKey, topic }, call) =>
    engine
      .client(call.environment)
      // some clients send an empty string for no key
      .publish(topic, data, idempotencyKey ? { idempotencyKey } : {})
  ),
  paging(endpoints.listTopics, (call, page) =>
    visibleItems(call, engine.topics.page(call.environment, page))
  ),
  reading(endpoints.getTopicStats, "GetTopicStats", ({ topic }, call) =>
    engine.client(call.environment).getTopicStats(topic)
  )
]
