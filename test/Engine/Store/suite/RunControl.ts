/** Run control and inspection. */
import type { ListRunsQuery } from "../../../../src/Engine/Runs/RunRecords.ts"
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Job, TurnOp } from "../../../../src/Protocol/Worker.ts"
import {
  compensate,
  complete,
  done,
  environment,
  fail,
  failure,
  handles,
  invoke,
  pause,
  release,
  retryRun,
  retryStep,
  type Shop,
  type ShopTest,
  sleep,
  success,
  suspend,
  waitFor
} from "./Shop.ts"
import { countFailedRuns } from "../../../../src/Engine/Runs/FailedRuns.ts"
import * as ExtendLeases from "../../../../src/Engine/Turns/ExtendLeases.ts"
import * as LostLeases from "../../../../src/Engine/Turns/LostLeases.ts"
import * as RunRetention from "../../../../src/Engine/Runs/RunRetention.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"
import * as Reports from "../../../../src/Engine/Turns/Reports.ts"
import * as RunInspection from "../../../../src/Engine/Runs/RunInspection.ts"
import * as RunList from "../../../../src/Engine/Runs/RunList.ts"

const code = (effect: Effect.Effect<unknown, { readonly code: string }>) =>
  Effect.map(Effect.flip(effect), (error) => error.code)

