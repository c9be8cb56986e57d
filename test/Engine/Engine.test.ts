import { assert, describe, it } from "@effect/vitest"
import type { Call } from "../../src/Engine/Store/Program.ts"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { Client, clientMethods } from "../../src/Client/Client.ts"
import { Engine, layer, layerClientIn } from "../../src/Engine/Engine.ts"
import { ChecksGuarantees } from "../../src/Engine/Guarantees/GuaranteeCheck.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { Store, type StoreService } from "../../src/Engine/Store/Store.ts"
import type { Changes } from "../../src/Engine/Store/Changes.ts"
import { StoreError } from "../../src/Errors.ts"
import type {
  FunctionRegistration,
  Job,
  Notice,
  TurnOp,
  WorkerRegistration,
  WorkerSession
} from "../../src/Protocol/Worker.ts"
import {
  complete,
  done,
  fail,
  handles,
  invoke,
  release,
  settle,
  sleep,
  suspend,
  waitFor
} from "./Store/suite/Shop.ts"
import { untilQuiet } from "./Quiet.ts"

/** Lets all fibers, commits and callbacks run that do not wait for time to pass. */
const quiet = Effect.promise(async () => {
  await untilQuiet()
})

/** The programs that an engine runs every hour in any case. */
const housekeeping = new Set([
  "deleteEndedRuns",
  "forgetExpired",
  "deleteExpiredRecords",
  "deleteOldMessages",
  "findNextEnvironmentWithMessages",
  "touchGroups",
  "listEnvironmentsOfAbandonedGroups",
  "deleteAbandonedGroupsOfEnvironment"
])

/** Records which programs the engine runs. */
class Spy {
  readonly calls: Array<string> = []
  readonly commits: Array<Changes> = []
  /** Programs that fail the next time they are called. */
  readonly broken = new Set<string>()

  wrap(store: StoreService): StoreService {
    store.onCommit((changes) => void this.commits.push(changes))
    const seen =
      <A, E>(ask: (call: Call<A, E>) => Effect.Effect<A, E | StoreError>) =>
      (call: Call<A, E>) =>
        Effect.suspend((): Effect.Effect<A, E | StoreError> => {
          this.calls.push(call.name)
          if (!this.broken.has(call.name)) return ask(call)
          // due work of several kinds is fired in calls at the same time: all of them fail
          if (call.name === "fireDueKind") setImmediate(() => this.broken.delete(call.name))
          else this.broken.delete(call.name)
          return Effect.fail(new StoreError(`${call.name}: disk full`))
        })
    return {
      ...store,
      write: (call) => seen(store.write)(call),
      read: (call) => seen(store.read)(call),
      readApart: (call) => seen(store.readApart)(call)
    }
  }

  /** The programs since the last call of `heard`, without the hourly ones. */
  heard(): ReadonlyArray<string> {
    this.commits.length = 0
    return [...new Set(this.calls.splice(0))].filter((name) => !housekeeping.has(name))
  }
}

/** A worker whose turns the test plays. */
class Worker {
  readonly jobs: Array<Job> = []
  readonly notices: Array<Notice> = []
  session!: WorkerSession
  scope!: Scope.Closeable

  /** The next job, which must have arrived. */
  next(): Job {
    return this.jobs.shift() ?? assert.fail("no job has come")
  }
  report(job: Job, ...ops: ReadonlyArray<TurnOp>) {
    return this.session.report([{ jobId: job.jobId, runId: job.runId, ops }])
  }
  /** Disconnects by closing the scope of the session. */
  get leave() {
    return Scope.close(this.scope, Exit.void)
  }
}

const registration = (
  workerId: string,
  functions: ReadonlyArray<FunctionRegistration>,
  environment = "default"
): WorkerRegistration => ({
  workerId,
  environment,
  hostname: "shop",
  functions,
  maxConcurrentJobs: 10,
  labels: {},
  version: { sdk: "0", runtime: "node" }
})

