/**
 * Each effect, with all ways to it. A key that is denied the effect reaches it in no way. A key without the denial reaches it
 * in every way, which shows that each way is a real one.
 */
import { createServer } from "node:http"
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { accessTo, type CallSpec } from "../../src/Protocol/CallSpec.ts"
import { callSpecs } from "../../src/Protocol/AllCalls.ts"
import { change } from "../Engine/Store/Damaged.ts"
import { temporaryDatabase } from "../wire/Ironflow.ts"
import { RawEvents } from "../wire/RawEvents.ts"
import { RawStream, REGISTERED } from "../wire/RawStream.ts"
import { registrationOf } from "../wire/RawTurnWorker.ts"
import { Keys, type PolicyOf } from "./Keys.ts"

let keys: Keys
const cleanups: Array<() => unknown> = []
beforeEach(async () => {
  vi.stubEnv("IRONFLOW_MASTER_KEY", "ab".repeat(32))
  keys = await Keys.start()
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
  await keys[Symbol.asyncDispose]()
  vi.unstubAllEnvs()
})

/** A name or a piece of data that a denied key must not see, and that occurs nowhere else. */
const MARK = "hidden-7f3a"

/** Whether the key reaches the effect. */
type Way = (key: string) => Promise<boolean>

interface Effect {
  readonly effect: string
  readonly denied: PolicyOf
  /** Prepares what the effect needs. */
  readonly given?: () => Promise<unknown>
  readonly ways: { readonly [name: string]: Way }
}

// ---------------------------------------------------------------------------------------------------------------------
// Ways
// ---------------------------------------------------------------------------------------------------------------------

const ask =
  (method: string, path: string, body?: object): Way =>
  async (key) =>
    (await keys.send(method, path, body, { key })).text.includes(MARK)
const get = (path: string): Way => ask("GET", path)
const rpc = (method: string, body: object = {}): Way => ask("POST", `/ironflow.v1.${method}`, body)

/** Gets the newest event by its id. */
const getsEvent: Way = async (key) => {
  const { events } = await keys.ok(keys.rpc("IronflowService/ListEvents", { name: "salary.*", limit: 1 }))
  return rpc("IronflowService/GetEvent", { id: events[0].id })(key)
}

/** Whether a call is carried out. */
const carriesOut =
  (method: string, path: string, body?: object): Way =>
  async (key) =>
    (await keys.send(method, path, body, { key })).status < 300
const carriesOutRpc = (method: string, body: object): Way =>
  carriesOut("POST", `/ironflow.v1.${method}`, body)

/** Whether a socket is opened. */
const opens =
  (path: string): Way =>
  (key) =>
    keys.socket(path, key).then(
      ({ socket }) => {
        socket.terminate()
        return true
      },
      () => false
    )

/**
 * Whether a subscription gets an event with the mark once `happen` is done. The event `last.one`, which is emitted afterwards,
 * shows that all others have come.
 */
const subscribes =
  (pattern: string, happen: () => Promise<unknown>): Way =>
  async (key) => {
    const { frames, socket } = await keys.socket("/ws", key)
    for (const one of [pattern, "events:last.*"]) {
      socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern: one } }))
    }
    const answers = () => frames.filter(({ type }) => type === "subscription_result")
    await vi.waitFor(() => assert.lengthOf(answers(), 2))
    // no test denies `events:last.*`
    await happen()
    // two readers send to one connection: wait for a last event of each
    if (pattern.startsWith("system.")) {
      await keys.ok(keys.send("POST", "/api/v1/config/last", { a: 1 }))
      if (answers()[0].results[0].status === "ok" && /^system\.(>|config)/.test(pattern)) {
        await vi.waitFor(() => assert.include(JSON.stringify(frames), "system.config.last.updated"))
      }
    }
    await keys.ok(keys.rpc("IronflowService/Trigger", { event: "last.one", data: {} }))
    await vi.waitFor(() => assert.include(JSON.stringify(frames), '"last.one"'))
    socket.terminate()
    return JSON.stringify(frames.filter(({ type }) => type === "event")).includes(MARK)
  }

/** The same over a ConnectRPC stream, of a pattern or of an existing group. The stream ends if it is refused. */
const streams =
  (request: { readonly pattern: string } | { readonly group: string }, happen: () => Promise<unknown>): Way =>
  async (key) => {
    const options = { headers: { authorization: `Bearer ${key}` } }
    const { url } = keys.server
    using events =
      "pattern" in request
        ? await RawEvents.open(url, request, options)
        : await joins(request.group, (message) =>
            RawEvents.open(url, message, { ...options, method: "JoinConsumerGroup" })
          )
    await happen()
    await keys.ok(keys.send("POST", "/api/v1/config/last", { a: 1 }))
    await keys.ok(keys.rpc("IronflowService/Trigger", { event: "last.one", data: {} }))
    const seen = (): string => JSON.stringify(events.events)
    await vi.waitFor(() => assert.isTrue(events.isClosed || [MARK, "last"].some((it) => seen().includes(it))))
    return seen().includes(MARK)
  }

/** A group tells how many events match its pattern, and the name of the newest one. */
const groups = (group: { readonly name: string; readonly pattern: string }): Effect["ways"] => {
  const path = "/api/v1/consumer-groups"
  const whenCreated =
    (way: Way): Way =>
    async (key) => {
      await keys.send("POST", path, group)
      return way(key)
    }
  return {
    "creating a group": carriesOut("POST", path, group),
    CreateConsumerGroup: carriesOutRpc("PubSubService/CreateConsumerGroup", group),
    "an existing group": whenCreated(carriesOut("GET", `${path}/${group.name}`)),
    GetConsumerGroup: whenCreated(carriesOutRpc("PubSubService/GetConsumerGroup", { name: group.name })),
    "the list of groups": whenCreated(get(path)),
    ListConsumerGroups: whenCreated(rpc("PubSubService/ListConsumerGroups")),
    "pausing a group": whenCreated(carriesOut("POST", `${path}/${group.name}/pause`, {})),
    "the dead letters of a group": whenCreated(carriesOut("GET", `${path}/${group.name}/dead-letters`)),
    "the number of dead letters that are retried": whenCreated(
      carriesOut("POST", `${path}/${group.name}/dead-letters/retry`, {})
    )
  }
}

