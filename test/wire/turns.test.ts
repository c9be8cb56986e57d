/** The turn protocol: delivery, demand, batches, presence, and restarts. */
import { spawn } from "node:child_process"
import { connect as connectSocket } from "node:net"
import { assert, describe, it } from "vitest"
import { identityOf } from "../../src/Worker/ProcessIdentity.ts"
import { type Ironflow, start, temporaryDatabase } from "./Ironflow.ts"
import { rpc, normalize, send } from "./RawClient.ts"
import { complete, RawTurnWorker, registrationOf, stepDone } from "./RawTurnWorker.ts"

const placeOrder = async (url: string): Promise<string> =>
  (await rpc(url, "Trigger", { event: "order.placed", data: { orderId: "o-1" } })).body.runIds[0]

const getRun = async (url: string, id: string) => (await rpc(url, "GetRun", { id })).body

const workersOf = async (url: string): Promise<ReadonlyArray<any>> =>
  (await send(url, "GET", "/api/v1/workers")).body.workers

/** An engine with a registered worker. */
const shop = async (options: Parameters<typeof start>[0] & { readonly pauses?: boolean } = {}) => {
  const { pauses = false, ...more } = options
  const ironflow = await start(more)
  const worker = new RawTurnWorker(ironflow.url, { pauses })
  const registered = await worker.register()
  return { ironflow, worker, registered, [Symbol.asyncDispose]: () => ironflow.close() }
}

/** Starts a run, and takes its job. */
const firstJob = async (ironflow: Ironflow, worker: RawTurnWorker) => {
  const runId = await placeOrder(ironflow.url)
  const { body } = await worker.poll({ asked: 1 })
  const { job } = body.deliveries[0]
  assert.strictEqual(job.runId, runId)
  return { runId, jobId: job.jobId as string, job }
}

/** Waits until the engine has so many polls open. */
const untilPolls = async (url: string, open: number): Promise<void> => {
  for (let i = 0; i < 1000; i++) {
    const { text } = await send(url, "GET", "/metrics")
    if (text.includes(`\nironflow_open_polls ${open}\n`)) return
  }
  throw new Error(`There are not ${open} polls open`)
}

/** A poll on a connection that can be cut, as the death of a process does. */
const pollOnSocket = (worker: RawTurnWorker, port: number, request: object) => {
  const body = JSON.stringify({ session: worker.session, seen: 0, waitMs: 30_000, ...request })
  const socket = connectSocket(port, "127.0.0.1", () => {
    socket.write(
      `POST /api/v1/workers/${worker.id}/turns/poll HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`
    )
  })
  return socket
}