const connect = (
  workerId: string,
  functions: ReadonlyArray<FunctionRegistration>,
  options: { readonly room?: number; readonly environment?: string; readonly pauses?: boolean } = {}
) =>
  Effect.gen(function* () {
    const engine = yield* Engine
    const worker = new Worker()
    worker.scope = yield* Scope.fork(yield* Effect.scope)
    worker.session = yield* Scope.provide(
      engine.workers.connect(
        {
          ...registration(workerId, functions, options.environment),
          ...(options.pauses === undefined ? {} : { pauses: options.pauses })
        },
        {
          onJob: (job) => void worker.jobs.push(job),
          onNotice: (notice) => void worker.notices.push(notice)
        }
      ),
      worker.scope
    )
    worker.session.makeRoom(options.room ?? 10)
    yield* quiet
    return worker
  })

const engineTest = (
  title: string,
  body: (spy: Spy) => Effect.Effect<void, unknown, Engine | Client | Scope.Scope>
) =>
  it.effect(title, () => {
    const spy = new Spy()
    const store = Layer.effect(
      Store,
      Effect.map(SqliteStore.make({ filename: ":memory:" }), (store) => spy.wrap(store))
    )
    return Effect.gen(function* () {
      yield* body(spy)
      assert.strictEqual(yield* (yield* Engine).runs.countStuck, 0)
    }).pipe(
      Effect.provide(
        layerClientIn("default").pipe(
          Layer.provideMerge(layer),
          Layer.provide(store),
          Layer.provide(Layer.succeed(ChecksGuarantees, false))
        )
      )
    )
  })

