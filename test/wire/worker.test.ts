/** Transcripts of a legacy polling worker against the engine. */
import { assert, describe, it } from "vitest"
import { type Ironflow, start, temporaryDatabase } from "./Ironflow.ts"
import { rpc, normalize, send } from "./RawClient.ts"
import { type RawFunction, type RawJob, RawWorker, stepResult } from "./RawWorker.ts"
import { RawTurnWorker, stepDone } from "./RawTurnWorker.ts"

const shipOrder: RawFunction = {
  id: "ship-order",
  triggers: [{ event: "order.placed" }],
  retry: { maxAttempts: 2, initialDelayMs: 1000, backoffFactor: 2 }
}
const chargeCard: RawFunction = { id: "billing/charge-card", triggers: [] }

const placeOrder = async ({ url }: Ironflow, data: unknown = { orderId: "o-1" }): Promise<string> =>
  (await rpc(url, "Trigger", { event: "order.placed", data })).body.runIds[0]

const getRun = async ({ url }: Ironflow, id: string) => (await rpc(url, "GetRun", { id })).body

/** A shop with one order, and a worker that has its job. */
const shop = async (options: Parameters<typeof start>[0] = {}) => {
  const ironflow = await start({ virtualTime: true, ...options })
  const worker = new RawWorker(ironflow.url, [shipOrder, chargeCard])
  await worker.register()
  const runId = await placeOrder(ironflow)
  const job = await worker.take()
  /** Polls while time passes. */
  const takeLater = async (stepMs = 250): Promise<RawJob> => {
    let found: RawJob | undefined
    await ironflow.passUntil(async () => {
      const { status, body } = await worker.poll()
      if (status === 200) found = body
      return found !== undefined
    }, stepMs)
    return found!
  }
  return { ironflow, worker, runId, job, takeLater, [Symbol.asyncDispose]: () => ironflow.close() }
}

const yielded = (job: RawJob, name: string, fields: Record<string, unknown>) => ({
  status: "yielded",
  yield: { step_id: `${job.run_id}:${name}:0`, ...fields }
})

describe("registration", () => {
  it("can be repeated, and the worker keeps its jobs", async () => {
    await using here = await shop()

    const again = await here.worker.register()
    const updated = await here.worker.update(here.job, { status: "completed", steps: [] })

    assert.strictEqual(again.status, 200)
    assert.deepStrictEqual(again.body, { worker_id: here.worker.id, status: "registered" })
    assert.strictEqual(updated.status, 200)
  })

  it("shows how many jobs the worker has", async () => {
    await using here = await shop()
    const activeJobs = async () =>
      (await send(here.ironflow.url, "GET", "/api/v1/workers")).body.workers.map(
        (worker: { readonly active_jobs: number }) => worker.active_jobs
      )

    assert.deepStrictEqual(await activeJobs(), [1])
    await here.worker.update(here.job, { status: "completed", steps: [] })
    assert.deepStrictEqual(await activeJobs(), [0])
  })

  it("is required by the answer to a poll of an unknown worker", async () => {
    await using ironflow = await start()

    const { status, body } = await new RawWorker(ironflow.url, []).poll()

    assert.strictEqual(status, 404)
    assert.strictEqual(body.code, "WORKER_UNKNOWN")
  })

  it("is required on a connection that then ends, since a balancer may have led it to the wrong engine", async () => {
    await using ironflow = await start()

    const refused = await fetch(`${ironflow.url}/api/v1/workers/nobody/jobs`)
    const answered = await fetch(`${ironflow.url}/api/v1/workers`)

    assert.strictEqual(refused.status, 404)
    assert.strictEqual(refused.headers.get("connection"), "close")
    assert.notStrictEqual(answered.headers.get("connection"), "close")
  })

  it.each([
    [{ id: "two words" }, /must not contain white space/],
    [{ id: "a.*" }, /must not contain white space, \* or >/],
    [{ id: "f", triggers: [{ event: "" }] }, /trigger/i],
    [{ id: "f", triggers: [{ cron: "never" }] }, /"never" is not a cron schedule/],
    [
      { id: "f", retry: { maxAttempts: 0 } },
      /^`maxAttempts` of the retry of function "f" must be an integer, at least 1/
    ],
    [{ id: "f", concurrency: { limit: 0 } }, /concurrency/]
  ])("refuses the function %j", async (fn, message) => {
    await using ironflow = await start()

    const { status, body } = await rpc(ironflow.url, "RegisterFunction", fn)

    assert.strictEqual(status, 400)
    assert.strictEqual(body.code, "invalid_argument")
    assert.match(body.message, message)
  })
})

