/** Transcripts of legacy runners of projections, and of the management of projections over REST. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { type Ironflow, start } from "./Ironflow.ts"
import { rpc, send } from "./RawClient.ts"

let ironflow: Ironflow
beforeAll(async () => {
  ironflow = await start()
})
afterAll(() => ironflow.close())

const call = (method: string, body: unknown) => rpc(ironflow.url, method, body, "ProjectionService")
const emit = async (event: string, data: unknown, metadata?: unknown) =>
  Number((await rpc(ironflow.url, "Trigger", { event, data, metadata })).body.position)
const get = (path: string) => send(ironflow.url, "GET", `/api/v1/projections${path}`)
const post = (path: string, body: unknown = {}) =>
  send(ironflow.url, "POST", `/api/v1/projections${path}`, body)

/** One round of a legacy runner: it polls, folds from the state in the reply, and saves the result for `__global__`. */
const runOnce = async (
  name: string,
  reduce: (state: any, event: any) => any,
  first: any,
  batchSize = 100
) => {
  const { body } = await call("PollProjectionEvents", { name, batchSize })
  if (body.events === undefined) return undefined
  const state = body.events.reduce(reduce, body.currentState ?? first)
  const last = body.events.at(-1)
  return call("SaveProjectionState", {
    name,
    partitionKey: "__global__",
    state,
    lastEventId: last.id,
    lastEventSeq: last.seq,
    lastEventTime: last.timestamp
  })
}