describe("dispatch", () => {
  engineTest("an emit and the claim of its run share a commit", (spy) =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      // lets the worker make its first claim, for runs that may already be ready
      yield* quiet
      spy.heard()

      const { runIds } = yield* client.emit("order.placed", { orderId: "o-1" })
      yield* quiet

      assert.strictEqual(worker.next().runId, runIds[0])
      assert.deepStrictEqual([...spy.calls].sort(), ["appendEvent", "claimRuns"])
      assert.strictEqual(spy.commits.length, 1)
    })
  )

  engineTest("the end of a run and the claim of the next one share a commit", (spy) =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge", { concurrency: { limit: 1 } })])
      yield* client.emit("order.placed", { n: 1 })
      yield* client.emit("order.placed", { n: 2 })
      yield* quiet
      const first = worker.next()
      assert.strictEqual(worker.jobs.length, 0)
      spy.heard()

      yield* worker.report(first, done("charge:0"), complete())
      yield* quiet

      assert.strictEqual(worker.next().event.data, '{"n":2}')
      assert.strictEqual(spy.commits.length, 1)
    })
  )

  engineTest(
    "a run that becomes ready in the commit of an empty claim goes to the next worker that has room",
    (spy) =>
      Effect.gen(function* () {
        const client = yield* Client
        const early = yield* connect("worker-1", [handles("charge")], { room: 0 })
        const late = yield* connect("worker-2", [handles("charge")], { room: 0 })
        spy.heard()

        // the claim comes first, and its worker has left when the run is ready
        early.session.makeRoom(1)
        const { runIds } = yield* client.emit("order.placed", {})
        yield* early.leave
        yield* quiet
        assert.deepStrictEqual(
          spy.commits.filter(({ counts }) => counts.started > 0).map(({ mayHaveReady }) => mayHaveReady),
          [true]
        )
        assert.deepStrictEqual([...spy.calls].slice(0, 2), ["claimRuns", "appendEvent"])
        spy.calls.length = 0
        late.session.makeRoom(1)
        yield* quiet

        assert.strictEqual(late.next().runId, runIds[0])
        late.session.makeRoom(1)
        yield* quiet
        late.session.makeRoom(1)
        yield* quiet
        // no run is ready, so the engine sends no more claims
        assert.strictEqual(spy.calls.filter((name) => name === "claimRuns").length, 2)
      })
  )

  engineTest("runs that are older than their worker are handed out when it has room", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const early = yield* connect("worker-1", [handles("charge")], { room: 0 })
      for (const n of [1, 2, 3]) yield* client.emit("order.placed", { n })
      yield* quiet
      assert.strictEqual(early.jobs.length, 0)

      early.session.makeRoom(2)
      yield* quiet
      assert.strictEqual(early.jobs.length, 2)
      const late = yield* connect("worker-2", [handles("charge")])
      assert.strictEqual(late.jobs.length, 1)
    })
  )

  engineTest("a worker gets no more runs than it has room for, and each run goes to one worker", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const a = yield* connect("worker-1", [handles("charge")], { room: 3 })
      const b = yield* connect("worker-2", [handles("charge")], { room: 2 })

      yield* Effect.forEach(
        Array.from({ length: 20 }, (_, n) => n),
        (n) => client.emit("order.placed", { n }),
        { concurrency: "unbounded" }
      )
      yield* quiet

      assert.deepStrictEqual([a.jobs.length, b.jobs.length], [3, 2])
      assert.strictEqual(new Set([...a.jobs, ...b.jobs].map(({ runId }) => runId)).size, 5)
    })
  )

  engineTest("workers of another environment get no runs", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const engine = yield* Engine
      const here = yield* connect("worker-1", [handles("charge")])
      const there = yield* connect("worker-2", [handles("charge")], { environment: "staging" })

      const { runIds } = yield* engine.client("staging").emit("order.placed", {})
      yield* quiet

      assert.deepStrictEqual([here.jobs.length, there.next().runId], [0, runIds[0]])
      assert.deepStrictEqual(
        (yield* client.listWorkers()).map(({ id }) => id),
        ["worker-1"]
      )
    })
  )

  engineTest(
    "the runs of a worker that leaves go to another worker at once, which does not count as an attempt",
    () =>
      Effect.gen(function* () {
        const client = yield* Client
        const a = yield* connect("worker-1", [handles("charge")])
        yield* client.emit("order.placed", {})
        yield* quiet
        const job = a.next()
        yield* a.report(job, done("charge:0"))
        const b = yield* connect("worker-2", [handles("charge")])

        yield* a.leave
        yield* quiet

        const again = b.next()
        assert.deepStrictEqual([again.runId, again.attempt, again.journal.length], [job.runId, 1, 1])
        const [ack] = yield* a.report(job, complete())
        assert.deepInclude(ack, { _tag: "Refused", reason: "LEASE_LOST" })
        assert.deepStrictEqual(
          (yield* client.listWorkers()).map(({ id }) => id),
          ["worker-2"]
        )
      })
  )

  engineTest(
    "a run that is claimed for a worker that leaves at that moment is not lost, and neither is its actor",
    () =>
      Effect.gen(function* () {
        const client = yield* Client
        const ship = handles("ship", { actorKey: "event.data.van" })
        const a = yield* connect("worker-1", [ship])

        yield* Effect.all([client.emit("order.placed", { van: 1 }), a.leave], { concurrency: "unbounded" })
        yield* quiet
        const b = yield* connect("worker-2", [ship])

        assert.strictEqual(b.jobs.length, 1)
      })
  )

  engineTest(
    "a run that is paused or cancelled in the commit of its claim does not start, and a resumed one does",
    () =>
      Effect.gen(function* () {
        const client = yield* Client
        const worker = yield* connect("worker-1", [handles("charge")], { room: 0 })
        const emitted = yield* Effect.forEach([1, 2, 3], () => client.emit("order.placed", {}))
        const [paused, cancelled, resumed] = emitted.map(({ runIds }) => runIds[0]!) as [
          string,
          string,
          string
        ]

        worker.session.makeRoom(3)
        yield* Effect.all(
          [
            client.pauseRun(paused),
            client.cancelRun(cancelled),
            client.pauseRun(resumed),
            client.resumeRun(resumed)
          ],
          { concurrency: "unbounded" }
        )
        yield* quiet

        assert.deepStrictEqual(
          worker.jobs.map(({ runId }) => runId),
          [resumed]
        )
        assert.strictEqual((yield* client.getRun(paused)).status, "paused")
        const [info] = yield* client.listWorkers()
        assert.strictEqual(info?.activeJobs, 1)
        // the worker has room again for the other two
        for (let n = 0; n < 3; n++) yield* client.emit("order.placed", {})
        yield* quiet
        assert.strictEqual(worker.jobs.length, 3)
      })
  )

  engineTest(
    "a notice for a turn that its worker keeps is not delayed by a claim that fails or finds other runs",
    (spy) =>
      Effect.gen(function* () {
        const client = yield* Client
        const engine = yield* Engine
        const store = { leaseMs: 1000, transport: "polling" }
        const notices: Array<Notice> = []
        const jobs: Array<Job> = []
        const handlers = {
          onJob: (job: Job) => void jobs.push(job),
          onNotice: (notice: Notice) => void notices.push(notice)
        }
        const before = yield* engine.workers.connectRemote(
          registration("worker-1", [handles("charge")]),
          handlers,
          store
        )
        before.makeRoom(1)
        yield* client.emit("order.placed", {})
        yield* quiet
        const [job] = jobs
        before.detach()
        const after = yield* engine.workers.connectRemote(
          registration("worker-1", [handles("charge")]),
          handlers,
          store
        )
        after.makeRoom(1)
        spy.broken.add("claimRuns")

        // the notice is sent before the worker has said that it keeps the turn
        yield* Effect.all([client.emit("order.placed", {}), client.cancelRun(job!.runId)], {
          concurrency: "unbounded"
        })
        yield* quiet
        yield* TestClock.adjust(1000)
        yield* quiet

        assert.deepStrictEqual(
          notices.map(({ _tag }) => _tag),
          ["Cancelled"]
        )
        yield* after.close(false)
      })
  )

  engineTest("a worker outside the process whose registration failed half way can register again", () =>
    Effect.gen(function* () {
      const engine = yield* Engine
      const register = engine.workers.connectRemote(
        registration("worker-1", [handles("charge")]),
        { onJob: () => undefined, onNotice: () => undefined },
        { leaseMs: 1000, transport: "polling" }
      )
      const stop = engine.functions.follow(Effect.fail(new StoreError("disk full")))
      assert.strictEqual((yield* Effect.flip(register)).message, "disk full")
      assert.lengthOf(yield* engine.workers.list("default"), 0)
      stop()

      yield* register
      assert.lengthOf(yield* engine.workers.list("default"), 1)
    })
  )

  engineTest(
    "a worker that knows pauses is notified and continues its turn, and another worker is called back",
    () =>
      Effect.gen(function* () {
        const client = yield* Client
        for (const pauses of [true, false]) {
          const worker = yield* connect("worker-1", [handles("charge")], { pauses })
          const { runIds } = yield* client.emit("order.placed", {})
          yield* quiet
          const job = worker.next()
          yield* client.pauseRun(runIds[0]!)
          assert.deepStrictEqual(
            worker.notices.map(({ _tag }) => _tag),
            pauses ? ["Paused"] : []
          )

          const [ack] = yield* worker.report(job, done("charge:0"))

          assert.deepInclude(
            ack,
            pauses ? { _tag: "Accepted", paused: true } : { _tag: "Refused", reason: "LEASE_LOST" }
          )
          if (pauses) yield* worker.report(job, release)
          assert.strictEqual((yield* client.getRun(runIds[0]!)).status, "paused")
          assert.strictEqual((yield* client.getRunSteps(runIds[0]!)).length, 1)
          yield* worker.leave
        }
      })
  )

  engineTest("a claim that fails is tried again", (spy) =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      spy.broken.add("claimRuns")

      yield* client.emit("order.placed", {})
      yield* quiet
      assert.strictEqual(worker.jobs.length, 0)
      yield* TestClock.adjust(1000)
      yield* quiet

      assert.strictEqual(worker.jobs.length, 1)
    })
  )

  engineTest(
    "a report that cannot be stored is a connection error, and the same report can be sent again",
    (spy) =>
      Effect.gen(function* () {
        const client = yield* Client
        const worker = yield* connect("worker-1", [handles("charge")])
        yield* client.emit("order.placed", {})
        yield* quiet
        const job = worker.next()
        spy.broken.add("applyAllReports")

        const error = yield* Effect.flip(worker.report(job, complete()))
        assert.strictEqual(error._tag, "ConnectionError")
        assert.include(error.message, "disk full")

        const [ack] = yield* worker.report(job, complete())
        assert.strictEqual(ack?._tag, "Accepted")
      })
  )

  engineTest("the load of a worker is the number of runs that it holds now", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge"), handles("ship")])
      yield* client.emit("order.placed", {})
      yield* quiet
      const active = Effect.map(client.listWorkers(), ([info]) => info?.activeJobs)
      const [info] = yield* client.listWorkers()
      assert.deepStrictEqual(info, {
        id: "worker-1",
        hostname: "shop",
        functionIds: ["charge", "ship"],
        maxConcurrentJobs: 10,
        activeJobs: 2,
        labels: {},
        transport: "memory",
        registeredAt: new Date(0).toISOString()
      })

      yield* worker.report(worker.next(), sleep("rest:0", 1000), suspend("rest:0"))
      assert.strictEqual(yield* active, 1)
      yield* worker.report(worker.next(), done("charge:0"))
      assert.strictEqual(yield* active, 1)
    })
  )

  engineTest(
    "a step call after the end of its turn makes the engine dispatch the run again with a longer linger",
    () =>
      Effect.gen(function* () {
        const client = yield* Client
        const worker = yield* connect("worker-1", [handles("charge")])
        yield* client.emit("order.placed", {})
        yield* quiet
        const job = worker.next()
        yield* worker.report(job, sleep("rest:0", 1000), suspend("rest:0"))

        yield* worker.session.late({ runId: job.runId, stepName: "charge", lingerMs: job.lingerMs })
        yield* quiet

        assert.strictEqual(worker.next().lingerMs, 50)
      })
  )

  engineTest("two workers cannot have one id, one after the other or at once", () =>
    Effect.gen(function* () {
      const first = yield* connect("worker-1", [handles("charge")])
      const error = yield* Effect.flip(connect("worker-1", [handles("charge")]))
      assert.strictEqual((error as { code: string }).code, "VALIDATION_ERROR")
      yield* first.leave

      const both = yield* Effect.all(
        [1, 2].map(() => Effect.exit(connect("worker-1", [handles("charge")]))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(both.map(Exit.isSuccess).sort(), [false, true])
    })
  )

  engineTest("an invalid trigger is refused with the name of its function, and nothing is registered", () =>
    Effect.gen(function* () {
      const client = yield* Client
      for (const trigger of [
        { event: "order..placed" },
        { event: "order.placed", expression: "event.data.amount >" },
        { cron: "every day" },
        {}
      ]) {
        const bad = handles("charge", { triggers: [{ event: "order.placed" }, trigger] })
        const error = yield* Effect.flip(connect("worker-1", [handles("ship"), bad]))
        assert.strictEqual((error as { code: string }).code, "VALIDATION_ERROR")
        assert.include((error as Error).message, 'Trigger 1 of function "charge"')
      }
      assert.deepStrictEqual(yield* client.listFunctions(), [])
      assert.deepStrictEqual(yield* client.listWorkers(), [])
    })
  )
})

