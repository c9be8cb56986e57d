import { assert, describe, it } from "@effect/vitest"
import { createDeferred } from "../../src/Deferred.ts"
import { NonRetryableError } from "../../src/Errors.ts"
import { createFunction, type IronflowFunction } from "../../src/Function.ts"
import { createWorker, type ServerWorkerConfig, type Worker } from "../../src/Promise/Worker.ts"
import { LegacyServer } from "./LegacyServer.ts"

const triggers = [{ event: "order.placed" }]

/** A worker on a server that does not know whole turns. */
const working = async (
  functions: ReadonlyArray<IronflowFunction>,
  more: Partial<ServerWorkerConfig> = {},
  before: (server: LegacyServer) => void = () => undefined
) => {
  const server = await LegacyServer.start()
  before(server)
  const worker = createWorker({
    serverUrl: server.url,
    functions,
    logger: false,
    reconnectDelay: 10,
    ...more
  })
  const stopped = worker.start().catch((error: unknown) => error)
  const dispose = async () => {
    await worker.stop()
    await stopped
    await server[Symbol.asyncDispose]()
  }
  return { server, worker: worker satisfies Worker, stopped, [Symbol.asyncDispose]: dispose }
}

const threeSteps = createFunction({ id: "three", triggers }, async ({ event, step }) => {
  const reserved = await step.run("reserve", async () => ({ sku: 1 }))
  const charged = await step.run("charge", async () => ({ receipt: "r-1" }))
  await step.run("ship", async () => undefined)
  return { ...reserved, ...charged, orderId: event.data.orderId }
})