const joins = async <A>(pattern: string, join: (message: object) => Promise<A>): Promise<A> => {
  await keys.send("POST", "/api/v1/consumer-groups", { name: "joined", pattern })
  return join({ groupName: "joined" })
}

interface Fn {
  readonly id: string
  readonly event?: string
  readonly secrets?: ReadonlyArray<string>
}

const registrationFor = (workerId: string, fn: Fn) => {
  const registration = registrationOf(workerId, [fn])
  return {
    ...registration,
    functions: registration.functions.map((one) => ({ ...one, secrets: fn.secrets ?? [] }))
  }
}

const turnsBody = (workerId: string, fn: Fn) => ({
  worker_id: workerId,
  function_ids: [],
  capabilities: { turns: 1 },
  registration: registrationFor(workerId, fn),
  instance: workerId
})

let workers = 0
const nextWorker = (): string => `w-${++workers}`

const registersPolling =
  (fn: Fn): Way =>
  (key) => {
    const id = nextWorker()
    return carriesOut("POST", `/api/v1/workers/${id}/register`, turnsBody(id, fn))(key)
  }

const registersRpc =
  (fn: Fn): Way =>
  async (key) => {
    const { frames, socket } = await keys.socket("/rpc/worker", key)
    const payload = turnsBody(nextWorker(), fn)
    socket.send(JSON.stringify({ _tag: "Request", id: "1", tag: "work", payload, headers: [] }))
    await vi.waitFor(() => assert.isNotEmpty(frames))
    socket.terminate()
    return JSON.stringify(frames).includes("registered")
  }

/** A legacy worker, which names functions that are already registered. */
const registersLegacy =
  (fn: Fn): Way =>
  async (key) => {
    await register(fn)
    const body = { function_ids: [fn.id], hostname: "h" }
    return carriesOut("POST", `/api/v1/workers/${nextWorker()}/register`, body)(key)
  }

const registersStream =
  (fn: Fn): Way =>
  async (key) => {
    await register(fn)
    const worker = new RawStream(keys.server.url, { authorization: `Bearer ${key}` })
    cleanups.push(() => worker[Symbol.asyncDispose]())
    worker.register(nextWorker(), [fn.id], 1)
    const registered = await Promise.race([
      worker.next(REGISTERED).then(() => true),
      once(worker.stream, "close").then(() => false)
    ])
    return registered
  }

const register = (fn: Fn) =>
  keys.ok(
    keys.rpc("IronflowService/RegisterFunction", {
      id: fn.id,
      triggers: fn.event === undefined ? [] : [{ event: fn.event }],
      secrets: fn.secrets ?? []
    })
  )

const registering = (fn: Fn): { readonly [name: string]: Way } => ({
  RegisterFunction: carriesOutRpc("IronflowService/RegisterFunction", {
    id: fn.id,
    triggers: fn.event === undefined ? [] : [{ event: fn.event }],
    secrets: fn.secrets ?? []
  }),
  "a polling worker": registersPolling(fn),
  "a worker over rpc": registersRpc(fn),
  "an existing polling worker": registersLegacy(fn),
  "a legacy streaming worker": registersStream(fn)
})

const turns = { number: 0 }

/** Whether a worker with the key may report the ops, for a run of its own function. */
const reports =
  (...ops: ReadonlyArray<object>): Way =>
  async (key) => {
    const workerId = nextWorker()
    const event = `turn.number-${++turns.number}`
    const fn = { id: `turn-${turns.number}`, event }
    const { session } = await keys.ok(
      keys.send("POST", `/api/v1/workers/${workerId}/register`, turnsBody(workerId, fn), { key })
    )
    const { runIds } = await keys.ok(keys.rpc("IronflowService/Trigger", { event, data: {} }))
    const poll = { session, asked: 1, seen: 0, waitMs: 5000 }
    const { deliveries } = await keys.ok(
      keys.send("POST", `/api/v1/workers/${workerId}/turns/poll`, poll, { key })
    )
    const { jobId, runId } = deliveries[0].job
    const report = { session, batch: 1, reports: [{ jobId, runId, ops }] }
    const { acks } = await keys.ok(
      keys.send("POST", `/api/v1/workers/${workerId}/turns/reports`, report, { key })
    )
    if (acks[0]._tag === "Accepted") return true
    // nothing is lost: the run is paused, and an operator can resume it
    const explanation = await keys.ok(keys.send("GET", `/api/v1/runs/${runIds[0]}/explain`))
    assert.deepStrictEqual([explanation.code, explanation.details.code], ["PAUSED", "UNAUTHORIZED"])
    return false
  }

const at = { attempt: 1, startedAt: 1, endedAt: 1 }
const tx = (write: object) => ({
  _tag: "Transact",
  stepKey: "save:0",
  name: "save",
  value: "1",
  writes: [write],
  ...at
})

// ---------------------------------------------------------------------------------------------------------------------
// Effects
// ---------------------------------------------------------------------------------------------------------------------

const order = (id: string, eventName: string, data: object = {}) =>
  keys.rpc("EntityStreamService/AppendEvent", {
    entityId: id,
    entityType: "person",
    eventName,
    data,
    expectedVersion: "-1"
  })

/** Emits an event that is in the log and in a stream, and that starts a run. */
const salary = async (): Promise<void> => {
  await register({ id: "pay", event: "salary.*" })
  await keys.ok(order("p-1", "salary.paid", { MARK }))
}

