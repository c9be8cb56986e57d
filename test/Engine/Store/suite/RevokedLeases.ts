/** Runs that are taken back from a worker which may still execute them. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Job } from "../../../../src/Protocol/Worker.ts"
import { complete, done, fail, handles, type Shop, type ShopTest, success, suspend, waitFor } from "./Shop.ts"
import * as ExtendLeases from "../../../../src/Engine/Turns/ExtendLeases.ts"
import * as LostLeases from "../../../../src/Engine/Turns/LostLeases.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"
import * as Reports from "../../../../src/Engine/Turns/Reports.ts"
import * as Stuck from "../../../../src/Engine/Runs/Stuck.ts"

/** The ways to take a run back while a worker executes its turn. */
const ways = {
  "cancelled and retried": (shop: Shop, { runId }: Job) =>
    Effect.andThen(
      shop.store.write(RunControl.cancelRun("default", runId, "")),
      shop.store.write(RunControl.retryRun("default", runId, undefined))
    ),
  patched: (shop: Shop, { runId }: Job) =>
    shop.store.write(RunControl.patchStep("default", `${runId}:charge:0`, '"mended"', "")),
  "resumed from a step": (shop: Shop, { runId }: Job) =>
    Effect.andThen(
      shop.store.write(RunControl.pauseRun("default", runId, "")),
      shop.store.write(RunControl.resumeRun("default", runId, "charge"))
    ),
  "paused with the next report of a worker that does not understand, and resumed": (
    shop: Shop,
    { jobId, runId }: Job
  ) =>
    Effect.andThen(
      shop.store.write(RunControl.pauseRun("default", runId, "")),
      Effect.andThen(
        Reports.applyReports(shop.store, "default", [{ jobId, runId, ops: [done("pack:0")] }], {
          revokesOnPause: true
        }),
        shop.store.write(RunControl.resumeRun("default", runId, undefined))
      )
    )
}