describe("a job", () => {
  it("has the event, and nothing that a legacy worker would refuse", async () => {
    await using here = await shop()

    assert.deepStrictEqual(normalize(here.job), {
      job_id: "job_1~run_1",
      run_id: "run_1",
      function_id: "ship-order",
      attempt: 1,
      event: {
        id: "evt_1",
        name: "order.placed",
        version: 1,
        data: { orderId: "o-1" },
        timestamp: "<time>"
      },
      completed_steps: []
    })
  })

  it("is one object without `available`, and a list with it", async () => {
    await using ironflow = await start()
    const worker = new RawWorker(ironflow.url, [shipOrder])
    await worker.register()
    for (let i = 0; i < 4; i++) await placeOrder(ironflow)

    const one = await worker.poll()
    const two = await worker.poll(2)
    const rest = await worker.poll(10)
    const none = await worker.poll(10)

    assert.isString(one.body.job_id)
    assert.lengthOf(two.body.jobs, 2)
    assert.lengthOf(rest.body.jobs, 1)
    assert.deepStrictEqual([none.status, none.text], [204, ""])
  })

  it("is not dispatched to a worker without free slots", async () => {
    await using ironflow = await start()
    const worker = new RawWorker(ironflow.url, [shipOrder])
    await worker.register()
    await placeOrder(ironflow)

    assert.strictEqual((await worker.poll(0)).status, 204)
    assert.strictEqual((await worker.poll(1)).status, 200)
  })

  it("has a new id at each dispatch, and the old id is refused", async () => {
    await using here = await shop()
    await here.worker.update(here.job, {
      status: "failed",
      error: { message: "later", code: "ERROR", retryable: true }
    })

    const second = await here.takeLater()
    const stale = await here.worker.update(here.job, { status: "completed", steps: [] })

    assert.notStrictEqual(second.job_id, here.job.job_id)
    assert.strictEqual(second.attempt, 2)
    assert.strictEqual(stale.status, 409)
    assert.strictEqual(stale.body.code, "STALE_EXECUTION")
  })

  it("is acknowledged while it is leased, and not after", async () => {
    await using here = await shop()

    const before = await here.worker.ack(here.job)
    await here.worker.update(here.job, { status: "completed", steps: [] })
    const after = await here.worker.ack(here.job)

    assert.strictEqual(before.status, 200)
    assert.strictEqual(after.status, 409)
  })
})