/** Appends another such event to the same stream. */
const again = () =>
  keys.ok(
    keys.rpc("EntityStreamService/AppendEvent", {
      entityId: "p-1",
      entityType: "person",
      eventName: "salary.paid",
      data: { MARK },
      expectedVersion: "-1"
    })
  )

/** The id of a run that waited for such an event and received it. */
const waited = async (): Promise<string> => {
  const id = nextWorker()
  const event = `turn.number-${++turns.number}`
  const call = (path: string, body: object) =>
    keys.ok(keys.send("POST", `/api/v1/workers/${id}/${path}`, body))
  const { session } = await call("register", turnsBody(id, { id: `waits-${turns.number}`, event }))
  await keys.ok(keys.rpc("IronflowService/Trigger", { event, data: {} }))
  const poll = { session, asked: 1, seen: 0, waitMs: 5000 }
  const { jobId, runId } = (await call("turns/poll", poll)).deliveries[0].job
  const wait = { ...waitOp, stepKey: "wait:0", name: "wait" }
  await call("turns/reports", { session, batch: 1, reports: [{ jobId, runId, ops: [wait] }] })
  await keys.ok(keys.rpc("IronflowService/Trigger", { event: "salary.paid", data: { MARK } }))
  const settle = { _tag: "Settle", stepKey: "wait:0" }
  const { acks } = await call("turns/reports", {
    session,
    batch: 2,
    reports: [{ jobId, runId, ops: [settle, { _tag: "Complete", output: undefined }] }]
  })
  assert.strictEqual(acks[0]._tag, "Accepted", JSON.stringify(acks))
  return runId
}

/** The id of the run that handles the failure of a run which such an event started. */
const failed = async (): Promise<string> => {
  const id = nextWorker()
  const name = `fails-${++turns.number}`
  const call = (path: string, body: object) =>
    keys.ok(keys.send("POST", `/api/v1/workers/${id}/${path}`, body))
  const { session } = await call("register", turnsBody(id, { id: name, event: "salary.paid" }))
  const expression = `event.data.functionId == "${name}"`
  await keys.ok(
    keys.rpc("IronflowService/RegisterFunction", {
      id: `${name}/on-failure`,
      triggers: [{ event: "system.run.*.failed", expression }]
    })
  )
  await keys.ok(keys.rpc("IronflowService/Trigger", { event: "salary.paid", data: { MARK } }))
  const poll = { session, asked: 1, seen: 0, waitMs: 5000 }
  const { jobId, runId } = (await call("turns/poll", poll)).deliveries[0].job
  const ops = [{ _tag: "Fail", error: { name: "Error", message: "no" } }]
  const { acks } = await call("turns/reports", { session, batch: 1, reports: [{ jobId, runId, ops }] })
  assert.strictEqual(acks[0]._tag, "Accepted", JSON.stringify(acks))
  const { runs } = await keys.ok(keys.rpc("IronflowService/ListRuns", { functionId: `${name}/on-failure` }))
  return runs[0].id
}

const waitOp = {
  _tag: "WaitForEvent",
  scope: "",
  event: "salary.*",
  timeout: { afterMs: 60_000 },
  timeoutMs: 60_000
}

const projection = { name: "wages", events: ["salary.*"], mode: "managed" }

const claimProjection = async (workerId: string, key?: string) =>
  keys.send(
    "POST",
    "/api/v1/projections/wages/owner/claim",
    { workerId, registration: projection, waitMs: 0 },
    { key }
  )

const runId = async (): Promise<string> =>
  (await keys.ok(keys.rpc("IronflowService/ListRuns", { functionId: "greet" }))).runs[0].id

const cancelled = async (): Promise<void> => {
  const { runIds } = await keys.ok(keys.rpc("IronflowService/Trigger", { event: "order.placed", data: {} }))
  await keys.ok(keys.rpc("IronflowService/CancelRun", { id: runIds[0], reason: MARK }))
}