describe("a legacy runner", () => {
  it("learns that there is no stream, so that it polls", async () => {
    const answer = await send(
      ironflow.url,
      "POST",
      "/ironflow.v1.ProjectionService/StreamProjectionEvents",
      "\0\0\0\0\x02{}",
      { "content-type": "application/connect+json" }
    )

    assert.strictEqual(answer.status, 404)
    assert.strictEqual(answer.body.code, "unimplemented")
  })

  it("registers, polls, folds and saves, and then gets the rest", async () => {
    const registered = await call("RegisterProjection", {
      name: "totals",
      events: ["order.*"],
      mode: "managed",
      version: 1,
      partitionKey: ""
    })
    const first = await emit("order.placed", { amount: 1 }, { tenant: "t-1" })
    await emit("user.created", {})
    const last = await emit("order.placed", { amount: 2 })

    const polled = await call("PollProjectionEvents", { name: "totals", batchSize: 1 })
    const before = await call("GetProjection", { name: "totals" })
    const reduce = (state: any, event: any) => ({ total: state.total + event.data.amount })
    while ((await runOnce("totals", reduce, { total: 0 }, 1)) !== undefined);
    const after = await call("GetProjection", { name: "totals" })

    assert.deepStrictEqual(registered.body, { status: "active" })
    const [event] = polled.body.events
    assert.deepStrictEqual(event, {
      id: event.id,
      name: "order.placed",
      data: { amount: 1 },
      seq: first,
      timestamp: event.timestamp,
      metadata: { tenant: "t-1" },
      kind: "PROJECTION_EVENT_KIND_EVENT"
    })
    assert.deepStrictEqual(before.body, { name: "totals", partition: "__global__", mode: "managed" })
    assert.deepInclude(after.body, { state: { total: 3 }, version: "2", mode: "managed" })
    assert.strictEqual((await get("/totals/status")).body.last_event_seq, last)
  })

  it("that keeps one state gets one partition at a time, so that every partition is right", async () => {
    await call("RegisterProjection", {
      name: "per-customer",
      events: ["cart.filled"],
      mode: "managed",
      partitionKey: "$.data.customer"
    })
    for (const [customer, items] of [
      ["ada", 1],
      ["bob", 10],
      ["ada", 2],
      ["bob", 20],
      ["ada", 3]
    ]) {
      await emit("cart.filled", { customer, items })
    }
    const reduce = (state: any, event: any) => ({ items: [...state.items, event.data.items] })
    while ((await runOnce("per-customer", reduce, { items: [] }, 2)) !== undefined);

    const stateOf = async (partition: string) =>
      (await call("GetProjection", { name: "per-customer", partition })).body.state
    assert.deepStrictEqual(await stateOf("ada"), { items: [1, 2, 3] })
    assert.deepStrictEqual(await stateOf("bob"), { items: [10, 20] })
    assert.strictEqual((await get("/per-customer/status")).body.lag, 0)
  })

  it("acknowledges by a position in camel case or snake case", async () => {
    await call("RegisterProjection", { name: "mails", events: ["mail.due"], mode: "external" })
    const first = await emit("mail.due", { to: "ada" })
    const second = await emit("mail.due", { to: "bob" })
    await call("PollProjectionEvents", { name: "mails", batch_size: 10 })

    const acked = await call("AckProjectionEvents", { name: "mails", last_event_seq: String(first) })
    const { body } = await call("PollProjectionEvents", { name: "mails", batchSize: 10 })

    assert.deepStrictEqual(acked.body, { ok: true })
    assert.deepStrictEqual(
      body.events.map((event: any) => event.seq),
      [second]
    )
  })

  it("gets the events of entity streams with their entity", async () => {
    await call("RegisterProjection", { name: "balances", events: ["account.*"], mode: "external" })
    const appended = await rpc(
      ironflow.url,
      "AppendEvent",
      { entityId: "a-1", entityType: "account", eventName: "account.credited", data: { amount: 5 } },
      "EntityStreamService"
    )
    await emit("account.checked", {})

    const { body } = await call("PollProjectionEvents", { name: "balances", batchSize: 10 })

    assert.strictEqual(appended.status, 200)
    assert.deepStrictEqual(
      body.events.map((event: any) => [event.name, event.entity]),
      [
        ["account.credited", { id: "a-1", type: "account", version: 1 }],
        ["account.checked", undefined]
      ]
    )
  })

  it("has projections that are managed over ConnectRPC as over REST", async () => {
    const name = "looked-after"
    await call("RegisterProjection", { name, events: ["looked.at"], mode: "managed" })
    const seq = await emit("looked.at", {})

    const listed = await call("ListProjections", {})
    const waiting = await call("GetProjectionStatus", { name })
    const behind = await call("WaitProjectionCatchup", { name, minSeq: String(seq), timeoutMs: 1 })
    const paused = await call("PauseProjection", { name, by: "ada", reason: "a look" })
    const resumed = await call("ResumeProjection", { name })
    await runOnce(name, () => ({ n: 1 }), {})
    const caughtUp = await call("WaitProjectionCatchup", { name, min_seq: seq, timeout_ms: 1000 })
    const { body: seen } = await get(`/${name}`)
    const event = await call("WaitForEvent", {
      eventId: seen.state.last_event_id,
      projection: name,
      timeoutMs: 1000
    })
    const planned = await call("RebuildProjection", { name, dryRun: true })
    const rebuilt = await call("RebuildProjection", { name })

    assert.deepInclude(
      listed.body.projections.find((one: any) => one.name === name),
      {
        lag: "1",
        status: "active"
      }
    )
    assert.deepInclude(waiting.body, { name, mode: "managed", lastEventSeq: "0", lag: "1" })
    assert.deepInclude(behind.body, {
      caughtUp: false,
      timedOut: true,
      targetSeq: String(seq),
      behindByEvents: "1"
    })
    assert.deepInclude(paused.body, { status: "paused" })
    assert.include(paused.body.message, "Paused by ada")
    assert.deepInclude(resumed.body, { status: "active" })
    for (const { body } of [caughtUp, event]) {
      assert.deepInclude(body, { caughtUp: true, currentSeq: String(seq), behindByEvents: "0" })
    }
    assert.deepInclude(planned.body, { projectionName: name, status: "completed" })
    assert.deepInclude(rebuilt.body, { projectionName: name, status: "running", remainingEvents: "1" })
    const unknown = await Promise.all(
      ["GetProjectionStatus", "RebuildProjection", "PauseProjection", "ResumeProjection"].map((method) =>
        call(method, { name: "nobody" })
      )
    )
    assert.deepStrictEqual(
      unknown.map(({ body, status }) => [status, body.code]),
      unknown.map(() => [404, "not_found"])
    )
    assert.strictEqual((await call("GetProjectionStatus", {})).status, 400)
    assert.strictEqual((await call("WaitForEvent", { eventId: "evt_x", projection: name })).status, 404)
  })

  it("is refused with 409 when it saves a reset or finished batch", async () => {
    await call("RegisterProjection", { name: "visits", events: ["page.seen"], mode: "managed" })
    const seq = await emit("page.seen", {})
    await call("PollProjectionEvents", { name: "visits", batchSize: 10 })
    const save = () =>
      call("SaveProjectionState", {
        name: "visits",
        partitionKey: "__global__",
        state: { n: 1 },
        lastEventSeq: seq
      })

    const [good, again] = [await save(), await save()]
    await post("/visits/rebuild")
    const stale = await save()

    assert.deepStrictEqual([good.status, again.status, stale.status], [200, 409, 409])
    assert.strictEqual(stale.body.code, "aborted")
    assert.strictEqual((await get("/visits/status")).body.refused_saves, 2)
  })

  it.for<[method: string, body: unknown, status: number]>([
    ["RegisterProjection", {}, 400],
    ["RegisterProjection", { name: "a b", events: ["x"], mode: "managed" }, 400],
    ["RegisterProjection", { name: "a", events: [], mode: "managed" }, 400],
    ["RegisterProjection", { name: "a", events: ["order.>.x"], mode: "managed" }, 400],
    ["RegisterProjection", { name: "a", events: ["x"], mode: "magic" }, 400],
    ["RegisterProjection", { name: "totals", events: ["order.*"], mode: "external" }, 400],
    ["PollProjectionEvents", { name: "nobody" }, 404],
    ["GetProjection", { name: "nobody" }, 404],
    ["SaveProjectionState", { name: "totals", state: {} }, 400],
    ["SaveProjectionState", { name: "totals", state: {}, lastEventSeq: "x" }, 400],
    ["AckProjectionEvents", { name: "nobody", lastEventSeq: 1 }, 404]
  ])("that calls %s with %j is answered with %i", async ([method, body, status]) => {
    assert.strictEqual((await call(method, body)).status, status)
  })
})