describe("a worker on a legacy server", () => {
  it("registers every function and then itself with the legacy protocol", async () => {
    const fn = createFunction(
      { id: "three", name: "Three", triggers, retry: { maxAttempts: 5 }, concurrency: { limit: 2 } },
      async () => 1
    )
    await using it = await working([fn], {
      labels: { region: "north" },
      apiKey: "key-1",
      environment: "staging"
    })
    await it.worker.ready()

    const [registered] = it.server.functions
    assert.deepStrictEqual(registered, {
      id: "three",
      name: "Three",
      triggers,
      retry: { maxAttempts: 5, initialDelayMs: 1000, backoffFactor: 2, maxDelayMs: 300_000 },
      timeoutMs: 600_000,
      concurrency: { limit: 2 },
      preferredMode: "EXECUTION_MODE_PULL",
      metadata: { __ironflow_code_hash: registered.metadata.__ironflow_code_hash }
    })
    assert.match(registered.metadata.__ironflow_code_hash, /^[0-9a-f]{16}$/)
    const registration = it.server.registrations.at(-1)
    assert.deepStrictEqual(registration.function_ids, ["three"])
    assert.deepStrictEqual(registration.labels, { region: "north" })
    assert.strictEqual(registration.max_concurrent_jobs, 10)
    for (const { headers } of it.server.http.asked) {
      assert.strictEqual(headers["authorization"], "Bearer key-1")
      assert.strictEqual(headers["x-ironflow-environment"], "staging")
    }
  })

  it("refuses a transaction before its body runs, because such servers cannot store it with the step", async () => {
    let ran = false
    const reserve = createFunction({ id: "reserve", triggers }, ({ step }) =>
      step.tx("reserve", (tx) => {
        ran = true
        tx.emit("order.reserved")
      })
    )
    await using it = await working([reserve])

    const end = await it.server.ended(it.server.dispatch("run-1", "reserve"))

    assert.deepInclude(end, { status: "failed" })
    assert.deepInclude(end.error, { code: "UNIMPLEMENTED", retryable: false })
    assert.isFalse(ran)
  })

  it("has each step stored before the next one begins, and the last one with the completion", async () => {
    await using it = await working([threeSteps])

    const jobId = it.server.dispatch("run-1", "three")
    const end = await it.server.ended(jobId)

    assert.deepStrictEqual(
      it.server.updates.map(({ body }) => [body.status, body.step_offset, body.steps.map((s: any) => s.id)]),
      [
        ["progress", 0, ["run-1:reserve:0"]],
        ["progress", 1, ["run-1:charge:0"]],
        ["completed", 2, ["run-1:ship:0"]]
      ]
    )
    assert.deepStrictEqual(end.output, { sku: 1, receipt: "r-1", orderId: "o-1" })
    const { duration_ms, ended_at, started_at, ...step } = it.server.updates[0]!.body.steps[0]
    assert.deepStrictEqual(step, {
      id: "run-1:reserve:0",
      name: "reserve",
      type: "invoke",
      status: "completed",
      output: { sku: 1 }
    })
    assert.isTrue(duration_ms >= 0 && Date.parse(ended_at) >= Date.parse(started_at))
  })

  it("gets errors in results back from a server that re-encodes JSON, and other readers see their messages", async () => {
    const forged = { "ironflow:result": [{ "ironflow:error": { name: "Error", message: "forged" } }] }
    const seen: Array<unknown> = []
    const fn = createFunction({ id: "errors", triggers }, async ({ step }) => {
      const settled = await step.run("settle", () =>
        Promise.allSettled([
          Promise.reject(new NonRetryableError("declined", { code: "CARD_DECLINED" })),
          forged
        ])
      )
      const data = await step.run("data", () => forged)
      seen.push([settled[0]?.status === "rejected" && settled[0].reason.code, settled[1], data])
      await step.sleep("another turn", "1h")
      return { settled: settled[0], data }
    })
    await using it = await working([fn])
    await it.server.ended(it.server.dispatch("run-1", "errors"))

    const end = await it.server.ended(
      it.server.dispatch("run-1", "errors", { resumed: { "run-1:another turn:0": null } })
    )

    assert.deepStrictEqual(seen[0], ["CARD_DECLINED", { status: "fulfilled", value: forged }, forged])
    assert.deepStrictEqual(seen[1], seen[0])
    assert.deepStrictEqual(end.output, {
      settled: {
        status: "rejected",
        reason: { name: "NonRetryableError", message: "declined", code: "CARD_DECLINED" }
      },
      data: forged
    })
  })

  it("does not repeat steps that the server reports as completed, whatever their kind", async () => {
    const ran: Array<string> = []
    const fn = createFunction({ id: "all", triggers }, async ({ step }) => {
      const reserved = await step.run("reserve", async () => ran.push("reserve"))
      await step.sleep("cool off", "1h")
      const paid = await step.waitForEvent<{ amount: number }>("payment", { event: "order.paid" })
      const shipped = await step.invoke("ship-order", { fast: true })
      const { runId } = await step.invokeAsync("notify")
      const both = await step.parallel("both", [
        (branch) => branch.run("a", async () => ran.push("a")),
        (branch) => branch.run("b", async () => ran.push("b"))
      ])
      return {
        reserved,
        amount: paid.data.amount,
        version: paid.version,
        at: paid.timestamp,
        shipped,
        runId,
        both
      }
    })
    await using it = await working([fn])

    const jobId = it.server.dispatch("run-1", "all", {
      resumed: {
        "run-1:reserve:0": 7,
        "run-1:cool off:0": null,
        "run-1:payment:0": {
          id: "evt-2",
          name: "order.paid",
          data: { amount: 3 },
          timestamp: "2026-02-03T04:05:06Z"
        },
        "run-1:ship-order:0": { parcel: "p-1" },
        "run-1:notify:0": { run_id: "run-9" },
        "run-1:both:0:a:0": "a",
        "run-1:both:1:b:0": "b"
      },
      fields: { step_sequence_base: 7 }
    })
    const end = await it.server.ended(jobId)

    assert.strictEqual(end.status, "completed", JSON.stringify(end))
    assert.deepStrictEqual(end.output, {
      reserved: 7,
      amount: 3,
      version: 1,
      at: "2026-02-03T04:05:06.000Z",
      shipped: { parcel: "p-1" },
      runId: "run-9",
      both: ["a", "b"]
    })
    assert.deepStrictEqual(ran, [])
    assert.strictEqual(end.step_offset, 7)
  })

  it.each<[string, Parameters<typeof createFunction>[1], any]>([
    [
      "a sleep",
      async ({ step }) => step.sleepUntil("cool off", "2999-01-01T00:00:00Z"),
      { type: "sleep", step_id: "run-1:cool off:0", until: "2999-01-01T00:00:00.000Z" }
    ],
    [
      "a wait, with the time limit as an exact duration",
      async ({ step }) =>
        step.waitForEvent("payment", { event: "order.paid", match: "data.orderId", timeout: 90_000 }),
      {
        type: "wait_for_event",
        step_id: "run-1:payment:0",
        event_filter: { event: "order.paid", match: "data.orderId", timeout: "90s" }
      }
    ],
    [
      "a wait of seven days",
      async ({ step }) => step.waitForEvent("payment", { event: "order.paid" }),
      {
        type: "wait_for_event",
        step_id: "run-1:payment:0",
        event_filter: { event: "order.paid", timeout: "7d" }
      }
    ],
    [
      "an invoked function",
      async ({ step }) => step.invoke("ship-order", { fast: true }, { timeout: "5s" }),
      {
        type: "invoke_function",
        step_id: "run-1:ship-order:0",
        function_id: "ship-order",
        input: { fast: true },
        invoke_timeout_ms: 5000
      }
    ],
    [
      "a function that is only started",
      async ({ step }) => step.invokeAsync("notify"),
      { type: "invoke_function_async", step_id: "run-1:notify:0", function_id: "notify" }
    ]
  ])("ends its turn with %s", async (_, handler, expected) => {
    await using it = await working([createFunction({ id: "waits", triggers }, handler)])

    const jobId = it.server.dispatch("run-1", "waits")
    const end = await it.server.ended(jobId)

    assert.deepStrictEqual(end, { status: "yielded", yield: expected })
  })

  it("yields with the open step that is due first, and remembers when the others are due", async () => {
    const fn = createFunction({ id: "two-sleeps", triggers }, async ({ step }) =>
      step.parallel("both", [
        (branch) => branch.sleepUntil("long", "2999-01-02T00:00:00Z"),
        (branch) => branch.sleepUntil("short", "2999-01-01T00:00:00Z")
      ])
    )
    await using it = await working([fn])

    const first = await it.server.ended(it.server.dispatch("run-1", "two-sleeps"))
    assert.strictEqual(first.yield.step_id, "run-1:both:1:short:0")
    const second = await it.server.ended(
      it.server.dispatch("run-1", "two-sleeps", { resumed: { "run-1:both:1:short:0": null } })
    )

    assert.deepStrictEqual(second.yield, {
      type: "sleep",
      step_id: "run-1:both:0:long:0",
      until: "2999-01-02T00:00:00.000Z"
    })
    assert.include(it.server.completed("run-1"), "both:0:long:0:pending")
  })

  it("ends a sleep whose time has passed while the run waited for another step", async () => {
    const fn = createFunction({ id: "two-sleeps", triggers }, async ({ step }) => {
      await step.sleep("short", "1h")
      return "rested"
    })
    await using it = await working([fn])

    const end = await it.server.ended(
      it.server.dispatch("run-1", "two-sleeps", {
        resumed: { "run-1:short:0:pending": { until: "2020-01-01T00:00:00Z", failures: 0 } }
      })
    )

    assert.deepStrictEqual([end.status, end.output], ["completed", "rested"])
    assert.include(it.server.completed("run-1"), "short:0")
  })

  it("retries a step by sleeping, counts its attempts across turns, and then rejects in the same way in every turn", async () => {
    const attempts: Array<number> = []
    const fn = createFunction({ id: "flaky", triggers, retry: { maxAttempts: 2 } }, async ({ step }) => {
      try {
        await step.run("charge", async ({ attempt }) => {
          attempts.push(attempt)
          throw new Error(`declined ${attempt}`)
        })
      } catch (error) {
        await step.sleep("think", "1h")
        return `gave up: ${(error as Error).message}`
      }
      return "charged"
    })
    await using it = await working([fn])

    const first = await it.server.ended(it.server.dispatch("run-1", "flaky"))
    assert.strictEqual(first.yield.type, "sleep")
    assert.strictEqual(first.yield.step_id, "run-1:charge:0:retry:1")
    const second = await it.server.ended(
      it.server.dispatch("run-1", "flaky", { resumed: { "run-1:charge:0:retry:1": null } })
    )
    assert.strictEqual(second.yield.step_id, "run-1:think:0")
    const third = await it.server.ended(
      it.server.dispatch("run-1", "flaky", { resumed: { "run-1:think:0": null } })
    )

    assert.deepStrictEqual(attempts, [1, 2])
    assert.deepStrictEqual([third.status, third.output], ["completed", "gave up: declined 2"])
    assert.include(it.server.completed("run-1"), "charge:0:failed")
    const failed = it.server.updates
      .flatMap(({ body }) => body.steps ?? [])
      .filter((s: any) => s.status === "failed")
    assert.deepStrictEqual(
      failed.map((s: any) => [s.id, s.error.message, s.error.retryable]),
      [
        ["run-1:charge:0", "declined 1", true],
        ["run-1:charge:0", "declined 2", false]
      ]
    )
  })

  it("fails the run with its compensations, in reverse order", async () => {
    const fn = createFunction({ id: "saga", triggers }, async ({ step }) => {
      await step.run("reserve", async () => 1)
      step.compensate("reserve", async () => undefined)
      await step.run("charge", async () => 2)
      step.compensate("charge", async () => undefined)
      throw new NonRetryableError("sold out", { code: "SOLD_OUT" })
    })
    await using it = await working([fn])

    const end = await it.server.ended(it.server.dispatch("run-1", "saga"))

    assert.deepStrictEqual(end.status, "failed")
    assert.deepStrictEqual(end.error, { message: "sold out", code: "SOLD_OUT", retryable: false })
    const undone = it.server.updates
      .flatMap(({ body }) => body.steps ?? [])
      .filter((s: any) => s.type === "compensate")
    assert.deepStrictEqual(
      undone.map((s: any) => [s.id, s.compensation_for, s.status]),
      [
        ["run-1:compensate:charge:0", "charge", "completed"],
        ["run-1:compensate:reserve:0", "reserve", "completed"]
      ]
    )
  })

  it("leaves retries of failures outside steps to the server", async () => {
    const fn = createFunction({ id: "broken", triggers }, async () => {
      throw new TypeError("no such order")
    })
    await using it = await working([fn])

    const end = await it.server.ended(it.server.dispatch("run-1", "broken"))

    assert.deepStrictEqual(end, {
      status: "failed",
      error: { message: "no such order", code: "ERROR", retryable: true }
    })
  })

  it("publishes with the idempotency key of the step", async () => {
    const fn = createFunction({ id: "tells", triggers }, async ({ step }) =>
      step.publish("orders", { id: 1 })
    )
    await using it = await working([fn])

    const end = await it.server.ended(it.server.dispatch("run-1", "tells"))

    assert.deepStrictEqual(end.output, { eventId: "msg-1", sequence: 7 })
    assert.deepStrictEqual(it.server.published, [
      { topic: "orders", data: { id: 1 }, idempotencyKey: "run-1:publish:orders:0" }
    ])
    assert.deepStrictEqual(it.server.completed("run-1"), ["publish:orders:0"])
  })

  it("works with a server that stores nothing before the end of a turn, and logs one warning", async () => {
    const warnings: Array<string> = []
    const silent = () => undefined
    const logger = {
      debug: silent,
      info: silent,
      error: silent,
      warn: (text: string) => void warnings.push(text)
    }
    await using it = await working([threeSteps], { logger }, (server) => {
      server.override = ({ body, method }) =>
        method === "PUT" && body.status === "progress"
          ? { status: 400, body: { error: "unknown status" } }
          : undefined
    })

    const ends = [
      await it.server.ended(it.server.dispatch("run-1", "three")),
      await it.server.ended(it.server.dispatch("run-2", "three"))
    ]

    for (const end of ends) {
      assert.deepStrictEqual(
        end.steps.map((s: any) => s.name),
        ["reserve", "charge", "ship"]
      )
      assert.strictEqual(end.step_offset, 0)
    }
    assert.strictEqual(warnings.length, 1)
    assert.match(warnings[0]!, /does not store results of steps while a turn runs/)
  })

  it("confirms a job with a fence, repeats the fence, and drops the turn when the fence is stale", async () => {
    const aborted = createDeferred<unknown>()
    const held = createDeferred<void>()
    const fn = createFunction({ id: "fenced", triggers }, async ({ step }) => {
      await step.run("reserve", async () => held.promise)
      await step.run("charge", async () => 2)
    })
    const watching = createFunction({ id: "watched", triggers }, async ({ signal, step }) => {
      signal.addEventListener("abort", () => aborted.resolve(signal.reason))
      await step.run("reserve", async () => 1)
      await step.run("charge", async () => 2)
    })
    await using it = await working([fn, watching], {}, (server) => {
      server.override = ({ body, method, path }) =>
        method === "PUT" && !path.endsWith("/ack") && body.lease_token === "stale"
          ? { status: 409, body: { error: "stale", code: "STALE_EXECUTION" } }
          : undefined
    })

    const fields = { lease_token: "token-1", execution_seq: 4 }
    const jobId = it.server.dispatch("run-1", "fenced", { fields })
    held.resolve()
    await it.server.ended(jobId)
    assert.deepStrictEqual(it.server.acks, [{ run_id: "run-1", ...fields }])
    for (const { body } of it.server.updates) {
      assert.deepStrictEqual([body.lease_token, body.execution_seq], ["token-1", 4])
    }

    it.server.dispatch("run-2", "watched", { fields: { lease_token: "stale", execution_seq: 1 } })
    assert.strictEqual(((await aborted.promise) as { code: string }).code, "LEASE_LOST")
  })

  it("drops a job whose confirmation is refused", async () => {
    await using it = await working([threeSteps], {}, (server) => {
      server.override = ({ path }) =>
        path.includes("/job-1/ack") ? { status: 409, body: { error: "stale" } } : undefined
    })

    it.server.dispatch("run-1", "three", { fields: { lease_token: "t", execution_seq: 1 } })
    it.server.forgetWorkers()
    const second = it.server.dispatch("run-2", "three", { fields: { lease_token: "t", execution_seq: 2 } })
    await it.server.ended(second)

    assert.deepStrictEqual(it.server.ends("job-1"), [])
  })

  it("sends an update again when the server could not accept it", async () => {
    let failures = 0
    await using it = await working([threeSteps], {}, (server) => {
      server.override = ({ method, path }) => {
        if (method !== "PUT" || !path.includes("/jobs/") || failures >= 2) return undefined
        return ++failures === 1 ? { status: 503, body: { error: "starting" } } : "hang up"
      }
    })

    const end = await it.server.ended(it.server.dispatch("run-1", "three"))

    assert.strictEqual(failures, 2)
    assert.strictEqual(end.status, "completed")
    assert.deepStrictEqual(it.server.completed("run-1"), ["reserve:0", "charge:0", "ship:0"])
  })

  it("registers again when the server does not know it, and continues", async () => {
    await using it = await working([threeSteps])
    await it.server.http.until(() => it.server.http.lines.some((line) => line.includes("/jobs?")))
    const before = it.server.functions.length

    it.server.forgetWorkers()
    const end = await it.server.ended(it.server.dispatch("run-1", "three"))

    assert.strictEqual(end.status, "completed")
    assert.strictEqual(it.server.functions.length, before + 1)
  })

  it("accepts several jobs from one answer, and drops an invalid job", async () => {
    await using it = await working([threeSteps])
    const job = (id: string) => ({
      job_id: `job-of-${id}`,
      run_id: id,
      function_id: "three",
      attempt: 1,
      event: { id: "evt-1", name: "order.placed", timestamp: "2026-01-02T03:04:05Z", data: {}, version: 0 },
      completed_steps: []
    })

    it.server.deliver({ jobs: [job("run-1"), { job_id: "job-x" }, job("run-2")] })

    await Promise.all([it.server.ended("job-of-run-1"), it.server.ended("job-of-run-2")])
    assert.match(
      it.server.http.lines.find((line) => line.includes("/jobs?"))!,
      /\?available=10$/
    )
  })

  it("names its jobs in its heartbeats", async () => {
    const done = createDeferred<void>()
    const fn = createFunction({ id: "long", triggers }, async ({ step }) =>
      step.run("work", () => done.promise)
    )
    await using it = await working([fn], { heartbeatInterval: 5 })

    it.server.dispatch("run-1", "long")
    await it.server.http.until(() => it.server.heartbeats.some(({ active_jobs }) => active_jobs === 1))
    done.resolve()

    const beat = it.server.heartbeats.find(({ active_jobs }) => active_jobs === 1)
    assert.strictEqual(beat.jobs[0].job_id, "job-1")
    assert.isFalse(Number.isNaN(Date.parse(beat.jobs[0].started_at)))
  })

  it.each([
    ["UNAUTHENTICATED", 401, "/RegisterFunction"],
    ["UNAUTHORIZED", 403, "/register"],
    ["UNAUTHORIZED", 403, "/jobs?available=10"]
  ])("stops for good with code %s when it is answered %s at %s", async (code, status, path) => {
    await using it = await working([threeSteps], {}, (server) => {
      server.override = (asked) => (asked.path.endsWith(path) ? { status, body: { error: "no" } } : undefined)
    })

    assert.strictEqual(((await it.stopped) as { code: string }).code, code)
  })

  it("fails to start with a function that the server refuses", async () => {
    await using it = await working([threeSteps], {}, (server) => {
      server.override = ({ path }) =>
        path.endsWith("/RegisterFunction")
          ? { status: 400, body: { code: "invalid_argument", message: "bad trigger" } }
          : undefined
    })

    const error = (await it.stopped) as Error & { code: string }
    assert.strictEqual(error.code, "FUNCTION_REGISTRATION_FAILED")
    assert.match(error.message, /bad trigger/)
  })

  it("keeps trying a server that is not up yet", async () => {
    let refusals = 0
    await using it = await working([threeSteps], {}, (server) => {
      server.override = () => (++refusals < 4 ? "hang up" : undefined)
    })

    const end = await it.server.ended(it.server.dispatch("run-1", "three"))

    assert.strictEqual(end.status, "completed")
  })

  it("finishes the jobs in flight on a drain, and takes no more", async () => {
    const done = createDeferred<void>()
    const started = createDeferred<void>()
    const fn = createFunction({ id: "long", triggers }, async ({ step }) =>
      step.run("work", async () => {
        started.resolve()
        await done.promise
      })
    )
    await using it = await working([fn], { maxConcurrentJobs: 1 })
    const jobId = it.server.dispatch("run-1", "long")
    await started.promise
    it.server.dispatch("run-2", "long")

    const drained = it.worker.drain()
    done.resolve()
    await drained

    assert.isUndefined(await it.stopped)
    assert.strictEqual(it.server.ends(jobId)[0].status, "completed")
    assert.deepStrictEqual(it.server.ends("job-2"), [])
  })
})
