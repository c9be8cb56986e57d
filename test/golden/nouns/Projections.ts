import { type Given, type Noun, ok, rpc, type Spec } from "../Noun.ts"
import type { Rig } from "../Rig.ts"

const call = (rig: Rig, method: string, body: object) => rpc(rig, method, body, "ProjectionService")
const registration = { name: "totals", events: ["order.*"], mode: "managed", partitionKey: "$.data.customer" }

/** A managed projection with two partitions and one event that it has not seen, an external one, and a paused one. */
const setUp = async (rig: Rig): Promise<Given> => {
  const { eventId: first } = await rpc(rig, "Trigger", { event: "order.placed", data: { customer: "ada" } })
  for (const customer of ["bob", "ada"])
    await rpc(rig, "Trigger", { event: "order.placed", data: { customer } })
  await call(rig, "RegisterProjection", registration)
  for (let i = 0; i < 2; i++) {
    const { events } = await call(rig, "PollProjectionEvents", { name: "totals", batchSize: 1 })
    const [{ id, seq, timestamp }] = events
    await rig.pass(5)
    await call(rig, "SaveProjectionState", {
      name: "totals",
      partitionKey: "__global__",
      state: { n: i },
      lastEventId: id,
      lastEventSeq: seq,
      lastEventTime: timestamp
    })
  }
  await call(rig, "RegisterProjection", { name: "mails", events: ["order.placed"], mode: "external" })
  await call(rig, "RegisterProjection", { name: "stopped", events: ["order.placed"], mode: "managed" })
  await call(rig, "PauseProjection", { name: "stopped", by: "me", reason: "look" })
  const failing = { ...registration, name: "counts" }
  const path = "/api/v1/projections/counts/owner"
  const claimed = await ok(rig, "POST", `${path}/claim`, {
    workerId: "worker-1",
    registration: failing,
    waitMs: 5
  })
  const error = { name: "Error", message: "no such customer", code: "NO_CUSTOMER" }
  const deadLetters = [1, 2].map((position) => ({ position, error, attempts: 3 }))
  const { generation, token } = claimed.lease
  const saved = { number: 1, from: 0, to: 2, states: [], deadLetters, resolved: [] }
  await ok(rig, "POST", `${path}/save`, { token, generation, save: saved })
  const { eventId } = await rpc(rig, "Trigger", { event: "user.met", data: {} })
  return { event: eventId, first }
}

/** An event that the projection has polled. */
const handedOut = async (rig: Rig, name: string): Promise<Given> => {
  await rpc(rig, "Trigger", { event: "order.placed", data: { customer: "ada" } })
  const { events } = await call(rig, "PollProjectionEvents", { name, batchSize: 1 })
  return { next: events[0].id, seq: String(events[0].seq), at: events[0].timestamp }
}

const byName = (call: object = {}, more: Spec["more"] = {}): Spec => ({
  call: () => ({ variables: { name: "totals" }, ...call }),
  more: {
    "an external one": () => ({ variables: { name: "mails" }, ...call }),
    "one that is paused": () => ({ variables: { name: "stopped" }, ...call }),
    ...more
  }
})
const named = (body: object = {}, more: Spec["more"] = {}): Spec => ({
  call: () => ({ body: { name: "totals", ...body } }),
  more: {
    "an external one": () => ({ body: { name: "mails", ...body } }),
    "one that is paused": () => ({ body: { name: "stopped", ...body } }),
    "one that is not there": () => ({ body: { name: "nobody", ...body } }),
    ...more
  }
})
const forEvent: Spec = {
  keep: ["timeoutMs"],
  call: ({ first }) => ({ body: { eventId: first, projection: "totals", timeoutMs: 5, partition: "ada" } }),
  more: {
    "an event that it has not seen": ({ event }) => ({
      body: { eventId: event, projection: "mails", timeoutMs: 5 },
      waitsMs: 5
    }),
    "an event that is not there": () => ({
      body: { eventId: "evt_none", projection: "totals", timeoutMs: 5 }
    }),
    "a projection that is not there": ({ event }) => ({
      body: { eventId: event, projection: "nobody", timeoutMs: 5 }
    }),
    "the other case of letters": ({ event }) => ({
      body: { event_id: event, projection: "mails", timeout_ms: 5 },
      waitsMs: 5
    }),
    "a timeout that is no number": ({ event }) => ({
      body: { eventId: event, projection: "mails", timeoutMs: "soon" }
    }),
    "a negative timeout": ({ event }) => ({ body: { eventId: event, projection: "mails", timeoutMs: -1 } }),
    "no event": () => ({ body: { projection: "mails", timeoutMs: 5 } }),
    "no projection": ({ event }) => ({ body: { eventId: event, timeoutMs: 5 } }),
    "an empty object": () => ({ body: {} }),
    "a wrong event": () => ({ body: { eventId: 5, projection: "mails", timeoutMs: 5 } })
  }
}
const registering = (more: object) => () => ({ body: { name: "totals", events: ["order.*"], ...more } })