describe("an update", () => {
  it("completes the run with an output, or without one", async () => {
    await using here = await shop()
    const second = await placeOrder(here.ironflow)
    const other = await here.worker.take()

    await here.worker.update(here.job, { status: "completed", output: [1, "two"], steps: [] })
    await here.worker.update(other, { status: "completed", steps: [], step_offset: 0 })

    assert.deepStrictEqual((await getRun(here.ironflow, here.runId)).output, [1, "two"])
    const run = await getRun(here.ironflow, second)
    assert.strictEqual(run.status, "RUN_STATUS_COMPLETED")
    assert.notProperty(run, "output")
  })

  it("is refused for a run that was cancelled", async () => {
    await using here = await shop()
    await rpc(here.ironflow.url, "CancelRun", { id: here.runId, reason: "" })

    const { status, body } = await here.worker.update(here.job, { status: "completed", steps: [] })

    assert.strictEqual(status, 409)
    assert.strictEqual(body.code, "RUN_NOT_RUNNING")
  })

  it.each([
    [{ status: "paused" }, /"paused" is not a status of a job/],
    [{}, /status/],
    [{ status: "yielded" }, /needs `yield`/],
    [{ status: "yielded", yield: { type: "nap", step_id: "RUN:nap:0" } }, /"nap" is not a yield/],
    [{ status: "yielded", yield: { type: "sleep", step_id: "RUN:nap:0" } }, /needs `until`/],
    [
      { status: "yielded", yield: { type: "wait_for_event", step_id: "RUN:paid:0" } },
      /needs `event_filter` with the name of an event/
    ],
    [{ status: "yielded", yield: { type: "invoke_function", step_id: "RUN:f:0" } }, /needs `function_id`/],
    [
      { status: "progress", steps: [{ id: "other:a:0", status: "completed" }] },
      /must be the run id, a colon and the key of the step, as in "run_\w+:charge:0"/
    ]
  ])("that cannot be read changes nothing: %j", async (update, message) => {
    await using here = await shop()
    const text = JSON.stringify(update).replaceAll("RUN", here.runId)

    const refused = await here.worker.update(here.job, JSON.parse(text))
    const accepted = await here.worker.update(here.job, { status: "completed", steps: [] })

    assert.strictEqual(refused.status, 400)
    assert.match(refused.body.message, message)
    assert.strictEqual(accepted.status, 200)
  })

  it("for an unknown job is stale", async () => {
    await using here = await shop()

    const { status } = await here.worker.update({ job_id: "job-of-somebody" }, { status: "completed" })

    assert.strictEqual(status, 409)
  })

  it("with an output that is too large fails the run", async () => {
    await using here = await shop()

    const output = "x".repeat(4 * 1024 * 1024 + 1)
    const { status } = await here.worker.update(here.job, { status: "completed", output, steps: [] })

    assert.strictEqual(status, 200)
    const run = await getRun(here.ironflow, here.runId)
    assert.strictEqual(run.status, "RUN_STATUS_FAILED")
    assert.strictEqual(run.error.code, "LIMIT_EXCEEDED")
  })
})

describe("steps", () => {
  it("are listed once they are completed, in order, without failed ones", async () => {
    await using here = await shop()
    const { job, worker } = here
    await worker.update(job, {
      status: "progress",
      steps: [
        stepResult(job, "reserve", { output: { place: 7 } }),
        stepResult(job, "charge", { status: "failed", error: { message: "declined", retryable: true } })
      ],
      step_offset: 0
    })
    await worker.update(job, {
      status: "failed",
      error: { message: "declined", code: "STEP_FAILED", retryable: true },
      steps: [stepResult(job, "notify")]
    })

    const second = await here.takeLater()

    assert.deepStrictEqual(second.completed_steps, [
      { step_id: `${here.runId}:reserve:0`, name: "reserve", output: { place: 7 } },
      { step_id: `${here.runId}:notify:0`, name: "notify", output: null }
    ])
  })

  it("can be reported twice, and the first result is kept", async () => {
    await using here = await shop()
    const { job, worker } = here
    await worker.update(job, { status: "progress", steps: [stepResult(job, "charge", { output: 1 })] })
    await worker.update(job, { status: "completed", steps: [stepResult(job, "charge", { output: 2 })] })

    const { body } = await rpc(here.ironflow.url, "GetRunSteps", { runId: here.runId })

    assert.lengthOf(body.steps, 1)
    assert.strictEqual(body.steps[0].output, 1)
  })

  it("that failed may complete in a later attempt", async () => {
    await using here = await shop()
    await here.worker.update(here.job, {
      status: "failed",
      error: { message: "declined", code: "STEP_FAILED", retryable: true },
      steps: [
        stepResult(here.job, "charge", { status: "failed", error: { message: "declined", retryable: true } })
      ]
    })

    const second = await here.takeLater()
    await here.worker.update(second, {
      status: "completed",
      steps: [stepResult(second, "charge", { output: "paid" })]
    })

    const { body } = await rpc(here.ironflow.url, "GetRunSteps", { runId: here.runId })
    assert.deepInclude(body.steps[0], { status: "completed", output: "paid" })
  })

  it("of branches keep their ids", async () => {
    await using here = await shop()
    const id = `${here.runId}:fetch-all:1:profile:0`
    await here.worker.update(here.job, {
      status: "progress",
      steps: [{ ...stepResult(here.job, "profile", { output: 1 }), id }]
    })
    await here.worker.update(
      here.job,
      yielded(here.job, "nap", { type: "sleep", until: "1970-01-01T00:00:01.000Z" })
    )

    const next = await here.takeLater()

    assert.strictEqual(next.completed_steps[0]?.step_id, id)
  })
})