export const runControlSuite = (test: ShopTest): void => {
  const cancel = (shop: Shop, runId: string, reason = "no stock") =>
    shop.store.write(RunControl.cancelRun("default", runId, reason))

  describe("cancelRun", () => {
    test("ends a ready, waiting or paused run for good", function* (shop) {
      yield* shop.register(handles("charge"))
      const waiting = yield* shop.start()
      yield* shop.report(waiting, sleep("rest:0", 1000), suspend())
      const paused = yield* shop.start()
      yield* shop.report(paused, pause)
      const ready = (yield* shop.emit("order.placed")).runIds[0]!

      for (const runId of [waiting.runId, paused.runId, ready]) {
        const run = yield* cancel(shop, runId)
        assert.deepStrictEqual(
          [run.status, run.error?.code, run.error?.message],
          ["cancelled", "RUN_CANCELLED", "no stock"]
        )
      }
      yield* shop.pass(1000)
      assert.deepStrictEqual(yield* shop.claim({ room: 10 }), [])
    })

    test("tells the live turn why", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* cancel(shop, job.runId)

      assert.deepStrictEqual(shop.notices, [
        { workerId: "worker-1", notice: { _tag: "Cancelled", jobId: job.jobId, reason: "no stock" } }
      ])
    })

    test("leaves a run that has already ended unchanged", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, complete(1))
      const before = yield* shop.run(job.runId)
      yield* shop.pass(1)

      assert.deepStrictEqual(yield* cancel(shop, job.runId), before)
    })
  })

  describe("the failed runs", () => {
    test("are counted by function, slice after slice, without retried runs", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship"))
      for (let i = 0; i < 3; i++) {
        yield* shop.emit("order.placed")
        for (const job of yield* shop.claim({ room: 10 })) {
          yield* shop.report(job, job.functionId === "ship" && i > 0 ? complete() : fail("declined"))
        }
      }
      const countFailed = (size?: number) =>
        Effect.map(countFailedRuns(shop.store, size), (all) =>
          all.map(({ count, environment, functionId }) => [environment, functionId, count])
        )
      const before = [
        [environment, "charge", 3],
        [environment, "ship", 1]
      ]
      for (const size of [1, 2, 4, 5, undefined]) {
        assert.deepStrictEqual((yield* countFailed(size)).toSorted(), before, `${size}`)
      }

      const { runs } = yield* RunList.listRuns(shop.store, { environment, functionId: "charge", limit: 10 })
      yield* shop.store.write(RunControl.retryRun(environment, runs[0]!.id))

      assert.deepStrictEqual((yield* countFailed()).toSorted(), [
        [environment, "charge", 2],
        [environment, "ship", 1]
      ])
    })
  })

  describe("pauseRun and resumeRun", () => {
    test("a paused run is not handed out, keeps what arrives meanwhile, and continues when resumed", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("rest:0", 1000), waitFor("paid:0", "order.paid"), suspend())
      const paused = yield* shop.store.write(RunControl.pauseRun("default", job.runId, "stock-taking"))
      assert.deepStrictEqual([paused.status, paused.pauseReason], ["paused", "stock-taking"])

      yield* shop.pass(1000)
      yield* shop.emit("order.paid")
      yield* shop.store.write(Reports.noteHandlerWentOn("default", job.runId, 0))
      assert.deepStrictEqual(yield* shop.claim(), [])

      const resumed = yield* shop.store.write(RunControl.resumeRun("default", job.runId))
      assert.strictEqual(resumed.status, "waiting")
      assert.notProperty(resumed, "pauseReason")
      assert.deepStrictEqual(
        (yield* shop.claimOne()).journal.map(({ stepKey }) => stepKey),
        ["rest:0", "paid:0"]
      )
    })

    test("a run that is ready is not handed out once it is paused", function* (shop) {
      yield* shop.register(handles("charge"))
      const { runIds } = yield* shop.emit("order.placed")
      yield* shop.store.write(RunControl.pauseRun("default", runIds[0]!, ""))

      assert.deepStrictEqual(yield* shop.claim(), [])
      assert.strictEqual((yield* shop.run(runIds[0]!)).pauseReason, "Paused by a client")
      yield* shop.store.write(RunControl.resumeRun("default", runIds[0]!))
      assert.strictEqual((yield* shop.claim()).length, 1)
    })

    const answer = (shop: Shop, job: Job, ops: ReadonlyArray<TurnOp>, revokesOnPause = false) =>
      Effect.map(
        Reports.applyReports(shop.store, "default", [{ jobId: job.jobId, runId: job.runId, ops }], {
          revokesOnPause
        }),
        ([ack]) => ack
      )

    test("a live turn is told of the pause, and its reports until its end are kept and answered with the pause", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      assert.strictEqual(
        (yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))).status,
        "running"
      )
      assert.deepStrictEqual(shop.notices.splice(0), [
        { workerId: "worker-1", notice: { _tag: "Paused", jobId: job.jobId } }
      ])

      for (const stepKey of ["charge:0", "pack:0"]) {
        assert.deepStrictEqual(yield* answer(shop, job, [done(stepKey)]), {
          _tag: "Accepted",
          outcomes: [undefined],
          paused: true
        })
        assert.strictEqual(yield* shop.status(job.runId), "running")
      }
      assert.deepStrictEqual(yield* answer(shop, job, [release]), {
        _tag: "Accepted",
        outcomes: [undefined]
      })

      assert.deepStrictEqual([yield* shop.status(job.runId), shop.takeNotices()], ["paused", []])
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["charge:0 completed", "pack:0 completed"])
      assert.deepStrictEqual(yield* shop.claim(), [])
    })

    test("a live turn whose worker does not understand pauses is called back with its next report, which is kept", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))

      const ack = yield* answer(shop, job, [done("charge:0")], true)

      assert.deepInclude(ack, { _tag: "Refused", reason: "LEASE_LOST" })
      assert.strictEqual(yield* shop.status(job.runId), "paused")
      assert.deepStrictEqual(shop.takeNotices(), ["Paused", "LeaseLost"])
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["charge:0 completed"])
      assert.strictEqual(yield* shop.refused(job, done("ship:0")), "LEASE_LOST")
    })

    for (const [how, take] of [
      ["dies", (shop: Shop) => shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))],
      ["leaves", (shop: Shop) => shop.store.write(LostLeases.releaseWorker("default", "worker-1", false))],
      ["falls silent", (shop: Shop) => shop.pass(1000)],
      [
        "comes back without the run",
        (shop: Shop) =>
          shop.store.write(ExtendLeases.adoptLeases("default", "worker-1", [], 1000, new Set(), "job_0"))
      ]
    ] as const) {
      test(`a run that is to be paused is paused when its worker ${how}, and continues when it is resumed`, function* (shop) {
        yield* shop.register(handles("charge"))
        const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
        yield* shop.store.write(RunControl.pauseRun("default", job.runId, "stock-taking"))
        yield* shop.report(job, done("charge:0"))

        yield* take(shop)

        const { pauseReason, status } = yield* shop.run(job.runId)
        assert.deepStrictEqual([status, pauseReason], ["paused", "stock-taking"])
        assert.deepStrictEqual(yield* shop.claim(), [])
        yield* shop.store.write(RunControl.resumeRun("default", job.runId))
        assert.strictEqual((yield* shop.claimOne()).journal.length, 1)
      })
    }

    test("a worker that reconnects with a turn that is to be paused is told of the pause again", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start("order.placed", {}, { leaseMs: 1000 })
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))

      const { lost, notices } = yield* shop.store.write(
        ExtendLeases.adoptLeases("default", "worker-1", [job.jobId], 1000, new Set())
      )

      assert.deepStrictEqual([lost, notices], [[], [{ _tag: "Paused", jobId: job.jobId }]])
    })

    test("a run that is to be paused can be cancelled", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))
      yield* cancel(shop, job.runId)

      assert.deepStrictEqual(shop.takeNotices(), ["Paused", "Cancelled"])
      assert.strictEqual(yield* shop.refused(job, done("charge:0")), "CANCELLED")
      const run = yield* shop.run(job.runId)
      assert.strictEqual(run.status, "cancelled")
      assert.notProperty(run, "pauseReason")
    })

    test("a run that is rolling back is paused between two compensations, and continues with the next one", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))
      yield* shop.report(job, done("charge:0"), done("pack:0"), compensate("charge", "pack"))
      yield* shop.report(job, done("compensate:pack:0", success(), { kind: "compensate" }))
      yield* shop.report(job, release)
      assert.strictEqual(yield* shop.status(job.runId), "paused")

      yield* shop.store.write(RunControl.resumeRun("default", job.runId))

      const next = yield* shop.claimOne()
      assert.deepStrictEqual(next.compensating?.compensations, ["charge", "pack"])
      assert.strictEqual(next.journal.length, 3)
    })

    for (const [how, op] of [
      ["suspends", suspend("rest:0")],
      ["ends at sign-out", release],
      ["asks for another attempt", retryRun(10)]
    ] as const) {
      test(`a run whose live turn ${how} after a pause was requested is paused`, function* (shop) {
        yield* shop.register(handles("charge"))
        const job = yield* shop.start()
        yield* shop.store.write(RunControl.pauseRun("default", job.runId, "stock-taking"))

        yield* shop.report(job, sleep("rest:0", 1), op)
        yield* shop.pass(10)

        assert.deepStrictEqual([yield* shop.status(job.runId), shop.takeNotices()], ["paused", ["Paused"]])
        assert.deepStrictEqual(yield* shop.claim(), [])
        yield* shop.store.write(RunControl.resumeRun("default", job.runId))
        assert.strictEqual((yield* shop.claim()).length, 1)
      })
    }

    test("a live turn can still end its run after a pause was requested", function* (shop) {
      yield* shop.register(handles("charge"))
      const [first, second] = [yield* shop.start(), yield* shop.start()]
      for (const { runId } of [first, second])
        yield* shop.store.write(RunControl.pauseRun("default", runId, ""))
      yield* shop.report(first, complete())
      yield* shop.report(second, fail("no stock"))

      assert.deepStrictEqual(
        [yield* shop.status(first.runId), yield* shop.status(second.runId)],
        ["completed", "failed"]
      )
    })

    test("a requested pause of a live turn that is taken back has no effect", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))
      yield* shop.store.write(RunControl.resumeRun("default", job.runId))

      assert.deepStrictEqual(shop.takeNotices(), ["Paused", "Resumed"])
      assert.notProperty(yield* answer(shop, job, [done("charge:0")]), "paused")
      assert.strictEqual(yield* shop.status(job.runId), "running")
    })

    test("a turn that ends although its pause was taken back is followed by another turn, which never runs beside it", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))
      yield* shop.report(job, done("charge:0"))
      yield* shop.store.write(RunControl.resumeRun("default", job.runId))
      assert.deepStrictEqual(yield* shop.claim(), [])

      yield* shop.report(job, release)

      assert.strictEqual((yield* shop.claimOne()).journal.length, 1)
      assert.strictEqual(yield* shop.refused(job, done("pack:0")), "LEASE_LOST")
    })

    test("resuming from a step before the pause has begun calls the live turn back", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("a:0"), done("b:0"), done("c:0"))
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))
      assert.strictEqual(
        yield* code(shop.store.write(RunControl.resumeRun("default", job.runId, "nothing"))),
        "STEP_NOT_FOUND"
      )
      assert.deepStrictEqual(shop.takeNotices(), ["Paused"])

      yield* shop.store.write(RunControl.resumeRun("default", job.runId, "b"))

      assert.deepStrictEqual(shop.takeNotices(), ["LeaseLost"])
      assert.strictEqual(yield* shop.refused(job, done("d:0")), "LEASE_LOST")
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["a:0 completed"])
      assert.strictEqual((yield* shop.claimOne()).journal.length, 1)
    })

    test("the delay before a run's next attempt outlives a pause", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, retryRun(1000))
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))
      yield* shop.store.write(RunControl.resumeRun("default", job.runId))

      assert.deepStrictEqual(yield* shop.claim(), [])
      yield* shop.pass(1000)
      assert.strictEqual((yield* shop.claim()).length, 1)
    })

    test("resuming from a step runs it and all after it again", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("a:0"), done("b:0"), done("c:0"), pause)

      yield* shop.store.write(RunControl.resumeRun("default", job.runId, "b"))

      assert.deepStrictEqual(yield* shop.steps(job.runId), ["a:0 completed"])
      assert.strictEqual((yield* shop.claim()).length, 1)
    })

    test("resuming from a step restarts all open waits, with their whole time and no failures", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        done("a:0"),
        done("b:0"),
        sleep("rest:0", 1000),
        retryStep("pay:0", 2, 10),
        waitFor("paid:0", "order.paid"),
        suspend()
      )
      yield* shop.pass(900)
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))
      yield* shop.emit("order.paid", { for: "the old value" })

      yield* shop.store.write(RunControl.resumeRun("default", job.runId, "b"))

      const next = yield* shop.claimOne()
      assert.deepStrictEqual(
        [next.journal.map(({ stepKey }) => stepKey), next.open],
        [["a:0"], []],
        "only step a remains"
      )
      yield* shop.report(next, done("b:0"), sleep("rest:0", 1000), retryStep("pay:0", 1, 10), suspend())
      yield* shop.pass(999)
      assert.deepInclude(yield* shop.steps(job.runId), "rest:0 waiting")
      yield* shop.pass(1)
      assert.deepInclude(yield* shop.steps(job.runId), "rest:0 completed")
    })

    test("resuming from a step cancels the awaited children and their children, and starts new ones", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }), handles("pack", { on: [] }))
      const job = yield* shop.start()
      yield* shop.report(job, done("a:0"), invoke("ship:0", "ship", { input: "old" }), suspend())
      const ship = yield* shop.claimOne()
      yield* shop.report(ship, invoke("pack:0", "pack"), suspend())
      const pack = yield* shop.claimOne()
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))

      yield* shop.store.write(RunControl.resumeRun("default", job.runId, "a"))

      for (const { runId } of [ship, pack]) assert.strictEqual(yield* shop.status(runId), "cancelled")
      assert.strictEqual(yield* shop.refused(pack, complete()), "CANCELLED")
      const next = yield* shop.claimOne()
      assert.deepStrictEqual([next.runId, next.journal, next.open], [job.runId, [], []])
      yield* shop.report(next, done("a:0"), invoke("ship:0", "ship", { input: "new" }), suspend())
      const again = yield* shop.claimOne()
      assert.notStrictEqual(again.runId, ship.runId)
      assert.strictEqual(again.event.data, '"new"')
    })

    test("resuming from a step that waits restarts it, and keeps all steps that have ended", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("a:0"), retryStep("pay:0", 2, 60_000), suspend())
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))

      yield* shop.store.write(RunControl.resumeRun("default", job.runId, "pay"))

      const next = yield* shop.claimOne()
      assert.deepStrictEqual([next.journal.length, next.open], [1, []])
    })

    for (const live of [false, true]) {
      test(`a run that is rolling back, and ${live ? "is to be" : "is"} paused, is not resumed from a step: nothing is left half undone`, function* (shop) {
        yield* shop.register(handles("charge"))
        const job = yield* shop.start()
        yield* shop.report(
          job,
          done("charge:0"),
          done("pack:0"),
          compensate("charge", "pack"),
          done("compensate:pack:0", success(), { kind: "compensate" })
        )
        yield* shop.store.write(RunControl.pauseRun("default", job.runId, ""))
        if (!live) yield* shop.report(job, release)
        shop.takeNotices()
        const before = yield* shop.steps(job.runId)

        const error = yield* Effect.flip(shop.store.write(RunControl.resumeRun("default", job.runId, "pack")))

        assert.strictEqual(error.code, "INVALID_STATE")
        assert.include(error.message, "its compensations would be left half done")
        assert.deepStrictEqual([yield* shop.steps(job.runId), shop.takeNotices()], [before, []])
        yield* shop.store.write(RunControl.resumeRun("default", job.runId))
        const turn = live ? job : yield* shop.claimOne()
        yield* shop.report(
          turn,
          done("compensate:charge:0", success(), { kind: "compensate" }),
          fail("no stock")
        )
        yield* shop.store.write(RunControl.retryRun("default", job.runId, "pack"))
        assert.deepStrictEqual(yield* shop.steps(job.runId), [])
      })
    }

    test("resuming a failed run retries it", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("a:0"), fail("no stock"))

      yield* shop.store.write(RunControl.resumeRun("default", job.runId))
      assert.strictEqual((yield* shop.claimOne()).journal.length, 1)
    })

    test("pausing or resuming a run whose state does not allow it is refused, and changes nothing", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      assert.strictEqual(
        yield* code(shop.store.write(RunControl.resumeRun("default", job.runId))),
        "INVALID_STATE"
      )
      yield* shop.report(job, done("a:0"), pause)
      assert.strictEqual(
        yield* code(shop.store.write(RunControl.resumeRun("default", job.runId, "nothing"))),
        "STEP_NOT_FOUND"
      )
      assert.strictEqual(yield* shop.status(job.runId), "paused")
      yield* shop.store.write(RunControl.resumeRun("default", job.runId))
      yield* shop.report(yield* shop.claimOne(), complete())

      assert.strictEqual(
        yield* code(shop.store.write(RunControl.pauseRun("default", job.runId, ""))),
        "INVALID_STATE"
      )
      assert.strictEqual(
        yield* code(shop.store.write(RunControl.resumeRun("default", job.runId))),
        "INVALID_STATE"
      )
    })
  })

  describe("retryRun", () => {
    const retry = (shop: Shop, runId: string, from?: string) =>
      shop.store.write(RunControl.retryRun("default", runId, from))

    test("keeps completed steps and drops the step that the error names", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        done("a:0"),
        done("caught:0", failure("caught by the handler")),
        done("b:0", failure("declined")),
        retryRun(0)
      )
      yield* shop.fire()
      yield* shop.report(yield* shop.claimOne(), fail("declined", { stepId: `${job.runId}:b:0` }))

      const run = yield* retry(shop, job.runId)

      assert.deepStrictEqual([run.status, run.attempt], ["waiting", 1])
      for (const field of ["error", "endedAt", "output"]) assert.notProperty(run, field)
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["a:0 completed", "caught:0 failed"])
      const next = yield* shop.claimOne()
      assert.strictEqual(next.generation, 0)
      yield* shop.report(next, complete())
    })

    test("drops the failed steps that have the same error, and no others, when the error names no step", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        done("a:0", failure("caught by the handler")),
        done("b:0"),
        done("c:0", failure("no stock")),
        fail("no stock")
      )

      yield* retry(shop, job.runId)
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["a:0 failed", "b:0 completed"])
    })

    for (const [how, name] of [
      ["name", () => "b"],
      ["key", () => "b:0"],
      ["id", (runId: string) => `${runId}:b:0`]
    ] as const) {
      test(`from a step given by its ${how} runs it and all after it again`, function* (shop) {
        yield* shop.register(handles("charge"))
        const job = yield* shop.start()
        yield* shop.report(job, done("a:0"), done("b:0"), done("c:0"), done("b:1"), fail("no stock"))

        yield* retry(shop, job.runId, name(job.runId))
        assert.deepStrictEqual(yield* shop.steps(job.runId), ["a:0 completed"])
      })
    }

    test("starts a new generation after a rollback, without the steps that were undone", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        done("charge:0"),
        done("look:0"),
        done("pack:0"),
        compensate("charge", "pack"),
        done("compensate:pack:0", success(), { kind: "compensate" }),
        done("compensate:charge:0", success(), { kind: "compensate" }),
        fail("no stock")
      )

      yield* retry(shop, job.runId)

      const next = yield* shop.claimOne()
      assert.deepStrictEqual(
        next.journal.map(({ stepKey }) => stepKey),
        ["look:0"]
      )
      assert.strictEqual(next.generation, 1)
      assert.notProperty(next, "compensating")
    })

    test("keeps a step whose compensation failed, because it was not undone", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        done("charge:0"),
        done("pack:0"),
        compensate("charge", "pack"),
        done("compensate:pack:0", success(), { kind: "compensate" }),
        done("compensate:charge:0", failure("bank is closed"), { kind: "compensate" }),
        fail("no stock")
      )

      yield* retry(shop, job.runId)
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["charge:0 completed"])
    })

    test("of several steps of one name drops those that were undone, and keeps those that were not", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        done("charge:0", success("first")),
        done("charge:1", success("second")),
        compensate("charge", "charge"),
        done("compensate:charge:1", success(), { kind: "compensate" }),
        done("compensate:charge:0", failure("bank is closed"), { kind: "compensate" }),
        fail("no stock")
      )

      yield* retry(shop, job.runId)

      assert.deepStrictEqual(yield* shop.steps(job.runId), ["charge:0 completed"])
      assert.strictEqual((yield* shop.claimOne()).generation, 1)
    })

    test("starts a new generation after a rollback of something other than a step", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        done("a:0"),
        compensate("everything"),
        done("compensate:everything:0", success(), { kind: "compensate" }),
        fail("no stock")
      )

      yield* retry(shop, job.runId)

      assert.deepStrictEqual(yield* shop.steps(job.runId), ["a:0 completed"])
      assert.strictEqual((yield* shop.claimOne()).generation, 1)
    })

    test("brings back a cancelled run", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("a:0"), sleep("rest:0", 1000))
      yield* shop.store.write(RunControl.cancelRun("default", job.runId, ""))
      yield* retry(shop, job.runId)

      const next = yield* shop.claimOne()
      assert.deepStrictEqual([next.journal.length, next.open], [1, []])
      assert.strictEqual(yield* shop.refused(job, complete()), "LEASE_LOST")
    })

    test("of a run that has not failed, or from an unknown step, is refused", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      assert.strictEqual(yield* code(retry(shop, job.runId)), "INVALID_STATE")
      yield* shop.report(job, done("a:0", failure("x")), fail("x"))
      const before = yield* shop.steps(job.runId)

      assert.strictEqual(yield* code(retry(shop, job.runId, "nothing")), "STEP_NOT_FOUND")
      assert.deepStrictEqual(yield* shop.steps(job.runId), before)
      assert.strictEqual(yield* shop.status(job.runId), "failed")
    })
  })

  describe("patchStep", () => {
    const patch = (shop: Shop, stepId: string, output: string) =>
      shop.store.write(RunControl.patchStep("default", stepId, output, "by hand"))

    test("replaces the output of a finished step at its place", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("a:0", failure("x")), done("b:0"), fail("x"))

      yield* patch(shop, `${job.runId}:a:0`, '{"fixed":true}')
      yield* shop.store.write(RunControl.retryRun("default", job.runId))

      const next = yield* shop.claimOne()
      assert.deepStrictEqual(
        next.journal.map(({ stepKey, outcome }) => [stepKey, outcome]),
        [
          ["a:0", success({ fixed: true })],
          ["b:0", success("ok")]
        ]
      )
    })

    for (const [what, op, value] of [
      ["a sleep", sleep("open:0", 1000), undefined],
      ["a wait for an event", waitFor("open:0", "order.paid"), undefined],
      ["a step between two attempts", retryStep("open:0", 1, 1000), undefined]
    ] as const) {
      test(`finishes ${what}, and the run continues`, function* (shop) {
        yield* shop.register(handles("charge"))
        const job = yield* shop.start()
        yield* shop.report(job, op, suspend("open:0"))

        yield* patch(shop, `${job.runId}:open:0`, "42")

        const next = yield* shop.claimOne()
        assert.deepStrictEqual([next.journal[0]?.outcome, next.open], [success(42), []])
        yield* shop.pass(1000)
        yield* shop.emit("order.paid")
        assert.deepStrictEqual([shop.takeNotices(), value], [[], undefined])
      })
    }

    test("finishes a wait for a child, whose result then comes too late", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }))
      const job = yield* shop.start()
      yield* shop.report(job, invoke("ship:0", "ship"), suspend())
      const child = yield* shop.claimOne()

      yield* patch(shop, `${job.runId}:ship:0`, "1")
      yield* shop.report(child, complete(2))

      assert.deepStrictEqual((yield* shop.claimOne()).journal[0]?.outcome, success(1))
    })

    for (const [what, ops, kind] of [
      ["a step that has ended", [done("a:0")], "run"],
      ["a step that waits", [sleep("a:0", 1000)], "sleep"]
    ] as const) {
      test(`lets the output of ${what} answer a call of any kind, and still shows its original kind`, function* (shop) {
        yield* shop.register(handles("charge"))
        const job = yield* shop.start()
        yield* shop.report(job, ...ops, pause)
        for (const value of ["1", "2"]) yield* patch(shop, `${job.runId}:a:0`, value)
        assert.deepInclude((yield* RunInspection.getRunSteps(shop.store, "default", job.runId))[0], {
          kind,
          output: 2
        })

        yield* shop.store.write(RunControl.resumeRun("default", job.runId))

        const [entry] = (yield* shop.claimOne()).journal
        assert.deepInclude(entry, { kind, anyKind: true, outcome: success(2) })
      })
    }

    test("leaves a compensation a compensation, which a retry removes with the rollback", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        done("charge:0"),
        compensate("charge"),
        done("compensate:charge:0", failure("bank is closed"), { kind: "compensate" }),
        fail("no stock")
      )
      yield* patch(shop, `${job.runId}:compensate:charge:0`, "null")

      yield* shop.store.write(RunControl.retryRun("default", job.runId))
      assert.deepInclude(yield* shop.claimOne(), { generation: 1, journal: [] })
    })

    test("takes the run from its live turn, which may know another result", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("a:0"))

      yield* patch(shop, `${job.runId}:a:0`, "2")

      assert.deepStrictEqual(shop.takeNotices(), ["LeaseLost"])
      assert.strictEqual(yield* shop.refused(job, done("b:0")), "LEASE_LOST")
      assert.deepStrictEqual((yield* shop.claimOne()).journal[0]?.outcome, success(2))
    })

    test("does not undo a requested pause", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("a:0"))
      yield* shop.store.write(RunControl.pauseRun("default", job.runId, "stock-taking"))

      yield* patch(shop, `${job.runId}:a:0`, "2")

      assert.strictEqual(yield* shop.status(job.runId), "paused")
      assert.deepStrictEqual(yield* shop.claim(), [])
    })

    test("of something that is not a step is refused", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, retryRun(1000))

      assert.strictEqual(yield* code(patch(shop, "charge", "1")), "VALIDATION_ERROR")
      assert.strictEqual(yield* code(patch(shop, `${job.runId}:nothing:0`, "1")), "STEP_NOT_FOUND")
      assert.strictEqual(yield* code(patch(shop, "run_unknown:a:0", "1")), "RUN_NOT_FOUND")
      // the delay before the next attempt is not a step
      assert.strictEqual(yield* code(patch(shop, `${job.runId}:`, "1")), "STEP_NOT_FOUND")
      assert.deepStrictEqual(yield* shop.claim(), [])
    })
  })

  describe("listRuns", () => {
    const list = (shop: Shop, query: Partial<ListRunsQuery> = {}) =>
      RunList.listRuns(shop.store, { environment: "default", limit: 10, ...query })

    test("pages from the newest to the oldest, each run once, while new ones come", function* (shop) {
      yield* shop.register(handles("charge"))
      const ids: Array<string> = []
      for (let i = 0; i < 7; i++) ids.unshift((yield* shop.emit("order.placed")).runIds[0]!)

      const first = yield* list(shop, { limit: 3 })
      yield* shop.emit("order.placed")
      const second = yield* list(shop, { limit: 3, cursor: first.nextCursor! })
      const third = yield* list(shop, { limit: 3, cursor: second.nextCursor! })

      assert.deepStrictEqual(
        [first, second, third].flatMap(({ runs }) => runs.map(({ id }) => id)),
        ids
      )
      assert.deepStrictEqual([first.totalCount, second.totalCount], [7, 8])
      assert.notProperty(third, "nextCursor")
    })

    test("a page that ends with the last run has no next page", function* (shop) {
      yield* shop.register(handles("charge"))
      for (let i = 0; i < 3; i++) yield* shop.emit("order.placed")

      assert.notProperty(yield* list(shop, { limit: 3 }), "nextCursor")
    })

    test("filters by function and by every status", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: ["order.paid"] }))
      const start = () => shop.start()
      yield* shop.report(yield* start(), complete())
      yield* shop.report(yield* start(), fail("x"))
      yield* shop.report(yield* start(), pause)
      yield* shop.report(yield* start(), sleep("rest:0", 1000), suspend())
      yield* shop.report(yield* start(), compensate("a"))
      yield* shop.store.write(RunControl.cancelRun("default", (yield* start()).runId, ""))
      yield* start()
      const { runIds } = yield* shop.emit("order.paid")

      for (const status of [
        "pending",
        "running",
        "waiting",
        "compensating",
        "paused",
        "completed",
        "failed",
        "cancelled"
      ] as const) {
        const page = yield* list(shop, { status })
        assert.deepStrictEqual([page.totalCount, page.runs.map((run) => run.status)], [1, [status]])
      }
      const shipping = yield* list(shop, { functionId: "ship" })
      assert.deepStrictEqual(
        shipping.runs.map(({ id }) => id),
        runIds
      )
      assert.strictEqual((yield* list(shop, { functionId: "ship", status: "failed" })).totalCount, 0)
      assert.deepStrictEqual(yield* list(shop, { functionId: "unknown" }), { runs: [], totalCount: 0 })
      assert.deepStrictEqual(yield* list(shop, { environment: "nowhere" }), { runs: [], totalCount: 0 })
    })

    test("an invalid cursor is refused", function* (shop) {
      yield* shop.register(handles("charge"))
      for (const cursor of ["", "x", "r", "r1x", "r-1", "r1e9", "1"]) {
        assert.strictEqual(yield* code(list(shop, { cursor })), "VALIDATION_ERROR", cursor)
      }
    })
  })

  describe("deleteEndedRuns", () => {
    test("deletes only runs that ended long enough ago, oldest first, with their steps", function* (shop) {
      yield* shop.register(handles("charge"))
      const ended = []
      for (let i = 0; i < 3; i++) {
        const job = yield* shop.start()
        yield* shop.report(job, done("a:0"), complete())
        ended.push(job.runId)
        yield* shop.pass(10)
      }
      const live = yield* shop.start()
      yield* shop.report(live, done("a:0"))

      assert.strictEqual((yield* shop.store.write(RunRetention.deleteEndedRuns(10, 1))).deleted, 1)
      assert.strictEqual((yield* shop.store.write(RunRetention.deleteEndedRuns(10, 10))).deleted, 1)
      assert.strictEqual((yield* shop.store.write(RunRetention.deleteEndedRuns(10, 10))).deleted, 0)

      const { runs, totalCount } = yield* RunList.listRuns(shop.store, { environment: "default", limit: 10 })
      assert.deepStrictEqual([totalCount, ...runs.map(({ id }) => id)], [2, live.runId, ended[2]])
      assert.strictEqual(
        yield* code(RunInspection.getRunSteps(shop.store, "default", ended[0]!)),
        "RUN_NOT_FOUND"
      )
      assert.deepStrictEqual(yield* shop.steps(ended[2]!), ["a:0 completed"])
      assert.deepStrictEqual(yield* shop.steps(live.runId), ["a:0 completed"])
    })
  })

  describe("inspecting one run", () => {
    test("its steps are the finished steps in order, then the open steps with their due times", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.pass(1000)
      const job = yield* shop.start()
      yield* shop.report(
        job,
        sleep("rest:0", 500),
        done("a:0", success([1])),
        done("all:0", success(), { kind: "parallel" })
      )

      assert.deepStrictEqual(yield* RunInspection.getRunSteps(shop.store, "default", job.runId), [
        {
          id: `${job.runId}:a:0`,
          name: "a",
          kind: "run",
          status: "completed",
          attempt: 1,
          output: [1],
          startedAt: new Date(0).toISOString(),
          endedAt: new Date(0).toISOString()
        },
        {
          id: `${job.runId}:rest:0`,
          name: "rest",
          kind: "sleep",
          status: "waiting",
          attempt: 1,
          startedAt: new Date(1000).toISOString(),
          dueAt: new Date(1500).toISOString()
        }
      ])
    })

    test("its situation lists everything that it waits for", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }))
      const job = yield* shop.start("order.placed", { orderId: "o-1" })
      yield* shop.report(
        job,
        sleep("rest:0", 1),
        retryStep("pay:0", 2, 2),
        waitFor("paid:0", "order.paid", { match: "data.orderId", timeoutMs: 3 }),
        waitFor("any:0", "order.*", { match: "event.data.n > 1", timeoutMs: 4 }),
        invoke("ship:0", "ship", { timeoutMs: 5 }),
        suspend()
      )
      const child = yield* shop.claimOne()

      const { waits, run, readyAt, lease, holders } = yield* shop.situation(job.runId)

      const id = (key: string) => `${job.runId}:${key}`
      assert.deepStrictEqual(waits, [
        { stepId: id("rest:0"), name: "rest", kind: "sleep", fired: false, failures: 0, dueAt: 1 },
        {
          stepId: id("pay:0"),
          name: "pay",
          kind: "retry",
          fired: false,
          failures: 2,
          dueAt: 2,
          error: "declined 2 times"
        },
        {
          stepId: id("paid:0"),
          name: "paid",
          kind: "event",
          fired: false,
          failures: 0,
          dueAt: 3,
          event: "order.paid",
          match: "data.orderId",
          matchValue: '"o-1"'
        },
        {
          stepId: id("any:0"),
          name: "any",
          kind: "event",
          fired: false,
          failures: 0,
          dueAt: 4,
          event: "order.*",
          match: "event.data.n > 1"
        },
        {
          stepId: id("ship:0"),
          name: "ship",
          kind: "child",
          fired: false,
          failures: 0,
          dueAt: 5,
          event: "ship",
          childRunId: child.runId
        }
      ])
      assert.deepStrictEqual([run.status, readyAt, lease, holders], ["waiting", undefined, undefined, []])
    })

    test("its situation has the runs that hold its concurrency key, and their number", function* (shop) {
      yield* shop.register(handles("charge", { concurrency: { limit: 30, key: "event.data.customer" } }))
      for (let i = 0; i < 31; i++) yield* shop.emit("order.placed", { customer: "ann" })
      yield* shop.claim({ room: 100 })
      const ready = (yield* RunList.listRuns(shop.store, {
        environment: "default",
        limit: 1,
        status: "pending"
      })).runs[0]!

      const situation = yield* shop.situation(ready.id)

      assert.strictEqual(situation.concurrencyKey, '"ann"')
      assert.strictEqual(situation.held, 30)
      assert.strictEqual(situation.holders.length, 20)
      assert.strictEqual(situation.readyAt, 0)
      assert.strictEqual(situation.registration?.concurrency?.limit, 30)
    })

    test("its situation has the worker that its actor is bound to", function* (shop) {
      yield* shop.register(handles("ship", { actorKey: "event.data.van" }))
      yield* shop.start("order.placed", { van: 1 }, { worker: "van-driver" })
      const { runIds } = yield* shop.emit("order.placed", { van: 1 })

      assert.strictEqual((yield* shop.situation(runIds[0]!)).actorWorkerId, "van-driver")
    })
  })
}