const effects: ReadonlyArray<Effect> = [
  {
    effect: "reading a configuration",
    denied: { actions: "config:read", resources: "config:prod-*" },
    given: () => keys.ok(keys.send("POST", "/api/v1/config/prod-db", { MARK })),
    ways: {
      getConfig: get("/api/v1/config/prod-db"),
      listConfigs: get("/api/v1/config"),
      "listConfigs by pages": get("/api/v1/config?limit=10"),
      "a watch": opens("/api/v1/config/prod-db/watch"),
      "events of configurations": subscribes("system.config.>", () =>
        keys.ok(keys.send("POST", "/api/v1/config/prod-db", { MARK, again: true }))
      ),
      "all events": subscribes("system.>", () =>
        keys.ok(keys.send("POST", "/api/v1/config/prod-db", { MARK, again: true }))
      ),
      "a stream of all events": streams({ pattern: "system.>" }, () =>
        keys.ok(keys.send("POST", "/api/v1/config/prod-db", { MARK, again: true }))
      )
    }
  },
  {
    effect: "the name of a secret",
    denied: { actions: "secret:read", resources: "secret:PROD_*" },
    given: () => keys.ok(keys.send("POST", "/api/v1/secrets", { name: "PROD_KEY", value: "x" })),
    ways: {
      listSecrets: async (key) =>
        (await keys.send("GET", "/api/v1/secrets", undefined, { key })).text.includes("PROD"),
      getSecret: carriesOut("GET", "/api/v1/secrets/PROD_KEY"),
      "all events": async (key) => {
        let named = ""
        await subscribes("system.>", async () => {
          await keys.ok(keys.send("PUT", "/api/v1/secrets/PROD_KEY", { value: MARK }))
        })(key)
        const { frames, socket } = await keys.socket("/ws", key)
        const subscription = { pattern: "system.>", options: { replay: 1000 } }
        socket.send(JSON.stringify({ type: "subscribe", subscription }))
        await vi.waitFor(() => assert.include(JSON.stringify(frames), "system.config.last"))
        named = JSON.stringify(frames)
        socket.terminate()
        return named.includes("PROD_KEY")
      }
    }
  },
  {
    effect: "the value of a secret",
    denied: { actions: "secret:read", resources: "secret:PROD_*" },
    given: () => keys.ok(keys.send("POST", "/api/v1/secrets", { name: "PROD_KEY", value: MARK })),
    ways: registering({ id: "ship", event: "order.placed", secrets: ["PROD_KEY"] })
  },
  {
    effect: "registering a function",
    denied: { actions: "function:register", resources: "function:pay" },
    ways: registering({ id: "pay", event: "order.placed" })
  },
  {
    effect: "learning of runs",
    denied: { actions: "run:read", resources: "*" },
    ways: registering({ id: "spy", event: "system.run.*.failed" })
  },
  {
    effect: "the data of events",
    denied: { actions: "subscription:read", resources: "subscription:events:salary.*" },
    given: salary,
    ways: {
      ...registering({ id: "spy", event: "salary.paid" }),
      "a subscription": subscribes("events:salary.*", salary),
      "a wider subscription": subscribes("events:>", salary),
      "a subscription to an entity": subscribes("entity:person.p-1.>", salary),
      "a stream": streams({ pattern: "events:salary.*" }, salary),
      "a wider stream": streams({ pattern: "events:>" }, salary),
      "a stream of an entity": streams({ pattern: "entity:person.p-1.>" }, salary),
      "joining a group": streams({ group: "events:>" }, salary),
      ...groups({ name: MARK, pattern: "events:>" }),
      RegisterProjection: carriesOutRpc("ProjectionService/RegisterProjection", projection),
      "a poll of an existing projection": async (key) => {
        await keys.ok(keys.rpc("ProjectionService/RegisterProjection", projection))
        return rpc("ProjectionService/PollProjectionEvents", { name: "wages" })(key)
      },
      "claiming a projection": async (key) => (await claimProjection("w-claims", key)).status < 300,
      "reading with the claim of another owner": async (key) => {
        await keys.send("DELETE", "/api/v1/projections/wages")
        const { lease } = await keys.ok(claimProjection("w-other"))
        const body = { token: lease.token, generation: lease.generation, limit: 10 }
        return ask("POST", "/api/v1/projections/wages/owner/read", body)(key)
      },
      "waiting for such an event in a run": reports({ ...waitOp, stepKey: "wait:0", name: "wait" }),
      ReadStream: rpc("EntityStreamService/ReadStream", { entityId: "p-1" }),
      "the history of a stream": get("/api/v1/streams/p-1/history"),
      GetEntityHistory: rpc("EntityStreamService/GetEntityHistory", { entityId: "p-1" }),
      "the run that handles the failure of a run started by it": async (key) =>
        rpc("IronflowService/GetRun", { id: await failed() })(key),
      "a run started by it": async (key) => {
        const { runs } = await keys.ok(keys.rpc("IronflowService/ListRuns", { functionId: "pay" }))
        return rpc("IronflowService/GetRun", { id: runs[0].id })(key)
      },
      "a step that waited for it": async (key) =>
        rpc("IronflowService/GetRunSteps", { runId: await waited() })(key),
      "the REST list of steps": async (key) => get(`/api/v1/runs/${await waited()}/steps`)(key),
      "events of runs that waited for it": subscribes("system.run.>", waited),
      ListRuns: rpc("IronflowService/ListRuns"),
      "the REST list of runs": get("/api/v1/runs"),
      "the list of events": get("/api/v1/events"),
      ListEvents: rpc("IronflowService/ListEvents"),
      "ListEvents by its name": rpc("IronflowService/ListEvents", { name: "salary.paid", order: "oldest" }),
      GetEvent: getsEvent,
      "cancelling a run": async (key) => {
        const { runs } = await keys.ok(keys.rpc("IronflowService/ListRuns", { functionId: "pay" }))
        return rpc("IronflowService/CancelRun", { id: runs[0].id })(key)
      }
    }
  },
  {
    effect: "the events of a stream",
    denied: { actions: "stream:read", resources: "stream:p-*" },
    given: salary,
    ways: {
      ReadStream: rpc("EntityStreamService/ReadStream", { entityId: "p-1" }),
      GetEntityHistory: rpc("EntityStreamService/GetEntityHistory", { entityId: "p-1" }),
      "the history of a stream": get("/api/v1/streams/p-1/history"),
      "the list of events": get("/api/v1/events?name=salary.*"),
      ListEvents: rpc("IronflowService/ListEvents", { entityId: "p-1" }),
      GetEvent: getsEvent,
      "a subscription to the entity": subscribes("entity:person.p-1.>", again),
      "a subscription to its events": subscribes("events:salary.*", again),
      "a stream": streams({ pattern: "events:>" }, again),
      "joining a group": streams({ group: "events:>" }, again),
      ...groups({ name: MARK, pattern: "events:salary.*" }),
      "a member of a group": async (key) => {
        const { frames, socket } = await keys.socket("/ws", key)
        const subscription = { pattern: "events:salary.*", options: { consumerGroup: "g" } }
        socket.send(JSON.stringify({ type: "subscribe", subscription }))
        await vi.waitFor(() => assert.isNotEmpty(frames))
        socket.terminate()
        return frames[0].results[0].status === "ok"
      },
      "a poll of a projection": async (key) => {
        await keys.ok(keys.rpc("ProjectionService/RegisterProjection", projection))
        return rpc("ProjectionService/PollProjectionEvents", { name: "wages" })(key)
      }
    }
  },
  {
    effect: "emitting",
    denied: { actions: "emit:event", resources: "event:salary.*" },
    ways: {
      Trigger: carriesOutRpc("IronflowService/Trigger", { event: "salary.paid", data: {} }),
      Emit: carriesOutRpc("IronflowService/Emit", { event: "salary.paid", data: {} }),
      "PubSub Emit": carriesOutRpc("PubSubService/Emit", { event: "salary.paid", data: {} }),
      TriggerSync: carriesOutRpc("IronflowService/TriggerSync", { event: "salary.paid", data: {} }),
      TriggerBatch: carriesOutRpc("IronflowService/TriggerBatch", {
        events: [
          { event: "order.placed", data: {} },
          { event: "salary.paid", data: {} }
        ]
      }),
      "POST events": carriesOut("POST", "/api/v1/events", { name: "salary.paid", data: {} }),
      AppendEvent: carriesOutRpc("EntityStreamService/AppendEvent", {
        entityId: "p-2",
        entityType: "person",
        eventName: "salary.paid",
        data: {},
        expectedVersion: "-1"
      }),
      AppendEvents: carriesOutRpc("EntityStreamService/AppendEvents", {
        entityId: "p-3",
        entityType: "person",
        events: [{ eventName: "salary.paid", data: {} }],
        expectedVersion: "-1"
      }),
      "a schedule of a function": carriesOutRpc("IronflowService/RegisterFunction", {
        id: "clock",
        triggers: [{ event: "salary.paid", cron: "* * * * *" }]
      }),
      "tx.emit": reports(tx({ _tag: "emit", name: "salary.paid", version: 1, data: "{}" })),
      "tx.append": reports(
        tx({
          _tag: "append",
          entityId: "p-4",
          entityType: "person",
          events: [{ name: "salary.paid", version: 1, data: "{}" }],
          expectedVersion: -1
        })
      )
    }
  },
  {
    effect: "publishing",
    denied: { actions: "publish:message", resources: "topic:news" },
    ways: {
      Publish: carriesOutRpc("PubSubService/Publish", { topic: "news", data: {} }),
      "step.publish": reports({ _tag: "Publish", stepKey: "p:0", name: "p", topic: "news", data: "{}" })
    }
  },
  {
    effect: "appending to a stream",
    denied: { actions: "stream:append", resources: "stream:p-*" },
    ways: {
      AppendEvent: async (key) =>
        carriesOutRpc("EntityStreamService/AppendEvent", {
          entityId: "p-5",
          entityType: "person",
          eventName: "order.placed",
          data: {},
          expectedVersion: "-1"
        })(key),
      "tx.append": reports(
        tx({
          _tag: "append",
          entityId: "p-6",
          entityType: "person",
          events: [{ name: "order.placed", version: 1, data: "{}" }],
          expectedVersion: -1
        })
      )
    }
  },
  {
    effect: "deleting a key",
    denied: { actions: "kv:delete", resources: "bucket:orders" },
    given: async () => {
      await keys.send("POST", "/api/v1/kv/buckets", { name: "orders" })
      await keys.ok(keys.send("PUT", "/api/v1/kv/buckets/orders/keys/a", 1))
    },
    ways: {
      deleteKey: carriesOut("DELETE", "/api/v1/kv/buckets/orders/keys/a"),
      writeKeys: carriesOut("POST", "/api/v1/kv/buckets/orders/write", {
        writes: [{ op: "delete", key: "a" }]
      }),
      "tx.kv": reports(tx({ _tag: "kv", bucket: "orders", key: "a" })),
      deleteBucket: carriesOut("DELETE", "/api/v1/kv/buckets/orders")
    }
  },
  {
    effect: "writing a key",
    denied: { actions: "kv:write", resources: "bucket:orders" },
    given: () => keys.send("POST", "/api/v1/kv/buckets", { name: "orders" }),
    ways: {
      putKey: carriesOut("PUT", "/api/v1/kv/buckets/orders/keys/a", { a: 1 }),
      writeKeys: carriesOut("POST", "/api/v1/kv/buckets/orders/write", {
        writes: [{ op: "put", key: "a", value: "MQ==", contentType: "application/json" }]
      }),
      "tx.kv": reports(tx({ _tag: "kv", bucket: "orders", key: "a", value: { type: "json", data: "1" } }))
    }
  },
  {
    effect: "the results of runs",
    denied: { actions: "run:read" },
    given: async () => {
      await register({ id: "greet", event: "order.placed" })
      await keys.ok(order("o-1", "order.placed"))
    },
    ways: {
      ...Object.fromEntries(
        ["GetRun", "GetRunSteps"].map((method) => [
          method,
          async (key: string) => carriesOutRpc(`IronflowService/${method}`, { runId: await runId() })(key)
        ])
      ),
      ListRuns: carriesOutRpc("IronflowService/ListRuns", {}),
      ...Object.fromEntries(
        ["steps", "audit", "explain", "wait?timeout=0"].map((what) => [
          what,
          async (key: string) => carriesOut("GET", `/api/v1/runs/${await runId()}/${what}`)(key)
        ])
      ),
      "the history of a stream": async (key) =>
        (await keys.rpc("EntityStreamService/GetEntityHistory", { entityId: "o-1" }, { key })).text.includes(
          await runId()
        ),
      "the answer to a cancellation": async (key) => {
        const { runIds } = await keys.ok(
          keys.rpc("IronflowService/Trigger", { event: "order.placed", data: { MARK } })
        )
        return rpc("IronflowService/CancelRun", { id: runIds[0] })(key)
      },
      "events of runs": subscribes("system.run.>", cancelled),
      "all events": subscribes("system.>", cancelled)
    }
  },
  {
    effect: "retrying a failed run",
    denied: { actions: "run:retry" },
    given: async () => {
      await register({ id: "greet", event: "order.placed" })
      await keys.ok(order("o-1", "order.placed"))
    },
    ways: Object.fromEntries(
      ["IronflowService/RetryRun", "IronflowService/ResumeRun", ""].map((method) => [
        method || "POST resume",
        async (key: string) => {
          const id = await runId()
          await keys.send("POST", "/ironflow.v1.IronflowService/CancelRun", { id })
          return method === ""
            ? carriesOut("POST", "/api/v1/runs/resume", { run_id: id })(key)
            : carriesOutRpc(method, { id })(key)
        }
      ])
    )
  },
  {
    effect: "the existence of a bucket",
    denied: { actions: "kv:*", resources: `bucket:${MARK}` },
    given: () => keys.ok(keys.send("POST", "/api/v1/kv/buckets", { name: MARK })),
    ways: {
      listBuckets: get("/api/v1/kv/buckets"),
      getBucket: carriesOut("GET", `/api/v1/kv/buckets/${MARK}`),
      listKeys: carriesOut("GET", `/api/v1/kv/buckets/${MARK}/keys`),
      "a watch": opens(`/api/v1/kv/buckets/${MARK}/watch`)
    }
  },
  {
    effect: "the existence of a stream",
    denied: { actions: "stream:*", resources: `stream:${MARK}` },
    given: () => keys.ok(order(MARK, "order.placed")),
    ways: {
      ListStreams: rpc("EntityStreamService/ListStreams"),
      restStreams: get("/api/v1/streams"),
      GetStreamInfo: carriesOutRpc("EntityStreamService/GetStreamInfo", { entityId: MARK })
    }
  },
  {
    effect: "the existence of a topic",
    denied: { actions: "topic:read", resources: `topic:${MARK}` },
    given: () => keys.ok(keys.rpc("PubSubService/Publish", { topic: MARK, data: {} })),
    ways: {
      ListTopics: rpc("PubSubService/ListTopics"),
      GetTopicStats: carriesOutRpc("PubSubService/GetTopicStats", { topic: MARK })
    }
  },
  {
    effect: "the messages of a topic",
    denied: { actions: "topic:*", resources: "topic:wages" },
    ways: Object.fromEntries([
      ...Object.entries(groups({ name: MARK, pattern: "topic:wages" })),
      [
        "joining a group",
        streams({ group: "topic:wages" }, () =>
          keys.ok(keys.rpc("PubSubService/Publish", { topic: "wages", data: { MARK } }))
        )
      ],
      ...["topic:wages", "topic:*", "topic:>", "wages", ">"].flatMap((pattern) => {
        const publish = () => keys.ok(keys.rpc("PubSubService/Publish", { topic: "wages", data: { MARK } }))
        return [
          [`a subscription to ${pattern}`, subscribes(pattern, publish)],
          [`a stream of ${pattern}`, streams({ pattern }, publish)]
        ]
      })
    ])
  },
  {
    effect: "the existence of a function",
    denied: { actions: "function:read", resources: `function:${MARK}` },
    given: () => register({ id: MARK }),
    ways: {
      ListFunctions: rpc("IronflowService/ListFunctions"),
      restFunctions: get("/api/v1/functions"),
      GetFunction: carriesOutRpc("IronflowService/GetFunction", { id: MARK }),
      restWorkers: async (key) => {
        const id = nextWorker()
        const body = { function_ids: [MARK], hostname: "h" }
        await keys.ok(keys.send("POST", `/api/v1/workers/${id}/register`, body))
        return get("/api/v1/workers")(key)
      },
      listPushEndpoints: async (key) => {
        await keys.ok(
          keys.rpc("IronflowService/RegisterFunction", {
            id: MARK,
            endpointUrl: "http://127.0.0.1:9/x",
            preferredMode: "push"
          })
        )
        return get("/api/v1/push/endpoints")(key)
      },
      "all events": subscribes("system.>", () => register({ id: MARK }))
    }
  },
  {
    effect: "the existence of a worker",
    denied: { actions: "worker:read", resources: `worker:${MARK}*` },
    given: () =>
      keys.ok(keys.send("POST", `/api/v1/workers/${MARK}/register`, { function_ids: [], hostname: "h" })),
    ways: {
      restWorkers: get("/api/v1/workers"),
      "all events": subscribes("system.>", () =>
        keys.ok(keys.send("POST", `/api/v1/workers/${MARK}-2/register`, { function_ids: [], hostname: "h" }))
      )
    }
  },
  {
    effect: "the existence of a projection",
    denied: { actions: "projection:read", resources: `projection:${MARK}` },
    given: () => keys.ok(keys.rpc("ProjectionService/RegisterProjection", { ...projection, name: MARK })),
    ways: {
      listProjections: get("/api/v1/projections"),
      ListProjections: rpc("ProjectionService/ListProjections"),
      status: carriesOut("GET", `/api/v1/projections/${MARK}/status`)
    }
  },
  {
    effect: "the error with which a projection failed",
    denied: { actions: "projection:read", resources: "projection:wages" },
    given: async () => {
      await keys.send("DELETE", "/api/v1/projections/wages")
      const { lease } = await keys.ok(claimProjection("w-fails"))
      const error = { name: "Error", message: MARK }
      await keys.ok(
        keys.send("POST", "/api/v1/projections/wages/owner/save", {
          token: lease.token,
          generation: lease.generation,
          save: {
            number: 1,
            from: 0,
            to: 0,
            states: [],
            deadLetters: [],
            resolved: [],
            failing: { position: 1, failures: 1, error }
          }
        })
      )
    },
    ways: {
      status: get("/api/v1/projections/wages/status"),
      pausing: ask("POST", "/api/v1/projections/wages/pause", {}),
      resuming: ask("POST", "/api/v1/projections/wages/resume", {}),
      "a dry run of a rebuild": ask("POST", "/api/v1/projections/wages/rebuild", {
        dryRun: true
      }),
      PauseProjection: rpc("ProjectionService/PauseProjection", { name: "wages" }),
      ResumeProjection: rpc("ProjectionService/ResumeProjection", { name: "wages" })
    }
  },
  {
    effect: "the existence of a consumer group",
    denied: { actions: "subscription:read", resources: `group:${MARK}` },
    given: () => keys.ok(keys.send("POST", "/api/v1/consumer-groups", { name: MARK, pattern: "topic:news" })),
    ways: {
      restListConsumerGroups: get("/api/v1/consumer-groups"),
      ListConsumerGroups: rpc("PubSubService/ListConsumerGroups"),
      get: carriesOut("GET", `/api/v1/consumer-groups/${MARK}`)
    }
  },
  ...(["apikey", "org", "role", "policy"] as const).map((kind): Effect => {
    const path = { apikey: "apikeys", org: "orgs", role: "roles", policy: "policies" }[kind]
    let id = ""
    return {
      effect: `the existence of the ${kind}`,
      denied: { actions: `${kind}:read`, resources: `${kind}:*_` },
      given: async () => {
        const rule = { effect: "allow", actions: "run:read", resources: "*" }
        id = (await keys.ok(keys.send("POST", `/api/v1/${path}`, { name: MARK, ...rule }))).id
      },
      ways: {
        list: get(`/api/v1/${path}`),
        get: (key) => get(`/api/v1/${path}/${id}`)(key),
        // a change without a value answers with the whole item; keys cannot be changed
        ...(kind === "apikey" ? {} : { update: (key) => ask("PATCH", `/api/v1/${path}/${id}`, {})(key) }),
        "the access log": get("/api/v1/access-log")
      }
    }
  })
]

