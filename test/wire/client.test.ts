/** Transcripts of a legacy client against the engine. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { type Ironflow, start } from "./Ironflow.ts"
import { rpc, normalize, send } from "./RawClient.ts"
import { RawWorker, stepResult } from "./RawWorker.ts"

let ironflow: Ironflow
let worker: RawWorker
beforeAll(async () => {
  ironflow = await start()
  worker = new RawWorker(ironflow.url, [
    { id: "ship-order", triggers: [{ event: "order.placed" }], retry: { maxAttempts: 2 } }
  ])
  await worker.register()
})
afterAll(() => ironflow.close())

/** Emits `order.placed` and returns the run that it starts. */
const placeOrder = async (data: unknown = { orderId: "o-1" }): Promise<string> =>
  (await rpc(ironflow.url, "Trigger", { event: "order.placed", data })).body.runIds[0]

/** Takes jobs until one is for this run, and completes the others. */
const jobOf = async (runId: string) => {
  for (;;) {
    const job = await worker.take()
    if (job.run_id === runId) return job
    await worker.update(job, { status: "completed", steps: [] })
  }
}

const completeOrder = async (output?: unknown): Promise<string> => {
  const runId = await placeOrder()
  const job = await jobOf(runId)
  await worker.update(job, {
    status: "completed",
    ...(output === undefined ? {} : { output }),
    steps: [stepResult(job, "charge", { output: { receipt: "r-1" } })]
  })
  return runId
}

/** Calls in a separate environment, which has no data of other tests. */
const inEnvironment = (environment: string) => ({
  call: (method: string, path: string, body?: unknown) =>
    send(ironflow.url, method, path, body, {
      "content-type": "application/json",
      "x-ironflow-environment": environment
    })
})

