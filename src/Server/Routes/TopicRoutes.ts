/** What clients ask over HTTP of topics. */
import type { EngineService } from "../../Engine/Engine.ts"
import { rows } from "../../Protocol/Topics.ts"
import { seen } from "../Http/PagedReply.ts"
import type { Route } from "../Http/Route.ts"
import { paging, reading } from "./RowRoute.ts"

export const topicRoutes = (engine: EngineService): ReadonlyArray<Route> => [
  reading(rows.publish, "Publish", ({ data, idempotencyKey, topic }, call) =>
    engine
      .client(call.environment)
      // empty is how some clients say that they give none
      .publish(topic, data, idempotencyKey ? { idempotencyKey } : {})
  ),
  paging(rows.listTopics, (call, page) => seen(call, engine.topics.page(call.environment, page))),
  reading(rows.getTopicStats, "GetTopicStats", ({ topic }, call) =>
    engine.client(call.environment).getTopicStats(topic)
  )
]