describe("notices", () => {
  engineTest("an event, a sleep, a child and a cancellation reach the live turn", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge"), handles("ship", { on: [] })])
      yield* client.emit("order.placed", {})
      yield* quiet
      const job = worker.next()
      yield* worker.report(
        job,
        waitFor("paid:0", "order.paid"),
        sleep("rest:0", 1000),
        invoke("ship:0", "ship")
      )
      yield* quiet
      const fired = () =>
        worker.notices.splice(0).map((notice) => (notice._tag === "Fired" ? notice.stepKey : notice._tag))

      yield* client.emit("order.paid", {})
      assert.deepStrictEqual(fired(), ["paid:0"])
      yield* worker.report(worker.next(), complete("sent"))
      assert.deepStrictEqual(fired(), ["ship:0"])
      yield* TestClock.adjust(1000)
      yield* quiet
      assert.deepStrictEqual(fired(), ["rest:0"])
      yield* worker.report(job, settle("rest:0"), settle("paid:0"))
      yield* client.cancelRun(job.runId, "no stock")
      assert.deepStrictEqual(worker.notices, [{ _tag: "Cancelled", jobId: job.jobId, reason: "no stock" }])
    })
  )
})

describe("timers", () => {
  engineTest("a run sleeps for a week without a query, and wakes at its time", (spy) =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      yield* client.emit("order.placed", {})
      yield* quiet
      yield* worker.report(worker.next(), sleep("rest:0", 7 * 24 * 3_600_000), suspend("rest:0"))
      yield* quiet
      spy.heard()

      yield* TestClock.adjust(7 * 24 * 3_600_000 - 1)
      yield* quiet
      assert.deepStrictEqual(spy.heard(), [])

      yield* TestClock.adjust(1)
      yield* quiet
      assert.strictEqual(worker.jobs.length, 1)
      assert.deepStrictEqual([...spy.heard()].sort(), [
        "claimRuns",
        "findEnvironmentsWithDue",
        "fireDueKind",
        "nextDueAt"
      ])
    })
  )

  engineTest("an idle engine sends no queries", (spy) =>
    Effect.gen(function* () {
      yield* connect("worker-1", [handles("charge")])
      spy.heard()

      yield* TestClock.adjust("30 days")
      yield* quiet

      assert.isAtMost(spy.calls.length, housekeeping.size * 30 * 24, "only the hourly programs ran")
      assert.deepStrictEqual(spy.heard(), [])
    })
  )

  engineTest("a timer that is due sooner is not held up by one that is due later", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      for (const ms of [5000, 1000, 3000]) {
        yield* client.emit("order.placed", { ms })
        yield* quiet
        yield* worker.report(worker.next(), sleep("rest:0", ms), suspend("rest:0"))
      }
      const woken: Array<string> = []
      for (let second = 1; second <= 5; second++) {
        yield* TestClock.adjust(1000)
        yield* quiet
        woken.push(...worker.jobs.splice(0).map((job) => `${second}: ${job.event.data}`))
      }

      assert.deepStrictEqual(woken, ['1: {"ms":1000}', '3: {"ms":3000}', '5: {"ms":5000}'])
    })
  )

  engineTest("timers that could not be fired are fired a second later", (spy) =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      yield* client.emit("order.placed", {})
      yield* quiet
      yield* worker.report(worker.next(), sleep("rest:0", 1000), suspend("rest:0"))
      spy.broken.add("fireDueKind")

      yield* TestClock.adjust(1000)
      yield* quiet
      assert.strictEqual(worker.jobs.length, 0)
      yield* TestClock.adjust(1000)
      yield* quiet
      assert.strictEqual(worker.jobs.length, 1)
    })
  )
})