export const projections: Noun = {
  setUp,
  calls: {
    registerProjection: {
      call: () => ({ body: { ...registration, version: 2 } }),
      more: {
        "a new one": () => ({ body: { name: "counts", events: ["order.*"], mode: "managed" } }),
        "another mode": registering({ mode: "external" }),
        "an invalid mode": registering({ mode: "fast" }),
        "other events": registering({ mode: "managed", events: ["user.*"] }),
        "no events": registering({ events: [] }),
        "an invalid pattern": registering({ events: ["order..x"] }),
        "an invalid partition key": registering({ partitionKey: "$." })
      }
    },
    getProjection: {
      ...named({ partition: "ada" }),
      more: {
        ...named().more,
        "all partitions": () => ({ body: { name: "totals" } }),
        "a partition that is not there": () => ({ body: { name: "totals", partition: "eve" } })
      }
    },
    pollProjectionEvents: named(
      { batchSize: 10, partition: "ada" },
      {
        "a batch of 0": () => ({ body: { name: "totals", batchSize: 0 } }),
        "a negative batch": () => ({ body: { name: "totals", batchSize: -1 } }),
        "a large batch": () => ({ body: { name: "totals", batchSize: 1_000_000 } })
      }
    ),
    saveProjectionState: {
      free: ["state"],
      fresh: (rig) => handedOut(rig, "totals"),
      call: ({ at = "", next, seq }) => ({
        body: {
          name: "totals",
          partitionKey: "ada",
          state: { someCount: 2 },
          lastEventId: next,
          lastEventSeq: seq,
          lastEventTime: at
        }
      }),
      more: {
        "a projection that is not there": () => ({ body: { name: "nobody", state: 1, lastEventSeq: 1 } }),
        "an external one": () => ({ body: { name: "mails", state: 1, lastEventSeq: 1 } }),
        "a negative position": () => ({ body: { name: "totals", state: 1, lastEventSeq: -1 } }),
        "a position to come": () => ({ body: { name: "totals", state: 1, lastEventSeq: 99 } })
      }
    },
    ackProjectionEvents: {
      fresh: (rig) => handedOut(rig, "mails"),
      call: ({ next, seq }) => ({ body: { name: "mails", lastEventId: next, lastEventSeq: seq } }),
      more: {
        "a managed one": () => ({ body: { name: "totals", lastEventSeq: 3 } }),
        "a projection that is not there": () => ({ body: { name: "nobody", lastEventSeq: 1 } }),
        "a position to come": () => ({ body: { name: "mails", lastEventSeq: 99 } })
      }
    },
    connectListProjections: { call: () => ({ body: {} }), pages: "query" },
    getProjectionStatus: named(),
    connectRebuildProjection: {
      call: () => ({ body: { name: "totals", dryRun: true } }),
      more: {
        ...named({ dryRun: true }).more,
        "a partition": () => ({ body: { name: "totals", partition: "ada" } }),
        "from an event": ({ event }) => ({ body: { name: "totals", fromEventId: event } }),
        "in earnest": () => ({ body: { name: "totals", dry_run: false } })
      }
    },
    connectPauseProjection: named({ by: "me", reason: "look" }),
    connectResumeProjection: named(),
    waitProjectionCatchup: {
      keep: ["timeoutMs", "minSeq"],
      call: () => ({ body: { name: "totals", minSeq: "1", timeoutMs: 5, partition: "ada" } }),
      more: {
        "one that is behind": () => ({ body: { name: "mails", min_seq: 3, timeout_ms: 5 }, waitsMs: 5 }),
        "one that is not there": () => ({ body: { name: "nobody", minSeq: 1, timeoutMs: 5 } }),
        "one that is paused": () => ({ body: { name: "stopped", minSeq: 1, timeoutMs: 5 }, waitsMs: 5 }),
        "no position": () => ({ body: { name: "totals", timeoutMs: 5 } }),
        "a position that is no number": () => ({ body: { name: "totals", minSeq: "many", timeoutMs: 5 } }),
        "a timeout that is no number": () => ({ body: { name: "totals", minSeq: 1, timeoutMs: "soon" } }),
        "an empty object": () => ({ body: {} })
      }
    },
    waitForEvent: forEvent,
    projectionWaitForEvent: forEvent,

    listProjections: { call: () => ({}), pages: "query" },
    restGetProjection: byName(
      { query: "partition=ada" },
      {
        "all partitions": () => ({ variables: { name: "totals" } }),
        "an empty partition": () => ({ variables: { name: "totals" }, query: "partition=" }),
        "a partition that is not there": () => ({ variables: { name: "totals" }, query: "partition=eve" })
      }
    ),
    projectionStatus: byName(),
    rebuildProjection: byName(
      { body: { dryRun: true } },
      {
        "a partition": () => ({ variables: { name: "totals" }, body: { partition: "ada" } }),
        "from an event": ({ event }) => ({ variables: { name: "totals" }, body: { from_event_id: event } }),
        "in earnest": () => ({ variables: { name: "totals" }, body: {} }),
        "a second time": () => ({ variables: { name: "totals" }, body: {} })
      }
    ),
    projectionRebuild: byName(),
    cancelRebuild: {
      fresh: async (rig) => {
        await ok(rig, "POST", "/api/v1/projections/totals/rebuild", {})
        return {}
      },
      ...byName({ body: {} })
    },
    pauseProjection: byName({ body: { by: "me", reason: "look" } }),
    resumeProjection: byName({ body: {} }),
    projectionCatchup: byName(
      { query: "minSeq=1&timeout=5" },
      {
        "an external one": () => ({ variables: { name: "mails" }, query: "minSeq=2&timeout=5", waitsMs: 5 }),
        "one that is paused": () => ({
          variables: { name: "stopped" },
          query: "minSeq=1&timeout=5",
          waitsMs: 5
        }),
        "the other case of letters": () => ({ variables: { name: "totals" }, query: "min_seq=1&timeout=0" }),
        "no position": () => ({ variables: { name: "totals" }, query: "timeout=0" }),
        "a position that is no number": () => ({
          variables: { name: "totals" },
          query: "minSeq=many&timeout=5"
        }),
        "a timeout that is no number": () => ({
          variables: { name: "totals" },
          query: "minSeq=1&timeout=soon"
        })
      }
    ),
    projectionCatchupBatch: {
      keep: ["timeoutMs", "items.0.minSeq"],
      call: () => ({ body: { items: [{ name: "totals", minSeq: "1", partition: "ada" }], timeoutMs: 5 } }),
      more: {
        "several, one of them behind": () => ({
          body: {
            items: [
              { name: "totals", minSeq: 1 },
              { name: "mails", min_seq: 2 }
            ],
            timeout_ms: 5
          },
          waitsMs: 5
        }),
        "one that is not there": () => ({ body: { items: [{ name: "nobody", minSeq: 1 }], timeoutMs: 5 } }),
        "no position": () => ({ body: { items: [{ name: "totals" }], timeoutMs: 5 } }),
        "a position that is no number": () => ({
          body: { items: [{ name: "totals", minSeq: "many" }], timeoutMs: 5 }
        }),
        nothing: () => ({ body: { items: [], timeoutMs: 5 } }),
        "an empty object": () => ({ body: {} })
      }
    },
    projectionChanges: byName(
      {},
      {
        "of a partition": () => ({ variables: { name: "totals" }, query: "partition=ada" }),
        "since an invalid cursor": () => ({ variables: { name: "totals" }, query: "since=nothing" }),
        "one of them": () => ({ variables: { name: "totals" }, query: "since=0&limit=1" }),
        "after one of them": () => ({ variables: { name: "totals" }, query: "since=0&after=ada&limit=1" }),
        "a limit that is no number": () => ({ variables: { name: "totals" }, query: "since=0&limit=many" })
      }
    ),
    deadLetters: {
      pages: "query",
      call: () => ({ variables: { name: "counts" } }),
      more: {
        "of one that has none": () => ({ variables: { name: "totals" } }),
        "after one of them": () => ({ variables: { name: "counts" }, query: "after=1&limit=1" }),
        "after what is no number": () => ({ variables: { name: "counts" }, query: "after=one" }),
        "a limit that is no number": () => ({ variables: { name: "counts" }, query: "limit=many" })
      }
    },
    retryDeadLetters: {
      call: () => ({ variables: { name: "counts" }, body: { position: "1" } }),
      more: {
        all: () => ({ variables: { name: "counts" }, body: {} }),
        "of one that has none": () => ({ variables: { name: "totals" }, body: {} }),
        "a position without one": () => ({ variables: { name: "counts" }, body: { position: 9 } })
      }
    },
    deleteProjection: {
      fresh: async (rig, _, n) => {
        await call(rig, "RegisterProjection", { name: `old-${n}`, events: ["order.*"], mode: "managed" })
        return { old: `old-${n}` }
      },
      call: ({ old = "" }) => ({ variables: { name: old } })
    }
  }
}