describe("registration", () => {
  it("answers a worker that knows turns with a session and its settings", async () => {
    await using here = await shop()

    const { session, since, ...rest } = here.registered.body
    assert.match(session, /^ses_\w+$/)
    assert.match(since, /^job_\w+$/)
    assert.deepStrictEqual(rest, {
      capabilities: { turns: 1, renewals: true },
      leaseMs: 15_000,
      presenceMs: 15_000,
      waitMs: 5000,
      maxBodyBytes: 16 * 1024 * 1024,
      lost: []
    })
  })

  it("gives a new session to the same instance, and none to another while the first one is present", async () => {
    await using here = await shop()
    const first = here.worker.session
    const stranger = new RawTurnWorker(here.ironflow.url, { instance: "instance-2" })

    const again = await here.worker.register()
    let isOver = false
    const refusal = stranger.register().finally(() => (isOver = true))
    // the engine asks the first one whether it is present
    while (!isOver) await here.worker.poll({ waitMs: 100 })
    const refused = await refusal

    assert.strictEqual(again.status, 200)
    assert.notStrictEqual(here.worker.session, first)
    assert.strictEqual(refused.status, 400)
    assert.match(refused.body.message, /A worker with id "worker-1" is connected already/)
  })

  it("that is repeated gets the same answer, and the worker keeps its jobs", async () => {
    await using here = await shop()
    const first = await here.worker.register([], undefined, { number: 1 })
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)

    const again = await here.worker.register([], undefined, { number: 1 })

    assert.deepStrictEqual([again.status, again.body], [200, first.body])
    const reported = await here.worker.report(1, [{ jobId, runId, ops: [complete("done")] }])
    assert.strictEqual(reported.body.acks[0]._tag, "Accepted")
    assert.strictEqual((await getRun(here.ironflow.url, runId)).attempt, 1)
  })

  it("that arrives after a later one is refused, and ends no session", async () => {
    await using here = await shop()
    const copy = new RawTurnWorker(here.ironflow.url)
    await here.worker.register([], undefined, { number: 1 })
    await here.worker.register([], undefined, { number: 3 })
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)

    for (const number of [1, 2]) {
      const late = await copy.register([], undefined, { number })
      assert.deepStrictEqual([late.status, late.body.code], [409, "STALE_REGISTRATION"])
    }

    const reported = await here.worker.report(1, [{ jobId, runId, ops: [complete("done")] }])
    assert.strictEqual(reported.body.acks[0]._tag, "Accepted")
  })

  it("that arrives after its worker has left does not register it again, and ends no other session", async () => {
    await using here = await shop()
    await here.worker.register([], undefined, { number: 1 })
    await here.worker.deregister()
    const late = () => new RawTurnWorker(here.ironflow.url).register([], undefined, { number: 1 })
    const { body, status } = await late()
    assert.deepStrictEqual([status, await workersOf(here.ironflow.url)], [409, []])
    assert.strictEqual(
      body.message,
      'Registration 1 of worker "worker-1" has arrived before: the repetition has no effect, and nothing needs to be done'
    )

    const other = new RawTurnWorker(here.ironflow.url, { instance: "instance-2" })
    await other.register([], undefined, { number: 1 })
    const { jobId, runId } = await firstJob(here.ironflow, other)
    assert.strictEqual((await late()).status, 409)

    const reported = await other.report(1, [{ jobId, runId, ops: [complete("done")] }])
    assert.strictEqual(reported.body.acks[0]._tag, "Accepted")
  })

  it.each([
    [{ registration: undefined }, /`registration` and `instance`/],
    [{ instance: "" }, /`registration` and `instance`/],
    [{ registration: registrationOf("somebody", []) }, /the path says "worker-1"/],
    [{ registration: registrationOf("worker-1", [{ id: "a b" }]) }, /must not contain white space/],
    [{ registration: { ...registrationOf("worker-1", []), functions: 5 } }, /registration\.functions/]
  ])("is refused for %j", async (fields, message) => {
    await using ironflow = await start()

    const { status, body } = await send(ironflow.url, "POST", "/api/v1/workers/worker-1/register", {
      capabilities: { turns: 1 },
      registration: registrationOf("worker-1", []),
      instance: "i",
      ...fields
    })

    assert.strictEqual(status, 400)
    assert.match(body.message, message)
  })
})

