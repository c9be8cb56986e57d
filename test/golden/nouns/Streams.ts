import { type Noun, rpc, type Spec } from "../Noun.ts"

const free = ["data", "metadata", "state"]
const entity = { entityId: "o-1", entityType: "order" }
const paid = { eventName: "order.paid", data: { someAmount: 1 }, version: 2, metadata: { requestedBy: "me" } }
const reading: NonNullable<Spec["more"]> = {
  "one that is not there": () => ({ body: { entityId: "nobody" } }),
  backward: () => ({ body: { entityId: "o-1", direction: "backward", limit: 1 } }),
  "a direction in another spelling": () => ({ body: { entityId: "o-1", direction: "BACKWARD" } }),
  "an invalid direction": () => ({ body: { entityId: "o-1", direction: "up" } }),
  "from past its end": () => ({ body: { entityId: "o-1", fromVersion: 9 } }),
  "a limit of 0": () => ({ body: { entityId: "o-1", limit: 0 } }),
  "a negative limit": () => ({ body: { entityId: "o-1", limit: -1 } }),
  "a large limit": () => ({ body: { entityId: "o-1", limit: 1_000_000 } })
}
const whole = { entityId: "o-1", fromVersion: "1", limit: 5, direction: "forward" }

export const streams: Noun = {
  setUp: async (rig) => {
    await rpc(rig, "RegisterFunction", { id: "ship-order", triggers: [{ event: "order.placed" }] })
    const append = (body: object) => rpc(rig, "AppendEvent", body, "EntityStreamService")
    await append({ ...entity, eventName: "order.placed", data: { total: 1 }, metadata: { by: "me" } })
    await rig.pass(5)
    await append({ ...entity, ...paid, expectedVersion: 1 })
    await append({ entityId: "c-1", entityType: "customer", eventName: "customer.met" })
    const snapshot = { ...entity, entityVersion: 1, state: { total: 1 } }
    await rpc(rig, "CreateSnapshot", snapshot, "EntityStreamService")
    return {}
  },
  calls: {
    appendEvent: {
      free,
      call: () => ({ body: { ...entity, ...paid, expectedVersion: "-1" } }),
      more: {
        "a version that is passed": () => ({ body: { ...entity, ...paid, expectedVersion: 1 } }),
        "a stream that must not be there": () => ({ body: { ...entity, ...paid, expectedVersion: 0 } }),
        "a version below all": () => ({ body: { ...entity, ...paid, expectedVersion: -2 } }),
        "a new entity": () => ({ body: { ...entity, ...paid, entityId: "o-2" } }),
        "another type of the entity": () => ({
          body: { ...entity, ...paid, entityType: "bill", expectedVersion: -1 }
        }),
        "an idempotency key": () => ({
          body: { ...entity, ...paid, expectedVersion: -1, idempotencyKey: "once" }
        }),
        "the same idempotency key": () => ({
          body: { ...entity, ...paid, expectedVersion: -1, idempotency_key: "once" }
        }),
        "a name with wildcards": () => ({ body: { ...entity, eventName: "order.*", expectedVersion: -1 } })
      }
    },
    appendEvents: {
      free,
      call: () => ({
        body: { ...entity, events: [paid, { eventName: "order.sent" }], expectedVersion: "-1" }
      }),
      more: {
        "no events": () => ({ body: { ...entity, events: [], expectedVersion: -1 } }),
        "a version that is passed": () => ({ body: { ...entity, events: [paid], expectedVersion: 1 } }),
        "an idempotency key": () => ({
          body: { ...entity, events: [paid, paid], expectedVersion: -1, idempotencyKey: "once" }
        }),
        "the same idempotency key": () => ({
          body: { ...entity, events: [paid, paid], expectedVersion: -1, idempotencyKey: "once" }
        })
      }
    },
    readStream: { call: () => ({ body: whole }), more: reading },
    getEntityHistory: { call: () => ({ body: whole }), more: reading },
    getStreamInfo: {
      call: () => ({ body: { entityId: "o-1" } }),
      more: { "one that is not there": () => ({ body: { entityId: "nobody" } }) }
    },
    listStreams: {
      call: () => ({ body: { entityType: "order", limit: 5, offset: 0 } }),
      more: {
        all: () => ({ body: {} }),
        "the second": () => ({ body: { limit: 1, offset: 1 } }),
        "past the end": () => ({ body: { offset: 9 } }),
        "a negative offset": () => ({ body: { offset: -1 } }),
        "a limit of 0": () => ({ body: { limit: 0 } })
      }
    },
    createSnapshot: {
      free,
      call: () => ({ body: { ...entity, entityVersion: "2", state: { someTotal: 1 } } }),
      more: {
        "of a version to come": () => ({ body: { ...entity, entityVersion: 9, state: 1 } }),
        "of nobody": () => ({ body: { entityId: "nobody", entityType: "order", entityVersion: 1, state: 1 } })
      }
    },
    getSnapshot: {
      call: () => ({ body: { entityId: "o-1", beforeVersion: 2 } }),
      more: {
        "the newest": () => ({ body: { entityId: "o-1" } }),
        "before all": () => ({ body: { entityId: "o-1", beforeVersion: 1 } }),
        "of nobody": () => ({ body: { entityId: "nobody" } })
      }
    },
    restStreams: {
      call: () => ({ query: "entity_type=order&limit=5&offset=0" }),
      more: {
        all: () => ({}),
        "the other case of letters": () => ({ query: "entityType=customer" }),
        "the second": () => ({ query: "limit=1&offset=1" }),
        "a limit that is no number": () => ({ query: "limit=many" }),
        "an offset that is no number": () => ({ query: "offset=many" }),
        "a negative offset": () => ({ query: "offset=-1" })
      }
    },
    restStreamHistory: { call: () => ({ variables: { id: "o-1" } }), pages: "query" }
  }
}
