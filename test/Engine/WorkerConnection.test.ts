/** The engine's side of a worker's connection. The test plays the engine. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { once } from "node:events"
import process from "node:process"
import { PassThrough } from "node:stream"
import type { RemoteSession } from "../../src/Engine/Workers/RemoteSession.ts"
import { Deliveries } from "../../src/Engine/Workers/Deliveries.ts"
import type { StreamSignals } from "../../src/Engine/Workers/WorkerConnectionOptions.ts"
import { WorkerConnection } from "../../src/Engine/Workers/WorkerConnection.ts"
import { watchedConnection } from "../../src/Server/Workers/WatchedConnections.ts"
import { encodeDelivery } from "../../src/Server/Workers/TurnMessages.ts"
import { ConnectionError, StoreError } from "../../src/Errors.ts"
import type { Job, Notice, TurnAck } from "../../src/Protocol/Worker.ts"

const session = (report: RemoteSession["report"]): RemoteSession => ({
  makeRoom: () => undefined,
  report,
  late: () => Effect.void,
  hasMovedAway: () => false,
  setReachable: () => undefined,
  setFunctionProblem: () => undefined,
  forget: () => undefined,
  take: () => Effect.succeed([]),
  extend: () => Effect.succeed([]),
  adopt: () => Effect.succeed({ lost: [], leftAlone: [], since: "job_0" }),
  noteDropped: () => Effect.void,
  close: () => Effect.void,
  detach: () => undefined
})

const worker = (
  name: string,
  engine: RemoteSession,
  earlier?: WorkerConnection,
  {
    deliveries = new Deliveries(encodeDelivery),
    jobs = [] as ReadonlyArray<string>,
    line = new PassThrough(),
    now = (): number => 0,
    stream = undefined as StreamSignals | undefined
  } = {}
): WorkerConnection =>
  new WorkerConnection(
    {
      workerId: "worker-1",
      environment: "default",
      instance: "worker-1-a",
      session: name,
      engine,
      deliveries,
      jobs,
      functionIds: new Set(["order"]),
      leaseMs: 15_000,
      renews: true,
      seals: false,
      process: undefined,
      now,
      ...(stream === undefined ? {} : { stream }),
      connection: watchedConnection(line),
      fork: Effect.runFork,
      onStale: () => undefined,
      onDead: () => Effect.void
    },
    earlier
  )

describe("a worker that registers again while its reports are being stored", () => {
  const reports = [{ jobId: "job_1", runId: "run_1", ops: [] }]
  const accepted: ReadonlyArray<TurnAck> = [{ _tag: "Accepted", outcomes: [] }]

  /** A session whose batch is being stored, and a newer session of the same instance that has replaced it. */
  const replaced = (engine: RemoteSession["report"]) =>
    Effect.gen(function* () {
      const stored = yield* Deferred.make<ReadonlyArray<TurnAck>, ConnectionError>()
      const before = worker(
        "ses_1",
        session(() => Deferred.await(stored))
      )
      yield* Effect.forkChild(before.report({ session: "ses_1", batch: 1, reports }), {
        startImmediately: true
      })
      before.replace()
      return { stored, after: worker("ses_2", session(engine), before) }
    })

  it.effect("can send a batch that could not be stored again, and it is stored", () =>
    Effect.gen(function* () {
      const { after, stored } = yield* replaced(() => Effect.succeed(accepted))
      yield* Deferred.fail(stored, new ConnectionError("disk full"))
      yield* Effect.yieldNow

      assert.deepStrictEqual(yield* after.report({ session: "ses_2", batch: 1, reports }), accepted)
    })
  )

  it.effect("gets the same answer when the batch was stored", () =>
    Effect.gen(function* () {
      const { after, stored } = yield* replaced(() => Effect.die("stored twice"))
      const again = yield* Effect.forkChild(after.report({ session: "ses_2", batch: 1, reports }))
      yield* Deferred.succeed(stored, accepted)

      assert.deepStrictEqual(yield* Fiber.join(again), accepted)
    })
  )
})

