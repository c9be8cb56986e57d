import { Session } from "../Session.ts"
import { type Noun, ok, rpc, type Spec } from "../Noun.ts"

const settings = {
  filter: "event.data.total > 1",
  ackMode: "manual",
  backpressure: "buffer",
  buffer: { maxBytes: 2048 },
  maxInflight: 5,
  maxRedeliveries: 3,
  redeliverDelayMs: 100,
  metadata: { ownedBy: "me" }
}
const free = ["metadata"]
const inPath = (call: object = {}): Spec => ({
  call: () => ({ variables: { name: "printers" }, ...call }),
  more: elsewhere(call)
})
const elsewhere = (call: object): NonNullable<Spec["more"]> => ({
  "in a namespace": () => ({ variables: { name: "readers" }, query: "namespace=library", ...call }),
  "by its pattern": () => ({ variables: { name: "printers" }, query: "pattern=events:order.*", ...call }),
  "by another pattern": () => ({ variables: { name: "printers" }, query: "pattern=news", ...call }),
  "in a namespace that is not there": () => ({
    variables: { name: "printers" },
    query: "namespace=nowhere",
    ...call
  })
})
const doomed = (method: "path" | "body"): Spec => ({
  fresh: async (rig, _, n) => {
    await ok(rig, "POST", "/api/v1/consumer-groups", { name: `doomed-${n}`, pattern: "news" })
    return { doomed: `doomed-${n}` }
  },
  call: ({ doomed = "" }) =>
    method === "path" ? { variables: { name: doomed } } : { body: { name: doomed, pattern: "news" } },
  more: {
    "one that is not there": () =>
      method === "path" ? { variables: { name: "nobody" } } : { body: { name: "nobody" } }
  }
})