describe("waitForRun", () => {
  engineTest("returns the run to every caller when it ends, and at once when it has already ended", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      const { runIds } = yield* client.emit("order.placed", {})
      const waiting = yield* Effect.forkChild(
        Effect.all([client.waitForRun(runIds[0]!), client.waitForRun(runIds[0]!, { timeout: 1000 })], {
          concurrency: "unbounded"
        })
      )
      yield* quiet

      yield* worker.report(worker.next(), complete({ total: 1 }))

      const runs = yield* Fiber.join(waiting)
      const now = yield* client.waitForRun(runIds[0]!)
      for (const run of [...runs, now]) {
        assert.deepStrictEqual([run.status, run.output], ["completed", { total: 1 }])
      }
    })
  )

  engineTest("returns a failed and a cancelled run", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      const first = yield* client.emit("order.placed", {})
      yield* quiet
      yield* worker.report(worker.next(), fail("no stock"))
      const second = yield* client.emit("order.placed", {})
      const waiting = yield* Effect.forkChild(client.waitForRun(second.runIds[0]!))
      yield* quiet
      yield* client.cancelRun(second.runIds[0]!)

      assert.strictEqual((yield* client.waitForRun(first.runIds[0]!)).error?.message, "no stock")
      assert.strictEqual((yield* Fiber.join(waiting)).error?.message, "Cancelled by a client")
    })
  )

  engineTest("gives up after its timeout, says why the run has not ended, and lets it continue", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      const { runIds } = yield* client.emit("order.placed", {})
      yield* quiet
      yield* worker.report(worker.next(), waitFor("paid:0", "order.paid"), suspend("paid:0"))
      const waiting = yield* Effect.forkChild(Effect.flip(client.waitForRun(runIds[0]!, { timeout: 1000 })))
      yield* quiet
      yield* TestClock.adjust(1000)

      const error = yield* Fiber.join(waiting)
      assert.strictEqual(error.code, "TIMEOUT")
      assert.include(
        error.message,
        `Run ${runIds[0]} has not ended within 1000ms. Only the wait is over: the run itself is unchanged.`
      )
      assert.include(error.message, 'Step "paid" waits for event "order.paid"')
      assert.strictEqual((yield* client.getRun(runIds[0]!)).status, "waiting")
    })
  )

  engineTest("fails at once for an unknown run", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const error = yield* Effect.flip(client.waitForRun("run_unknown", { timeout: 1000 }))
      assert.strictEqual(error.code, "RUN_NOT_FOUND")
    })
  )

  engineTest("does not return a run that was retried in the commit of its failure", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      const { runIds } = yield* client.emit("order.placed", {})
      yield* quiet
      const waiting = yield* Effect.forkChild(client.waitForRun(runIds[0]!))
      yield* quiet

      yield* Effect.all([worker.report(worker.next(), fail("no stock")), client.retryRun(runIds[0]!)], {
        concurrency: "unbounded"
      })
      yield* quiet
      yield* worker.report(worker.next(), complete("second try"))

      assert.strictEqual((yield* Fiber.join(waiting)).output, "second try")
    })
  )
})