describe("events", () => {
  it("answers Trigger with the event and its runs", async () => {
    const { status, type, body } = await rpc(ironflow.url, "Trigger", {
      event: "order.placed",
      data: { orderId: "o-1" }
    })

    assert.strictEqual(status, 200)
    assert.strictEqual(type, "application/json")
    assert.deepStrictEqual(normalize(body), { runIds: ["run_1"], eventId: "evt_1", position: body.position })
    assert.match(body.position, /^[1-9]\d*$/)
  })

  it("leaves runIds out when the event started none", async () => {
    const { body } = await rpc(ironflow.url, "Trigger", { event: "order.seen", data: {} })

    assert.deepStrictEqual(normalize(body), { eventId: "evt_1", position: body.position })
  })

  it.each([
    ["IronflowService", "Emit", { event: "order.seen", data: {}, idempotencyKey: "k-emit" }],
    ["PubSubService", "Emit", { event: "order.seen", data: {}, idempotency_key: "k-pubsub", namespace: "x" }],
    ["IronflowService", "Trigger", { event: "order.seen", data: {}, idempotency_key: "k-snake" }],
    ["IronflowService", "Trigger", { event: "order.seen", data: {}, idempotencyKey: "k-camel" }],
    ["IronflowService", "Trigger", { event: "order.seen", data: {}, idempotencyKey: "k-more", future: [1] }]
  ])(
    "%s/%s answers a repeated idempotency key with the first result: %j",
    async (service, method, request) => {
      const first = await rpc(ironflow.url, method, request, service)
      const second = await rpc(ironflow.url, method, request, service)

      assert.strictEqual(first.status, 200)
      assert.deepStrictEqual(second.body, first.body)
    }
  )

  it.each([
    [undefined, 1],
    [0, 1],
    [3, 3],
    ["3", 3]
  ])("takes %j for the version %d", async (version, stored) => {
    const { body } = await rpc(ironflow.url, "Trigger", { event: "order.placed", data: {}, version })

    assert.strictEqual((await jobOf(body.runIds[0])).event.version, stored)
  })

  it.each([
    ["an object", { a: 1 }],
    ["an array", [1]],
    ["text", "x"],
    ["null", null]
  ])("keeps data that is %s unchanged", async (_, data) => {
    const job = await jobOf(await placeOrder(data))

    assert.deepStrictEqual(job.event.data, data)
  })

  it("stores the events of webhooks by name, and answers with both spellings of the id", async () => {
    const { status, body } = await send(ironflow.url, "POST", "/api/v1/events", {
      name: "order.placed",
      data: { orderId: "o-2" },
      idempotencyKey: "hook-1"
    })

    assert.strictEqual(status, 200)
    assert.deepStrictEqual(normalize(body), { event_id: "evt_1", id: "evt_1", run_ids: ["run_1"] })
  })

  it("lists events newest first, by name or pattern, page by page", async () => {
    const { call } = inEnvironment("event-list")
    for (const [i, name] of ["order.placed", "order.seen", "cart.filled", "order.seen"].entries()) {
      await call("POST", "/api/v1/events", { name, data: { i }, metadata: { by: "test" } })
    }
    const list = async (query: string) => (await call("GET", `/api/v1/events${query}`)).body
    const seen = ({ events }: any) => events.map(({ data, name }: any) => [name, data.i])

    const all = await list("")
    assert.deepStrictEqual(seen(all), [
      ["order.seen", 3],
      ["cart.filled", 2],
      ["order.seen", 1],
      ["order.placed", 0]
    ])
    assert.notProperty(all, "nextCursor")
    const { id, sequence, timestamp, ...event } = all.events[0]
    assert.deepStrictEqual(event, {
      name: "order.seen",
      version: 1,
      data: { i: 3 },
      metadata: { by: "test" }
    })
    assert.match(`${id} ${sequence} ${timestamp}`, /^evt_\S+ \d+ \d{4}-\S+Z$/)
    assert.deepStrictEqual(seen(await list("?name=order.seen")), [
      ["order.seen", 3],
      ["order.seen", 1]
    ])
    const first = await list("?name=order.*&limit=2")
    const second = await list(`?name=order.*&limit=2&cursor=${first.nextCursor}`)
    assert.deepStrictEqual(
      [...seen(first), ...seen(second)],
      [
        ["order.seen", 3],
        ["order.seen", 1],
        ["order.placed", 0]
      ]
    )
    for (const query of ["?limit=0", "?limit=x", "?cursor=x&limit=1", "?name=order..x", "?cursor=1"]) {
      assert.strictEqual((await call("GET", `/api/v1/events${query}`)).status, 400, query)
    }
  })

  it("lists runs over REST as ListRuns does", async () => {
    const { call } = inEnvironment("run-list")
    assert.deepStrictEqual((await call("GET", "/api/v1/runs")).body, { runs: [] })
    const service = "/ironflow.v1.IronflowService"
    await call("POST", `${service}/RegisterFunction`, { id: "pack", triggers: [{ event: "order.placed" }] })
    for (const i of [1, 2]) await call("POST", `${service}/Trigger`, { event: "order.placed", data: { i } })

    const { body } = await call("GET", "/api/v1/runs?limit=1")
    const rest = await call("GET", `/api/v1/runs?limit=1&cursor=${body.nextCursor}`)
    const { body: both } = await call("POST", `${service}/ListRuns`, {})
    assert.deepStrictEqual([...body.runs, ...rest.body.runs], both.runs)
    assert.strictEqual(body.totalCount, 2)
    assert.deepStrictEqual((await call("GET", "/api/v1/runs?function_id=nobody")).body, { runs: [] })
    assert.deepStrictEqual((await call("GET", "/api/v1/runs?status=completed")).body, { runs: [] })
    assert.strictEqual((await call("GET", "/api/v1/runs?status=odd")).status, 400)
    assert.strictEqual((await call("GET", "/api/v1/runs?limit=x")).status, 400)
  })

  it("stores every event of a batch", async () => {
    const { body } = await rpc(ironflow.url, "TriggerBatch", {
      events: [
        { event: "order.placed", data: {} },
        { event: "order.seen", data: {} }
      ]
    })

    const [first, second] = body.results
    assert.deepStrictEqual(normalize(body), {
      results: [
        { runIds: ["run_1"], eventId: "evt_1", position: first.position },
        { eventId: "evt_2", position: second.position }
      ]
    })
    assert.strictEqual(Number(second.position), Number(first.position) + 1)
  })

  it("publishes with a sequence of digits", async () => {
    const { body } = await rpc(ironflow.url, "Publish", { topic: "orders", data: {} }, "PubSubService")

    assert.deepStrictEqual(normalize({ ...body, sequence: typeof body.sequence }), {
      eventId: "msg_1",
      sequence: "string"
    })
    assert.match(body.sequence, /^\d+$/)
  })

  it("waits for the runs of TriggerSync and answers with their results", async () => {
    const answer = rpc(ironflow.url, "TriggerSync", {
      event: "order.placed",
      data: { orderId: "sync" },
      timeout_ms: 10_000
    })
    let job = await worker.take()
    while (job.event.data.orderId !== "sync") {
      await worker.update(job, { status: "completed", steps: [] })
      job = await worker.take()
    }
    await worker.update(job, { status: "completed", output: { ok: true }, steps: [] })

    const { status, body } = await answer
    assert.strictEqual(status, 200)
    const { durationMs, ...result } = body.results[0]
    assert.isNumber(durationMs)
    assert.deepStrictEqual(normalize({ ...body, results: [result] }), {
      results: [{ runId: "run_1", functionId: "ship-order", status: "completed", output: { ok: true } }],
      eventId: "evt_1"
    })
  })

  it("says that runs continue when TriggerSync takes too long", async () => {
    const { status, body } = await rpc(ironflow.url, "TriggerSync", {
      event: "order.placed",
      data: {},
      timeoutMs: 1
    })

    assert.strictEqual(status, 504)
    assert.strictEqual(body.code, "deadline_exceeded")
    assert.match(
      body.message,
      /^Event evt_\w+ is stored, but not all of its runs \(run_\w+\) have ended within 1ms/
    )
  })

  it("answers TriggerSync without results when the event started no run", async () => {
    const { body } = await rpc(ironflow.url, "TriggerSync", { event: "order.seen", data: {} })

    assert.deepStrictEqual(normalize(body), { eventId: "evt_1" })
  })
})