describe("delivery", () => {
  it("answers an open poll as soon as there is a job", async () => {
    await using here = await shop()
    const answer = here.worker.poll({ asked: 1 })
    await placeOrder(here.ironflow.url)

    const { body } = await answer

    assert.deepStrictEqual(normalize(body), {
      deliveries: [
        {
          seq: 1,
          job: {
            jobId: "job_1",
            runId: "run_1",
            functionId: "ship-order",
            environment: "default",
            attempt: 1,
            generation: 0,
            event: {
              id: "evt_1",
              name: "order.placed",
              version: 1,
              data: '{"orderId":"o-1"}',
              timestamp: body.deliveries[0].job.event.timestamp
            },
            journal: [],
            open: [],
            lingerMs: 0,
            createdAt: body.deliveries[0].job.createdAt,
            transactions: true
          }
        }
      ]
    })
  })

  it("answers a poll with nothing at its timeout", async () => {
    await using here = await shop()

    const { body } = await here.worker.poll({ asked: 1, waitMs: 1 })

    assert.deepStrictEqual(body, { deliveries: [] })
  })

  it("is repeated until the worker confirms it", async () => {
    await using here = await shop()
    await placeOrder(here.ironflow.url)

    const first = await here.worker.poll({ asked: 1 })
    const again = await here.worker.poll({ asked: 1, seen: 0 })
    const after = await here.worker.poll({ asked: 1, seen: 1, waitMs: 1 })

    assert.lengthOf(first.body.deliveries, 1)
    assert.deepStrictEqual(again.body, first.body)
    assert.deepStrictEqual(after.body, { deliveries: [] })
  })

  it("goes to the newest poll, and the older one ends empty", async () => {
    await using here = await shop()
    const older = here.worker.poll({ asked: 1 })
    await untilPolls(here.ironflow.url, 1)
    const newer = here.worker.poll({ asked: 1 })

    const { body } = await older
    await placeOrder(here.ironflow.url)

    assert.deepStrictEqual(body, { deliveries: [] })
    assert.lengthOf((await newer).body.deliveries, 1)
  })

  it("never exceeds the demand of the worker, however often it is sent", async () => {
    await using here = await shop()
    for (let i = 0; i < 5; i++) await placeOrder(here.ironflow.url)

    const first = await here.worker.poll({ asked: 2 })
    const repeated = await here.worker.poll({ asked: 2, seen: 2, waitMs: 1 })
    const more = await here.worker.poll({ asked: 3, seen: 2 })
    const reordered = await here.worker.poll({ asked: 1, seen: 3, waitMs: 1 })
    const caughtUp = await here.worker.poll({ asked: 3, seen: 3, waitMs: 1 })

    assert.deepStrictEqual(
      [first, repeated, more, reordered, caughtUp].map(({ body }) =>
        body.deliveries.map(({ seq }: any) => seq)
      ),
      [[1, 2], [], [3], [], []]
    )
  })

  it("stops when the worker withdraws its demand", async () => {
    await using here = await shop()
    await here.worker.poll({ asked: 2, waitMs: 1 })
    await here.worker.poll({ asked: 2, withdrawn: 1, waitMs: 1 })
    await placeOrder(here.ironflow.url)
    await placeOrder(here.ironflow.url)

    const { body } = await here.worker.poll({ asked: 2, withdrawn: 1 })

    assert.lengthOf(body.deliveries, 1)
  })

  it("takes new demand from a report, without a new poll", async () => {
    await using here = await shop()
    const answer = here.worker.poll({})
    await untilPolls(here.ironflow.url, 1)
    await placeOrder(here.ironflow.url)
    await here.worker.report(1, [], { asked: 1 })

    assert.lengthOf((await answer).body.deliveries, 1)
  })

  it("includes a cancellation", async () => {
    await using here = await shop()
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    const answer = here.worker.poll({ asked: 1, seen: 1 })
    await rpc(here.ironflow.url, "CancelRun", { id: runId, reason: "changed my mind" })

    const { body } = await answer

    assert.deepStrictEqual(body.deliveries, [
      { seq: 2, notice: { _tag: "Cancelled", jobId, reason: "changed my mind" } }
    ])
  })

  it("includes a finished sleep", async () => {
    await using here = await shop()
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    const answer = here.worker.poll({ asked: 1, seen: 1 })
    await here.worker.report(1, [
      { jobId, runId, ops: [{ _tag: "Sleep", stepKey: "nap:0", name: "nap", due: { afterMs: 1 } }] }
    ])

    const { body } = await answer

    assert.deepStrictEqual(body.deliveries, [
      { seq: 2, notice: { _tag: "Fired", jobId, stepKey: "nap:0", outcome: { _tag: "Success" } } }
    ])
  })
})