describe.each(effects)("$effect", ({ denied, given, ways }) => {
  it.each(Object.entries(ways))("is denied by way of %s", async (_name, way) => {
    await given?.()
    const allowed = await keys.keyThat({ actions: "*" })
    const allowingRole = await keys.makeRole({ actions: "*" })
    const { key: allowedEverywhere } = await keys.makeKey({ env_id: "*", role_ids: [allowingRole] })
    const resources = denied.resources?.endsWith(":*_") === true ? await idsOf(denied) : denied.resources
    const deny: PolicyOf = {
      ...denied,
      effect: "deny",
      name: "denied",
      ...(resources === undefined ? {} : { resources })
    }
    const role = await keys.makeRole({ actions: "*" }, deny)
    const { key } = await keys.makeKey({ env_id: "*", role_ids: [role] })

    assert.isFalse(await way(key), "with the policy")
    assert.isTrue((await way(allowed)) || (await way(allowedEverywhere)), "without the policy")
  })
})

/** The resource of the item whose name is the mark. The id in it is known only once the item exists. */
const idsOf = async ({ actions }: PolicyOf): Promise<string> => {
  const kind = actions.split(":")[0]!
  const path = { apikey: "apikeys", org: "orgs", role: "roles", policy: "policies" }[kind]!
  const all: ReadonlyArray<{ id: string; name: string }> = await keys.ok(keys.send("GET", `/api/v1/${path}`))
  return `${kind}:${all.find(({ name }) => name === MARK)!.id}`
}