describe("projections over REST", () => {
  it("are listed as a bare array, and in an object for pages", async () => {
    const bare = await get("")
    const page = await send(ironflow.url, "GET", "/api/v1/projections", undefined, { origin: ironflow.url })

    assert.isArray(bare.body)
    assert.deepStrictEqual(page.body.projections.length, bare.body.length)
    assert.containsAllKeys(bare.body[0], ["name", "status", "mode", "last_event_seq", "lag", "updated_at"])
  })

  it("are read as an object with the stored state in it", async () => {
    await call("RegisterProjection", { name: "sums", events: ["sum.asked"], mode: "managed" })
    const empty = await get("/sums")
    const seq = await emit("sum.asked", { n: 4 })
    await runOnce("sums", (state, event) => ({ n: state.n + event.data.n }), { n: 0 })
    const full = await get("/sums?partition=__global__")

    assert.notProperty(empty.body, "state")
    assert.deepInclude(full.body, {
      name: "sums",
      mode: "managed",
      status: "active",
      last_event_seq: seq,
      version: 1
    })
    assert.deepInclude(full.body.state, {
      projection_name: "sums",
      environment_id: "default",
      partition_key: "__global__",
      state: { n: 4 },
      last_event_seq: seq
    })
  })

  it("say whether they have caught up, and wait for it", async () => {
    await call("RegisterProjection", { name: "waits", events: ["wait.over"], mode: "external" })
    const id = (await rpc(ironflow.url, "Trigger", { event: "wait.over", data: {} })).body
    const seq = Number(id.position)
    const behind = await get(`/waits/catchup?minSeq=${seq}&timeout=20`)
    const waiting = get(`/waits/catchup?minSeq=${seq}&timeout=10000`)
    const event = post("/wait-for-event", { eventId: id.eventId, projection: "waits", timeoutMs: 10_000 })
    await call("PollProjectionEvents", { name: "waits" })
    await call("AckProjectionEvents", { name: "waits", lastEventSeq: seq })

    assert.deepInclude(behind.body, {
      caughtUp: false,
      timedOut: true,
      targetSeq: seq,
      behindByEvents: 1,
      mode: "external"
    })
    for (const answer of [await waiting, await event]) {
      assert.deepInclude(answer.body, { caughtUp: true, timedOut: false, currentSeq: seq, targetSeq: seq })
    }
    const batch = await post("/catchup/batch", {
      items: [
        { name: "waits", minSeq: String(seq) },
        { name: "nobody", minSeq: "1" }
      ],
      timeoutMs: 10
    })
    assert.strictEqual(batch.body.results[0].result.caughtUp, true)
    assert.strictEqual(batch.body.results[1].error.code, "PROJECTION_NOT_FOUND")
  })

  it("are paused, resumed, rebuilt and deleted", async () => {
    await call("RegisterProjection", { name: "steered", events: ["order.*"], mode: "external" })

    const paused = await post("/steered/pause", { by: "ada" })
    const handed = await call("PollProjectionEvents", { name: "steered" })
    const resumed = await post("/steered/resume")
    const rebuilt = await post("/steered/rebuild", { dry_run: false })
    const job = await get("/steered/rebuild")
    const cancelled = await post("/steered/cancel")
    const removed = await send(ironflow.url, "DELETE", "/api/v1/projections/steered")

    assert.deepInclude(paused.body, { status: "paused", paused_by: "ada" })
    assert.notProperty(handed.body, "events")
    assert.strictEqual(resumed.body.status, "active")
    assert.deepInclude(rebuilt.body, { projection_name: "steered", status: "rebuilding" })
    assert.deepInclude(job.body, { projection_name: "steered", status: "running" })
    assert.deepStrictEqual(
      [cancelled.status, removed.status, (await get("/steered")).status],
      [409, 204, 404]
    )
  })

  it.for<[path: string, body: unknown]>([
    ["/totals/rebuild", { partition: "x" }],
    ["/totals/dead-letters/retry", { position: "x" }],
    ["/catchup/batch", { items: Array.from({ length: 17 }, () => ({ name: "totals", minSeq: 1 })) }],
    [
      "/totals/owner/claim",
      { workerId: "w", registration: { name: "other", events: ["x"], mode: "managed" } }
    ],
    ["/totals/owner/claim", { workerId: "w", registration: { name: "totals", events: [], mode: "managed" } }],
    ["/totals/owner/read", { token: "x" }],
    [
      "/totals/owner/save",
      {
        token: "x",
        generation: 1,
        save: {
          from: 0,
          to: 1,
          states: [{ partition: "", state: "{", position: 1, eventId: "", eventTime: 0 }],
          deadLetters: [],
          resolved: []
        }
      }
    ]
  ])("refuse POST %s with %j", async ([path, body]) => {
    const answer = await post(path, body)

    assert.strictEqual(answer.status, 400)
    assert.strictEqual(answer.body.code, "VALIDATION_ERROR")
  })

  it.for<[list: string, most: number]>([
    ["states", 5000],
    ["deadLetters", 5000],
    ["resolved", 256]
  ])(
    "refuse a save whose list `%s` is longer than %i, and say which list and limit",
    async ([list, most]) => {
      const item = {
        states: { partition: "", state: "1", position: 1, eventId: "", eventTime: 0 },
        deadLetters: { position: 1, error: { name: "Error", message: "m" }, attempts: 1 },
        resolved: 1
      }[list]
      const save = { number: 1, from: 0, to: 1, states: [], deadLetters: [], resolved: [] }
      const tooLong = { ...save, [list]: Array.from({ length: most + 1 }, () => item) }

      const { body } = await post("/totals/owner/save", { token: "x", generation: 1, save: tooLong })

      assert.strictEqual(body.code, "LIMIT_EXCEEDED")
      assert.strictEqual(
        body.message,
        `The list \`${list}\` is too large: ${most + 1} items, and the limit is ${most} items`
      )
    }
  )

  it("return nothing for a wrong token", async () => {
    const save = { from: 0, to: 1, states: [], deadLetters: [], resolved: [] }

    assert.deepStrictEqual(
      (await post("/totals/owner/read", { token: "x", generation: 1, limit: 1 })).body,
      {}
    )
    assert.strictEqual(
      (await post("/totals/owner/save", { token: "x", generation: 1, save })).body._tag,
      "Refused"
    )
    assert.deepStrictEqual((await post("/totals/owner/renew", { token: "x", generation: 1 })).body, {
      held: false
    })
  })
})
