/** Paused functions, pinned runs, the history of registrations, forks, and the retention of functions. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Forking from "../../../../src/Engine/Runs/Forking.ts"
import * as FunctionHistory from "../../../../src/Engine/Functions/FunctionHistory.ts"
import {
  getFunction,
  type LiveCodeVersions,
  registerFunctions
} from "../../../../src/Engine/Functions/FunctionRows.ts"
import { countBacklog } from "../../../../src/Engine/Runs/Backlog.ts"
import { deleteEndedRuns } from "../../../../src/Engine/Runs/RunRetention.ts"
import * as StartRunNow from "../../../../src/Engine/Runs/StartRunNow.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"
import * as Operations from "../../../../src/Engine/Access/LoggedOperations.ts"
import * as Claims from "../../../../src/Engine/Turns/Claims.ts"
import {
  complete,
  compensate,
  done,
  environment,
  fail,
  handles,
  invoke,
  type Shop,
  type ShopTest,
  sleep,
  success,
  suspend
} from "./Shop.ts"

const pause = (shop: Shop, id = "charge", reason?: string) =>
  shop.store.write(
    Operations.pauseFunction(environment, id, "local", {
      by: "me",
      ...(reason === undefined ? {} : { reason })
    })
  )
const resume = (shop: Shop, id = "charge") =>
  shop.store.write(Operations.pauseFunction(environment, id, "local"))

const HOUR = 3_600_000

export const versionsSuite = (test: ShopTest): void => {
  describe("a function that is paused", () => {
    test("new runs wait until it is resumed, and runs that have started continue", function* (shop) {
      yield* shop.register(handles("charge"))
      const begun = yield* shop.start()
      yield* shop.report(begun, sleep("nap:0", 1000), suspend("nap:0"))

      yield* pause(shop)
      const { runIds } = yield* shop.emit("order.placed")
      assert.deepStrictEqual(yield* shop.claim(), [])
      assert.deepStrictEqual((yield* countBacklog(shop.store)).ready, [])
      yield* shop.pass(1000)
      assert.deepStrictEqual((yield* countBacklog(shop.store)).ready, [
        { environment, functionId: "charge", count: 1, oldestAt: 1000 }
      ])
      const again = yield* shop.claimOne()
      assert.strictEqual(again.runId, begun.runId)
      yield* shop.report(again, complete())
      assert.deepStrictEqual(yield* shop.claim(), [])

      yield* shop.register(handles("charge", { codeHash: "new" }))
      assert.deepStrictEqual(yield* shop.claim(), [])
      yield* resume(shop)
      assert.strictEqual((yield* shop.claimOne()).runId, runIds[0])
    })

    test("the same is true with a limit, an actor and pinned versions", function* (shop) {
      const fn = handles("charge", {
        concurrency: { limit: 5, key: "event.data.customer" },
        actorKey: "event.data.customer",
        versioning: "pin"
      })
      yield* shop.register(fn)
      const begun = yield* shop.start("order.placed", { customer: "ada" })
      yield* shop.report(begun, sleep("nap:0", 1000), suspend("nap:0"))
      yield* pause(shop)
      const { runIds } = yield* shop.emit("order.placed", { customer: "ada" })
      yield* shop.emit("order.placed", { customer: "bob" })
      assert.deepStrictEqual(yield* shop.claim({ room: 5 }), [])
      yield* shop.pass(1000)
      assert.strictEqual((yield* shop.claimOne()).runId, begun.runId)
      yield* resume(shop)
      const claimed = yield* shop.claim({ room: 5 })
      assert.strictEqual(claimed.length, 2)
      assert.include(
        claimed.map(({ runId }) => runId),
        runIds[0]
      )
    })

    test("its schedules start no runs, and missed fires are not repeated later", function* (shop) {
      yield* shop.register(
        handles("report", { on: [], triggers: [{ cron: "0 * * * *" }], id: "report" }),
        handles("other", { on: [], triggers: [{ cron: "0 * * * *" }], id: "other" })
      )
      yield* pause(shop, "report")
      yield* shop.pass(HOUR)
      const jobs = yield* shop.claim({ room: 5 })
      assert.deepStrictEqual(
        jobs.map(({ functionId }) => functionId),
        ["other"]
      )
      yield* resume(shop, "report")
      assert.deepStrictEqual(yield* shop.claim({ room: 5 }), [])
      yield* shop.pass(HOUR)
      assert.strictEqual((yield* shop.claim({ room: 5 })).length, 2)
    })

    test("a run that is started by hand has the given data, or the data of a fire of its schedule", function* (shop) {
      yield* shop.register(handles("report", { triggers: [{ cron: "0 * * * *" }] }), handles("charge"))
      const start = (
        id: string,
        options: { readonly data?: string; readonly idempotencyKey?: string } = {}
      ) => Effect.map(shop.store.write(StartRunNow.startRunNow(environment, id, options)), ({ run }) => run)
      yield* start("report")
      const job = yield* shop.claimOne()
      assert.deepInclude(JSON.parse(job.event.data), { cron: "0 * * * *", timezone: "UTC" })
      const first = yield* start("charge", { data: '{"orderId":"o-1"}', idempotencyKey: "once" })
      const second = yield* start("charge", { data: '{"orderId":"o-1"}', idempotencyKey: "once" })
      assert.strictEqual(second.id, first.id)
      assert.strictEqual((yield* shop.claimOne()).event.data, '{"orderId":"o-1"}')
      const error = yield* Effect.flip(start("nobody"))
      assert.strictEqual(error.code, "FUNCTION_NOT_FOUND")
    })
  })

  describe("a function that pins its runs", () => {
    const version = (codeHash: string) => handles("charge", { codeHash, versioning: "pin" })

    test("a run continues only on workers of the version that it started with", function* (shop) {
      yield* shop.register(version("1"))
      const job = yield* shop.start("order.placed", {}, { worker: "one", codeHash: "1" })
      yield* shop.report(job, sleep("nap:0", 1000), suspend("nap:0"))
      yield* shop.register(version("2"))
      yield* shop.pass(1000)

      assert.deepStrictEqual(yield* shop.claim({ worker: "two", codeHash: "2" }), [])
      const { runIds } = yield* shop.emit("order.placed")
      assert.strictEqual((yield* shop.claimOne({ worker: "two", codeHash: "2" })).runId, runIds[0])
      assert.strictEqual((yield* shop.run(runIds[0]!)).codeVersion, "2")
      const again = yield* shop.claimOne({ worker: "one", codeHash: "1" })
      assert.strictEqual(again.runId, job.runId)
      assert.strictEqual((yield* shop.run(job.runId)).codeVersion, "1")
    })

    test("new runs wait for the latest version while a worker has it, even if that worker has no room", function* (shop) {
      yield* shop.register(version("1"))
      yield* shop.register(version("2"))
      yield* shop.emit("order.placed")
      const workerOne = shop.demand({ worker: "one", codeHash: "1", room: 5 })
      const fullWorker = shop.demand({ worker: "two", codeHash: "2", room: 0 })

      assert.deepStrictEqual(
        yield* shop.store.write(Claims.claimRuns(environment, [workerOne, fullWorker])),
        []
      )
      // no worker has the latest version any more
      const claims = yield* shop.store.write(Claims.claimRuns(environment, [workerOne]))
      assert.strictEqual(claims.length, 1)
      assert.strictEqual((yield* shop.run(claims[0]!.job.runId)).codeVersion, "1")
    })

    test("an earlier version that comes back does not replace a live one", function* (shop) {
      yield* shop.register(version("1"))
      yield* shop.register(version("2"))
      const register = (fn: ReturnType<typeof version>, live: LiveCodeVersions) =>
        shop.store.write(registerFunctions(environment, [fn], 10, live))
      const latest = () =>
        Effect.map(shop.store.read(getFunction(environment, "charge")), (fn) => fn?.codeVersion)
      assert.deepStrictEqual(yield* register(version("1"), [["charge", "2"]]), ["charge"])
      assert.strictEqual(yield* latest(), "2")
      assert.deepStrictEqual(yield* register(version("3"), [["charge", "2"]]), [])
      assert.strictEqual(yield* latest(), "3")
      // no worker has the latest version any more, so this is a rollback
      assert.deepStrictEqual(yield* register(version("1"), [["charge", "2"]]), [])
      assert.strictEqual(yield* latest(), "1")
    })

    test("limits apply to all versions together", function* (shop) {
      const fn = (codeHash: string) => ({ ...version(codeHash), concurrency: { limit: 2 } })
      yield* shop.register(fn("1"))
      for (let i = 0; i < 3; i++) yield* shop.emit("order.placed")
      const [first] = yield* shop.claim({ worker: "one", codeHash: "1" })
      yield* shop.report(first!, sleep("nap:0", 1000), suspend("nap:0"))
      yield* shop.register(fn("2"))
      yield* shop.pass(1000)
      const both = yield* shop.store.write(
        Claims.claimRuns(environment, [
          shop.demand({ worker: "one", codeHash: "1", room: 5 }),
          shop.demand({ worker: "two", codeHash: "2", room: 5 })
        ])
      )
      assert.deepStrictEqual(
        both.map(({ job, workerId }) => [job.runId === first!.runId, workerId]),
        [
          [true, "one"],
          [false, "two"]
        ]
      )
    })

    test("an actor bound to a worker of another version does not block its run", function* (shop) {
      const fn = (codeHash: string) => ({ ...version(codeHash), actorKey: "event.data.customer" })
      yield* shop.register(fn("1"))
      const job = yield* shop.start("order.placed", { customer: "ada" }, { worker: "one", codeHash: "1" })
      yield* shop.report(job, sleep("nap:0", 1000), suspend("nap:0"))
      yield* shop.register(fn("2"))
      yield* shop.emit("order.placed", { customer: "ada" })
      const newer = yield* shop.claimOne({ worker: "two", codeHash: "2" })
      assert.notStrictEqual(newer.runId, job.runId)
      yield* shop.pass(1000)
      assert.strictEqual((yield* shop.claimOne({ worker: "one", codeHash: "1" })).runId, job.runId)
    })

    test("earlier runs are pinned in their next turn, also those started in the commit of the registration", function* (shop) {
      yield* shop.register(handles("charge", { codeHash: "0" }))
      const before = yield* shop.start("order.placed", {}, { codeHash: "0" })
      yield* shop.report(before, sleep("nap:0", 1000), suspend("nap:0"))
      const [, { runIds }] = yield* Effect.all([shop.register(version("1")), shop.emit("order.placed")], {
        concurrency: "unbounded"
      })
      yield* shop.pass(1000)
      const jobs = yield* shop.claim({ codeHash: "1", room: 5 })
      assert.sameMembers(
        jobs.map(({ runId }) => runId),
        [before.runId, runIds[0]!]
      )
      for (const { runId } of jobs) assert.strictEqual((yield* shop.run(runId)).codeVersion, "1")
    })

    test("a run whose version no worker has can be moved, and such runs are counted", function* (shop) {
      yield* shop.register(version("1"))
      const job = yield* shop.start("order.placed", {}, { codeHash: "1" })
      yield* shop.report(job, sleep("nap:0", 1000), suspend("nap:0"))
      yield* shop.register(version("2"))
      yield* shop.pass(1000)
      const counts = yield* shop.store.read(FunctionHistory.countPinned(environment, "charge"))
      assert.deepStrictEqual(counts, {
        latest: "2",
        pinned: [{ codeVersion: "1", liveRuns: 1, oldestRunId: job.runId }]
      })
      const bad = yield* Effect.flip(shop.store.write(Forking.moveRun(environment, job.runId, "3")))
      assert.include(bad.message, 'has no version "3": it has "2", "1"')

      yield* shop.store.write(Forking.moveRun(environment, job.runId, undefined))
      const moved = yield* shop.claimOne({ codeHash: "2" })
      assert.strictEqual(moved.runId, job.runId)
      yield* shop.report(moved, complete())
      const refused = yield* Effect.flip(shop.store.write(Forking.moveRun(environment, job.runId, undefined)))
      assert.include(refused.message, "is completed and cannot be moved")
    })

    test("the history says what changed, newest first, for at most 50 versions", function* (shop) {
      yield* shop.register(version("1"))
      const job = yield* shop.start("order.placed", {}, { codeHash: "1" })
      yield* shop.pass(5)
      yield* shop.register({ ...version("2"), timeoutMs: 1000 })
      const history = () => shop.store.read(FunctionHistory.functionHistory(environment, "charge"))
      assert.deepStrictEqual(
        (yield* history()).map(({ registration: _, ...rest }) => rest),
        [
          {
            version: 2,
            at: new Date(5).toISOString(),
            codeVersion: "2",
            changed: ["codeHash", "timeoutMs"],
            liveRuns: 0
          },
          { version: 1, at: new Date(0).toISOString(), codeVersion: "1", liveRuns: 1 }
        ]
      )
      for (let i = 3; i < 60; i++) yield* shop.register(version(String(i)))
      const all = yield* history()
      assert.strictEqual(all.length, 50)
      assert.strictEqual(all[0]?.codeVersion, "59")
      yield* shop.report(job, complete())
    })
  })

  describe("a fork", () => {
    const order = { orderId: "o-1" }

    test("has the steps before the given one in their recorded order, and leaves the original run unchanged", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }))
      const job = yield* shop.start("order.placed", order)
      yield* shop.report(
        job,
        done("pick:0", success(1)),
        done("charge:0", success(2)),
        invoke("ship:0", "ship")
      )
      const child = yield* shop.claimOne()
      yield* shop.report(child, complete("shipped"))
      yield* shop.report(job, { _tag: "Settle", stepKey: "ship:0" }, done("tell:0"), complete("over"))
      const before = yield* shop.steps(job.runId)

      const fork = yield* shop.store.write(Forking.forkRun(environment, job.runId, { from: "tell" }))
      assert.deepInclude(fork, { status: "pending", forkedFrom: job.runId, input: order })
      const turn = yield* shop.claimOne()
      assert.strictEqual(turn.runId, fork.id)
      assert.deepStrictEqual(
        turn.journal.map(({ outcome, stepKey }) => [stepKey, outcome]),
        [
          ["pick:0", success(1)],
          ["charge:0", success(2)],
          ["ship:0", success("shipped")]
        ]
      )
      assert.deepStrictEqual(turn.event.data, JSON.stringify(order))
      yield* shop.report(turn, done("tell:0"), complete("again"))
      assert.deepStrictEqual(yield* shop.steps(job.runId), before)
      assert.deepInclude(yield* shop.run(job.runId), { status: "completed", output: "over" })
      assert.deepStrictEqual(yield* shop.claim(), [])
    })

    test("continues with other results and other data", function* (shop) {
      yield* shop.register(handles("charge", { actorKey: "event.data.orderId" }))
      const job = yield* shop.start("order.placed", order)
      yield* shop.report(job, done("pick:0", success(1)), done("charge:0", success(2)), fail("no"))
      const fork = yield* shop.store.write(
        Forking.forkRun(environment, job.runId, {
          from: "charge",
          steps: [
            ["charge", '"paid by hand"'],
            [`${job.runId}:pick:0`, "7"]
          ],
          data: '{"orderId":"o-2"}'
        })
      )
      assert.deepInclude(fork, { input: { orderId: "o-2" }, actorId: "o-2" })
      const turn = yield* shop.claimOne()
      assert.deepInclude(turn.event, { name: "order.placed", data: '{"orderId":"o-2"}' })
      assert.deepStrictEqual(
        turn.journal.map(({ anyKind, outcome, stepKey }) => [stepKey, outcome, anyKind]),
        [
          ["pick:0", success(7), true],
          ["charge:0", success("paid by hand"), true]
        ]
      )
      yield* shop.report(turn, complete())
      // a fork of a fork has the data of the first fork
      const second = yield* shop.store.write(Forking.forkRun(environment, fork.id, {}))
      assert.deepInclude(second, { input: { orderId: "o-2" }, forkedFrom: fork.id })
      assert.deepStrictEqual((yield* shop.claimOne()).journal, [])
    })

    test("runs rolled-back steps again, and copies no compensations", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("pick:0"), done("charge:0"), compensate("charge"))
      yield* shop.report(job, done("compensate:charge:0", success(), { kind: "compensate" }), {
        _tag: "Fail",
        error: { name: "Error", message: "no stock" }
      })
      const fork = yield* shop.store.write(
        Forking.forkRun(environment, job.runId, { from: "compensate:charge:0" })
      )
      const turn = yield* shop.claimOne()
      assert.strictEqual(turn.runId, fork.id)
      assert.deepStrictEqual(
        turn.journal.map(({ stepKey }) => stepKey),
        ["pick:0"]
      )
    })

    test("is refused for unknown steps and runs, and changes nothing", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("pick:0"), done("pick:1"), complete())
      const refused = (runId: string, options: Parameters<typeof Forking.forkRun>[2]) =>
        Effect.flip(shop.store.write(Forking.forkRun(environment, runId, options)))
      assert.strictEqual((yield* refused("run_none", {})).code, "RUN_NOT_FOUND")
      assert.strictEqual((yield* refused(job.runId, { from: "nothing" })).code, "STEP_NOT_FOUND")
      assert.strictEqual((yield* refused(job.runId, { steps: [["nothing", "1"]] })).code, "STEP_NOT_FOUND")
      assert.include(
        (yield* refused(job.runId, { steps: [["pick", "1"]] })).message,
        `but run ${job.runId} has 2 steps of this name: name one of them by its id`
      )
      assert.deepStrictEqual(yield* shop.claim(), [])
    })

    test("of a paused function waits, although it has steps", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, done("pick:0"), done("charge:0"), complete())
      yield* pause(shop)
      yield* shop.store.write(Forking.forkRun(environment, job.runId, { from: "charge" }))
      assert.deepStrictEqual(yield* shop.claim(), [])
      yield* resume(shop)
      assert.strictEqual((yield* shop.claimOne()).journal.length, 1)
    })
  })

  describe("what a function keeps", () => {
    test("its runs are deleted earlier or later than the runs of other functions, by status", function* (shop) {
      yield* shop.register(
        handles("charge", { keepRuns: { completed: HOUR, failed: "forever" } }),
        handles("ship", { on: ["order.paid"] })
      )
      const end = function* (name: string, op: ReturnType<typeof complete>) {
        const job = yield* shop.start(name)
        yield* shop.report(job, op)
        return job.runId
      }
      const completed = yield* Effect.gen(() => end("order.placed", complete()))
      const failed = yield* Effect.gen(() => end("order.placed", fail("no")))
      const other = yield* Effect.gen(() => end("order.paid", complete()))
      yield* shop.pass(2 * HOUR)
      yield* Effect.gen(() => end("order.paid", complete()))
      const cancelled = (yield* shop.emit("order.placed")).runIds[0]!
      yield* shop.store.write(RunControl.cancelRun(environment, cancelled, "over"))
      const left = () =>
        Effect.map(Effect.all([completed, failed, other].map((id) => Effect.option(shop.run(id)))), (runs) =>
          runs.map(({ _tag }) => _tag)
        )

      yield* shop.store.write(deleteEndedRuns(24 * HOUR, 100))
      assert.deepStrictEqual(yield* left(), ["None", "Some", "Some"])
      yield* shop.pass(48 * HOUR)
      yield* shop.emit("order.paid")
      yield* shop.store.write(deleteEndedRuns(24 * HOUR, 100))
      assert.deepStrictEqual(yield* left(), ["None", "Some", "None"])
    })

    test("a function may keep less even when the engine keeps everything", function* (shop) {
      yield* shop.register(handles("charge", { keepRuns: { completed: HOUR } }))
      const job = yield* shop.start()
      yield* shop.report(job, complete())
      yield* shop.emit("order.placed")
      yield* shop.pass(2 * HOUR)
      assert.strictEqual((yield* shop.store.write(deleteEndedRuns(Number.POSITIVE_INFINITY, 100))).deleted, 1)
    })
  })
}