it("a push endpoint gives no access to denied secrets and functions either", async () => {
  const handler = createServer((_, response) => {
    const functions = ["ship", "pay"].map((id) => ({
      ...registrationFor("push", { id, secrets: ["PROD_KEY"] }).functions[0],
      mode: "push"
    }))
    response.setHeader("content-type", "application/json")
    response.end(
      JSON.stringify({ type: "description", capabilities: { turns: 1 }, environment: "default", functions })
    )
  })
  handler.listen(0, "127.0.0.1")
  await once(handler, "listening")
  cleanups.push(() => handler.close())
  const { port } = handler.address() as AddressInfo
  const url = `http://127.0.0.1:${port}/`
  await using engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    push: { allowPrivateNetworks: true }
  })
  const { apiKeys, policies, roles } = engine.client
  const registers = async (...denied: ReadonlyArray<readonly [string, string]>): Promise<number> => {
    const role = await roles.create({ name: "role" })
    await roles.assignPolicy(role.id, "policy_admin")
    for (const [actions, resources] of denied) {
      const { id } = await policies.create({ name: "denied", effect: "deny", actions, resources })
      await roles.assignPolicy(role.id, id)
    }
    const { secret } = await apiKeys.create({ name: "test", envId: "*", role_ids: [role.id] })
    const response = await fetch(`${engine.url}/api/v1/push/endpoints`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify({ url })
    })
    return response.status
  }

  assert.strictEqual(await registers(["secret:read", "secret:PROD_*"]), 403)
  assert.strictEqual(await registers(["function:register", "function:pay"]), 403)
  assert.strictEqual(await registers(), 200)
})