const name = "totals"
const claim = { workerId: "worker-1", registration, waitMs: 5 }
const owned =
  (more: object = {}) =>
  ({ token = "", generation }: Given) => ({
    variables: { name },
    body: { token, generation: Number(generation), ...more }
  })
const stale: NonNullable<Spec["more"]> = {
  "another generation": (given) => owned({ generation: 9 })(given)
}
const save = (given: Given, more: object = {}) => ({
  number: 1,
  from: 0,
  to: 1,
  states: [{ partition: "ada", state: '{"n":1}', position: 1, eventId: given.event, eventTime: 1 }],
  deadLetters: [{ position: 1, error: { name: "Error", message: "m" }, attempts: 3 }],
  resolved: [1],
  failing: { position: 2, failures: 1, error: { name: "Error", message: "m" } },
  ...more
})

/** The requests of a projection's owner. */
export const owners: Noun = {
  setUp: async (rig) => {
    const { eventId } = await rpc(rig, "Trigger", { event: "order.placed", data: { customer: "ada" } })
    await rpc(rig, "Trigger", { event: "order.placed", data: { customer: "bob" } })
    const { lease } = await ok(rig, "POST", "/api/v1/projections/totals/owner/claim", claim)
    return { event: eventId, token: lease.token, generation: String(lease.generation) }
  },
  calls: {
    claimProjection: {
      keep: ["waitMs", "registration.name"],
      fresh: (_rig, _, n) => Promise.resolve({ other: `counts-${n}` }),
      call: ({ other = "" }) => ({
        variables: { name: other },
        body: { ...claim, registration: { ...registration, name: other } }
      }),
      more: {
        "one that another worker has": () => ({
          variables: { name },
          body: { ...claim, workerId: "worker-2" },
          waitsMs: 5
        }),
        "one that it has": () => ({ variables: { name }, body: claim }),
        "other events": ({ other = "" }) => ({
          variables: { name: other },
          body: { ...claim, registration: { ...registration, name: other, events: ["user.*"] } }
        }),
        "no time": () => ({ variables: { name }, body: { ...claim, workerId: "worker-2", waitMs: 0 } }),
        "an invalid time": () => ({ variables: { name }, body: { ...claim, waitMs: "soon" } }),
        "an empty object": () => ({ variables: { name }, body: {} })
      }
    },
    readProjection: {
      call: owned({ limit: 10 }),
      more: {
        ...stale,
        "one at a time": owned({ limit: 1 }),
        "a limit of 0": owned({ limit: 0 })
      }
    },
    projectionStates: {
      call: owned({ partitions: ["ada", "bob"] }),
      more: { ...stale, "no partitions": owned({ partitions: [] }) }
    },
    saveProjection: {
      call: (given) => owned({ save: save(given, { deadLetters: [], resolved: [] }) })(given),
      more: {
        "the same once more": (given) =>
          owned({ save: save(given, { deadLetters: [], resolved: [] }) })(given),
        "what is next, with dead letters": (given) =>
          owned({
            save: save(given, {
              number: 2,
              from: 1,
              to: 2,
              states: [],
              deadLetters: save(given).deadLetters,
              failing: undefined
            })
          })(given),
        "a state that is no JSON": (given) =>
          owned({ save: save(given, { states: [{ ...save(given).states[0], state: "{" }] }) })(given),
        "an invalid error": (given) =>
          owned({ save: save(given, { deadLetters: [{ position: 1, error: "m", attempts: 3 }] }) })(given),
        "a gap": (given) => owned({ save: save(given, { number: 9, from: 9, to: 10 }) })(given)
      }
    },
    renewProjection: { call: owned(), more: stale },
    releaseProjection: { call: owned(), more: stale }
  }
}