export const revokedLeasesSuite = (test: ShopTest): void => {
  /** Gives a run to a worker. By default the lease lasts one second longer than the second that passes here. */
  const startHeldRun = (shop: Shop, leaseMs = 2000) =>
    Effect.gen(function* () {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {}, { leaseMs })
      yield* shop.report(job, done("charge:0"))
      yield* shop.pass(1000)
      return job
    })
  const otherWorker = { worker: "worker-2", room: 10 }

  describe.each(Object.entries(ways))("a run that is %s while a worker executes it", (_, takeBack) => {
    test("goes to no other worker before the lease has expired", function* (shop) {
      const job = yield* startHeldRun(shop)
      yield* takeBack(shop, job)

      yield* shop.pass(999)
      assert.deepStrictEqual(yield* shop.claim(otherWorker), [])
      assert.deepStrictEqual(yield* shop.claim({ room: 10 }), [])
      assert.strictEqual(yield* Stuck.countStuckRuns(shop.store), 0)
      yield* shop.pass(1)

      assert.strictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
      // it does not count as a loss of the run
      assert.notProperty(yield* shop.situation(job.runId), "losses")
    })

    test("goes to other workers as soon as the worker has stopped it, and the lease cannot be renewed", function* (shop) {
      const job = yield* startHeldRun(shop)
      yield* takeBack(shop, job)

      assert.deepStrictEqual(
        yield* shop.store.write(ExtendLeases.extendLeases("default", [job.jobId, `~${job.jobId}`], 60_000)),
        [job.jobId, `~${job.jobId}`]
      )
      yield* shop.store.write(LostLeases.endRevokedLeases("default", ["job_another"]))
      assert.deepStrictEqual(yield* shop.claim(otherWorker), [])
      yield* shop.store.write(LostLeases.endRevokedLeases("default", [job.jobId]))

      assert.strictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
    })

    for (const lost of [true, false]) {
      test(`goes to other workers as soon as the worker ${lost ? "has died" : "has left"}`, function* (shop) {
        const job = yield* startHeldRun(shop)
        yield* takeBack(shop, job)
        yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", lost))

        assert.strictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
      })
    }

    test("goes to other workers as soon as the turn is lost, as when an endpoint is cut off", function* (shop) {
      const job = yield* startHeldRun(shop)
      yield* takeBack(shop, job)

      assert.isFalse(yield* shop.store.write(LostLeases.loseLease("default", job.jobId, "it was cut off")))

      assert.strictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
      assert.notProperty(yield* shop.situation(job.runId), "losses")
    })

    test("no longer belongs to the worker, even when the worker claims it", function* (shop) {
      const job = yield* startHeldRun(shop)
      yield* takeBack(shop, job)

      for (const jobId of [job.jobId, `~${job.jobId}`]) {
        assert.strictEqual(yield* shop.refused({ ...job, jobId }, done("ship:0")), "LEASE_LOST")
        const { lost } = yield* shop.store.write(
          ExtendLeases.adoptLeases("default", "worker-1", [jobId], 60_000, new Set(["charge"]))
        )
        assert.deepStrictEqual(lost, [jobId])
      }
      assert.deepStrictEqual(yield* shop.claim(otherWorker), [])
    })

    test("goes to other workers when the worker reports the end of the turn, which is refused", function* (shop) {
      const job = yield* startHeldRun(shop)
      yield* takeBack(shop, job)
      assert.strictEqual(yield* shop.refused(job, done("ship:0"), complete("shipped")), "LEASE_LOST")

      const next = yield* shop.claimOne(otherWorker)

      assert.notInclude(
        next.journal.map(({ stepKey }) => stepKey),
        "ship:0"
      )
    })

    test("can be cancelled and retried again, and still waits only for the first lease", function* (shop) {
      const job = yield* startHeldRun(shop)
      yield* takeBack(shop, job)
      yield* shop.pass(500)
      yield* shop.store.write(RunControl.cancelRun("default", job.runId, ""))
      yield* shop.store.write(RunControl.retryRun("default", job.runId, undefined))

      yield* shop.pass(499)
      assert.deepStrictEqual(yield* shop.claim(otherWorker), [])
      yield* shop.pass(1)

      assert.strictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
    })

    test("can be paused meanwhile, and continues when it is resumed", function* (shop) {
      const job = yield* startHeldRun(shop)
      yield* takeBack(shop, job)
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))
      assert.strictEqual(yield* shop.status(job.runId), "paused")
      yield* shop.store.write(RunControl.resumeRun("default", job.runId, undefined))
      assert.deepStrictEqual(yield* shop.claim(otherWorker), [])
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))
      yield* shop.pass(1000)
      assert.deepStrictEqual(yield* shop.claim(otherWorker), [])

      yield* shop.store.write(RunControl.resumeRun("default", job.runId, undefined))

      assert.strictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
    })

    test("goes to other workers at once when its worker is in the process of the engine and has been told", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("charge:0"))
      yield* takeBack(shop, job)

      assert.strictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
    })
  })

  describe("a lease that was revoked", () => {
    test("counts a cancelled run under its limit until the worker has stopped it", function* (shop) {
      yield* shop.register(handles("charge", { concurrency: { limit: 1 } }))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
      yield* shop.emit("order.placed")
      yield* shop.store.write(RunControl.cancelRun("default", job.runId, ""))
      assert.deepStrictEqual(yield* shop.claim(otherWorker), [])

      yield* shop.store.write(LostLeases.endRevokedLeases("default", [job.jobId]))

      assert.notStrictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
      assert.strictEqual(yield* shop.status(job.runId), "cancelled")
    })

    test("leaves a cancelled run cancelled when nobody retries it", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
      yield* shop.store.write(RunControl.cancelRun("default", job.runId, ""))
      yield* shop.pass(1000)

      assert.strictEqual(yield* shop.status(job.runId), "cancelled")
      assert.deepStrictEqual(yield* shop.claim(otherWorker), [])
    })

    test("does not keep the run from the event that one of its steps waits for", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
      yield* shop.report(job, done("charge:0"), waitFor("paid:0", "order.paid"))
      yield* shop.store.write(RunControl.patchStep("default", `${job.runId}:charge:0`, '"mended"', ""))
      yield* shop.emit("order.paid", { amount: 3 })
      yield* shop.pass(1000)

      const next = yield* shop.claimOne({ ...otherWorker, leaseMs: 1000 })

      assert.deepStrictEqual(
        next.journal.map(({ stepKey }) => stepKey),
        ["charge:0", "paid:0"]
      )
      yield* shop.report(next, suspend())
    })

    test("is shown in the situation of its run", function* (shop) {
      const job = yield* startHeldRun(shop)
      yield* shop.store.write(RunControl.patchStep("default", `${job.runId}:charge:0`, '"mended"', ""))

      assert.deepInclude((yield* shop.situation(job.runId)).lease, {
        workerId: "worker-1",
        until: 2000,
        isRevoked: true
      })
    })

    test("is not left behind when the worker had ended the turn before", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
      yield* shop.report(job, done("charge:0", success(1)), fail("no stock"))
      yield* shop.store.write(RunControl.retryRun("default", job.runId, undefined))

      assert.strictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
    })
  })

  for (const [what, takeBack] of [["held", () => Effect.void], ...Object.entries(ways)] as const) {
    test(`a new worker leaves alone runs that an earlier worker with its id may be executing: a run that is ${what}`, function* (shop) {
      const job = yield* startHeldRun(shop)

      const {
        leftAlone: left,
        lost,
        since
      } = yield* shop.store.write(
        ExtendLeases.adoptLeases("default", "worker-1", [], 2000, new Set(["charge"]))
      )
      assert.deepStrictEqual([left, lost], [[job.jobId], []])
      yield* takeBack(shop, job)
      yield* shop.store.write(
        ExtendLeases.adoptLeases("default", "worker-1", [], 2000, new Set(["charge"]), since)
      )
      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", false, new Set(left)))
      assert.deepStrictEqual(yield* shop.claim(otherWorker), [])
      yield* shop.pass(1000)

      assert.strictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
    })
  }

  test("a worker that reconnects gives up at once the runs that it was given since it connected and does not name", function* (shop) {
    yield* shop.register(handles("charge"))
    const { since } = yield* shop.store.write(
      ExtendLeases.adoptLeases("default", "worker-1", [], 2000, new Set(["charge"]))
    )
    const job = yield* shop.start("order.placed", {}, { leaseMs: 2000 })

    const { leftAlone: left } = yield* shop.store.write(
      ExtendLeases.adoptLeases("default", "worker-1", [], 2000, new Set(["charge"]), since)
    )

    assert.deepStrictEqual(left, [])
    assert.strictEqual((yield* shop.claimOne(otherWorker)).runId, job.runId)
  })
}