describe("a yield", () => {
  it("of a sleep returns at its time, with the sleep completed", async () => {
    await using here = await shop()
    const answer = await here.worker.update(
      here.job,
      yielded(here.job, "cool off", { type: "sleep", until: "1970-01-01T00:01:00.000Z" })
    )
    const early = await here.worker.poll()

    await here.ironflow.pass(60_000)
    const next = await here.takeLater()

    assert.strictEqual(answer.status, 200)
    assert.strictEqual(early.status, 204)
    assert.deepStrictEqual(next.completed_steps, [
      { step_id: `${here.runId}:cool off:0`, name: "cool off", output: null }
    ])
    assert.strictEqual(next.attempt, 1)
  })

  it("of a wait returns with the event that matches", async () => {
    await using here = await shop()
    await here.worker.update(
      here.job,
      yielded(here.job, "payment", {
        type: "wait_for_event",
        event_filter: { event: "order.paid", match: "data.orderId", timeout: "1h" }
      })
    )
    await rpc(here.ironflow.url, "Trigger", { event: "order.paid", data: { orderId: "o-2" } })
    await rpc(here.ironflow.url, "Trigger", { event: "order.paid", data: { orderId: "o-1", amount: 5 } })

    const next = await here.worker.take()

    assert.deepStrictEqual(normalize(next.completed_steps), [
      {
        step_id: "run_1:payment:0",
        name: "payment",
        output: {
          id: "evt_1",
          name: "order.paid",
          version: 1,
          data: { orderId: "o-1", amount: 5 },
          timestamp: "<time>"
        }
      }
    ])
  })

  it("of a wait fails the run at its timeout", async () => {
    await using here = await shop()
    await here.worker.update(
      here.job,
      yielded(here.job, "payment", {
        type: "wait_for_event",
        event_filter: { event: "order.paid", timeout: "1h" }
      })
    )

    await here.ironflow.passUntil(async () => {
      await here.worker.poll()
      return (await getRun(here.ironflow, here.runId)).status === "RUN_STATUS_FAILED"
    }, 30_000)

    const { error } = await getRun(here.ironflow, here.runId)
    assert.strictEqual(error.code, "WAIT_TIMEOUT")
    assert.match(error.message, /no matching event "order.paid"/)
  })

  it("of an invoke returns with the child's result", async () => {
    await using here = await shop()
    await here.worker.update(
      here.job,
      yielded(here.job, "billing/charge-card", {
        type: "invoke_function",
        function_id: "billing/charge-card",
        input: { amount: 5 },
        invoke_timeout_ms: 30_000
      })
    )
    const child = await here.worker.take()
    await here.worker.update(child, { status: "completed", output: { receipt: "r-1" }, steps: [] })

    const next = await here.worker.take()

    assert.strictEqual(child.function_id, "billing/charge-card")
    assert.deepStrictEqual(child.event.data, { amount: 5 })
    assert.strictEqual(next.run_id, here.runId)
    assert.deepStrictEqual(next.completed_steps[0]?.output, { receipt: "r-1" })
  })

  it("of an invoke fails the run when the child fails", async () => {
    await using here = await shop()
    await here.worker.update(
      here.job,
      yielded(here.job, "billing/charge-card", {
        type: "invoke_function",
        function_id: "billing/charge-card"
      })
    )
    const child = await here.worker.take()
    await here.worker.update(child, { status: "failed", error: { message: "declined", retryable: false } })

    const { status } = await here.worker.poll()

    assert.strictEqual(status, 204)
    const run = await getRun(here.ironflow, here.runId)
    assert.strictEqual(run.status, "RUN_STATUS_FAILED")
    assert.strictEqual(run.error.code, "INVOKE_FAILED")
    assert.match(run.error.message, /'billing\/charge-card' \(run run_\w+\) failed: declined/)
  })

  it("of an asynchronous invoke returns at once with the id of the child", async () => {
    await using here = await shop()
    await here.worker.update(
      here.job,
      yielded(here.job, "billing/charge-card", {
        type: "invoke_function_async",
        function_id: "billing/charge-card",
        input: { amount: 5 }
      })
    )

    const jobs = [await here.worker.take(), await here.worker.take()]
    const parent = jobs.find(({ run_id }) => run_id === here.runId)
    const child = jobs.find(({ run_id }) => run_id !== here.runId)

    assert.deepStrictEqual(parent?.completed_steps[0]?.output, { run_id: child?.run_id })
  })
})