describe("a pause", () => {
  const report = { _tag: "Accepted", outcomes: [null] }

  it("is sent to a worker that knows pauses, with the next poll and every answer until its turn has ended", async () => {
    await using here = await shop({ pauses: true })
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    const answer = here.worker.poll({ asked: 1, seen: 1 })

    await rpc(here.ironflow.url, "PauseRun", { run_id: runId })
    const told = await answer
    const charged = await here.worker.report(1, [{ jobId, runId, ops: [stepDone("charge:0", 1)] }])
    await here.worker.register([jobId])
    const again = await here.worker.poll({ asked: 1 })
    const released = await here.worker.report(2, [{ jobId, runId, ops: [{ _tag: "Release" }] }])

    assert.deepStrictEqual(told.body.deliveries, [{ seq: 2, notice: { _tag: "Paused", jobId } }])
    assert.deepStrictEqual(charged.body.acks, [{ ...report, paused: true }])
    assert.deepStrictEqual(again.body.deliveries, [{ seq: 1, notice: { _tag: "Paused", jobId } }])
    assert.deepStrictEqual(released.body.acks, [report])
    assert.strictEqual((await getRun(here.ironflow.url, runId)).status, "RUN_STATUS_PAUSED")
  })

  it("is not sent to a worker of an earlier release; its next report is stored and refused, so that it begins no further step", async () => {
    await using here = await shop()
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)

    await rpc(here.ironflow.url, "PauseRun", { run_id: runId })
    const quiet = await here.worker.poll({ asked: 1, seen: 1, waitMs: 1 })
    const charged = await here.worker.report(1, [{ jobId, runId, ops: [stepDone("charge:0", 1)] }])

    assert.deepStrictEqual(quiet.body.deliveries, [])
    assert.deepInclude(charged.body.acks[0], { _tag: "Refused", reason: "LEASE_LOST" })
    assert.strictEqual((await getRun(here.ironflow.url, runId)).status, "RUN_STATUS_PAUSED")
    await rpc(here.ironflow.url, "ResumeRun", { runId })
    const next = await here.worker.poll({ asked: 2, seen: 2 })
    const { job } = next.body.deliveries.at(-1)
    assert.deepStrictEqual(
      job.journal.map(({ stepKey }: { readonly stepKey: string }) => stepKey),
      ["charge:0"]
    )
  })
})