describe("a worker that is told to drop a job", () => {
  const cancelled: Notice = { _tag: "Cancelled", jobId: "job_1", reason: "no stock" }

  /** A worker that was told to drop a job, and the jobs that the engine knows it has dropped. */
  const toldToDrop = (jobs: ReadonlyArray<string> = []) => {
    const dropped: Array<string> = []
    const engine: RemoteSession = {
      ...session(() => Effect.succeed([])),
      noteDropped: (jobIds) => Effect.sync(() => void dropped.push(...jobIds))
    }
    const deliveries = new Deliveries(encodeDelivery)
    const it = worker("ses_1", engine, undefined, { deliveries, jobs })
    // the other fields of the job do not matter here
    deliveries.handlers.onJob({ jobId: "job_1", runId: "run_1" } as Job)
    return { deliveries, dropped, engine, it }
  }

  it.effect("has dropped it when it has seen the notice and no longer names the job", () =>
    Effect.gen(function* () {
      const { deliveries, dropped, it } = toldToDrop()
      deliveries.handlers.onNotice(cancelled)
      // the worker sent the first before the job arrived, and the second between the job and the notice
      yield* it.takeRoom({ session: "ses_1", seen: 0, holding: [] })
      yield* it.takeRoom({ session: "ses_1", seen: 1, holding: ["job_1"] })
      // the worker has seen the notice, and still waits for the answer to a report
      yield* it.takeRoom({ session: "ses_1", seen: 2, holding: ["job_1"] })
      yield* it.takeRoom({ session: "ses_1", seen: 2 })
      assert.deepStrictEqual(dropped, [])

      yield* it.takeRoom({ session: "ses_1", seen: 2, holding: [] })
      yield* it.takeRoom({ session: "ses_1", seen: 2, holding: [] })

      assert.deepStrictEqual(dropped, ["job_1"])
    })
  )

  it.effect("has dropped it when it does not say what it has seen, and stops naming the job", () =>
    Effect.gen(function* () {
      const { deliveries, dropped, it } = toldToDrop()
      deliveries.handlers.onNotice(cancelled)
      yield* it.takeRoom({ session: "ses_1", holding: [] })
      yield* it.takeRoom({ session: "ses_1", holding: ["job_1"] })
      assert.deepStrictEqual(dropped, [])

      yield* it.takeRoom({ session: "ses_1", holding: [] })

      assert.deepStrictEqual(dropped, ["job_1"])
    })
  )

  it.effect("has dropped it when it registers again without the job, or drops it afterwards", () =>
    Effect.gen(function* () {
      for (const jobs of [[], ["job_1"]]) {
        const { deliveries, dropped, engine, it } = toldToDrop()
        deliveries.handlers.onNotice(cancelled)
        it.replace()
        const after = worker("ses_2", engine, it, { jobs })
        yield* after.completeRegistration({ lost: jobs, leftAlone: [], since: "job_0" }, it)
        assert.deepStrictEqual(dropped, jobs.length === 0 ? ["job_1"] : [])

        yield* after.takeRoom({ session: "ses_2", seen: 0, holding: [] })

        assert.deepStrictEqual(dropped, ["job_1"])
      }
    })
  )

  it.effect("has dropped it at its next renewal when the drop could not be stored the first time", () =>
    Effect.gen(function* () {
      const { deliveries, dropped, engine, it } = toldToDrop()
      deliveries.handlers.onNotice(cancelled)
      const { noteDropped: store } = engine
      Object.assign(engine, { noteDropped: () => Effect.fail(new StoreError("disk full")) })
      yield* Effect.flip(it.takeRoom({ session: "ses_1", seen: 2, holding: [] }))
      Object.assign(engine, { noteDropped: store })

      yield* it.takeRoom({ session: "ses_1", seen: 2, holding: [] })

      assert.deepStrictEqual(dropped, ["job_1"])
    })
  )
})