describe("failures", () => {
  it("are retried while they are retryable and attempts remain", async () => {
    await using here = await shop()
    const failure = { status: "failed", error: { message: "down", code: "ERROR", retryable: true } }
    await here.worker.update(here.job, failure)
    const early = await here.worker.poll()
    const second = await here.takeLater()

    await here.worker.update(second, failure)

    assert.strictEqual(early.status, 204)
    assert.strictEqual(second.attempt, 2)
    const run = await getRun(here.ironflow, here.runId)
    assert.strictEqual(run.status, "RUN_STATUS_FAILED")
    assert.strictEqual(run.attempt, 2)
    assert.strictEqual(run.error.message, "down")
  })

  it("that are not retryable end the run, with the compensations that the worker has run", async () => {
    await using here = await shop()
    await here.worker.update(here.job, {
      status: "failed",
      error: { message: "declined", code: "STEP_FAILED", retryable: false },
      steps: [
        stepResult(here.job, "reserve"),
        stepResult(here.job, "charge", { status: "failed", error: { message: "declined" } }),
        {
          ...stepResult(here.job, "compensate:reserve"),
          type: "compensate",
          compensation_for: "reserve"
        }
      ]
    })

    const run = await getRun(here.ironflow, here.runId)
    const { body } = await rpc(here.ironflow.url, "GetRunSteps", { runId: here.runId })

    assert.strictEqual(run.status, "RUN_STATUS_FAILED")
    assert.deepStrictEqual(
      body.steps.map((step: any) => [step.name, step.kind, step.status]),
      [
        ["reserve", "run", "completed"],
        ["charge", "run", "failed"],
        ["compensate:reserve", "compensate", "completed"]
      ]
    )
  })
})