describe("reports", () => {
  it("are applied and answered one by one", async () => {
    await using here = await shop()
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)

    const { body } = await here.worker.report(1, [
      { jobId, runId, ops: [stepDone("charge:0", { receipt: 1 }), complete({ ok: true })] },
      { jobId: "job_x", runId, ops: [complete(null)] }
    ])

    assert.deepStrictEqual(normalize(body), {
      acks: [
        { _tag: "Accepted", outcomes: [null, null] },
        {
          _tag: "Refused",
          reason: "LEASE_LOST",
          message: "Run run_1 is not leased to job job_x any more"
        }
      ]
    })
    assert.deepStrictEqual((await getRun(here.ironflow.url, runId)).output, { ok: true })
  })

  it("with invalid log lines and traces are applied, and the valid lines are kept", async () => {
    await using here = await shop()
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    const line = { at: 1, level: "info", message: "charged" }
    const bad = [
      { ...line, at: null },
      { ...line, message: 5 },
      { ...line, level: "loud" },
      { ...line, step: 1 },
      { ...line, attempt: -1 },
      { ...line, data: "{" },
      { ...line, data: "[".repeat(10_000) + "]".repeat(10_000) },
      null
    ]
    const publish = {
      _tag: "Publish",
      stepKey: "publish:news:0",
      name: "publish:news",
      topic: "news",
      data: "{}"
    }

    const first = await here.worker.report(1, [
      {
        jobId,
        runId,
        ops: [{ ...publish, trace: { id: 1 } }],
        logs: { lines: [line, ...bad], dropped: "few" }
      }
    ])
    const tooMany = await here.worker.report(2, [
      { jobId, runId, ops: [], logs: { lines: [], dropped: Number.MAX_SAFE_INTEGER } }
    ])
    const last = await here.worker.report(3, [{ jobId, runId, ops: [complete("paid")], logs: "none" }])

    assert.strictEqual(first.body.acks[0]._tag, "Accepted")
    assert.strictEqual(tooMany.status, 200)
    assert.deepStrictEqual(last.body, { acks: [{ _tag: "Accepted", outcomes: [null] }] })
    assert.strictEqual((await getRun(here.ironflow.url, runId)).output, "paid")
    const { body } = await send(here.ironflow.url, "GET", `/api/v1/runs/${runId}/logs`)
    assert.deepStrictEqual(
      body.lines.map(({ message }: { message: string }) => message),
      ["charged"]
    )
  })

  it("are applied once, however often the batch is sent", async () => {
    await using here = await shop()
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    const publish = { _tag: "Publish", stepKey: "publish:a:0", name: "publish:a", topic: "a", data: "1" }
    const reports = [{ jobId, runId, ops: [publish, complete("done")] }]

    const answers = await Promise.all([1, 2, 3].map(() => here.worker.report(1, reports)))
    const later = await here.worker.report(1, reports)

    for (const { status, text } of [...answers, later]) {
      assert.strictEqual(status, 200)
      assert.strictEqual(text, answers[0]!.text)
    }
    assert.strictEqual(answers[0]!.body.acks[0]._tag, "Accepted")
  })

  it("are recognized as repeated in the next session of the same instance", async () => {
    await using here = await shop()
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    const reports = [{ jobId, runId, ops: [complete("done")] }]
    const first = await here.worker.report(1, reports)
    await here.worker.register([jobId])

    const again = await here.worker.report(1, reports)

    assert.strictEqual(again.text, first.text)
  })

  it("with an old number are refused", async () => {
    await using here = await shop()
    await here.worker.report(2, [])

    const { status, body } = await here.worker.report(1, [])

    assert.strictEqual(status, 409)
    assert.strictEqual(body.code, "STALE_BATCH")
  })

  it.each([
    [{ batch: 0 }, /`batch` must be an integer, at least 1/],
    [{ session: 5 }, /`session` must be a string/],
    [{ reports: {} }, /`reports` must be an array/],
    [{ asked: -1 }, /^Reports: `asked` must be an integer, at least 0, got -1$/],
    [
      { reports: [{ jobId: "j" }] },
      /reports\[0\] must have the strings `jobId` and `runId`, and the array `ops`/
    ],
    [{ reports: [{ jobId: "j", runId: "r", ops: [{ _tag: "Dance" }] }] }, /ops\[0\] is not an op/],
    [{ reports: [{ jobId: "j", runId: "r", ops: [{ _tag: "__proto__" }] }] }, /ops\[0\] is not an op/],
    [{ reports: [{ jobId: "j", runId: "r", ops: [null] }] }, /ops\[0\] is not an op/],
    [
      { reports: [{ jobId: "j", runId: "r", ops: [{ _tag: "Release" }, { _tag: "Suspend", open: [] }] }] },
      /ops\[0\] \(Release\) ends the turn/
    ],
    [
      { reports: [{ jobId: "j", runId: "r", ops: [{ _tag: "Complete", output: "{" }] }] },
      /\(Complete\): `output` must be JSON text/
    ],
    [
      { reports: [{ jobId: "j", runId: "r", ops: [{ ...stepDone("a:0", 1), kind: "magic" }] }] },
      /`kind` must be the kind of a step/
    ],
    [
      { reports: [{ jobId: "j", runId: "r", ops: [{ ...stepDone("a:0", 1), startedAt: "now" }] }] },
      /`startedAt` must be a finite number/
    ],
    [
      { reports: [{ jobId: "j", runId: "r", ops: [{ _tag: "Sleep", stepKey: "a:0", name: "a" }] }] },
      /`due` must be \{ afterMs \} or \{ at \}/
    ]
  ])("that cannot be read change nothing: %j", async (fields, message) => {
    await using here = await shop()

    const { status, body } = await send(here.ironflow.url, "POST", "/api/v1/workers/worker-1/turns/reports", {
      session: here.worker.session,
      batch: 1,
      reports: [],
      ...fields
    })

    assert.strictEqual(status, 400)
    assert.match(body.message, message)
  })

  it("of late steps wake the run", async () => {
    await using here = await shop()
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    await here.worker.report(1, [
      {
        jobId,
        runId,
        ops: [
          { _tag: "Sleep", stepKey: "nap:0", name: "nap", due: { afterMs: 3_600_000 } },
          { _tag: "Suspend", open: ["nap:0"] }
        ]
      }
    ])

    const { status } = await here.worker.late(runId)
    const { body } = await here.worker.poll({ asked: 2, seen: 1 })

    assert.strictEqual(status, 204)
    assert.strictEqual(body.deliveries[0].job.runId, runId)
    assert.isAtLeast(body.deliveries[0].job.lingerMs, 50)
  })
})

