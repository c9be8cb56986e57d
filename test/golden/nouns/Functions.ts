import { type Noun, rpc } from "../Noun.ts"

const packOrder = {
  id: "pack-order",
  name: "Pack an order",
  triggers: [
    { event: "order.placed", expression: "event.data.total > 1" },
    { cron: "0 3 * * *", timezone: "Europe/Berlin", overlap: "skip" }
  ],
  retry: { maxAttempts: 3, initialDelayMs: 1000, backoffFactor: 2, maxDelayMs: 60_000, jitter: 0.1 },
  timeoutMs: 60_000,
  concurrency: { limit: 2, key: "event.data.id" },
  preferredMode: "EXECUTION_MODE_PULL",
  actorKey: "event.data.id",
  secrets: ["STRIPE_KEY"],
  recording: true,
  recordingRetention: "7d",
  metadata: { requires: { zone: "a" } }
}
const withField = (name: string, value: unknown) => () => ({ body: { ...packOrder, [name]: value } })

export const functions: Noun = {
  setUp: async (rig) => {
    await rpc(rig, "RegisterFunction", packOrder)
    await rpc(rig, "RegisterFunction", { id: "ship-order", triggers: [{ event: "order.*" }] })
    return {}
  },
  calls: {
    registerFunction: {
      free: ["metadata"],
      call: () => ({ body: packOrder }),
      more: {
        "a new one": () => ({ body: { id: "bill-order" } }),
        "a change": withField("timeoutMs", 30_000),
        "push mode": () => ({
          body: { ...packOrder, preferredMode: "EXECUTION_MODE_PUSH", endpointUrl: "http://127.0.0.1:9/x" }
        }),
        "an invalid mode": withField("preferredMode", "EXECUTION_MODE_FAST"),
        "an invalid expression": withField("triggers", [
          { event: "order.placed", expression: "event.data. >" }
        ]),
        "an invalid pattern": withField("triggers", [{ event: "order..x" }]),
        "an invalid cron": withField("triggers", [{ cron: "61 * * * *" }]),
        "an invalid time zone": withField("triggers", [{ cron: "* * * * *", timezone: "Moon/Sea" }]),
        "an invalid overlap": withField("triggers", [{ cron: "* * * * *", overlap: "double" }]),
        "a trigger of nothing": withField("triggers", [{}]),
        "an id that is empty": withField("id", ""),
        "an id that is long": withField("id", "a".repeat(257)),
        "no attempts": withField("retry", { maxAttempts: 0 }),
        "a limit of 0": withField("concurrency", { limit: 0 }),
        "a negative timeout": withField("timeoutMs", -1),
        "an invalid retention": withField("recordingRetention", "for ever"),
        "a version": withField("version", "2"),
        "a version of nothing": withField("version", " "),
        "runs that are pinned": withField("versioning", "pin"),
        "an invalid versioning": withField("versioning", "some"),
        "what is kept": withField("keepRuns", { completed: 86_400_000, failed: "forever" }),
        "what is kept of none": withField("keepRuns", { completed: -1 })
      }
    },
    getFunction: {
      call: () => ({ body: { id: "pack-order" } }),
      more: { "one that is not there": () => ({ body: { id: "nobody" } }) }
    },
    listFunctions: { call: () => ({ body: {} }), pages: "query" },
    restFunctions: { call: () => ({}), pages: "query" },
    pauseFunction: {
      call: () => ({ variables: { id: "pack-order" }, body: { reason: "the bank is down", by: "me" } }),
      more: {
        "one that is not there": () => ({ variables: { id: "nobody" }, body: {} }),
        "without a reason": () => ({ variables: { id: "ship-order" }, body: {} }),
        "a long reason": () => ({ variables: { id: "ship-order" }, body: { reason: "a".repeat(4097) } })
      }
    },
    resumeFunction: {
      call: () => ({ variables: { id: "pack-order" } }),
      more: { "one that is not there": () => ({ variables: { id: "nobody" } }) }
    },
    runFunction: {
      free: ["data"],
      call: () => ({
        variables: { id: "ship-order" },
        body: { data: { id: "o-1" }, idempotencyKey: "run once" }
      }),
      more: {
        "one with a schedule": () => ({ variables: { id: "pack-order" }, body: {} }),
        "one that is not there": () => ({ variables: { id: "nobody" }, body: {} })
      }
    },
    functionHistory: {
      call: () => ({ variables: { id: "pack-order" } }),
      more: { "one that is not there": () => ({ variables: { id: "nobody" } }) }
    },
    liveVersions: {
      call: () => ({ query: "function_id=pack-order" }),
      more: { all: () => ({}), "one that is not there": () => ({ query: "function_id=nobody" }) }
    },
    deleteFunction: {
      fresh: async (rig, _, n) => {
        await rpc(rig, "RegisterFunction", { id: `old-${n}` })
        return { old: `old-${n}` }
      },
      call: ({ old = "" }) => ({ variables: { id: old } }),
      more: {
        "one with runs": () => ({ variables: { id: "ship-order" } }),
        "a name to be encoded": () => ({ variables: { id: "a/b c" } })
      }
    }
  }
}