describe("the client", () => {
  engineTest("explains a run from the database and the live workers", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const engine = yield* Engine
      const worker = yield* connect("worker-1", [handles("charge")], { room: 1 })
      const { runIds } = yield* client.emit("order.placed", {})
      const code = Effect.map(client.explain(runIds[0]!), (explanation) => explanation.code)
      yield* quiet
      assert.strictEqual(yield* code, "RUNNING")
      yield* worker.report(worker.next(), release)
      assert.strictEqual(yield* code, "READY")
      yield* worker.leave
      assert.strictEqual(yield* code, "NO_WORKER")
      yield* client.cancelRun(runIds[0]!)
      assert.strictEqual(yield* code, "CANCELLED")
      assert.strictEqual(
        (yield* Effect.flip(engine.client("staging").explain(runIds[0]!))).code,
        "RUN_NOT_FOUND"
      )
    })
  )

  engineTest("steers runs, and runs that become ready are handed out at once", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      const { runIds } = yield* client.emit("order.placed", {})
      const runId = runIds[0]!
      const handedOut = Effect.map(quiet, () => worker.jobs.splice(0).map((job) => job.runId))
      yield* quiet
      yield* worker.report(worker.next(), done("charge:0"), sleep("rest:0", 1e9), suspend("rest:0"))

      yield* client.patchStep(`${runId}:rest:0`, { by: "hand" })
      yield* quiet
      const job = worker.next()
      assert.strictEqual(job.journal.length, 2)
      yield* client.pauseRun(runId, "stock-taking")
      yield* worker.report(job, release)
      assert.deepStrictEqual(yield* handedOut, [])
      yield* client.resumeRun(runId)
      yield* quiet
      yield* worker.report(worker.next(), fail("no stock"))
      yield* client.retryRun(runId, "charge")
      yield* quiet
      assert.deepStrictEqual(worker.next().journal, [])
    })
  )

  const big = "x".repeat(1024 * 1024 + 1)
  const cyclic: { self?: unknown } = {}
  cyclic.self = cyclic
  // callers in JavaScript have no types
  const wrong = (value: unknown) => value as never
  const refusals: ReadonlyArray<
    readonly [
      what: string,
      call: (client: Client["Service"]) => Effect.Effect<unknown, unknown>,
      says: RegExp
    ]
  > = [
    ["emit without a name", (client) => client.emit("", {}), /event name/],
    ["emit of a pattern", (client) => client.emit("order.*", {}), /wildcards/],
    ["emit of a name that is not a string", (client) => client.emit(wrong(7), {}), /event name/],
    [
      "emit of data that refers to itself",
      (client) => client.emit("order.placed", cyclic),
      /Data of event "order.placed"/
    ],
    ["emit of too much data", (client) => client.emit("order.placed", { big }), /1048576/],
    ["emit with a version of zero", (client) => client.emit("order.placed", {}, { version: 0 }), /version/],
    [
      "emit with a version that is too large for a number",
      (client) => client.emit("order.placed", {}, { version: 1e17 }),
      /version/
    ],
    [
      "emit with metadata that is not an object",
      (client) => client.emit("order.placed", {}, { metadata: wrong("m") }),
      /metadata/
    ],
    [
      "emit with an empty idempotency key",
      (client) => client.emit("order.placed", {}, { idempotencyKey: "" }),
      /idempotency key/
    ],
    ["trigger without a name", (client) => client.trigger(" ", {}), /event name/],
    ["publish without a topic", (client) => client.publish("", {}), /topic/],
    ["publish of too much data", (client) => client.publish("orders", big), /1048576/],
    ["getRun without an id", (client) => client.getRun(wrong(undefined)), /run id/],
    ["getRunSteps without an id", (client) => client.getRunSteps(wrong(undefined)), /run id/],
    ["explain without an id", (client) => client.explain(wrong(undefined)), /run id/],
    ["waitForRun without an id", (client) => client.waitForRun(wrong(undefined)), /run id/],
    [
      "waitForRun with a negative timeout",
      (client) => client.waitForRun("run_1", { timeout: -1 }),
      /timeout/
    ],
    [
      "waitForRun with a timeout that is not a number",
      (client) => client.waitForRun("run_1", { timeout: Number.NaN }),
      /timeout/
    ],
    ["listRuns with a limit of zero", (client) => client.listRuns({ limit: 0 }), /1 to 1000/],
    ["listRuns with too large a limit", (client) => client.listRuns({ limit: 1001 }), /1 to 1000/],
    ["listRuns with a fraction as its limit", (client) => client.listRuns({ limit: 1.5 }), /1 to 1000/],
    [
      "listRuns with an unknown status",
      (client) => client.listRuns({ status: wrong("gone") }),
      /gone.*pending/
    ],
    ["listRuns with an invalid cursor", (client) => client.listRuns({ cursor: "page 2" }), /nextCursor/],
    ["cancelRun without an id", (client) => client.cancelRun(wrong(undefined)), /run id/],
    ["pauseRun without an id", (client) => client.pauseRun(wrong(null)), /run id/],
    ["resumeRun without an id", (client) => client.resumeRun(wrong(7)), /run id/],
    ["retryRun without an id", (client) => client.retryRun(wrong({})), /run id/],
    ["retryRun from a step that is not a string", (client) => client.retryRun("run_1", wrong(7)), /step/],
    ["patchStep without an id", (client) => client.patchStep(wrong(undefined), 1), /step id/],
    ["patchStep with the name of a step", (client) => client.patchStep("charge", 1), /getRunSteps/],
    [
      "patchStep with data that refers to itself",
      (client) => client.patchStep("run_1:charge:0", cyclic),
      /Output for step/
    ],
    ["patchStep with too much data", (client) => client.patchStep("run_1:charge:0", big.repeat(5)), /4194304/]
  ]
  for (const [what, call, says] of refusals) {
    engineTest(`${what} is refused and changes nothing`, (spy) =>
      Effect.gen(function* () {
        const client = yield* Client
        yield* connect("worker-1", [handles("charge")])
        const before = yield* client.listRuns()
        spy.heard()

        const error = yield* Effect.flip(call(client))

        assert.include(["VALIDATION_ERROR", "LIMIT_EXCEEDED"], (error as { code: string }).code)
        assert.match((error as Error).message, says)
        yield* quiet
        assert.deepStrictEqual(yield* client.listRuns(), before)
        const { sequence } = yield* client.publish("orders", {})
        assert.strictEqual(sequence, 1, "the log was empty before")
      })
    )
  }

  engineTest("has every documented method", () =>
    Effect.gen(function* () {
      const client = yield* Client
      assert.deepStrictEqual(Object.keys(client).sort(), Object.keys(clientMethods).sort())
      assert.strictEqual(yield* client.health(), "ok")
    })
  )

  engineTest("emits missing data as an empty object, and null as null", () =>
    Effect.gen(function* () {
      const client = yield* Client
      const worker = yield* connect("worker-1", [handles("charge")])
      yield* client.emit("order.placed", undefined)
      yield* client.emit("order.placed", null)
      yield* client.trigger("order.placed", [1])
      yield* quiet

      assert.deepStrictEqual(
        worker.jobs.map((job) => job.event.data),
        ["{}", "null", "[1]"]
      )
    })
  )
})