describe("runs", () => {
  it("shows a pending run with every field that clients require", async () => {
    const id = await placeOrder({ orderId: "o-3" })

    const { body } = await rpc(ironflow.url, "GetRun", { id })

    assert.deepStrictEqual(normalize(body), {
      id: "run_1",
      functionId: "ship-order",
      eventId: "evt_1",
      status: "RUN_STATUS_PENDING",
      state: "pending",
      executionMode: "EXECUTION_MODE_PULL",
      attempt: 1,
      maxAttempts: 2,
      input: { orderId: "o-3" },
      createdAt: "<time>",
      updatedAt: "<time>"
    })
  })

  it("shows a completed run with its output", async () => {
    const id = await completeOrder({ shipped: true })

    const { body } = await rpc(ironflow.url, "GetRun", { id })

    assert.deepStrictEqual(normalize(body), {
      id: "run_1",
      functionId: "ship-order",
      eventId: "evt_1",
      status: "RUN_STATUS_COMPLETED",
      state: "completed",
      executionMode: "EXECUTION_MODE_PULL",
      attempt: 1,
      maxAttempts: 2,
      input: { orderId: "o-1" },
      output: { shipped: true },
      workerId: worker.id,
      createdAt: "<time>",
      updatedAt: "<time>",
      startedAt: "<time>",
      endedAt: "<time>"
    })
  })

  it("shows why a run failed", async () => {
    const id = await placeOrder()
    await worker.update(await jobOf(id), {
      status: "failed",
      error: { message: "card declined", code: "STEP_FAILED", retryable: false }
    })

    const { body } = await rpc(ironflow.url, "GetRun", { id })

    assert.strictEqual(body.status, "RUN_STATUS_FAILED")
    assert.deepInclude(body.error, { message: "card declined", code: "STEP_FAILED", retryable: false })
  })

  it.each(["failed", "FAILED", "RUN_STATUS_FAILED"])("filters runs by status %s", async (status) => {
    const id = await placeOrder()
    await placeOrder()
    await worker.update(await jobOf(id), { status: "failed", error: { message: "no", retryable: false } })

    const { body } = await rpc(ironflow.url, "ListRuns", { status, limit: 10 })

    assert.strictEqual(body.runs[0].id, id)
    for (const run of body.runs) assert.strictEqual(run.status, "RUN_STATUS_FAILED")
    assert.strictEqual(body.totalCount, body.runs.length)
  })

  it("leaves runs, totalCount and nextCursor out when there are none", async () => {
    const { body } = await rpc(ironflow.url, "ListRuns", { function_id: "unknown" })

    assert.deepStrictEqual(body, {})
  })

  it("pages through runs", async () => {
    await completeOrder()
    await completeOrder()

    const first = (await rpc(ironflow.url, "ListRuns", { limit: 1 })).body
    const second = (await rpc(ironflow.url, "ListRuns", { limit: 1, cursor: first.nextCursor })).body

    assert.lengthOf(first.runs, 1)
    assert.notStrictEqual(second.runs[0].id, first.runs[0].id)
  })

  it("cancels with the empty reason that clients send, and does not change ended runs", async () => {
    const id = await placeOrder()

    const first = await rpc(ironflow.url, "CancelRun", { id, reason: "" })
    const again = await rpc(ironflow.url, "CancelRun", { id, reason: "again" })

    assert.strictEqual(first.body.status, "RUN_STATUS_CANCELLED")
    assert.deepStrictEqual(again.body, first.body)
  })

  it("retries a failed run", async () => {
    const id = await placeOrder()
    await worker.update(await jobOf(id), { status: "failed", error: { message: "no", retryable: false } })

    const { body } = await rpc(ironflow.url, "RetryRun", { id })

    assert.strictEqual(body.id, id)
    assert.strictEqual((await jobOf(id)).attempt, 1)
  })

  it("resumes a paused run over REST with the empty step that clients send", async () => {
    const id = await placeOrder()
    const paused = await rpc(ironflow.url, "PauseRun", { run_id: id })

    const { status, body } = await send(ironflow.url, "POST", "/api/v1/runs/resume", {
      run_id: id,
      from_step: ""
    })

    assert.strictEqual(paused.body.status, "paused")
    assert.strictEqual(status, 200)
    assert.strictEqual(body.id, id)
    assert.notStrictEqual(body.status, "RUN_STATUS_PAUSED")
  })

  it("requests a pause of a running run, which takes effect when the job of a worker that does not know pauses ends", async () => {
    const id = await placeOrder()
    const job = await jobOf(id)
    const getRun = async () => (await rpc(ironflow.url, "GetRun", { id })).body.status

    const { body } = await rpc(ironflow.url, "PauseRun", { run_id: id })
    for (const name of ["charge", "pack"]) {
      const { status } = await worker.update(job, {
        status: "progress",
        steps: [stepResult(job, name, { output: 1 })]
      })
      assert.strictEqual(status, 200)
    }
    const before = await getRun()
    await worker.update(job, {
      status: "yielded",
      yield: { step_id: `${id}:nap:0`, type: "sleep", until: new Date(Date.now() + 60_000).toISOString() }
    })

    assert.strictEqual(body.status, "pause_requested")
    assert.deepStrictEqual([before, await getRun()], ["RUN_STATUS_RUNNING", "RUN_STATUS_PAUSED"])
    await rpc(ironflow.url, "ResumeRun", { runId: id })
    const { body: steps } = await rpc(ironflow.url, "GetRunSteps", { runId: id })
    assert.strictEqual(JSON.stringify(steps).match(/"charge"|"pack"/g)?.length, 2)
    await rpc(ironflow.url, "CancelRun", { id })
  })

  it("refuses to resume a run that completed: failed_precondition on Connect, 409 on REST", async () => {
    const id = await completeOrder()

    const overConnect = await rpc(ironflow.url, "ResumeRun", { runId: id })
    const overRest = await send(ironflow.url, "POST", "/api/v1/runs/resume", { run_id: id, from_step: "" })

    assert.strictEqual(overConnect.status, 400)
    assert.strictEqual(overConnect.body.code, "failed_precondition")
    assert.strictEqual(overRest.status, 409)
    assert.strictEqual(overRest.body.code, "INVALID_STATE")
    assert.strictEqual(overRest.body.error, overRest.body.message)
  })

  it("lists and patches steps", async () => {
    const id = await completeOrder()
    const patched = await send(ironflow.url, "POST", "/api/v1/steps/patch", {
      step_id: `${id}:charge:0`,
      output: { receipt: "r-2" },
      reason: ""
    })

    const { body } = await rpc(ironflow.url, "GetRunSteps", { runId: id })

    assert.strictEqual(patched.status, 200)
    assert.deepStrictEqual(normalize(body), {
      steps: [
        {
          id: "run_1:charge:0",
          name: "charge",
          kind: "run",
          status: "completed",
          attempt: 1,
          output: { receipt: "r-2" },
          startedAt: "<time>",
          endedAt: "<time>"
        }
      ]
    })
  })

  it("explains a run", async () => {
    const id = await completeOrder()

    const { body } = await send(ironflow.url, "GET", `/api/v1/runs/${id}/explain`)

    assert.deepInclude(normalize(body) as object, { runId: "run_1", status: "completed", code: "COMPLETED" })
  })

  it("answers a long poll when the run ends", async () => {
    const id = await placeOrder()
    const answer = send(ironflow.url, "GET", `/api/v1/runs/${id}/wait?timeout=30000`)
    await worker.update(await jobOf(id), { status: "completed", steps: [] })

    const { status, body } = await answer

    assert.strictEqual(status, 200)
    assert.strictEqual(body.status, "RUN_STATUS_COMPLETED")
  })

  it("answers a long poll with nothing at its timeout", async () => {
    const id = await placeOrder()

    const { status, text } = await send(ironflow.url, "GET", `/api/v1/runs/${id}/wait?timeout=1`)

    assert.strictEqual(status, 204)
    assert.strictEqual(text, "")
  })
})