describe("presence", () => {
  it("ends with the lease when the connection is lost for no known reason, and another worker gets the run", async () => {
    await using here = await shop({ virtualTime: true })
    const { runId } = await firstJob(here.ironflow, here.worker)
    const other = new RawTurnWorker(here.ironflow.url, { id: "worker-2" })
    await other.register()
    const socket = pollOnSocket(here.worker, here.ironflow.port, { asked: 1, seen: 1 })
    await untilPolls(here.ironflow.url, 1)
    const answer = other.poll({ asked: 1 })
    await untilPolls(here.ironflow.url, 2)

    socket.destroy()
    let waited = 0
    await here.ironflow.passUntil(
      async () => (waited++, (await workersOf(here.ironflow.url)).length === 1),
      500
    )
    const { body } = await answer

    assert.isAtLeast(waited, 30)
    assert.isAtMost(waited, 32)
    assert.strictEqual(body.deliveries[0].job.runId, runId)
    assert.strictEqual(body.deliveries[0].job.attempt, 1)
    assert.strictEqual((await here.worker.poll({})).body.code, "WORKER_UNKNOWN")
  })

  it("continues when the worker polls on another connection in time", async () => {
    await using here = await shop({ virtualTime: true })
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    const socket = pollOnSocket(here.worker, here.ironflow.port, { asked: 1, seen: 1 })
    await untilPolls(here.ironflow.url, 1)

    socket.destroy()
    await untilPolls(here.ironflow.url, 0)
    await here.ironflow.pass(4000)
    const back = here.worker.poll({ asked: 1, seen: 1, waitMs: 30_000 })
    await untilPolls(here.ironflow.url, 1)
    await here.ironflow.pass(20_000)
    const { body } = await here.worker.report(1, [{ jobId, runId, ops: [complete(null)] }])
    await here.ironflow.pass(10_000)

    assert.strictEqual(body.acks[0]._tag, "Accepted")
    assert.strictEqual((await back).status, 200)
  })

  it("ends with the lease of a worker that is silent on an open connection", async () => {
    await using here = await shop({ virtualTime: true })
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    const socket = pollOnSocket(here.worker, here.ironflow.port, { asked: 1, seen: 1, waitMs: 0 })
    await new Promise((resolve) => socket.once("data", resolve))

    await here.ironflow.pass(9000)
    const early = await here.worker.report(1, [{ jobId, runId, ops: [stepDone("charge:0", 1)] }])
    await here.ironflow.passUntil(async () => (await workersOf(here.ironflow.url)).length === 0, 1000, 60)
    socket.destroy()

    assert.strictEqual(early.body.acks[0]._tag, "Accepted")
    const run = await getRun(here.ironflow.url, runId)
    assert.strictEqual(run.status, "RUN_STATUS_WAITING")
  })

  it.runIf(identityOf() !== undefined)(
    "ends at once when the connection is closed and its process has ended",
    async () => {
      await using here = await shop({ virtualTime: true })
      const child = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1000)"])
      await here.worker.register([], here.ironflow.url, { process: identityOf(child.pid) })
      const job = await firstJob(here.ironflow, here.worker)
      const socket = pollOnSocket(here.worker, here.ironflow.port, { asked: 1, seen: 1 })
      await untilPolls(here.ironflow.url, 1)
      const other = new RawTurnWorker(here.ironflow.url, { id: "worker-2" })
      await other.register()
      const answer = other.poll({ asked: 1 })
      await untilPolls(here.ironflow.url, 2)

      // the process lives, so that only its connection may have been cut
      socket.destroy()
      await untilPolls(here.ironflow.url, 1)
      await here.ironflow.pass(3000)
      assert.lengthOf(await workersOf(here.ironflow.url), 2)

      const ended = new Promise((resolve) => child.once("exit", resolve))
      child.kill("SIGKILL")
      await ended
      await here.ironflow.pass(1000)

      assert.strictEqual((await answer).body.deliveries[0].job.runId, job.runId)
      assert.lengthOf(await workersOf(here.ironflow.url), 1)
    }
  )

  it("ends the lease of a job that a renewing worker does not name", async () => {
    await using here = await shop({ virtualTime: true })
    await here.worker.register([], here.ironflow.url, { capabilities: { turns: 1, renewals: true } })
    const runIds = [await placeOrder(here.ironflow.url), await placeOrder(here.ironflow.url)]
    const { deliveries } = (await here.worker.poll({ asked: 2 })).body
    const [kept, forgotten] = deliveries.map(({ job }: any) => job)
    assert.sameMembers([kept.runId, forgotten.runId], runIds)

    for (let i = 0; i < 5; i++) {
      await here.ironflow.pass(4000)
      await here.worker.poll({ asked: 2, seen: 2, waitMs: 0, holding: [kept.jobId] })
    }

    const run = await getRun(here.ironflow.url, forgotten.runId)
    assert.notStrictEqual(run.status, "RUN_STATUS_RUNNING")
    const { body } = await here.worker.report(1, [
      { jobId: kept.jobId, runId: kept.runId, ops: [complete(null)] },
      { jobId: forgotten.jobId, runId: forgotten.runId, ops: [complete(null)] }
    ])
    assert.deepStrictEqual(
      body.acks.map((ack: any) => ack._tag),
      ["Accepted", "Refused"]
    )
  })

  it("gives a worker that renews a lost lease a notice of that", async () => {
    await using here = await shop()
    await here.worker.register([], here.ironflow.url, { capabilities: { turns: 1, renewals: true } })
    const { jobId } = await firstJob(here.ironflow, here.worker)

    const { body } = await here.worker.poll({ asked: 1, seen: 1, waitMs: 0, holding: [jobId, "job_gone"] })

    assert.deepStrictEqual(
      body.deliveries.map(({ notice }: any) => [notice._tag, notice.jobId]),
      [["LeaseLost", "job_gone"]]
    )
  })

  it("does not keep a turn that should have ended: it is counted, explained, and then delivered again", async () => {
    await using here = await shop({ virtualTime: true })
    // the function lets a turn take a minute
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    const stuck = async () => {
      const { text } = await send(here.ironflow.url, "GET", "/metrics")
      return Number(/^ironflow_runs_stuck (\d+)$/m.exec(text)?.[1])
    }
    const explained = async () => (await send(here.ironflow.url, "GET", `/api/v1/runs/${runId}/explain`)).body
    const pollFor = async (ms: number) => {
      for (let i = 0; i < ms / 5000; i++) {
        await here.worker.poll({ asked: 1, seen: 1, waitMs: 0 })
        await here.ironflow.pass(5000)
      }
    }

    await pollFor(110_000)
    assert.deepStrictEqual([await stuck(), (await explained()).code], [0, "RUNNING"])
    await pollFor(15_000)
    const explanation = await explained()

    assert.strictEqual(await stuck(), 1)
    assert.strictEqual(explanation.code, "STUCK")
    assert.match(
      explanation.message,
      /Worker worker-1 holds the run, which makes no progress: its turn should have ended 1m after/
    )
    assert.deepInclude(explanation.details, { workerId: "worker-1", workerConnected: true })

    await pollFor(30_000)
    const { body } = await here.worker.poll({ asked: 2, seen: 1, waitMs: 0 })

    assert.deepInclude(body.deliveries[0].notice, { _tag: "LeaseLost", jobId })
    const next = await here.worker.poll({ asked: 2, seen: 2, waitMs: 30_000 })
    assert.deepInclude(next.body.deliveries[0].job, { runId, attempt: 1 })
    await here.ironflow.pass(5000)
    assert.deepStrictEqual([await stuck(), (await explained()).code], [0, "RUNNING"])
  })

  it("keeps the lease of a worker as long as it polls", async () => {
    await using here = await shop({ virtualTime: true })
    const { jobId, runId } = await firstJob(here.ironflow, here.worker)
    for (let i = 0; i < 12; i++) {
      await untilPolls(here.ironflow.url, 0)
      const answer = here.worker.poll({ asked: 1, seen: 1, waitMs: 10_000 })
      await untilPolls(here.ironflow.url, 1)
      await here.ironflow.pass(10_000)
      assert.deepStrictEqual((await answer).body, { deliveries: [] })
    }

    const { body } = await here.worker.report(1, [{ jobId, runId, ops: [complete(null)] }])

    assert.strictEqual(body.acks[0]._tag, "Accepted")
  })

  it("does not count a job as lost that was never delivered", async () => {
    await using here = await shop({ virtualTime: true })
    const socket = pollOnSocket(here.worker, here.ironflow.port, { asked: 1, waitMs: 0 })
    await new Promise((resolve) => socket.once("data", resolve))
    const runId = await placeOrder(here.ironflow.url)
    for (let i = 0; (await getRun(here.ironflow.url, runId)).status !== "RUN_STATUS_RUNNING"; i++) {
      assert.isBelow(i, 500)
    }

    socket.destroy()
    await here.ironflow.passUntil(async () => (await workersOf(here.ironflow.url)).length === 0, 500)
    const other = new RawTurnWorker(here.ironflow.url, { id: "worker-2" })
    await other.register()

    const { body } = await other.poll({ asked: 1 })
    assert.strictEqual(body.deliveries[0].job.runId, runId)
  })

  it("ends at once when the worker deregisters", async () => {
    await using here = await shop()
    const { runId } = await firstJob(here.ironflow, here.worker)
    const other = new RawTurnWorker(here.ironflow.url, { id: "worker-2" })
    await other.register()

    const { status } = await here.worker.deregister()
    const { body } = await other.poll({ asked: 1 })

    assert.strictEqual(status, 204)
    assert.strictEqual(body.deliveries[0].job.runId, runId)
    assert.strictEqual((await here.worker.deregister()).status, 204)
  })
})

