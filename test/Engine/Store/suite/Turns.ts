/** Reports of turns: how leases guard them, and what each op does. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  compensate,
  complete,
  done,
  fail,
  failure,
  handles,
  invoke,
  invokeAsync,
  pause,
  publish,
  release,
  retryRun,
  retryStep,
  settle,
  type Shop,
  type ShopTest,
  sleep,
  success,
  suspend,
  waitFor,
  withdraw
} from "./Shop.ts"
import * as FunctionRows from "../../../../src/Engine/Functions/FunctionRows.ts"
import * as ExtendLeases from "../../../../src/Engine/Turns/ExtendLeases.ts"
import * as LostLeases from "../../../../src/Engine/Turns/LostLeases.ts"
import * as RunInspection from "../../../../src/Engine/Runs/RunInspection.ts"
import * as RunList from "../../../../src/Engine/Runs/RunList.ts"
import * as Reports from "../../../../src/Engine/Turns/Reports.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"

export const turnsSuite = (test: ShopTest): void => {
  describe("a lease", () => {
    const snapshot = (shop: Shop, runId: string) =>
      Effect.all([
        shop.run(runId),
        RunInspection.getRunSteps(shop.store, "default", runId),
        RunList.listRuns(shop.store, { environment: "default", limit: 100 })
      ])
    const everything = [
      done("charge:0"),
      sleep("rest:0", 1),
      waitFor("paid:0", "order.paid"),
      invoke("child:0", "ship"),
      invokeAsync("async:0", "ship"),
      publish("publish:0", "orders", 1),
      complete("late")
    ]

    test("a report under a lost lease is refused and changes nothing", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }))
      const stale = yield* shop.start()
      yield* shop.report(stale, done("first:0"), release)
      const current = yield* shop.claimOne()
      const before = yield* snapshot(shop, stale.runId)

      yield* shop.pass(10)
      assert.strictEqual(yield* shop.refused(stale, ...everything), "LEASE_LOST")

      assert.deepStrictEqual(yield* snapshot(shop, stale.runId), before)
      yield* shop.report(current, complete())
    })

    test("a report about a run of another environment is refused and changes nothing", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.emit("order.placed", {}, { environment: "staging" })
      const { jobId, runId } = job
      const before = yield* snapshot(shop, runId)
      for (const elsewhere of ["staging", "unknown"]) {
        const [ack] = yield* Reports.applyReports(shop.store, elsewhere, [
          { jobId, runId, ops: [complete()] }
        ])
        assert.deepInclude(ack, { _tag: "Refused", reason: "LEASE_LOST" })
        yield* shop.store.write(Reports.noteHandlerWentOn(elsewhere, runId, 0))
      }
      assert.deepStrictEqual(yield* snapshot(shop, runId), before)

      const [ack] = yield* Reports.applyReports(shop.store, "default", [{ jobId, runId, ops: [complete()] }])
      assert.deepInclude(ack, { _tag: "Accepted" })
    })

    test("reports with unknown environments are answered in order", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.store.write(
        FunctionRows.registerFunctions("staging", [handles("charge", { on: ["order.placed"] })])
      )
      const here = yield* shop.start()
      yield* shop.emit("order.placed", {}, { environment: "staging" })
      const there = yield* shop.claimOne({ environment: "staging", leaseMs: 1000 })

      const acks = yield* Reports.applyInAnyEnvironment(shop.store, [
        { jobId: there.jobId, runId: there.runId, ops: [done("pack:0")] },
        { jobId: "job_nobody", runId: "run_nobody", ops: [complete()] },
        { jobId: here.jobId, runId: here.runId, ops: [complete()] },
        { jobId: here.jobId, runId: there.runId, ops: [complete()] }
      ])
      assert.deepStrictEqual(
        acks.map(({ _tag }) => _tag),
        ["Accepted", "Refused", "Accepted", "Refused"]
      )
      assert.deepStrictEqual(
        yield* ExtendLeases.extendInAnyEnvironment(shop.store, [here.jobId, "job_nobody", there.jobId], 2000),
        [here.jobId, "job_nobody"]
      )
    })

    test("a report of a run that was cancelled is refused and changes nothing", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }))
      const job = yield* shop.start()
      yield* shop.store.write(RunControl.cancelRun("default", job.runId, "no stock"))
      const before = yield* snapshot(shop, job.runId)

      assert.strictEqual(yield* shop.refused(job, ...everything), "CANCELLED")

      assert.deepStrictEqual(yield* snapshot(shop, job.runId), before)
    })

    test("a report of an impossible transition is refused and changes nothing", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      const before = yield* snapshot(shop, job.runId)

      assert.strictEqual(yield* shop.refused(job, done("charge:0"), complete(), suspend()), "LEASE_LOST")
      assert.deepStrictEqual(yield* snapshot(shop, job.runId), before)

      yield* shop.report(job, compensate("charge"))
      const rollback = yield* snapshot(shop, job.runId)
      const [ack] = yield* Reports.applyReports(shop.store, "default", [
        { jobId: job.jobId, runId: job.runId, ops: [done("charge:0"), complete()] }
      ])
      assert.deepStrictEqual(ack, {
        _tag: "Refused",
        reason: "LEASE_LOST",
        message: `Run ${job.runId} is compensating and cannot complete`
      })
      assert.deepStrictEqual(yield* snapshot(shop, job.runId), rollback)

      yield* shop.report(job, fail("no stock"))
      assert.strictEqual(yield* shop.status(job.runId), "failed")
    })

    test("a report of a run that has ended or does not exist is refused", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, complete())

      assert.strictEqual(yield* shop.refused(job, done("charge:0")), "LEASE_LOST")
      assert.strictEqual(yield* shop.refused({ ...job, runId: "run_unknown" }, complete()), "LEASE_LOST")
    })

    test("a refused report does not block others sent with it", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()

      const acks = yield* Reports.applyReports(shop.store, "default", [
        { jobId: "job_stale", runId: job.runId, ops: [done("a:0")] },
        { jobId: job.jobId, runId: job.runId, ops: [done("b:0")] },
        { jobId: job.jobId, runId: job.runId, ops: [complete("done")] },
        { jobId: job.jobId, runId: job.runId, ops: [done("c:0")] }
      ])

      assert.deepStrictEqual(
        acks.map((ack) => ack._tag),
        ["Refused", "Accepted", "Accepted", "Refused"]
      )
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["b:0 completed"])
    })

    test("either all ops of a report take effect, or none", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      // a number cannot be stored as a name
      const broken = { ...done("broken:0"), name: { not: "a name" } as unknown as string }

      const error = yield* Effect.flip(
        Reports.applyReports(shop.store, "default", [
          { jobId: job.jobId, runId: job.runId, ops: [done("charge:0"), broken, complete()] }
        ])
      )

      assert.strictEqual(error._tag, "StoreError")
      assert.deepStrictEqual(yield* shop.steps(job.runId), [])
      assert.strictEqual(yield* shop.status(job.runId), "running")
    })

    test("a repeated report changes nothing", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }))
      const job = yield* shop.start()
      const ops = [
        done("charge:0", success(1)),
        sleep("rest:0", 1000),
        invoke("child:0", "ship"),
        invokeAsync("async:0", "ship"),
        publish("publish:0", "orders", 1)
      ]

      const first = yield* shop.report(job, ...ops)
      const again = yield* shop.report(job, ...ops)

      assert.deepStrictEqual(again, first)
      assert.strictEqual(
        (yield* RunList.listRuns(shop.store, { environment: "default", limit: 10 })).totalCount,
        3
      )
      const { position } = yield* shop.emit("nothing.happened")
      assert.strictEqual(position, 3, "the log has one event and one message")
    })

    test("a repeated sleep that was settled does not begin again", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("rest:0", 1000))
      yield* shop.pass(1000)
      yield* shop.report(job, settle("rest:0"))

      assert.deepStrictEqual(yield* shop.report(job, sleep("rest:0", 1000), settle("rest:0")), [
        success(),
        undefined
      ])

      assert.deepStrictEqual(yield* shop.steps(job.runId), ["rest:0 completed"])
      yield* shop.pass(1000)
      yield* shop.report(job, sleep("more:0", 5000), suspend("more:0"))
      assert.deepStrictEqual(yield* shop.claim({ room: 10 }), [])
    })
  })

  describe("ops", () => {
    test("a finished step keeps its first result", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()

      yield* shop.report(job, done("charge:0", success("first")))
      yield* shop.report(job, done("charge:0", success("second")), release)

      const [entry] = (yield* shop.claimOne()).journal
      assert.deepStrictEqual(entry?.outcome, success("first"))
    })

    test("a completed run keeps its output and has no open steps", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.pass(10)

      yield* shop.report(job, done("charge:0"), sleep("rest:0", 1000), complete({ total: 3 }))

      const run = yield* shop.run(job.runId)
      assert.deepStrictEqual(
        [run.status, run.output, run.endedAt],
        ["completed", { total: 3 }, new Date(10).toISOString()]
      )
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["charge:0 completed"])
      yield* shop.pass(1000)
      assert.deepStrictEqual(shop.takeNotices(), [])
    })

    test("a run may complete without an output", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, complete())

      assert.notProperty(yield* shop.run(job.runId), "output")
    })

    test("a failed run keeps its error", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()

      yield* shop.report(job, fail("no stock", { sku: "tea" }))

      const run = yield* shop.run(job.runId)
      assert.strictEqual(run.status, "failed")
      assert.deepStrictEqual(run.error, {
        message: "no stock",
        code: "ERROR",
        name: "Error",
        details: { sku: "tea" }
      })
    })

    test("a sleep fires at its time, not before", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("rest:0", 1000), suspend("rest:0"))
      assert.strictEqual(yield* shop.status(job.runId), "waiting")

      yield* shop.pass(999)
      assert.deepStrictEqual(yield* shop.claim(), [])
      yield* shop.pass(1)

      const [entry] = (yield* shop.claimOne()).journal
      assert.deepStrictEqual([entry?.stepKey, entry?.kind, entry?.outcome], ["rest:0", "sleep", success()])
    })

    test("a sleep keeps its first due time", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("rest:0", 1000))
      yield* shop.pass(900)

      yield* shop.report(job, sleep("rest:0", 1000), suspend("rest:0"))
      yield* shop.pass(100)

      assert.deepStrictEqual(yield* shop.steps(job.runId), ["rest:0 completed"])
    })

    test("a sleep until a time in the past fires at once", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.pass(5000)
      const job = yield* shop.start()
      yield* shop.report(job, sleep("rest:0", { at: 3000 }))
      assert.strictEqual(shop.lastChanges?.dueAt, 3000)

      yield* shop.fire()
      assert.deepStrictEqual(shop.takeNotices(), ["Fired rest:0"])
    })

    test("a wait that fires in a live turn is sent as a notice, and enters the journal where the handler saw it", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("short:0", 1), sleep("long:0", 2))
      yield* shop.pass(1)
      yield* shop.pass(1)
      assert.deepStrictEqual(shop.notices.splice(0), [
        {
          workerId: "worker-1",
          notice: { _tag: "Fired", jobId: job.jobId, stepKey: "short:0", outcome: success() }
        },
        {
          workerId: "worker-1",
          notice: { _tag: "Fired", jobId: job.jobId, stepKey: "long:0", outcome: success() }
        }
      ])

      yield* shop.report(job, done("pack:0"), settle("long:0"), done("ship:0"), settle("short:0"))

      assert.deepStrictEqual(yield* shop.steps(job.runId), [
        "pack:0 completed",
        "long:0 completed",
        "ship:0 completed",
        "short:0 completed"
      ])
    })

    test("a wait that fired unseen before the turn ended enters the journal in the order of firing", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("b:0", 1), sleep("a:0", 2))
      yield* shop.pass(2)

      yield* shop.report(job, done("pack:0"), release)

      assert.deepStrictEqual(yield* shop.steps(job.runId), [
        "pack:0 completed",
        "b:0 completed",
        "a:0 completed"
      ])
    })

    test("settling a wait that has not fired changes nothing", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()

      yield* shop.report(job, sleep("rest:0", 1000), settle("rest:0"), settle("unknown:0"))

      assert.deepStrictEqual(yield* shop.steps(job.runId), ["rest:0 waiting"])
    })

    test("a run that suspends with an unseen fired wait continues at once", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("short:0", 1), sleep("long:0", 1000))
      yield* shop.pass(1)

      yield* shop.report(job, suspend("short:0", "long:0"))

      const next = yield* shop.claimOne()
      assert.deepStrictEqual(
        [next.journal.map(({ stepKey }) => stepKey), next.open.map(({ stepKey }) => stepKey)],
        [["short:0"], ["long:0"]]
      )
    })

    test("a run that suspends with nothing open continues at once", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, suspend())

      assert.strictEqual((yield* shop.claim()).length, 1)
    })

    test("a withdrawn step is forgotten", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("short:0", 1), sleep("long:0", 1000))

      yield* shop.report(job, withdraw("short:0"), suspend("long:0"))
      yield* shop.pass(1)

      assert.deepStrictEqual(yield* shop.steps(job.runId), ["long:0 waiting"])
      assert.deepStrictEqual(yield* shop.claim(), [])
    })

    test("a step between two attempts is open, and may run again when its delay has passed", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, retryStep("charge:0", 1, 1000))
      const [waiting] = yield* RunInspection.getRunSteps(shop.store, "default", job.runId)
      assert.deepInclude(waiting, {
        status: "waiting",
        attempt: 2,
        dueAt: new Date(1000).toISOString(),
        error: { message: "declined 1 times", code: "ERROR", name: "Error" }
      })

      yield* shop.pass(1000)
      assert.deepStrictEqual(shop.notices.splice(0), [
        {
          workerId: "worker-1",
          notice: { _tag: "Fired", jobId: job.jobId, stepKey: "charge:0", failures: 1 }
        }
      ])
      yield* shop.report(job, retryStep("charge:0", 2, 2000), suspend("charge:0"))
      yield* shop.pass(1999)
      assert.deepStrictEqual(yield* shop.claim(), [])
      yield* shop.pass(1)

      const next = yield* shop.claimOne()
      assert.deepStrictEqual(next.open, [
        { stepKey: "charge:0", name: "charge", kind: "run", failures: 2, pending: false }
      ])
      yield* shop.report(next, done("charge:0", success(), { attempt: 3 }), complete())
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["charge:0 completed"])
    })

    test("a late report does not retry a finished step", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        retryStep("charge:0", 1, 1000),
        done("charge:0", success(), { attempt: 2 }),
        retryStep("charge:0", 1, 1000)
      )

      assert.deepStrictEqual(yield* shop.steps(job.runId), ["charge:0 completed"])
      yield* shop.report(job, sleep("rest:0", 5000), suspend("rest:0"))
      yield* shop.pass(1000)
      assert.deepStrictEqual(yield* shop.claim(), [])
    })

    test("failures of a step are not forgotten when its turn is lost", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, retryStep("charge:0", 1, 1000))

      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))

      const next = yield* shop.claimOne()
      assert.deepStrictEqual(next.open, [
        { stepKey: "charge:0", name: "charge", kind: "run", failures: 1, pending: true }
      ])
      // an earlier report that arrives late
      yield* shop.report(next, retryStep("charge:0", 2, 5000), retryStep("charge:0", 1, 1), suspend())
      yield* shop.pass(1000)
      assert.deepStrictEqual(yield* shop.claim(), [])
    })

    test("a run that failed outside its steps is retried after its delay, as the next attempt", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("charge:0"), retryRun(1000))
      const run = yield* shop.run(job.runId)
      assert.deepStrictEqual([run.status, run.attempt, run.error?.message], ["waiting", 2, "out of paper"])

      yield* shop.pass(999)
      assert.deepStrictEqual(yield* shop.claim(), [])
      yield* shop.pass(1)

      const next = yield* shop.claimOne()
      assert.deepStrictEqual([next.attempt, next.journal.length, next.open], [2, 1, []])
    })

    test("a sleep that fires does not shorten the delay of a run's next attempt", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("rest:0", 10), waitFor("paid:0", "order.paid"), retryRun(1000))

      yield* shop.pass(10)
      yield* shop.emit("order.paid")
      assert.deepStrictEqual(yield* shop.claim(), [])

      yield* shop.pass(990)
      const next = yield* shop.claimOne()
      assert.deepStrictEqual(
        next.journal.map(({ stepKey }) => stepKey),
        ["rest:0", "paid:0"]
      )
    })

    test("a run that its worker gives back is ready at once, and no attempt or loss is counted", function* (shop) {
      yield* shop.register(handles("charge"))
      let job = yield* shop.start()
      for (let i = 0; i < 20; i++) {
        yield* shop.report(job, release)
        job = yield* shop.claimOne()
      }
      assert.strictEqual(job.attempt, 1)
    })

    test("a run that pauses itself shows the reason and is not dispatched", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, sleep("rest:0", 1), pause)

      yield* shop.pass(1)
      assert.deepStrictEqual(yield* shop.claim(), [])
      const run = yield* shop.run(job.runId)
      assert.deepStrictEqual([run.status, run.pauseReason], ["paused", "The code has changed."])
      assert.deepInclude((yield* shop.situation(job.runId)).pause, { code: "NONDETERMINISM" })
    })

    test("a step that is due again does not wake a run whose handler does not wait for it", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, retryStep("charge:0", 1, 1000))
      yield* shop.pass(1000)

      yield* shop.report(job, sleep("rest:0", 5000), suspend("rest:0"))

      assert.deepStrictEqual(yield* shop.claim(), [])
      yield* shop.pass(5000)
      const next = yield* shop.claimOne()
      yield* shop.report(next, sleep("nap:0", 5000), suspend("nap:0", "charge:0"))
      assert.strictEqual(
        (yield* shop.claimOne()).runId,
        job.runId,
        "a step that the handler waits for wakes the run"
      )
    })

    test("a published message commits with the report, and its outcome is at its place in the journal", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()

      const [, outcome] = yield* shop.report(
        job,
        done("charge:0"),
        publish("publish:orders:0", "orders", { n: 1 }),
        done("ship:0")
      )

      assert.strictEqual(outcome?._tag, "Success")
      const message = JSON.parse((outcome as { value: string }).value)
      assert.strictEqual(message.sequence, 2)
      assert.match(message.eventId, /^msg_/)
      assert.deepStrictEqual(yield* shop.steps(job.runId), [
        "charge:0 completed",
        "publish:orders:0 completed",
        "ship:0 completed"
      ])
    })
  })

  describe("children", () => {
    const shipping = [handles("order"), handles("ship", { on: [] })] as const

    const parentAndChild = (shop: Shop, timeoutMs = 60_000) =>
      Effect.gen(function* () {
        yield* shop.register(...shipping)
        const parent = yield* shop.start()
        yield* shop.report(
          parent,
          invoke("ship:0", "ship", { input: { orderId: "o-1" }, timeoutMs }),
          suspend()
        )
        const child = yield* shop.claimOne()
        return { parent, child }
      })

    test("an invoked run gets the input as its event and knows its parent", function* (shop) {
      const { parent, child } = yield* parentAndChild(shop)

      assert.deepInclude(child.event, {
        name: "ironflow.invoke",
        version: 1,
        data: '{"orderId":"o-1"}',
        source: "invoke"
      })
      const run = yield* shop.run(child.runId)
      assert.deepStrictEqual(
        [run.functionId, run.parentRunId, run.input, run.eventId],
        ["ship", parent.runId, { orderId: "o-1" }, child.event.id]
      )
      yield* shop.report(child, complete())
    })

    test("an invoked run without input gets null", function* (shop) {
      yield* shop.register(...shipping)
      const parent = yield* shop.start()
      yield* shop.report(parent, invoke("ship:0", "ship"), suspend())

      assert.strictEqual((yield* shop.claimOne()).event.data, "null")
    })

    test("the result of a child wakes its parent", function* (shop) {
      const { parent, child } = yield* parentAndChild(shop)

      yield* shop.report(child, complete({ tracking: "t-1" }))

      const next = yield* shop.claimOne()
      assert.strictEqual(next.runId, parent.runId)
      assert.deepStrictEqual(next.journal[0]?.outcome, success({ tracking: "t-1" }))
      assert.strictEqual(next.journal[0]?.kind, "invoke")
    })

    test("a child that ends during a turn of its parent is sent as a notice", function* (shop) {
      yield* shop.register(...shipping)
      const parent = yield* shop.start()
      yield* shop.report(parent, invoke("ship:0", "ship"))
      const child = yield* shop.claimOne()

      yield* shop.report(child, complete(7))

      assert.deepStrictEqual(shop.notices, [
        {
          workerId: "worker-1",
          notice: { _tag: "Fired", jobId: parent.jobId, stepKey: "ship:0", outcome: success(7) }
        }
      ])
    })

    for (const [how, end] of [
      ["fails", (shop, child) => shop.report(child, fail("van broke down"))],
      [
        "is cancelled",
        (shop, child) => shop.store.write(RunControl.cancelRun("default", child.runId, "van broke down"))
      ]
    ] satisfies ReadonlyArray<
      [string, (shop: Shop, child: { jobId: string; runId: string } & any) => Effect.Effect<unknown, unknown>]
    >) {
      test(`a child that ${how} fails its parent's step with the reason`, function* (shop) {
        const { parent, child } = yield* parentAndChild(shop)

        yield* end(shop, child)

        const next = yield* shop.claimOne()
        assert.strictEqual(next.runId, parent.runId)
        const outcome = next.journal[0]?.outcome
        assert(outcome?._tag === "Failure")
        assert.strictEqual(outcome.error.code, "INVOKE_FAILED")
        assert.include(outcome.error.message, "van broke down")
        assert.include(outcome.error.message, child.runId)
      })
    }

    test("invoking a function that is not registered fails the step at once", function* (shop) {
      yield* shop.register(handles("order"))
      const job = yield* shop.start()

      const outcomes = yield* shop.report(job, invoke("ship:0", "ship"), invokeAsync("ship:1", "ship"))

      for (const outcome of outcomes) {
        assert(outcome?._tag === "Failure")
        assert.strictEqual(outcome.error.code, "FUNCTION_NOT_FOUND")
      }
      yield* shop.report(job, settle("ship:0"))
      assert.deepStrictEqual(yield* shop.steps(job.runId), ["ship:1 failed", "ship:0 failed"])
    })

    test("a child that does not end in time fails its parent's step, and keeps running", function* (shop) {
      const { child } = yield* parentAndChild(shop, 1000)

      yield* shop.pass(1000)

      const next = yield* shop.claimOne()
      const outcome = next.journal[0]?.outcome
      assert(outcome?._tag === "Failure")
      assert.strictEqual(outcome.error.name, "InvokeTimeoutError")
      assert.strictEqual(yield* shop.status(child.runId), "running")
      yield* shop.report(child, complete("late"))
      assert.deepStrictEqual(yield* shop.steps(next.runId), ["ship:0 failed"])
    })

    test("a child that is not awaited is in the journal with its id", function* (shop) {
      yield* shop.register(...shipping)
      const parent = yield* shop.start()

      const [outcome] = yield* shop.report(parent, invokeAsync("ship:0", "ship", { n: 1 }))

      const child = yield* shop.claimOne()
      assert.deepStrictEqual(outcome, success({ runId: child.runId }))
      assert.deepStrictEqual(yield* shop.steps(parent.runId), ["ship:0 completed"])
      const run = yield* shop.run(child.runId)
      assert.deepStrictEqual([run.parentRunId, run.invokedBy], [undefined, parent.runId])
      yield* shop.report(child, fail("van broke down"))
      assert.deepStrictEqual(shop.takeNotices(), [])
    })

    test("cancelling a parent cancels the children that it awaits and their children, and no others", function* (shop) {
      yield* shop.register(...shipping)
      const parent = yield* shop.start()
      const [started] = yield* shop.report(
        parent,
        invokeAsync("free:0", "ship"),
        invoke("timed:0", "ship", { timeoutMs: 1 }),
        invoke("ship:0", "ship")
      )
      const jobs = yield* shop.claim({ room: 10 })
      yield* shop.pass(1)
      const awaited = jobs[2]!
      yield* shop.report(awaited, invoke("deeper:0", "ship"), suspend())
      const grandchild = yield* shop.claimOne()
      shop.takeNotices()

      yield* shop.store.write(RunControl.cancelRun("default", parent.runId, "no stock"))

      const statuses = yield* Effect.forEach([parent, awaited, grandchild, jobs[0]!, jobs[1]!], ({ runId }) =>
        shop.status(runId)
      )
      assert.deepStrictEqual(statuses, ["cancelled", "cancelled", "cancelled", "running", "running"])
      assert.deepStrictEqual(started, success({ runId: jobs[0]!.runId }))
      assert.deepStrictEqual(
        shop.notices.map(({ notice }) => notice),
        [
          { _tag: "Cancelled", jobId: parent.jobId, reason: "no stock" },
          {
            _tag: "Cancelled",
            jobId: grandchild.jobId,
            reason: `Parent run ${awaited.runId} was cancelled`
          }
        ]
      )
    })

    test("a parent that fails or completes does not affect its children", function* (shop) {
      const { parent, child } = yield* parentAndChild(shop)
      yield* shop.store.write(
        RunControl.patchStep("default", `${parent.runId}:ship:0`, "1", "shipped by hand")
      )
      yield* shop.report(yield* shop.claimOne(), fail("no stock"))

      assert.strictEqual(yield* shop.status(child.runId), "running")
      yield* shop.report(child, complete())
      assert.strictEqual(yield* shop.status(parent.runId), "failed")
    })
  })

  describe("compensation", () => {
    test("the error of the run is kept across turns, until the compensations have run", function* (shop) {
      yield* shop.register(handles("order"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        done("charge:0"),
        done("pack:0"),
        sleep("rest:0", 1000),
        compensate("charge", "pack")
      )
      assert.strictEqual(yield* shop.status(job.runId), "compensating")
      yield* shop.report(job, done("compensate:pack:0", success(), { kind: "compensate" }))

      yield* shop.store.write(LostLeases.releaseWorker("default", "worker-1", true))
      assert.strictEqual(yield* shop.status(job.runId), "compensating")
      const next = yield* shop.claimOne()
      assert.deepStrictEqual(next.compensating, {
        error: { name: "Error", message: "no stock" },
        compensations: ["charge", "pack"]
      })
      assert.deepStrictEqual(next.open, [])

      yield* shop.report(
        next,
        done("compensate:charge:0", success(), { kind: "compensate" }),
        fail("no stock")
      )
      assert.strictEqual(yield* shop.status(job.runId), "failed")
    })

    test("a compensation between two attempts suspends the run, which then continues to compensate", function* (shop) {
      yield* shop.register(handles("order"))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        compensate("charge"),
        retryStep("compensate:charge:0", 1, 1000),
        suspend("compensate:charge:0")
      )
      assert.deepStrictEqual([yield* shop.status(job.runId), yield* shop.claim()], ["compensating", []])

      yield* shop.pass(1000)

      const next = yield* shop.claimOne()
      assert.deepInclude(next.compensating, { compensations: ["charge"] })
      yield* shop.report(next, fail("no stock"))
    })

    test("a turn that is tried again while compensating keeps the error of the run", function* (shop) {
      yield* shop.register(handles("order"))
      const job = yield* shop.start()
      yield* shop.report(job, compensate("charge"), retryRun(1000))

      yield* shop.pass(1000)

      const next = yield* shop.claimOne()
      assert.strictEqual(next.compensating?.error.message, "no stock")
    })

    test("a paused rollback continues as a rollback", function* (shop) {
      yield* shop.register(handles("order"))
      const job = yield* shop.start()
      yield* shop.report(job, compensate("charge"), pause)
      assert.strictEqual(yield* shop.status(job.runId), "paused")

      yield* shop.store.write(RunControl.resumeRun("default", job.runId))

      assert.strictEqual(yield* shop.status(job.runId), "compensating")
      assert.isDefined((yield* shop.claimOne()).compensating)
    })

    test("a rollback cannot be cancelled, paused or not", function* (shop) {
      yield* shop.register(handles("order"))
      const job = yield* shop.start()
      yield* shop.report(job, compensate("charge"))
      const cancel = Effect.flip(shop.store.write(RunControl.cancelRun("default", job.runId, "")))

      assert.strictEqual((yield* cancel).code, "INVALID_STATE")
      yield* shop.report(job, pause)
      assert.strictEqual((yield* cancel).code, "INVALID_STATE")
      assert.strictEqual(yield* shop.status(job.runId), "paused")
    })
  })

  describe("other failures", () => {
    test("a failed step keeps its error and attempt", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("charge:0", failure("declined", { reason: 51 }), { attempt: 3 }))

      const [step] = yield* RunInspection.getRunSteps(shop.store, "default", job.runId)
      assert.deepInclude(step, {
        status: "failed",
        attempt: 3,
        error: { message: "declined", code: "ERROR", name: "Error", details: { reason: 51 } }
      })
    })
  })
}