it("a worker gets no run with a secret while its key may not read that secret", async () => {
  await keys.ok(keys.send("POST", "/api/v1/secrets", { name: "PROD_KEY", value: MARK }))
  const role = await keys.makeRole({ actions: "*" })
  const deny = await keys.makePolicy({ effect: "deny", actions: "secret:read", resources: "secret:PROD_*" })
  const { key } = await keys.makeKey({ role_ids: [role] })
  const id = nextWorker()
  const call = (path: string, body: object) =>
    keys.ok(keys.send("POST", `/api/v1/workers/${id}/${path}`, body, { key }))
  const fn = { id: "ship", event: "order.placed", secrets: ["PROD_KEY"] }
  const { session } = await call("register", turnsBody(id, fn))
  await keys.assign(role, deny)
  await keys.ok(keys.rpc("IronflowService/Trigger", { event: "order.placed", data: {} }))

  const before = await call("turns/poll", { session, asked: 1, seen: 0, waitMs: 0 })
  const waiting = call("turns/poll", { session, asked: 1, seen: 0, waitMs: 30_000 })
  await keys.remove(role, deny)

  assert.deepStrictEqual(before.deliveries, [])
  const { deliveries } = await waiting
  assert.deepStrictEqual(deliveries[0].job.secrets, { PROD_KEY: MARK })
})