describe("workers that share a connection", () => {
  it("are all notified of its end, unless their session is over, and cause no leak warning of Node.js", async () => {
    const warnings: Array<string> = []
    const onWarning = ({ name }: Error): void => void warnings.push(name)
    process.on("warning", onWarning)
    try {
      const line = new PassThrough()
      const heard: Array<number> = []
      const workers = Array.from({ length: 30 }, (_, i) => {
        const engine = session(() => Effect.succeed([]))
        const setReachable = (isReachable: boolean): void => void (isReachable || heard.push(i))
        return worker(`ses_${i}`, { ...engine, setReachable }, undefined, { line })
      })
      workers[0]!.replace()
      line.destroy()
      await once(line, "close")

      assert.deepStrictEqual(
        heard,
        Array.from({ length: 29 }, (_, i) => i + 1)
      )
      await new Promise(setImmediate)
      assert.deepStrictEqual(warnings, [])
    } finally {
      process.off("warning", onWarning)
    }
  })
})

describe("a job that waited long for its delivery", () => {
  /** A worker with a lease of 15 seconds, a clock, and an engine that says which jobs are lost meanwhile. */
  const longWaiting = (gone: ReadonlyArray<string>, stream?: StreamSignals) => {
    const extended: Array<ReadonlyArray<string>> = []
    let nowMs = 0
    const engine: RemoteSession = {
      ...session(() => Effect.succeed([])),
      extend: (jobIds = []) =>
        Effect.sync(() => {
          extended.push(jobIds)
          return jobIds.filter((jobId) => gone.includes(jobId))
        })
    }
    const deliveries = new Deliveries(encodeDelivery)
    const it = worker("ses_1", engine, undefined, { deliveries, now: () => nowMs, stream })
    const give = (jobId: string) => deliveries.handlers.onJob({ jobId, runId: `run of ${jobId}` } as Job)
    return { extended, give, it, pass: (ms: number) => (nowMs += ms) }
  }
  const poll = { session: "ses_1", seen: 0, waitMs: 0 }
  const idsIn = (deliveries: ReadonlyArray<string>): ReadonlyArray<string> =>
    deliveries.map((text) => {
      const { job, notice } = JSON.parse(text)
      return job === undefined ? `${notice.type ?? notice._tag} ${notice.jobId}` : String(job.jobId)
    })

  it.effect("is extended before a poll delivers it, and comes with a notice when it was lost", () =>
    Effect.gen(function* () {
      const { extended, give, it, pass } = longWaiting(["job_2"])
      give("job_1")
      give("job_2")
      pass(6000)
      give("job_3")

      const { deliveries } = yield* it.poll(poll, watchedConnection(new PassThrough()))

      assert.deepStrictEqual(extended, [["job_1", "job_2"]])
      assert.deepStrictEqual(idsIn(deliveries).slice(0, 3), ["job_1", "job_2", "job_3"])
      assert.match(idsIn(deliveries)[3] ?? "", /LeaseLost job_2/)
      assert.lengthOf(deliveries, 4)
    })
  )

  it.effect("is not extended when it is delivered soon", () =>
    Effect.gen(function* () {
      const { extended, give, it, pass } = longWaiting([])
      give("job_1")
      pass(4000)
      const { deliveries } = yield* it.poll(poll, watchedConnection(new PassThrough()))
      assert.deepStrictEqual([idsIn(deliveries), extended], [["job_1"], []])
    })
  )

  it.live("waits for the answer before a stream delivers it", () =>
    Effect.gen(function* () {
      const woken = yield* Deferred.make<void>()
      const { extended, give, it, pass } = longWaiting(["job_1"], {
        wake: () => {
          if (extended.length > 0) Deferred.doneUnsafe(woken, Effect.void)
        },
        end: () => undefined
      })
      give("job_1")
      pass(6000)
      assert.isFalse(it.hasMore)
      yield* Deferred.await(woken)
      assert.isTrue(it.hasMore)
      const { deliveries } = it.takeNew()
      assert.strictEqual(idsIn(deliveries)[0], "job_1")
      assert.match(idsIn(deliveries)[1] ?? "", /LeaseLost job_1/)
    })
  )
})
