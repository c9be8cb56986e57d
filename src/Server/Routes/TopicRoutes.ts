/** Calls of clients about topics over HTTP. */
import type { EngineService } from "../../Engine/Engine.ts"
import { rows } from "../../Protocol/Topics.ts"
import { seen } from "../Http/PagedReply.ts"
import type { Route } from "../Http/Route.ts"
import { paging, reading } from "./RowRoute.ts"

export const topicRoutes = (engine: EngineService): ReadonlyArray<Route> => [
  reading(rows.publish, "Publish", ({ data, idempotencyKey, topic }, call) =>
    engine
      .client(call.environment)
      // some clients send an empty string for no value
      .publish(topic, data, idempotencyKey ? { idempotencyKey } : {})
  ),
  paging(rows.listTopics, (call, page) => seen(call, engine.topics.page(call.environment, page))),
  reading(rows.getTopicStats, "GetTopicStats", ({ topic }, call) =>
    engine.client(call.environment).getTopicStats(topic)
  )
]
