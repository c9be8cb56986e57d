/** Leases that end without a report: workers that leave, die or send nothing more. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import {
  done,
  handles,
  invoke,
  retryRun,
  retryStep,
  type ShopTest,
  sleep,
  success,
  suspend,
  waitFor
} from "./Shop.ts"
import * as ExtendLeases from "../../../../src/Engine/Turns/ExtendLeases.ts"
import * as LostLeases from "../../../../src/Engine/Turns/LostLeases.ts"
import * as Stuck from "../../../../src/Engine/Runs/Stuck.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"
import * as FireDue from "../../../../src/Engine/Schedules/FireDue.ts"
import * as Reports from "../../../../src/Engine/Turns/Reports.ts"
import * as RunInspection from "../../../../src/Engine/Runs/RunInspection.ts"

export const leasesSuite = (test: ShopTest): void => {
  describe("a lease without progress", () => {
    const holder = (limitMs?: number) => () => ({
      turnLimits: limitMs === undefined ? undefined : new Map([["charge", limitMs]])
    })
    const noWorker = () => undefined

    test("is counted when its turn has exceeded the time limit of its worker, and not before", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      const count = (limitMs?: number) => Stuck.countStuckRuns(shop.store, holder(limitMs))

      yield* shop.pass(119_999)
      assert.deepStrictEqual([yield* count(60_000), yield* count(3_600_000), yield* count()], [0, 0, 0])
      yield* shop.pass(1)
      assert.deepStrictEqual([yield* count(60_000), yield* count(3_600_000), yield* count()], [1, 0, 0])

      yield* shop.report(job, { _tag: "Complete", output: undefined })
      assert.strictEqual(yield* count(60_000), 0)
    })

    test("cannot be renewed by a worker that should have ended its turn, but by any other", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 200_000 })
      const until = () => Effect.map(shop.situation(job.runId), ({ lease }) => lease?.until)
      yield* shop.pass(120_000)

      assert.deepStrictEqual(
        yield* shop.store.write(ExtendLeases.extendLeases("default", [job.jobId], 100_000, holder(60_000)())),
        []
      )
      assert.strictEqual(yield* until(), 200_000)
      assert.deepStrictEqual(
        yield* shop.store.write(ExtendLeases.extendLeases("default", [job.jobId], 100_000, holder(60_001)())),
        []
      )
      assert.strictEqual(yield* until(), 220_000)
      assert.deepStrictEqual(
        yield* shop.store.write(ExtendLeases.extendLeases("default", [job.jobId], 100_001)),
        []
      )
      assert.strictEqual(yield* until(), 220_001)
    })

    test("is not counted during a rollback, which has no time limit", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, {
        _tag: "Compensate",
        error: { name: "Error", message: "no van" },
        compensations: ["charge"]
      })
      yield* shop.pass(10_000_000)

      assert.strictEqual(yield* Stuck.countStuckRuns(shop.store, holder(60_000)), 0)
    })

    test("is counted when it has no end and its worker is not connected", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.start()

      yield* shop.pass(59_999)
      assert.strictEqual(yield* Stuck.countStuckRuns(shop.store, noWorker), 0)
      yield* shop.pass(1)
      assert.strictEqual(yield* Stuck.countStuckRuns(shop.store, noWorker), 1)
      assert.strictEqual(yield* Stuck.countStuckRuns(shop.store, holder()), 0)
    })

    test("is counted when it expired a minute ago and the run was not taken back", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.start("order.placed", {}, { leaseMs: 30_000 })

      yield* TestClock.adjust(89_999)
      assert.strictEqual(yield* Stuck.countStuckRuns(shop.store, noWorker), 0)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Stuck.countStuckRuns(shop.store, noWorker), 1)
      yield* shop.fire()
      assert.strictEqual(yield* Stuck.countStuckRuns(shop.store, noWorker), 0)
    })
  })

  describe("a worker that is gone", () => {
    test("gives its runs back when it leaves, which does not count as a loss", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      for (let i = 0; i < 12; i++) {
        assert.strictEqual(yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", false)), 1)
        yield* shop.claimOne()
      }

      assert.strictEqual(yield* shop.store.write(LostLeases.releaseWorker("default", "worker-2", false)), 0)
      assert.strictEqual((yield* shop.run(job.runId)).attempt, 1)
    })

    test("does not count as an attempt: after the first loss the run continues at once, after others with growing delays", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      for (const delay of [0, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
        yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))
        if (delay > 0) {
          yield* shop.pass(delay - 1)
          assert.deepStrictEqual(yield* shop.claim(), [], `before ${delay} ms`)
          yield* shop.pass(1)
        }
        const next = yield* shop.claimOne()
        assert.strictEqual(next.attempt, 1)
      }

      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))

      const { run, pause } = yield* shop.situation(job.runId)
      assert.strictEqual(run.status, "paused")
      assert.deepInclude(pause, { code: "LOST_REPEATEDLY" })
      assert.deepInclude(pause?.details, { losses: 10 })
      yield* shop.pass(1_000_000)
      assert.deepStrictEqual(yield* shop.claim(), [])
    })

    test("may lose one turn only, with the reason", function* (shop) {
      yield* shop.register(handles("charge"))
      const first = yield* shop.start()
      const second = yield* shop.start()

      assert.isTrue(yield* shop.store.write(LostLeases.loseLease("default", first.jobId, "it was dropped")))
      assert.isFalse(yield* shop.store.write(LostLeases.loseLease("default", first.jobId, "it was dropped")))
      assert.isFalse(yield* shop.store.write(LostLeases.loseLease("default", "job_nobody", "it was dropped")))

      assert.strictEqual(yield* shop.status(second.runId), "running")
      for (let i = 0; i < 9; i++) {
        const again = yield* shop.claimOne()
        assert.deepInclude(again, { runId: first.runId, attempt: 1 })
        yield* shop.store.write(LostLeases.loseLease("default", again.jobId, "it was dropped"))
        yield* shop.pass(100_000)
      }
      const { pause } = yield* shop.situation(first.runId)
      assert.deepInclude(pause?.details, { losses: 10, last: "it was dropped" })
    })

    test("is forgotten as a loss after progress of the run, and after a resume", function* (shop) {
      yield* shop.register(handles("charge"))
      let job = yield* shop.start()
      const lose = Effect.gen(function* () {
        yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))
        yield* shop.pass(100_000)
      })
      for (let i = 0; i < 9; i++) {
        yield* lose
        job = yield* shop.claimOne()
      }
      yield* shop.report(job, done("charge:0"))
      for (let i = 0; i < 9; i++) {
        yield* lose
        job = yield* shop.claimOne()
      }
      yield* lose
      assert.strictEqual(yield* shop.status(job.runId), "paused")

      yield* shop.store.write(RunControl.resumeRun("default", job.runId))
      yield* shop.claimOne()
      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))
      assert.strictEqual((yield* shop.claim()).length, 1)
    })

    test("keeps fired waits in the journal", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("rest:0", 1))
      yield* shop.pass(1)

      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))

      assert.deepStrictEqual(
        (yield* shop.claimOne()).journal.map(({ stepKey }) => stepKey),
        ["rest:0"]
      )
    })

    test("does not undo a requested pause", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, "stock-taking"))

      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))

      assert.strictEqual(yield* shop.status(job.runId), "paused")
      assert.deepStrictEqual(yield* shop.claim(), [])
      yield* shop.store.write(RunControl.resumeRun("default", job.runId))
      assert.strictEqual((yield* shop.claim()).length, 1)
    })
  })

  describe("a lease that can expire", () => {
    test("holds until it expires, then the run is taken back and its worker is told", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
      assert.strictEqual(shop.lastChanges?.dueAt, 1000)
      assert.deepStrictEqual((yield* shop.situation(job.runId)).lease, {
        workerId: "worker-1",
        functionId: "charge",
        since: 0,
        until: 1000,
        isRollback: false
      })

      yield* shop.pass(999)
      assert.deepStrictEqual(yield* shop.claim({ worker: "worker-2" }), [])
      yield* shop.pass(1)

      assert.deepStrictEqual(shop.takeNotices(), ["LeaseLost"])
      assert.strictEqual((yield* shop.claim({ worker: "worker-2" })).length, 1)
      assert.strictEqual(yield* shop.refused(job, done("charge:0")), "LEASE_LOST")
    })

    test("holds longer when it is extended, and a lost lease is reported", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
      yield* shop.pass(900)

      assert.deepStrictEqual(
        yield* shop.store.write(ExtendLeases.extendLeases("default", [job.jobId, "job_gone"], 1000)),
        ["job_gone"]
      )

      yield* shop.pass(999)
      assert.strictEqual(yield* shop.status(job.runId), "running")
      yield* shop.pass(1)
      assert.deepStrictEqual(
        yield* shop.store.write(ExtendLeases.extendLeases("default", [job.jobId], 1000)),
        [job.jobId]
      )
    })

    test("ends when the engine is gone if a push endpoint has it, since its request is closed, and no other does", function* (shop) {
      yield* shop.register(handles("charge"))
      const pushed = yield* shop.start("order.placed", {}, { leaseMs: 1000, worker: "push-0123456789abcdef" })
      const revoked = yield* shop.start(
        "order.placed",
        {},
        { leaseMs: 1000, worker: "push-0123456789abcdef" }
      )
      yield* shop.store.write(RunControl.cancelRun("default", revoked.runId, ""))
      yield* shop.store.write(RunControl.retryRun("default", revoked.runId, undefined))
      const pulled = yield* shop.start("order.placed", {}, { leaseMs: 1000, worker: "push-me" })

      yield* shop.store.write(LostLeases.recoverLeases())

      const again = yield* shop.claim({ worker: "worker-2", room: 10 })
      assert.sameMembers(
        again.map(({ runId }) => runId),
        [pushed.runId, revoked.runId]
      )
      assert.strictEqual(yield* shop.refused(pushed, done("charge:0")), "LEASE_LOST")
      yield* shop.report(pulled, done("charge:0"))
    })

    test("is extended in its own environment only", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
      const extended = (environment: string) =>
        shop.store.write(ExtendLeases.extendLeases(environment, [job.jobId], 2000))

      assert.deepStrictEqual(yield* extended("elsewhere"), [job.jobId])
      yield* shop.pass(999)
      assert.strictEqual(yield* shop.status(job.runId), "running")
      assert.deepStrictEqual(yield* extended(job.environment), [])
      yield* shop.pass(1999)
      assert.strictEqual(yield* shop.status(job.runId), "running")
      assert.deepStrictEqual(yield* extended("elsewhere"), [job.jobId])
      yield* shop.pass(1)
      assert.strictEqual(yield* shop.status(job.runId), "waiting")
    })

    test("continues when its worker reconnects with it, and fired waits are sent again", function* (shop) {
      yield* shop.register(handles("charge"))
      for (const n of [1, 2]) yield* shop.emit("order.placed", { n })
      const [kept, left] = yield* shop.claim({ room: 2, leaseMs: 1000 })
      yield* shop.report(kept!, sleep("rest:0", 400), retryStep("charge:0", 1, 500))
      yield* shop.pass(500)

      const { lost, notices } = yield* shop.store.write(
        ExtendLeases.adoptLeases(
          "default",
          "worker-1",
          [kept!.jobId, "job_gone"],
          1000,
          new Set(["charge"]),
          "job_0"
        )
      )

      assert.deepStrictEqual(lost, ["job_gone"])
      assert.deepStrictEqual(notices, [
        { _tag: "Fired", jobId: kept!.jobId, stepKey: "rest:0", outcome: success() },
        { _tag: "Fired", jobId: kept!.jobId, stepKey: "charge:0", failures: 1 }
      ])
      assert.deepStrictEqual(
        (yield* shop.claim({ worker: "worker-2" })).map(({ runId }) => runId),
        [left!.runId]
      )
      yield* shop.pass(999)
      assert.strictEqual(yield* shop.status(kept!.runId), "running")
      yield* shop.pass(1)
      assert.strictEqual(yield* shop.status(kept!.runId), "waiting")
    })

    test("is not extended when it never expires", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()

      assert.deepStrictEqual(
        yield* shop.store.write(ExtendLeases.extendLeases("default", [job.jobId], 1000)),
        []
      )

      yield* shop.pass(2000)
      assert.strictEqual(yield* shop.status(job.runId), "running")
    })

    test("expires in order with all other due work", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
      yield* shop.report(job, sleep("rest:0", 3000))

      assert.deepStrictEqual(yield* FireDue.fireDue(shop.store), { count: 0, nextDueAt: 1000 })
      yield* shop.pass(1000)
      assert.deepStrictEqual(yield* FireDue.fireDue(shop.store), { count: 0, nextDueAt: 3000 })
      yield* shop.pass(2000)
      assert.deepStrictEqual(yield* FireDue.fireDue(shop.store), {
        count: 0,
        nextDueAt: Number.POSITIVE_INFINITY
      })
    })
  })

  describe("what is due", () => {
    test("fires in batches until nothing is left", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* Effect.forEach(
        Array.from({ length: 600 }, (_, i) => i),
        () => shop.emit("order.placed"),
        { concurrency: "unbounded" }
      )
      const jobs = yield* shop.claim({ room: 1000 })
      yield* Reports.applyReports(
        shop.store,
        "default",
        jobs.map(({ jobId, runId }) => ({ jobId, runId, ops: [sleep("rest:0", 1000), suspend()] }))
      )

      assert.strictEqual(yield* shop.pass(1000), 600)
      assert.strictEqual((yield* shop.claim({ room: 1000 })).length, 600)
    })

    test("is not blocked by a time after the last date, which the database cannot represent", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }))
      const far = yield* shop.start()
      yield* shop.report(
        far,
        done("charge:0", success(), { startedAt: 1e17, endedAt: 1e17 }),
        sleep("for:0", 1e16),
        sleep("until:0", { at: 1e17 }),
        sleep("ever:0", Number.MAX_VALUE),
        retryStep("pay:0", 1, 1e16),
        waitFor("paid:0", "order.paid", { timeoutMs: 1e16 }),
        invoke("child:0", "ship", { timeoutMs: 1e16 }),
        suspend("for:0", "until:0", "ever:0", "pay:0", "paid:0", "child:0")
      )
      const child = yield* shop.claimOne()
      yield* shop.report(child, retryRun(1e16))
      const near = yield* shop.start()
      yield* shop.report(near, sleep("rest:0", 1000), suspend("rest:0"))

      assert.strictEqual(yield* shop.pass(1000), 1)

      assert.strictEqual((yield* shop.claimOne()).runId, near.runId)
      assert.include(
        (yield* shop.situation(far.runId)).waits.map(({ dueAt }) => dueAt),
        8.64e15
      )
      assert.strictEqual((yield* RunInspection.getRunSteps(shop.store, "default", far.runId)).length, 7)
    })
  })

  describe("a step call after the end of its turn", () => {
    test("dispatches the run again with a longer linger, from 50 ms doubling to 5 s", function* (shop) {
      yield* shop.register(handles("charge"))
      let job = yield* shop.start()
      for (const linger of [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]) {
        yield* shop.report(job, sleep("rest:0", 1_000_000), suspend("rest:0"))
        assert.deepStrictEqual(yield* shop.claim(), [])
        yield* shop.store.write(Reports.noteHandlerWentOn("default", job.runId, job.lingerMs))
        job = yield* shop.claimOne()
        assert.strictEqual(job.lingerMs, linger)
      }
    })

    test("does nothing to a run that has ended, is live or is unknown", function* (shop) {
      yield* shop.register(handles("charge"))
      const live = yield* shop.start()
      yield* shop.store.write(Reports.noteHandlerWentOn("default", live.runId, 0))
      yield* shop.store.write(Reports.noteHandlerWentOn("default", "run_unknown", 0))
      assert.deepStrictEqual(yield* shop.claim(), [])

      yield* shop.store.write(RunControl.cancelRun("default", live.runId, ""))
      yield* shop.store.write(Reports.noteHandlerWentOn("default", live.runId, 0))
      assert.deepStrictEqual(yield* shop.claim(), [])
    })
  })
}
