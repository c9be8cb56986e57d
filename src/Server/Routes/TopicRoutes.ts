/** Calls of clients about topics over HTTP. */
import type { EngineService } from "../../Engine/Engine.ts"
import { callSpecs } from "../../Protocol/Topics.ts"
import { visibleItems } from "../Http/PagedReply.ts"
import type { Route } from "../Http/Route.ts"
import { paging, reading } from "./CallRoute.ts"

export const topicRoutes = (engine: EngineService): ReadonlyArray<Route> => [
  reading(callSpecs.publish, "Publish", ({ data, idempotencyKey, topic }, call) =>
    engine
      .client(call.environment)
      // some clients send an empty string for no key
      .publish(topic, data, idempotencyKey ? { idempotencyKey } : {})
  ),
  paging(callSpecs.listTopics, (call, page) =>
    visibleItems(call, engine.topics.page(call.environment, page))
  ),
  reading(callSpecs.getTopicStats, "GetTopicStats", ({ topic }, call) =>
    engine.client(call.environment).getTopicStats(topic)
  )
]
