import { type Noun, type Spec, rpc } from "../Noun.ts"

const free = ["data", "metadata"]
const order = {
  event: "order.placed",
  data: { orderId: "o-1", total_amount: 12.5 },
  version: 2,
  metadata: { requestedBy: "me" }
}
const emitting: Spec = {
  free,
  call: () => ({ body: order }),
  more: {
    "an idempotency key": () => ({ body: { ...order, idempotencyKey: "once" } }),
    "the same idempotency key, other data": () => ({ body: { ...order, data: 1, idempotencyKey: "once" } }),
    "an idempotency key in the other case": () => ({ body: { ...order, idempotency_key: "once" } }),
    "a wrong idempotency key": () => ({ body: { ...order, idempotencyKey: {} } }),
    "an event that starts nothing": () => ({ body: { event: "order.seen" } }),
    "a name with wildcards": () => ({ body: { event: "order.*" } }),
    "a name with white space": () => ({ body: { event: "order placed" } }),
    "a name that is empty": () => ({ body: { event: "" } }),
    "a name that is long": () => ({ body: { event: "a".repeat(257) } }),
    "a version of 0": () => ({ body: { ...order, version: 0 } }),
    "a version and a half": () => ({ body: { ...order, version: 1.5 } }),
    "a text that is no JSON object": () => ({ body: '"order.placed"' }),
    "a body of another type": () => ({
      body: "event=order.placed",
      headers: { "content-type": "text/plain" }
    }),
    "JSON of another type": () => ({ body: order, headers: { "content-type": "text/plain" } }),
    "another environment": () => ({ body: order, headers: { "x-ironflow-environment": "staging" } }),
    "an invalid environment": () => ({ body: order, headers: { "x-ironflow-environment": "a b" } })
  }
}

export const log: Noun = {
  setUp: async (rig) => {
    const { eventId } = await rpc(rig, "Trigger", { ...order, idempotencyKey: "once" })
    await rig.pass(60_000)
    await rpc(rig, "Trigger", { event: "order.seen", data: 1 })
    await rpc(rig, "Publish", { topic: "news", data: { a: 1 } }, "PubSubService")
    const paid = { entityId: "o-1", entityType: "order", eventName: "order.paid", data: 1 }
    await rpc(rig, "AppendEvent", paid, "EntityStreamService")
    await rpc(rig, "AppendEvent", { ...paid, entityId: "o-2" }, "EntityStreamService")
    return { event: eventId }
  },
  calls: {
    listEvents: {
      pages: "body",
      call: () => ({
        body: {
          name: "order.*",
          entityType: "order",
          entityId: "o-1",
          since: "2020-01-01T00:00:00Z",
          after: "1",
          order: "oldest",
          limit: 5
        }
      }),
      more: {
        everything: () => ({ body: {} }),
        "of a name": () => ({ body: { name: "order.placed" } }),
        "of a name that is a topic": () => ({ body: { name: "news" } }),
        "of an idempotency key": () => ({ body: { idempotency_key: "once" } }),
        "of an entity type": () => ({ body: { entity_type: "order" } }),
        "until a time": () => ({ body: { until: "2020-01-01" } }),
        "of an invalid pattern": () => ({ body: { name: "order..x" } }),
        "since an invalid time": () => ({ body: { since: "yesterday" } }),
        "of an invalid filter": () => ({ body: { nmae: "order.placed" } }),
        "a cursor of another list": () => ({ body: { name: "order.*", cursor: "e2-aaaaaa" } })
      }
    },
    getEvent: {
      call: ({ event }) => ({ body: { id: event } }),
      more: {
        "one that is not there": () => ({ body: { id: "evt_1" } }),
        "an id that is empty": () => ({ body: { id: "" } })
      }
    },
    explainEvent: { call: ({ event = "" }) => ({ variables: { id: event } }) }
  }
}

export const events: Noun = {
  setUp: async (rig) => {
    for (const id of ["pack-order", "ship-order"]) {
      await rpc(rig, "RegisterFunction", { id, triggers: [{ event: "order.placed" }] })
    }
    return {}
  },
  calls: {
    trigger: emitting,
    emit: emitting,
    publishEmit: emitting,
    triggerBatch: {
      free,
      call: () => ({ body: { events: [order, { event: "order.seen" }] } }),
      more: {
        "no events": () => ({ body: { events: [] } }),
        "one of them wrong": () => ({ body: { events: [order, { event: "order.*" }] } }),
        "an idempotency key": () => ({ body: { events: [{ ...order, idempotencyKey: "once" }] } }),
        "the same idempotency key twice": () => ({
          body: { events: [1, 2].map((data) => ({ ...order, data, idempotencyKey: "twice" })) }
        })
      }
    },
    triggerSync: {
      free,
      keep: ["timeoutMs"],
      // this event starts nothing that could be waited for
      call: () => ({ body: { ...order, event: "order.seen", timeoutMs: 5 } }),
      more: {
        "runs that take too long": () => ({ body: { ...order, timeoutMs: 5 }, waitsMs: 5 }),
        "the other case of letters": () => ({ body: { ...order, timeout_ms: 5 }, waitsMs: 5 }),
        "a timeout that is no number": () => ({ body: { ...order, timeoutMs: "soon" } }),
        "a timeout of 0": () => ({ body: { ...order, event: "order.seen", timeoutMs: 0 } }),
        "a negative timeout": () => ({ body: { ...order, event: "order.seen", timeoutMs: -5 } })
      }
    },
    restEmit: {
      free,
      call: () => ({
        body: {
          name: "order.placed",
          data: { orderId: "o-1" },
          version: 2,
          webhook: "shop",
          metadata: { requestedBy: "me" }
        }
      }),
      more: {
        "an idempotency key": () => ({ body: { name: "order.placed", data: 1, idempotencyKey: "once" } }),
        "the same idempotency key": () => ({
          body: { name: "order.placed", data: 2, idempotency_key: "once" }
        }),
        "a name with wildcards": () => ({ body: { name: "order.*" } })
      }
    },
    restEvents: {
      pages: "query",
      fresh: async (rig, _, n) => {
        if (n > 1) return {}
        await rpc(rig, "Trigger", order)
        await rpc(rig, "Trigger", { event: "order.seen", data: 1 })
        await rpc(rig, "Publish", { topic: "news", data: { a: 1 } }, "PubSubService")
        await rpc(
          rig,
          "AppendEvent",
          { entityId: "o-1", entityType: "order", eventName: "order.paid", data: 1 },
          "EntityStreamService"
        )
        return {}
      },
      call: () => ({}),
      more: {
        "of a name": () => ({ query: "name=order.placed&limit=5" }),
        "of a pattern": () => ({ query: "name=order.*&limit=5" }),
        "of a topic": () => ({ query: "name=news" }),
        "of an invalid pattern": () => ({ query: "name=order..x" }),
        "of an empty name": () => ({ query: "name=" })
      }
    }
  }
}
