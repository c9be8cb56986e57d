/** Retention of ended runs, recordings, sealed secrets and cron schedules. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Secrets from "../../../../src/Engine/Secrets/SecretRows.ts"
import * as TestClock from "effect/testing/TestClock"
import {
  complete,
  done,
  environment,
  fail,
  failure,
  handles,
  invoke,
  retryRun,
  retryStep,
  type Shop,
  type ShopTest,
  sleep,
  success,
  suspend
} from "./Shop.ts"
import * as RunAudit from "../../../../src/Engine/Runs/RunAudit.ts"
import * as RunRetention from "../../../../src/Engine/Runs/RunRetention.ts"
import * as Idempotency from "../../../../src/Engine/Log/Idempotency.ts"
import * as RunList from "../../../../src/Engine/Runs/RunList.ts"
import * as RunInspection from "../../../../src/Engine/Runs/RunInspection.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"
import * as FireDue from "../../../../src/Engine/Schedules/FireDue.ts"

const day = 24 * 60 * 60 * 1000

const recordOf = (shop: Shop, runId: string) =>
  Effect.map(
    shop.store.read(RunAudit.readAuditRecord(environment, runId, { after: 0 })),
    ({ events }) => events
  )

export const upkeepSuite = (test: ShopTest, isWhole: boolean): void => {
  describe("retention", () => {
    test("runs that ended before the limit are deleted with their steps, others stay", function* (shop) {
      yield* shop.register(handles("charge"))
      const old = yield* shop.start()
      yield* shop.report(old, done("charge:0"), complete())
      const waiting = yield* shop.start()
      yield* shop.report(waiting, sleep("nap:0", 30 * day), suspend("nap:0"))
      yield* shop.pass(2 * day)
      const young = yield* shop.start()
      yield* shop.report(young, complete())

      assert.strictEqual((yield* shop.store.write(RunRetention.deleteEndedRuns(day, 100))).deleted, 1)

      const left = yield* RunList.listRuns(shop.store, { environment, limit: 10 })
      assert.deepStrictEqual(
        left.runs.map(({ id }) => id),
        [young.runId, waiting.runId]
      )
      const error = yield* Effect.flip(RunInspection.getRunSteps(shop.store, environment, old.runId))
      assert.strictEqual(error.code, "RUN_NOT_FOUND")
      assert.strictEqual((yield* shop.store.write(RunRetention.deleteEndedRuns(day, 100))).deleted, 0)
    })

    test("idempotency keys are deleted when their window has passed, whether or not a timer fires", function* (shop) {
      for (const key of ["o-1", "o-2", "o-3"]) yield* shop.emit("order.placed", {}, { idempotencyKey: key })
      yield* TestClock.adjust(day / 2)
      yield* shop.emit("order.placed", {}, { idempotencyKey: "o-4" })
      assert.strictEqual(yield* shop.store.write(Idempotency.forgetExpired(10)), 0)

      yield* TestClock.adjust(day / 2)

      assert.strictEqual(yield* shop.store.write(Idempotency.forgetExpired(2)), 2)
      assert.strictEqual(yield* shop.store.write(Idempotency.forgetExpired(2)), 1)
      assert.isTrue((yield* shop.emit("order.placed", {}, { idempotencyKey: "o-4" })).duplicate)
    })

    test("at most `limit` runs are deleted at once, oldest first", function* (shop) {
      yield* shop.register(handles("charge"))
      const ids: Array<string> = []
      for (let i = 0; i < 3; i++) {
        const job = yield* shop.start()
        ids.push(job.runId)
        yield* shop.report(job, complete())
      }
      yield* shop.pass(day)

      assert.strictEqual((yield* shop.store.write(RunRetention.deleteEndedRuns(0, 2))).deleted, 2)

      const left = yield* RunList.listRuns(shop.store, { environment, limit: 10 })
      assert.deepStrictEqual(
        left.runs.map(({ id }) => id),
        [ids[2]]
      )
    })

    test("ended runs behind many waiting runs are found in several steps", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* Effect.forEach(
        Array.from({ length: 5500 }, (_, i) => i),
        () => shop.emit("order.placed"),
        { concurrency: "unbounded" }
      )
      yield* shop.register(handles("ship", { on: ["order.shipped"] }))
      yield* shop.emit("order.shipped")
      yield* shop.report(yield* shop.claimOne({ functions: ["ship"] }), complete())
      yield* shop.emit("order.shipped")
      yield* shop.pass(day)

      const first = yield* shop.store.write(RunRetention.deleteEndedRuns(0, 100))
      assert.deepStrictEqual(first, { deleted: 0, after: 5000 })
      assert.deepStrictEqual(yield* shop.store.write(RunRetention.deleteEndedRuns(0, 100, first.after)), {
        deleted: 1
      })
    })

    test("a child that ended stays until its parent has ended", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }))
      const parent = yield* shop.start()
      yield* shop.report(parent, invoke("ship:0", "ship", { timeoutMs: 90 * day }), suspend("ship:0"))
      const child = yield* shop.claimOne({ functions: ["ship"] })
      yield* shop.report(child, complete())
      yield* shop.pass(2 * day)

      assert.strictEqual((yield* shop.store.write(RunRetention.deleteEndedRuns(day, 100))).deleted, 0)
    })
  })

  describe("recording", () => {
    const types = (events: ReadonlyArray<{ readonly type: string; readonly stepName?: string }>) =>
      events.map(({ stepName, type }) => (stepName === undefined ? type : `${type} ${stepName}`))

    test("a run of a function with recording is recorded in order", function* (shop) {
      yield* shop.register(handles("charge", { recording: true }))
      const job = yield* shop.start()
      yield* shop.report(
        job,
        done("charge:0", success({ receipt: 1 })),
        retryStep("ship:0", 1, 1000),
        suspend("ship:0")
      )
      yield* shop.pass(1000)
      const again = yield* shop.claimOne()
      yield* shop.report(again, done("ship:0", failure("lost"), { attempt: 2 }), fail("lost"))
      yield* shop.store.write(RunControl.retryRun(environment, job.runId, "ship"))
      const last = yield* shop.claimOne()
      yield* shop.report(last, complete("done"))

      const events = yield* recordOf(shop, job.runId)

      assert.deepStrictEqual(types(events), [
        "run.started",
        "step.completed charge",
        "step.retrying ship",
        "step.failed ship",
        "run.failed",
        "run.retried",
        "run.completed"
      ])
      assert.deepStrictEqual(events[1]?.details.output, { receipt: 1 })
      assert.deepStrictEqual(events[5]?.details, { fromStep: "ship" })
      assert.deepStrictEqual(events[6], {
        at: "1970-01-01T00:00:01.000Z",
        type: "run.completed",
        details: { output: "done" }
      })
    })

    test("run control is recorded with its reasons", function* (shop) {
      yield* shop.register(handles("charge", { recording: true }))
      const job = yield* shop.start()
      yield* shop.report(job, done("charge:0"), sleep("nap:0", 1000), suspend("nap:0"))
      yield* shop.store.write(RunControl.pauseRun(environment, job.runId, "the bank is down"))
      yield* shop.store.write(RunControl.resumeRun(environment, job.runId))
      yield* shop.store.write(RunControl.patchStep(environment, `${job.runId}:charge:0`, "2", "by hand"))
      yield* shop.store.write(RunControl.cancelRun(environment, job.runId, "no longer wanted"))

      const events = yield* recordOf(shop, job.runId)

      assert.deepStrictEqual(types(events), [
        "run.started",
        "step.completed charge",
        "run.paused",
        "run.resumed",
        "step.patched charge:0",
        "run.cancelled"
      ])
      assert.deepStrictEqual(events[2]?.details, { reason: "the bank is down" })
      assert.deepStrictEqual(events[4]?.details, { reason: "by hand" })
    })

    test("a run without recording has no record, and an unknown run is not found", function* (shop) {
      yield* shop.register(handles("charge", { recording: true }), handles("ship", { on: ["order.paid"] }))
      const { runIds } = yield* shop.emit("order.paid")

      assert.deepStrictEqual(yield* recordOf(shop, runIds[0]!), [])
      const error = yield* Effect.flip(recordOf(shop, "run_none"))
      assert.strictEqual(error.code, "RUN_NOT_FOUND")
    })

    test("a record is read in pages, and large entries end a page early", function* (shop) {
      yield* shop.register({ ...handles("charge"), recording: true })
      const job = yield* shop.start()
      for (const name of ["a:0", "b:0", "c:0"]) {
        yield* shop.report(job, done(name, success("x".repeat(name === "b:0" ? 1_100_000 : 10))))
      }
      const page = (after: number, limit?: number) =>
        shop.store.read(
          RunAudit.readAuditRecord(environment, job.runId, {
            after,
            ...(limit === undefined ? {} : { limit })
          })
        )

      const first = yield* page(0)
      assert.strictEqual(first.events.length, 3)
      const second = yield* page(first.next!)
      assert.strictEqual(second.events.length, 1)
      assert.isUndefined(second.next)
      const one = yield* page(0, 1)
      assert.strictEqual(one.events.length, 1)
      assert.deepStrictEqual((yield* page(one.next!)).events, first.events.slice(1))
    })

    test("a record outlives its run, and is deleted when its retention has passed", function* (shop) {
      yield* shop.register(
        handles("charge", { recording: true, recordingRetention: "90d" }),
        handles("ship", { recording: true, recordingRetention: "forever" })
      )
      const { runIds } = yield* shop.emit("order.placed")
      for (const job of yield* shop.claim({ room: 2 })) yield* shop.report(job, complete())
      yield* shop.pass(40 * day)
      yield* shop.emit("order.placed")
      assert.strictEqual((yield* shop.store.write(RunRetention.deleteEndedRuns(30 * day, 10))).deleted, 2)
      const [charge, ship] = runIds as [string, string]

      assert.strictEqual(yield* shop.store.write(RunAudit.deleteExpiredRecords(10)), 0)
      assert.strictEqual((yield* recordOf(shop, charge)).length, 2)

      yield* shop.pass(50 * day)
      assert.strictEqual(yield* shop.store.write(RunAudit.deleteExpiredRecords(10)), 2)
      assert.strictEqual((yield* recordOf(shop, ship)).length, 2)
      const error = yield* Effect.flip(recordOf(shop, charge))
      assert.strictEqual(error.code, "RUN_NOT_FOUND")
    })
  })

  describe("sealed secrets", () => {
    test("belong to their environment, are replaced by name and listed without their value", function* (shop) {
      const { store } = shop
      yield* store.write(Secrets.putSecret("default", "B", "sealed-b"))
      yield* shop.pass(1000)
      yield* store.write(Secrets.putSecret("default", "A", "sealed-a"))
      yield* store.write(Secrets.putSecret("default", "B", "sealed-b2"))
      yield* store.write(Secrets.putSecret("staging", "C", "sealed-c"))

      assert.deepStrictEqual(yield* store.read(Secrets.listSecrets("default")), [
        { name: "A", createdAt: "1970-01-01T00:00:01.000Z", updatedAt: "1970-01-01T00:00:01.000Z" },
        { name: "B", createdAt: "1970-01-01T00:00:00.000Z", updatedAt: "1970-01-01T00:00:01.000Z" }
      ])
      assert.deepStrictEqual(yield* store.read(Secrets.readSecrets("default", ["C", "B", "A"])), [
        { name: "B", sealed: "sealed-b2" },
        { name: "A", sealed: "sealed-a" }
      ])
      assert.strictEqual(yield* store.write(Secrets.deleteSecret("default", "C")), false)
      assert.strictEqual(yield* store.write(Secrets.deleteSecret("staging", "C")), true)
      assert.deepStrictEqual(yield* store.read(Secrets.listSecrets("staging")), [])
      assert.deepStrictEqual(yield* store.read(Secrets.readSecrets("nowhere", ["A"])), [])
    })
  })

  describe("cron", () => {
    const nightly = (cron: string, options: { readonly timezone?: string; readonly event?: string } = {}) =>
      handles("report", { triggers: [{ cron, ...options }] })
    const hour = 60 * 60 * 1000

    test("a schedule fires at its time, and the run has its event", function* (shop) {
      yield* shop.register(nightly("0 9 * * *"))
      assert.strictEqual(shop.lastChanges?.dueAt, 9 * hour)

      yield* shop.pass(9 * hour - 1)
      assert.deepStrictEqual(yield* shop.claim(), [])
      yield* shop.pass(1)
      const job = yield* shop.claimOne()

      assert.strictEqual(job.event.name, "cron.report")
      assert.strictEqual(job.event.source, "cron")
      assert.deepStrictEqual(JSON.parse(job.event.data), {
        cron: "0 9 * * *",
        timezone: "UTC",
        scheduledAt: "1970-01-01T09:00:00.000Z"
      })
      assert.strictEqual((yield* FireDue.fireDue(shop.store)).nextDueAt, 33 * hour)
    })

    test("of the missed fires only the last one happens", function* (shop) {
      yield* shop.register(nightly("0 * * * *"))
      yield* shop.pass(10 * hour + 1)

      const job = yield* shop.claimOne()

      assert.strictEqual(JSON.parse(job.event.data).scheduledAt, "1970-01-01T10:00:00.000Z")
    })

    test("registering again keeps the time, and a removed trigger no longer fires", function* (shop) {
      yield* shop.register(nightly("0 9 * * *"))
      yield* shop.pass(8 * hour)
      yield* shop.register(nightly("0 9 * * *"))
      yield* shop.pass(hour)
      assert.strictEqual((yield* shop.claim({ room: 10 })).length, 1)

      yield* shop.register(nightly("0 12 * * 1"))
      yield* shop.pass(24 * hour)
      assert.deepStrictEqual(yield* shop.claim(), [])
    })

    test("two functions whose schedules share an event name each run for their own schedule only", function* (shop) {
      yield* shop.register(
        nightly("0 9 * * *", { event: "day.began" }),
        handles("greet", { triggers: [{ cron: "0 10 * * *", event: "day.began" }] }),
        handles("log", { on: ["day.began"] })
      )
      yield* shop.pass(9 * hour)
      const first = yield* shop.claim({ room: 10 })
      yield* shop.pass(hour)
      const second = yield* shop.claim({ room: 10 })

      const names = (jobs: typeof first) => jobs.map(({ functionId }) => functionId).toSorted()
      assert.deepStrictEqual(names(first), ["log", "report"])
      assert.deepStrictEqual(names(second), ["greet", "log"])
    })

    test("a fixed time that clocks skip fires at the end of the gap, and a repeated one fires once", function* (shop) {
      // Berlin, 2026: 02:00 to 03:00 is skipped on March 29, and 02:00 to 03:00 comes twice on October 25
      yield* shop.pass(Date.UTC(2026, 2, 28, 12))
      yield* shop.register(nightly("30 2 * * *", { timezone: "Europe/Berlin" }))
      yield* shop.pass(24 * hour)
      const spring = yield* shop.claimOne()
      assert.strictEqual(JSON.parse(spring.event.data).scheduledAt, "2026-03-29T01:00:00.000Z")

      yield* shop.pass(Date.UTC(2026, 9, 24, 12) - Date.UTC(2026, 2, 29, 12))
      yield* shop.claim({ room: 10 })
      yield* shop.pass(24 * hour)
      const autumn = yield* shop.claimOne()
      assert.strictEqual(JSON.parse(autumn.event.data).scheduledAt, "2026-10-25T00:30:00.000Z")
    })

    describe("while the run of the previous fire has not ended", () => {
      const every = (overlap?: "allow" | "skip" | "queue") =>
        handles("report", {
          triggers: [{ cron: "0 * * * *", ...(overlap === undefined ? {} : { overlap }) }]
        })
      const scheduledAt = (job: { readonly event: { readonly data: string } }) =>
        String(JSON.parse(job.event.data).scheduledAt).slice(11, 16)

      test("a schedule starts another one by default, as with `allow`", function* (shop) {
        yield* shop.register(
          every(),
          handles("ship", { triggers: [{ cron: "0 * * * *", overlap: "allow" }] })
        )
        for (let i = 0; i < 3; i++) yield* shop.pass(hour)

        const jobs = yield* shop.claim({ room: 10 })

        assert.deepStrictEqual(jobs.map(scheduledAt).toSorted(), [
          "01:00",
          "01:00",
          "02:00",
          "02:00",
          "03:00",
          "03:00"
        ])
        assert.isUndefined((yield* shop.situation(jobs[0]!.runId)).heldBack)
      })

      test("with `skip` a fire is skipped and has no event", function* (shop) {
        yield* shop.register(every("skip"), handles("log", { on: ["cron.report"] }))
        for (let i = 0; i < 3; i++) yield* shop.pass(hour)
        const jobs = yield* shop.claim({ room: 10 })
        assert.deepStrictEqual(jobs.map(({ functionId }) => functionId).toSorted(), ["log", "report"])
        const first = jobs.find(({ functionId }) => functionId === "report")!
        assert.deepStrictEqual((yield* shop.situation(first.runId)).heldBack, {
          cron: "0 * * * *",
          timezone: "UTC",
          overlap: "skip",
          skipped: 2,
          queue: []
        })

        yield* shop.report(first, sleep("nap:0", 10 * hour), suspend("nap:0"))
        yield* shop.pass(hour)
        assert.deepInclude((yield* shop.situation(first.runId)).heldBack, { skipped: 3 })
        yield* shop.store.write(RunControl.cancelRun(environment, first.runId, "enough"))
        yield* shop.fire()
        assert.deepStrictEqual(yield* shop.claim({ functions: ["report"] }), [])
        yield* shop.pass(hour)

        const next = yield* shop.claimOne({ functions: ["report"] })
        assert.strictEqual(scheduledAt(next), "05:00")
        assert.deepInclude((yield* shop.situation(next.runId)).heldBack, { skipped: 0 })
        assert.isUndefined((yield* shop.situation(first.runId)).heldBack)
      })

      test("with `queue` a fire waits for that run to end, and none is lost or out of order", function* (shop) {
        yield* shop.register(every("queue"), handles("log", { on: ["cron.report"] }))
        for (let i = 0; i < 3; i++) yield* shop.pass(hour)
        const first = yield* shop.claimOne({ functions: ["report"] })
        assert.deepInclude((yield* shop.situation(first.runId)).heldBack, {
          overlap: "queue",
          skipped: 0,
          queue: [2 * hour, 3 * hour]
        })
        assert.lengthOf(yield* shop.claim({ room: 10, functions: ["log"] }), 1)

        const seen = [scheduledAt(first)]
        for (let job = first, i = 0; i < 3; i++) {
          // failing, being cancelled and completing all end the run
          if (i === 0) yield* shop.report(job, fail("no paper"))
          else if (i === 1) yield* shop.store.write(RunControl.cancelRun(environment, job.runId, "enough"))
          else {
            yield* shop.pass(hour)
            yield* shop.report(job, complete())
          }
          assert.strictEqual(shop.lastChanges?.dueAt, 3 * hour + (i === 2 ? hour : 0))
          yield* shop.fire()
          job = yield* shop.claimOne({ functions: ["report"] })
          seen.push(scheduledAt(job))
        }
        assert.deepStrictEqual(seen, ["01:00", "02:00", "03:00", "04:00"])
        assert.lengthOf(yield* shop.claim({ room: 10, functions: ["log"] }), 3)
      })

      test("a run that is paused, or waits for its next attempt, has not ended", function* (shop) {
        yield* shop.register(every("skip"))
        yield* shop.pass(hour)
        const job = yield* shop.claimOne()
        yield* shop.report(job, retryRun(2 * hour))
        yield* shop.pass(hour)
        yield* shop.store.write(RunControl.pauseRun(environment, job.runId, "look at it"))
        yield* shop.pass(hour)

        assert.deepInclude((yield* shop.situation(job.runId)).heldBack, { skipped: 2 })
      })

      test("each schedule of a function considers its own run only", function* (shop) {
        const triggers = [
          { cron: "0 * * * *", overlap: "skip" },
          { cron: "30 * * * *", overlap: "skip" }
        ] as const
        yield* shop.register(handles("report", { triggers }))
        for (let i = 0; i < 4; i++) yield* shop.pass(hour / 2)

        assert.deepStrictEqual((yield* shop.claim({ room: 10 })).map(scheduledAt), ["00:30", "01:00"])
      })

      test("of the fires missed while the engine was down, the last one is skipped or queued", function* (shop) {
        yield* shop.register(every("queue"))
        yield* shop.pass(hour)
        const job = yield* shop.claimOne()
        yield* shop.pass(10 * hour)

        assert.deepInclude((yield* shop.situation(job.runId)).heldBack, { queue: [11 * hour] })
      })

      test("a deployment may change `overlap`, and earlier runs still count", function* (shop) {
        yield* shop.register(every())
        yield* shop.pass(hour)
        const first = yield* shop.claimOne()
        yield* shop.register(every("queue"))
        for (let i = 0; i < 3; i++) yield* shop.pass(hour)
        assert.deepStrictEqual(yield* shop.claim(), [])
        assert.deepInclude((yield* shop.situation(first.runId)).heldBack, {
          queue: [2 * hour, 3 * hour, 4 * hour]
        })

        yield* shop.register(every("allow"))
        assert.strictEqual(shop.lastChanges?.dueAt, 4 * hour)
        yield* shop.fire()

        assert.deepStrictEqual((yield* shop.claim({ room: 10 })).map(scheduledAt), [
          "02:00",
          "03:00",
          "04:00"
        ])
        assert.isUndefined((yield* shop.situation(first.runId)).heldBack)
      })

      if (isWhole) {
        test("at most a thousand fires wait, and the others are skipped with a log line", function* (shop) {
          yield* shop.register(handles("report", { triggers: [{ cron: "* * * * * *", overlap: "queue" }] }))
          yield* shop.pass(1000)
          const job = yield* shop.claimOne()
          for (let i = 0; i < 1000; i++) yield* shop.pass(1000)
          assert.lengthOf((yield* shop.situation(job.runId)).heldBack!.queue, 1000)
          let warnings: ReadonlyArray<string> = []
          shop.store.onCommit((changes) => {
            warnings = [...warnings, ...changes.warnings]
          })
          yield* shop.pass(1000)

          const held = (yield* shop.situation(job.runId)).heldBack!
          assert.lengthOf(held.queue, 1000)
          assert.strictEqual(held.skipped, 1)
          assert.match(
            warnings.join(),
            /Cron trigger "\* \* \* \* \* \*" of function "report": 1000 fires wait for the end of run run_.* left out/
          )
        })
      }
    })
  })
}