describe("after a restart of the engine", () => {
  it("the worker registers again, keeps its turns, and gets the waits that fired meanwhile", async () => {
    using database = temporaryDatabase()
    const before = await start({ filename: database.filename })
    const worker = new RawTurnWorker(before.url)
    await worker.register()
    const { jobId, runId } = await firstJob(before, worker)
    await worker.report(1, [
      { jobId, runId, ops: [{ _tag: "Sleep", stepKey: "nap:0", name: "nap", due: { afterMs: 1 } }] }
    ])
    await before.close()

    await using after = await start({ filename: database.filename })
    const moved = new RawTurnWorker(after.url)
    moved.session = worker.session
    const unknown = await moved.poll({ asked: 1, seen: 1 })
    const registered = await moved.register([jobId, "job_of_yesterday"])
    const { body } = await moved.poll({ asked: 0 })
    const finished = await moved.report(2, [
      { jobId, runId, ops: [{ _tag: "Settle", stepKey: "nap:0" }, complete("done")] }
    ])

    assert.strictEqual(unknown.status, 404)
    assert.strictEqual(unknown.body.code, "WORKER_UNKNOWN")
    assert.deepStrictEqual(registered.body.lost, ["job_of_yesterday"])
    assert.deepInclude(body.deliveries[0].notice, { _tag: "Fired", jobId, stepKey: "nap:0" })
    assert.strictEqual(finished.body.acks[0]._tag, "Accepted")
    assert.strictEqual((await getRun(after.url, runId)).output, "done")
  })

  it("a turn that the worker does not have is dispatched again, without a loss", async () => {
    using database = temporaryDatabase()
    const before = await start({ filename: database.filename })
    const worker = new RawTurnWorker(before.url)
    const { since } = (await worker.register()).body
    const { jobId, runId } = await firstJob(before, worker)
    await before.close()

    await using after = await start({ filename: database.filename })
    const moved = new RawTurnWorker(after.url)
    await moved.register([], after.url, { since })
    const { body } = await moved.poll({ asked: 1 })

    assert.strictEqual(body.deliveries[0].job.runId, runId)
    assert.notStrictEqual(body.deliveries[0].job.jobId, jobId)
  })
})