it("a worker gets no run about other runs while its key may not read runs", async () => {
  const role = await keys.makeRole({ actions: "*" })
  const deny = await keys.makePolicy({ effect: "deny", actions: "run:read", resources: "*" })
  const { key } = await keys.makeKey({ role_ids: [role] })
  const id = nextWorker()
  const call = (worker: string, path: string, body: object, as?: string) =>
    keys.ok(keys.send("POST", `/api/v1/workers/${worker}/${path}`, body, as === undefined ? {} : { key: as }))
  const spy = { id: "spy", event: "system.run.*.failed" }
  const { session } = await call(id, "register", turnsBody(id, spy), key)
  await keys.assign(role, deny)
  const shipper = nextWorker()
  const ships = await call(shipper, "register", turnsBody(shipper, { id: "ship", event: "order.placed" }))
  await keys.ok(keys.rpc("IronflowService/Trigger", { event: "order.placed", data: {} }))
  const taken = await call(shipper, "turns/poll", {
    session: ships.session,
    asked: 1,
    seen: 0,
    waitMs: 30_000
  })
  const { jobId, runId } = taken.deliveries[0].job
  const ops = [{ _tag: "Fail", error: { name: "Error", message: MARK } }]
  await call(shipper, "turns/reports", { session: ships.session, batch: 1, reports: [{ jobId, runId, ops }] })

  const before = await call(id, "turns/poll", { session, asked: 1, seen: 0, waitMs: 0 }, key)
  const waiting = call(id, "turns/poll", { session, asked: 1, seen: 0, waitMs: 30_000 }, key)
  await keys.remove(role, deny)

  assert.deepStrictEqual(before.deliveries, [])
  const { deliveries } = await waiting
  assert.strictEqual(deliveries[0].job.functionId, "spy")
})

it("a worker that names its environment has the rights of its key there", async () => {
  const roleId = await keys.makeRole({ actions: "*", condition: 'request.environment == "staging"' })
  const { key } = await keys.makeKey({ env_id: "*", role_ids: [roleId] })
  const registers = async (environment: string, header: string): Promise<number> => {
    const id = nextWorker()
    const body = turnsBody(id, { id: "ship" })
    const announced = { ...body, registration: { ...body.registration, environment } }
    const options = { key, ...(header === "" ? {} : { environment: header }) }
    return (await keys.send("POST", `/api/v1/workers/${id}/register`, announced, options)).status
  }

  assert.deepStrictEqual(
    [
      await registers("staging", "staging"),
      await registers("default", ""),
      await registers("staging", "default")
    ],
    [200, 403, 403]
  )
})

it("a list of runs hides damaged runs that are denied, and a damaged log does not hide other runs", async () => {
  using database = temporaryDatabase()
  const { filename } = database
  const ids: Array<string> = []
  {
    const triggers = [{ event: "guest.came" }, { event: "salary.paid" }]
    const greet = createFunction({ id: "greet", triggers }, () => "hello")
    await using engine = await startEngine({ filename, functions: [greet], logger: false })
    for (const name of ["guest.came", "guest.came", "guest.came", "salary.paid"]) {
      const { runIds } = await engine.client.emit(name, { of: MARK })
      await engine.client.waitForRun(runIds[0]!)
      ids.push(...runIds)
    }
  }
  const [hidden, shown, whole, salary] = ids
  change(filename, `UPDATE runs SET output = '${MARK}' WHERE id IN ('${hidden}', '${shown}')`)
  // the order of ids now differs from that of the log
  change(filename, "UPDATE events SET id = 'evt_0' WHERE position = 2")
  await using damaged = await Keys.start({ filename })
  const key = await damaged.keyThat(
    { actions: "*" },
    { effect: "deny", actions: "run:read", resources: `run:${hidden}` },
    { effect: "deny", actions: "subscription:read", resources: "subscription:events:salary.*" }
  )

  const page = await damaged.ok(damaged.rpc("IronflowService/ListRuns", {}, { key }))

  assert.deepStrictEqual(
    page.damaged.map(({ id }: { id: string }) => id),
    [shown]
  )
  // nothing of the damaged data is shown
  assert.notInclude(page.damaged[0].message, MARK)
  assert.notInclude((await damaged.rpc("IronflowService/GetRun", { id: shown }, { key })).text, MARK)
  assert.strictEqual(page.totalCount, 3)
  assert.deepStrictEqual(
    page.runs.map(({ id, input }: { id: string; input?: unknown }) => [id, input]),
    [
      [salary, undefined],
      [whole, { of: MARK }]
    ]
  )
})

const noLists: ReadonlyArray<CallSpec> = [
  // needs a field to count by, and is tested in `finding.test.ts`
  callSpecs.countRuns,
  callSpecs.getEvent,
  callSpecs.explainEvent,
  callSpecs.startBulk,
  callSpecs.getBulk,
  callSpecs.cancelBulk
]

it("every list omits denied items, and is refused if all items are denied or none is allowed", async () => {
  const lists = Object.values(callSpecs).flatMap((row) => {
    const rule = accessTo(row)
    // a call for one event is no list, and is one of the ways above; bulk operations are tested in `bulk.test.ts`
    return typeof rule !== "string" && rule.resource.from === "each" && !noLists.includes(row)
      ? [{ ...row, kind: rule.resource.kind, action: rule.action }]
      : []
  })
  assert.isAtLeast(lists.length, 19)
  for (const { action, kind, method, path } of lists) {
    const status = async (...policies: ReadonlyArray<PolicyOf>) =>
      (
        await keys.send(method, path, method === "GET" ? undefined : {}, {
          key: await keys.keyThat(...policies)
        })
      ).status
    assert.deepStrictEqual(
      [
        path,
        await status({ actions: action, resources: `${kind}:one` }),
        await status({ actions: action, resources: kind === "run" ? "org:*" : "run:*" }),
        await status({ actions: "*" }, { effect: "deny", actions: action, resources: `${kind}:*` })
      ],
      [path, 200, 403, 403]
    )
  }
})