describe("a lease", () => {
  it("holds as long as heartbeats name the job", async () => {
    await using here = await shop()
    for (let i = 0; i < 10; i++) {
      await here.ironflow.pass(30_000)
      await here.worker.heartbeat([here.job])
    }

    const { status } = await here.worker.update(here.job, { status: "completed", steps: [] })

    assert.strictEqual(status, 200)
  })

  it("holds as long as progress is reported", async () => {
    await using here = await shop()
    for (let i = 0; i < 5; i++) {
      await here.ironflow.pass(60_000)
      assert.strictEqual((await here.worker.update(here.job, { status: "progress", steps: [] })).status, 200)
    }
  })

  it("of a job that no heartbeat names ends after 90 seconds, and another worker gets the run", async () => {
    await using here = await shop()
    const other = new RawWorker(here.ironflow.url, [shipOrder], "worker-other")
    await other.register()
    await here.ironflow.pass(60_000)
    await here.worker.heartbeat([])
    const early = await other.poll()

    await here.ironflow.pass(31_000)
    const taken = await other.take()
    const stale = await here.worker.update(here.job, { status: "completed", steps: [] })

    assert.strictEqual(early.status, 204)
    assert.strictEqual(taken.run_id, here.runId)
    assert.strictEqual(taken.attempt, 1)
    assert.strictEqual(stale.status, 409)
  })

  it("survives a restart of the engine, and so does the job", async () => {
    using database = temporaryDatabase()
    const before = await start({ filename: database.filename })
    const worker = new RawWorker(before.url, [shipOrder])
    await worker.register()
    const runId = await placeOrder(before)
    const job = await worker.take()
    await before.close()

    await using after = await start({ filename: database.filename })
    const moved = worker.at(after.url)
    const unknown = await moved.poll()
    const reported = await moved.update(job, {
      status: "progress",
      steps: [stepResult(job, "charge", { output: 1 })]
    })
    await moved.register()
    const completed = await moved.update(job, { status: "completed", steps: [] })

    assert.strictEqual(unknown.status, 404)
    assert.strictEqual(reported.status, 200)
    assert.strictEqual(completed.status, 200)
    assert.strictEqual((await getRun(after, runId)).status, "RUN_STATUS_COMPLETED")
    assert.strictEqual(await after.countStuckRuns(), 0)
  })
})

describe("a run that is rolling back", () => {
  const rollingBack = async () => {
    const ironflow = await start()
    const worker = new RawTurnWorker(ironflow.url)
    await worker.register()
    const runId = await placeOrder(ironflow)
    const { jobId } = (await worker.poll({ asked: 1 })).body.deliveries[0].job
    const error = { name: "Error", message: "declined" }
    await worker.report(1, [
      {
        jobId,
        runId,
        ops: [stepDone("charge:0", 1), { _tag: "Compensate", error, compensations: ["charge"] }]
      }
    ])
    const legacy = new RawWorker(ironflow.url, [shipOrder])
    return { ironflow, worker, legacy, runId, [Symbol.asyncDispose]: () => ironflow.close() }
  }

  it("is dispatched to a worker that can continue it", async () => {
    await using here = await rollingBack()
    await here.worker.register([])
    await here.legacy.register()

    const { status } = await here.legacy.poll()
    const { body } = await here.worker.poll({ asked: 1 })

    assert.strictEqual(status, 204)
    assert.strictEqual(body.deliveries[0].job.runId, here.runId)
    assert.deepStrictEqual(body.deliveries[0].job.compensating.compensations, ["charge"])
  })

  it("is paused when only legacy workers are connected", async () => {
    await using here = await rollingBack()
    await here.worker.deregister()
    await here.legacy.register()

    const { status } = await here.legacy.poll()

    assert.strictEqual(status, 204)
    const run = await getRun(here.ironflow, here.runId)
    assert.strictEqual(run.status, "RUN_STATUS_PAUSED")
    assert.match(run.pauseReason, /start a worker of this SDK for the function, then resume the run/)
  })
})

it("the runs of an actor move to another worker when theirs does not return after a restart", async () => {
  using database = temporaryDatabase()
  const perOrder = { ...shipOrder, actorKey: "event.data.orderId" }
  const before = await start({ filename: database.filename, virtualTime: true })
  const gone = new RawWorker(before.url, [perOrder], "worker-gone")
  await gone.register()
  const runId = await placeOrder(before)
  await gone.take()
  await before.close()

  await using after = await start({ filename: database.filename, virtualTime: true })
  const other = new RawWorker(after.url, [perOrder], "worker-other")
  await other.register()
  await after.pass(60_000)
  const early = await other.poll()
  await after.pass(31_000)

  assert.strictEqual(early.status, 204)
  assert.strictEqual((await other.take()).run_id, runId)
})

it("a worker that has been silent for 90 seconds is forgotten", async () => {
  await using here = await shop()

  await here.ironflow.passUntil(
    async () => (await send(here.ironflow.url, "GET", "/api/v1/workers")).body.workers.length === 0,
    10_000,
    12
  )

  assert.strictEqual((await here.worker.poll()).status, 404)
})
