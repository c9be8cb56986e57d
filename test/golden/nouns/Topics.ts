import { type Noun, rpc } from "../Noun.ts"

export const topics: Noun = {
  setUp: async (rig) => {
    for (const topic of ["news", "news", "weather"]) {
      await rpc(rig, "Publish", { topic, data: { a: 1 } }, "PubSubService")
    }
    const group = { name: "readers", pattern: "news" }
    await rpc(rig, "CreateConsumerGroup", group, "PubSubService")
    return {}
  },
  calls: {
    publish: {
      free: ["data"],
      call: () => ({ body: { topic: "news", data: { someText: "b" } } }),
      more: {
        "an idempotency key": () => ({ body: { topic: "news", data: 1, idempotencyKey: "once" } }),
        "the same idempotency key": () => ({ body: { topic: "news", data: 1, idempotency_key: "once" } }),
        "a wrong idempotency key": () => ({ body: { topic: "news", data: 1, idempotencyKey: 5 } }),
        "a name with wildcards": () => ({ body: { topic: "news.*", data: 1 } }),
        "a name that is empty": () => ({ body: { topic: "", data: 1 } }),
        "a name of the system": () => ({ body: { topic: "system.run.completed", data: 1 } })
      }
    },
    listTopics: { call: () => ({ body: {} }), pages: "query" },
    getTopicStats: {
      call: () => ({ body: { topic: "news" } }),
      more: { "a topic without messages": () => ({ body: { topic: "sports" } }) }
    }
  }
}