describe("inspection", () => {
  it("answers health checks over Connect and over REST", async () => {
    const overConnect = await rpc(ironflow.url, "Health")
    const overRest = await send(ironflow.url, "GET", "/health", undefined, {})

    assert.deepStrictEqual(normalize(overConnect.body), { status: "ok", timestamp: "<time>" })
    assert.deepStrictEqual(normalize(overRest.body), { status: "ok", timestamp: "<time>", version: "0.8.0" })
  })

  it("says whether a function is new", async () => {
    const request = { id: "new-one", name: "New one", triggers: [], preferred_mode: "pull" }

    const first = await rpc(ironflow.url, "RegisterFunction", request)
    const second = await rpc(ironflow.url, "RegisterFunction", request)

    assert.strictEqual(first.body.created, true)
    assert.strictEqual(first.body.function.name, "New one")
    assert.notProperty(second.body, "created")
  })

  it("lists functions and workers without a content type in the request", async () => {
    const functions = await send(ironflow.url, "GET", "/api/v1/functions", undefined, {})
    const workers = await send(ironflow.url, "GET", "/api/v1/workers", undefined, {})

    assert.include(
      functions.body.functions.map(({ id }: { id: string }) => id),
      "ship-order"
    )
    assert.deepStrictEqual(normalize(workers.body.workers.map(({ active_jobs: _, ...rest }: any) => rest)), [
      {
        id: worker.id,
        hostname: "unknown",
        function_ids: ["ship-order"],
        max_concurrent: 10,
        labels: {},
        registered_at: "<time>",
        transport: "polling"
      }
    ])
  })

  it("finds functions over Connect", async () => {
    const found = await rpc(ironflow.url, "GetFunction", { id: "ship-order" })
    const missing = await rpc(ironflow.url, "GetFunction", { id: "nope" })

    assert.strictEqual(found.body.id, "ship-order")
    assert.strictEqual(missing.status, 404)
    assert.strictEqual(missing.body.code, "not_found")
    assert.strictEqual(missing.body.message, "Function not found: nope")
  })

  it("separates environments by header", async () => {
    const id = await placeOrder()
    const { status } = await send(
      ironflow.url,
      "POST",
      "/ironflow.v1.IronflowService/GetRun",
      { id },
      { "content-type": "application/json", "x-ironflow-environment": "staging" }
    )

    assert.strictEqual(status, 404)
  })

  it("tolerates the second slash of clients whose base URL ends with one", async () => {
    const { status } = await send(ironflow.url, "POST", "//ironflow.v1.IronflowService/Health", {})

    assert.strictEqual(status, 200)
  })

  it("reports capabilities and version", async () => {
    const { body } = await send(ironflow.url, "GET", "/api/v1/capabilities")
    const info = await rpc(ironflow.url, "Info")

    assert.deepStrictEqual(Object.keys(body), ["transports", "features", "version"])
    assert.strictEqual(info.body.version, "0.8.0")
    assert.strictEqual(info.body.connectedWorkers, 1)
  })

  it("has metrics for Prometheus", async () => {
    await completeOrder()

    const { text, type } = await send(ironflow.url, "GET", "/metrics")

    assert.strictEqual(type, "text/plain; version=0.0.4; charset=utf-8")
    assert.match(text, /^# TYPE ironflow_runs_started_total counter$/m)
    assert.match(text, /^ironflow_runs_completed_total [1-9]\d*$/m)
    assert.match(text, /^ironflow_runs_stuck 0$/m)
    assert.match(text, /^ironflow_workers 1$/m)
  })

  it("describes every call in OpenAPI", async () => {
    const { body } = await send(ironflow.url, "GET", "/openapi.json")

    assert.strictEqual(body.openapi, "3.1.0")
    for (const path of [
      "/ironflow.v1.IronflowService/Trigger",
      "/ironflow.v1.PubSubService/Publish",
      "/api/v1/workers/{id}/jobs/{jobId}",
      "/api/v1/runs/{id}/wait"
    ]) {
      assert.property(body.paths, path)
    }
  })
})