export const groups: Noun = {
  setUp: async (rig) => {
    await ok(rig, "POST", "/api/v1/consumer-groups", {
      name: "printers",
      pattern: "events:order.*",
      ...settings
    })
    await ok(rig, "POST", "/api/v1/consumer-groups", {
      name: "readers",
      pattern: "news",
      namespace: "library"
    })
    const member = await Session.open(rig, "/ws")
    const options = { consumerGroup: "printers", ackMode: "manual", filter: "event.data.total > 1" }
    await member.ask({ type: "subscribe", subscription: { pattern: "events:order.*", options } })
    for (const total of [2, 3]) {
      await rpc(rig, "Trigger", { event: "order.placed", data: { total } })
      const { eventId } = await member.next()
      const ack = { type: "ack", eventId, ackType: "term", reason: "no paper", requestId: total }
      await member.ask(ack)
    }
    await member.close()
    return {}
  },
  calls: {
    createConsumerGroup: {
      free,
      fresh: (_rig, _, n) => Promise.resolve({ name: `group-${n}` }),
      call: ({ name }) => ({
        body: {
          name,
          pattern: "events:order.*",
          namespace: "shop",
          filterExpr: "event.data.total > 1",
          ...settings,
          ackMode: "ACK_MODE_MANUAL",
          backpressure: "BACKPRESSURE_MODE_BUFFER"
        }
      }),
      more: {
        "one that is there": () => ({ body: { name: "printers", pattern: "events:order.*" } }),
        "one that is there with other settings": () => ({
          body: { name: "printers", pattern: "events:order.*", maxInflight: 6 }
        }),
        "enums as numbers": ({ name }) => ({ body: { name, pattern: "news", ackMode: 2, backpressure: 1 } }),
        "enums of 0": ({ name }) => ({ body: { name, pattern: "news", ackMode: 0, backpressure: 0 } }),
        "an invalid pattern": ({ name }) => ({ body: { name, pattern: "order..x" } }),
        "an invalid filter": ({ name }) => ({ body: { name, pattern: "news", filterExpr: "event. >" } })
      }
    },
    getConsumerGroup: {
      call: () => ({ body: { name: "readers", namespace: "library", pattern: "news" } }),
      more: {
        "by its name": () => ({ body: { name: "printers" } }),
        "one that is not there": () => ({ body: { name: "nobody" } })
      }
    },
    listConsumerGroups: {
      pages: "body",
      call: () => ({ body: { namespace: "library", name: "readers", status: "active", limit: 5 } }),
      more: { all: () => ({ body: {} }), "a status as a number": () => ({ body: { status: 2 } }) }
    },
    updateConsumerGroup: {
      free,
      keep: ["group.name"],
      call: () => ({
        body: {
          group: {
            name: "printers",
            namespace: "default",
            pattern: "events:order.*",
            ...settings,
            maxInflight: 7
          },
          updateMask: "maxInflight,ackMode",
          by: "me",
          reason: "paper"
        }
      }),
      more: {
        "paused, then active": () => ({
          body: { group: { name: "printers", status: "paused" }, by: "me", reason: "paper" }
        }),
        "active again": () => ({ body: { group: { name: "printers", status: 1 } } }),
        "an invalid status": () => ({ body: { group: { name: "printers", status: "lost" } } }),
        "a mask as a list": () => ({
          body: { group: { name: "printers", maxInflight: 9 }, updateMask: { paths: ["max_inflight"] } }
        }),
        "a mask of something else": () => ({
          body: { group: { name: "printers", maxInflight: 9 }, updateMask: "colour" }
        }),
        "no mask": () => ({ body: { group: { name: "printers", max_inflight: 11 } } }),
        "one that is not there": () => ({ body: { group: { name: "nobody", maxInflight: 9 } } }),
        "an empty object": () => ({ body: {} })
      }
    },
    deleteConsumerGroup: doomed("body"),
    // the transcript of sessions has streams that succeed: these are refused, since they are plain requests
    subscribe: {
      call: () => ({
        body: {
          pattern: "events:order.*",
          options: {
            replay: 1,
            includeMetadata: true,
            filter: "event.data.total > 1",
            namespace: "default",
            consumerGroup: "printers",
            ackMode: "auto",
            backpressure: "block"
          }
        }
      })
    },
    joinConsumerGroup: {
      call: () => ({
        body: { groupName: "printers", namespace: "default", consumerId: "c-1", clientId: "m-1" }
      })
    },
    restListConsumerGroups: {
      pages: "query",
      call: () => ({}),
      more: {
        "of a namespace": () => ({ query: "namespace=library" }),
        "of a name": () => ({ query: "name=printers" }),
        "of a status": () => ({ query: "status=paused" }),
        "of an invalid status": () => ({ query: "status=lost" })
      }
    },
    restCreateConsumerGroup: {
      free,
      fresh: (_rig, _, n) => Promise.resolve({ name: `group-${n}` }),
      call: ({ name }) => ({ body: { name, pattern: "events:order.*", namespace: "shop", ...settings } }),
      more: {
        "one that is there": () => ({ body: { name: "printers", pattern: "events:order.*" } }),
        "an invalid mode": ({ name }) => ({ body: { name, pattern: "news", ackMode: "never" } }),
        "an invalid pressure": ({ name }) => ({ body: { name, pattern: "news", backpressure: "push" } }),
        "a name that is empty": () => ({ body: { name: "", pattern: "news" } })
      }
    },
    restGetConsumerGroup: inPath(),
    restUpdateConsumerGroup: {
      free,
      call: () => ({ variables: { name: "printers" }, body: settings }),
      more: elsewhere({ body: { maxInflight: 9 } })
    },
    restPauseConsumerGroup: inPath({ body: { by: "me", reason: "paper" } }),
    restResumeConsumerGroup: inPath({ body: {} }),
    groupDeadLetters: {
      ...inPath(),
      pages: "query",
      more: {
        ...elsewhere({}),
        "after one of them": () => ({ variables: { name: "printers" }, query: "after=1&limit=1" }),
        "after what is no number": () => ({ variables: { name: "printers" }, query: "after=one" })
      }
    },
    retryGroupDeadLetters: {
      ...inPath({ body: { position: 1 } }),
      more: {
        ...elsewhere({ body: {} }),
        "a position without one": () => ({ variables: { name: "printers" }, body: { position: 9 } })
      }
    },
    restDeleteConsumerGroup: doomed("path")
  }
}
