import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { readPendingInput } from "../../src/Client/PatientTimeout.ts"
import { createDeferred } from "../../src/Deferred.ts"
import { ConnectionError, UnauthenticatedError, ValidationError } from "../../src/Errors.ts"
import {
  type Job,
  type Notice,
  type TurnOp,
  type WorkerRegistration,
  WorkerTransport
} from "../../src/Protocol/Worker.ts"
import { createWorker } from "../../src/Promise/Worker.ts"
import { layer, type PollingOptions } from "../../src/Worker/PollingTransport.ts"
import { unusedPort } from "../Client/ScriptedServer.ts"
import { ScriptedTurns } from "./ScriptedTurns.ts"

const registration: WorkerRegistration = {
  workerId: "w-1",
  environment: "staging",
  hostname: "north",
  functions: [],
  maxConcurrentJobs: 10,
  labels: {},
  version: { sdk: "0", runtime: "node" }
}

const job = (name: string): Job => ({
  jobId: `job-${name}`,
  runId: `run-${name}`,
  functionId: "process-order",
  environment: "staging",
  attempt: 1,
  generation: 0,
  event: { id: "evt-1", name: "order.placed", version: 1, data: "{}", timestamp: 0 },
  journal: [],
  open: [],
  lingerMs: 0,
  createdAt: 0
})

const report = (name: string, ...ops: ReadonlyArray<TurnOp>) => ({
  jobId: `job-${name}`,
  runId: `run-${name}`,
  ops
})
const complete: TurnOp = { _tag: "Complete", output: undefined }
const settle: TurnOp = { _tag: "Settle", stepKey: "nap:0" }

/** Lets time pass until the condition is met. */
const passTimeUntil = (holds: () => boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    while (!holds()) {
      yield* TestClock.adjust(100)
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    }
  })

/** A session with a scripted engine that is being opened, and what arrives in it. */
const opened = (options: PollingOptions = {}, prepare: (engine: ScriptedTurns) => void = () => undefined) =>
  Effect.gen(function* () {
    const engine = new ScriptedTurns()
    prepare(engine)
    const jobs: Array<string> = []
    const givenBack: Array<string> = []
    const notices: Array<Notice> = []
    const refusals: Array<Error> = []
    const said: Array<string> = []
    const say = (level: string) => (text: string) => void said.push(`${level}: ${text}`)
    const logger = { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error") }
    const recordIn =
      <A>(list: Array<A>) =>
      (item: A) => {
        list.push(item)
        engine.changed()
      }
    const scope = yield* Scope.make()
    const opening = Effect.gen(function* () {
      const transport = yield* WorkerTransport
      return yield* transport.open(registration, {
        onJob: (job, isPaused) => recordIn(isPaused === true ? givenBack : jobs)(job.jobId),
        onNotice: recordIn(notices),
        onRefused: recordIn(refusals)
      })
    }).pipe(
      Scope.provide(scope),
      Effect.provide(
        layer({ serverUrl: "http://ironflow.test", apiKey: "key-1", logger, ...options }).pipe(
          Layer.provide(engine.layer)
        )
      )
    )
    return { engine, jobs, givenBack, notices, refusals, said, opening, close: Scope.close(scope, Exit.void) }
  })

const session = (options?: PollingOptions, prepare?: (engine: ScriptedTurns) => void) =>
  Effect.gen(function* () {
    const it = yield* opened(options, prepare)
    return { ...it, session: yield* it.opening }
  })

describe("a polling worker", () => {
  it.effect("registers in a form that every server accepts, and offers turns", () =>
    Effect.gen(function* () {
      const { close, engine } = yield* session()

      const { instance, process: own, ...body } = engine.requests[0]!.body
      assert.deepStrictEqual(body, {
        worker_id: "w-1",
        number: 1,
        hostname: "north",
        function_ids: [],
        max_concurrent_jobs: 10,
        labels: {},
        version: { sdk: "0", runtime: "node" },
        capabilities: { turns: 1, renewals: true, seals: true },
        registration,
        jobs: []
      })
      if (own !== undefined) assert.strictEqual(own.pid, process.pid)
      assert.match(instance, /^w-1-/)
      yield* close
    })
  )

  it.effect("always has one poll open, also when it has no room", () =>
    Effect.gen(function* () {
      const { close, engine } = yield* session()

      const first = yield* engine.poll({ asked: 0 })
      first.answer(200, { deliveries: [] })
      const second = yield* engine.poll({ asked: 0 })

      assert.notStrictEqual(second, first)
      assert.strictEqual(second.body.session, "ses-1")
      yield* close
    })
  )

  it.effect("reports its free places as totals with each new poll, and accepts each delivery once", () =>
    Effect.gen(function* () {
      const { close, engine, jobs, session: it } = yield* session()
      const first = yield* engine.poll({ asked: 0 })

      it.makeRoom(2)
      const second = yield* engine.poll({ asked: 2, withdrawn: 0 })
      // the engine answers the older poll at once
      first.answer(200, { deliveries: [] })
      second.answer(200, { deliveries: [{ seq: 1, job: job("a") }] })
      const third = yield* engine.poll({ seen: 1 })
      // the engine repeats the delivery, as if its answer had been lost
      third.answer(200, {
        deliveries: [
          { seq: 1, job: job("a") },
          { seq: 2, job: job("b") }
        ]
      })
      yield* engine.poll({ seen: 2 })

      assert.deepStrictEqual(jobs, ["job-a", "job-b"])
      assert.strictEqual(engine.of("poll").length, 4)
      yield* close
    })
  )

  it.effect("reports the place of an ended turn together with the end of the turn", () =>
    Effect.gen(function* () {
      const { close, engine, session: it } = yield* session()
      it.makeRoom(1)
      const poll = yield* engine.poll({ asked: 1 })
      poll.answer(200, { deliveries: [{ seq: 1, job: job("a") }] })
      yield* engine.poll({ seen: 1 })

      yield* it.report([report("a", settle)])
      yield* it.report([report("a", complete)])
      it.makeRoom(1)
      yield* it.report([])

      assert.deepStrictEqual(
        engine.of("reports").map(({ body }) => [body.batch, body.asked, body.withdrawn]),
        [
          [1, 1, 0],
          [2, 2, 0],
          [3, 2, 0]
        ]
      )
      assert.strictEqual(engine.of("poll").length, 2)
      yield* close
    })
  )

  it.effect("asks for no other job when it gives a run back", () =>
    Effect.gen(function* () {
      const { close, engine, session: it } = yield* session()
      it.makeRoom(3)
      const poll = yield* engine.poll({ asked: 3 })
      poll.answer(200, { deliveries: [{ seq: 1, job: job("a") }] })
      yield* engine.poll({ seen: 1 })

      yield* it.report([report("a", { _tag: "Release" })])
      it.makeRoom(-2)
      yield* it.report([report("b", complete)])

      assert.deepStrictEqual(
        engine.of("reports").map(({ body }) => [body.asked, body.withdrawn]),
        [
          [3, 0],
          [3, 2]
        ]
      )
      yield* close
    })
  )

  it.effect("sends an unanswered report again under the same number", () =>
    Effect.gen(function* () {
      let times = 0
      const {
        close,
        engine,
        session: it
      } = yield* session({}, (engine) => {
        engine.answer = ({ what }) =>
          what !== "reports"
            ? undefined
            : ++times === 1
              ? "hang up"
              : times === 2
                ? { status: 503 }
                : undefined
      })
      const sending = it.report([report("a", settle)])

      assert.instanceOf(yield* Effect.flip(sending), ConnectionError)
      assert.instanceOf(yield* Effect.flip(sending), ConnectionError)
      assert.deepStrictEqual(yield* sending, [{ _tag: "Accepted", outcomes: [undefined] }])
      yield* it.report([report("b", settle)])

      assert.deepStrictEqual(
        engine.of("reports").map(({ body }) => body.batch),
        [1, 1, 1, 2]
      )
      yield* close
    })
  )

  it.effect("fails a report without an answer after 30 seconds, so that it is sent again", () =>
    Effect.gen(function* () {
      const { close, engine, session: it } = yield* session()
      engine.answer = ({ what }) => (what === "reports" ? "no answer" : undefined)
      const sending = yield* Effect.forkChild(Effect.flip(it.report([report("a", settle)])))
      yield* engine.until(() => engine.of("reports").length === 1)
      yield* TestClock.adjust("30 seconds")

      assert.instanceOf(yield* Fiber.join(sending), ConnectionError)
      yield* close
    })
  )

  it.effect("passes on notices, and outcomes without a value", () =>
    Effect.gen(function* () {
      const {
        close,
        engine,
        notices,
        session: it
      } = yield* session({}, (engine) => {
        engine.answer = ({ what }) =>
          what === "reports"
            ? {
                status: 200,
                body: {
                  acks: [
                    { _tag: "Accepted", outcomes: [null, { _tag: "Success" }] },
                    { _tag: "Refused", reason: "CANCELLED", message: "by hand" }
                  ]
                }
              }
            : undefined
      })
      const fired: Notice = {
        _tag: "Fired",
        jobId: "job-a",
        stepKey: "nap:0",
        outcome: { _tag: "Success", value: "1" }
      }
      const poll = yield* engine.poll()
      poll.answer(200, { deliveries: [{ seq: 1, notice: fired }] })
      yield* engine.poll({ seen: 1 })

      assert.deepStrictEqual(notices, [fired])
      assert.deepStrictEqual(yield* it.report([report("a", settle, settle), report("b", settle)]), [
        { _tag: "Accepted", outcomes: [undefined, { _tag: "Success" }] as any },
        { _tag: "Refused", reason: "CANCELLED", message: "by hand" }
      ])
      yield* close
    })
  )

  it.effect(
    "drops its turns before their leases end when the server cannot be reached, with one log line",
    () =>
      Effect.gen(function* () {
        const { close, engine, notices, said, session: it } = yield* session()
        it.makeRoom(1)
        const poll = yield* engine.poll({ asked: 1 })
        poll.answer(200, { deliveries: [{ seq: 1, job: job("a") }] })
        const last = yield* engine.poll({ seen: 1 })
        engine.answer = () => "hang up"
        last.hangUp()
        yield* TestClock.adjust("17 seconds")
        assert.deepStrictEqual(notices, [])
        yield* TestClock.adjust("1 seconds")
        yield* engine.until(() => notices.length > 0)

        assert.deepInclude(notices[0], { _tag: "LeaseLost", jobId: "job-a" })
        assert.strictEqual(notices.length, 1)
        assert.strictEqual(said.length, 2)
        assert.match(
          said[0]!,
          /^warn: The poll of worker w-1 failed: .*Trying again until the server answers$/
        )
        assert.match(said[1]!, /^info: Worker w-1 registers again/)

        // when it can reach the engine again, it says that it has no turns: the engine may still keep the lease
        engine.terms = { ...engine.terms, session: "ses-2" }
        engine.answer = () => undefined
        yield* TestClock.adjust("5 seconds")
        yield* engine.poll({ session: "ses-2" })
        assert.deepStrictEqual(engine.of("register").at(-1)!.body.jobs, [])
        yield* close
      })
  )

  it.effect("starts no turn that arrived while its process was frozen longer than a lease", () =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      let frozenMs = 0
      const frozen: Clock.Clock = {
        ...clock,
        sleep: (duration) => clock.sleep(duration),
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + frozenMs,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() + BigInt(frozenMs) * 1_000_000n
      }
      const {
        close,
        engine,
        jobs,
        notices,
        session: it
      } = yield* Effect.provideService(session(), Clock.Clock, frozen)
      it.makeRoom(2)
      const first = yield* engine.poll({ asked: 2 })
      first.answer(200, { deliveries: [{ seq: 1, job: job("a") }] })
      const poll = yield* engine.poll({ seen: 1 })
      engine.terms = { ...engine.terms, session: "ses-2" }

      // the event loop handles input before timers
      frozenMs = 60_000
      poll.answer(200, { deliveries: [{ seq: 2, job: job("b") }] })
      yield* engine.until(() => notices.length > 0)
      // the engine ends the poll of a session that a newer one has replaced
      engine.openPoll?.answer(404, { code: "WORKER_UNKNOWN", message: "who?" })
      const next = yield* engine.poll({ session: "ses-2" })

      assert.deepStrictEqual(jobs, ["job-a"])
      assert.deepInclude(notices[0], { _tag: "LeaseLost", jobId: "job-a" })
      // the worker names no jobs, so the engine takes both runs back
      assert.deepStrictEqual(engine.of("register")[1]!.body.jobs, [])
      assert.deepInclude(next.body, { seen: 0, asked: 1, withdrawn: 0 })
      yield* close
    })
  )

  it.effect("begins no job that arrives together with its revocation, and asks for another one", () =>
    Effect.gen(function* () {
      const { close, engine, jobs, session: it } = yield* session()
      it.makeRoom(3)
      const poll = yield* engine.poll({ asked: 3 })
      poll.answer(200, {
        deliveries: [
          { seq: 1, job: job("a") },
          { seq: 2, job: job("b") },
          { seq: 3, job: job("c") },
          { seq: 4, notice: { _tag: "Cancelled", jobId: "job-a", reason: "no stock" } },
          { seq: 5, notice: { _tag: "LeaseLost", jobId: "job-b", reason: "a step was patched" } }
        ]
      })
      yield* engine.poll({ seen: 5, asked: 5 })

      assert.deepStrictEqual(jobs, ["job-c"])
      yield* close
    })
  )

  it.effect(
    "begins no job that arrives together with a pause of its run, unless the pause was taken back",
    () =>
      Effect.gen(function* () {
        const { close, engine, givenBack, jobs, session: it } = yield* session()
        it.makeRoom(2)
        const poll = yield* engine.poll({ asked: 2 })
        poll.answer(200, {
          deliveries: [
            { seq: 1, job: job("a") },
            { seq: 2, job: job("b") },
            { seq: 3, notice: { _tag: "Paused", jobId: "job-a" } },
            { seq: 4, notice: { _tag: "Paused", jobId: "job-b" } },
            { seq: 5, notice: { _tag: "Resumed", jobId: "job-b" } }
          ]
        })
        yield* engine.poll({ seen: 5 })

        assert.deepStrictEqual([jobs, givenBack], [["job-b"], ["job-a"]])
        yield* close
      })
  )

  it.effect("reports at once that it has dropped a revoked job", () =>
    Effect.gen(function* () {
      const {
        close,
        engine,
        session: it
      } = yield* session({}, (engine) => {
        engine.terms = { ...engine.terms, capabilities: { turns: 1, renewals: true } }
      })
      it.makeRoom(2)
      const poll = yield* engine.poll({ asked: 2 })
      poll.answer(200, {
        deliveries: [
          { seq: 1, job: job("a") },
          { seq: 2, job: job("b") }
        ]
      })
      const next = yield* engine.poll({ seen: 2 })
      assert.notProperty(next.body, "holding")
      next.answer(200, {
        deliveries: [{ seq: 3, notice: { _tag: "Cancelled", jobId: "job-a", reason: "no stock" } }]
      })

      assert.deepStrictEqual((yield* engine.poll({ seen: 3 })).body.holding, ["job-b"])
      yield* close
    })
  )

  it.effect(
    "confirms that it has dropped a job when its report is refused, and not while the report is in flight",
    () =>
      Effect.gen(function* () {
        const {
          close,
          engine,
          session: it
        } = yield* session({}, (engine) => {
          engine.terms = { ...engine.terms, capabilities: { turns: 1, renewals: true } }
          engine.answer = ({ what }) => (what === "reports" ? "no answer" : undefined)
        })
        it.makeRoom(1)
        const poll = yield* engine.poll({ asked: 1 })
        poll.answer(200, { deliveries: [{ seq: 1, job: job("a") }] })
        const next = yield* engine.poll({ seen: 1 })
        const acks = yield* Effect.forkChild(it.report([report("a", settle)]))
        yield* engine.until(() => engine.of("reports").length === 1)
        next.answer(200, {
          deliveries: [{ seq: 2, notice: { _tag: "LeaseLost", jobId: "job-a", reason: "patched" } }]
        })
        const open = yield* engine.poll({ seen: 2 })
        assert.deepStrictEqual(open.body.holding ?? ["job-a"], ["job-a"])

        engine.of("reports")[0]!.answer(200, {
          acks: [{ _tag: "Refused", reason: "LEASE_LOST", message: "patched" }]
        })

        yield* Fiber.join(acks)
        yield* engine.until(() => engine.openPoll?.body.holding?.length === 0)
        yield* close
      })
  )

  it.effect("gives back a turn that it dropped during its registration", () =>
    Effect.gen(function* () {
      const { close, engine, notices, session: it } = yield* session()
      it.makeRoom(1)
      const poll = yield* engine.poll({ asked: 1 })
      poll.answer(200, { deliveries: [{ seq: 1, job: job("a") }] })
      const last = yield* engine.poll({ seen: 1 })
      engine.answer = ({ what }) => (what === "register" ? "no answer" : undefined)
      last.answer(404, { code: "WORKER_UNKNOWN", message: "who?" })
      yield* engine.until(() => engine.of("register").length === 2)
      // a registration gets a third of the lease, so that there is time for another one
      yield* TestClock.adjust("10 seconds")
      yield* Effect.andThen(readPendingInput, readPendingInput)
      yield* TestClock.adjust("1 second")
      yield* engine.until(() => engine.of("register").length === 3)
      const slow = engine.of("register")[2]!
      assert.deepStrictEqual(slow.body.jobs, ["job-a"])
      yield* TestClock.adjust("8 seconds")
      yield* engine.until(() => notices.length > 0)
      assert.deepInclude(notices[0], { _tag: "LeaseLost", jobId: "job-a" })

      engine.answer = () => undefined
      slow.answer(200, { ...engine.terms, session: "ses-2" })
      engine.terms = { ...engine.terms, session: "ses-3" }
      yield* engine.until(() => engine.of("register").length === 4)

      assert.deepStrictEqual(engine.of("register")[3]!.body.jobs, [])
      yield* close
    })
  )

  it.effect("keeps its turns as long as polls are answered in time", () =>
    Effect.gen(function* () {
      const { close, engine, notices, session: it } = yield* session()
      it.makeRoom(1)
      const poll = yield* engine.poll({ asked: 1 })
      poll.answer(200, { deliveries: [{ seq: 1, job: job("a") }] })
      for (let i = 0; i < 20; i++) {
        const open = yield* engine.poll({ seen: 1 })
        assert.strictEqual(open.body.waitMs, 3750)
        yield* TestClock.adjust(open.body.waitMs)
        open.answer(200, { deliveries: [] })
        yield* engine.until(() => engine.openPoll !== undefined && engine.openPoll !== open)
      }

      assert.deepStrictEqual(notices, [])
      yield* close
    })
  )

  it.effect("polls at least once in its heartbeat interval", () =>
    Effect.gen(function* () {
      const { close, engine } = yield* session({ heartbeatInterval: 1234 })

      assert.strictEqual((yield* engine.poll()).body.waitMs, 1234)
      yield* close
    })
  )

  it.effect(
    "registers again when the engine does not know it, keeps the turns that it may keep, and drops lost ones",
    () =>
      Effect.gen(function* () {
        const { close, engine, notices, session: it } = yield* session()
        it.makeRoom(4)
        const poll = yield* engine.poll({ asked: 4 })
        poll.answer(200, {
          deliveries: [
            { seq: 1, job: job("a") },
            { seq: 2, job: job("b") },
            { seq: 3, job: job("c") }
          ]
        })
        const last = yield* engine.poll({ seen: 3 })
        yield* it.report([report("c", complete)])
        it.makeRoom(1)
        engine.terms = { ...engine.terms, session: "ses-2", lost: ["job-b"] }
        last.answer(404, { code: "WORKER_UNKNOWN", message: "who?" })
        const next = yield* engine.poll({ session: "ses-2" })

        const [first, second] = engine.of("register")
        assert.deepStrictEqual(second!.body.jobs, ["job-a", "job-b"])
        assert.strictEqual(second!.body.instance, first!.body.instance)
        assert.deepInclude(notices[0], { _tag: "LeaseLost", jobId: "job-b" })
        assert.strictEqual(notices.length, 1)
        // five jobs were asked for, and three have arrived
        assert.deepInclude(next.body, { seen: 0, asked: 2, withdrawn: 0 })
        yield* close
      })
  )

  it.effect(
    "sends a report again under its number after a registration, when the engine did not know the worker",
    () =>
      Effect.gen(function* () {
        const {
          close,
          engine,
          session: it
        } = yield* session({}, (engine) => {
          engine.answer = ({ body, what }) =>
            what === "reports" && body.session === "ses-1"
              ? { status: 404, body: { code: "WORKER_UNKNOWN" } }
              : undefined
        })
        engine.terms = { ...engine.terms, session: "ses-2" }

        assert.deepStrictEqual(yield* it.report([report("a", settle)]), [
          { _tag: "Accepted", outcomes: [undefined] }
        ])

        assert.deepStrictEqual(
          engine.of("reports").map(({ body }) => [body.session, body.batch]),
          [
            ["ses-1", 1],
            ["ses-2", 1]
          ]
        )
        yield* close
      })
  )

  it.effect("reconnects to an engine that is about to stop, with pauses", () =>
    Effect.gen(function* () {
      const { close, engine, said } = yield* session()
      const poll = yield* engine.poll()
      poll.answer(200, { deliveries: [], closing: true })
      engine.answer = ({ what }) =>
        what === "poll" ? { status: 200, body: { deliveries: [], closing: true } } : undefined
      yield* TestClock.adjust("10 seconds")
      const polls = engine.of("poll").length
      assert.isAtMost(polls, 10)
      assert.isAtLeast(polls, 6)

      engine.answer = () => undefined
      yield* TestClock.adjust("5 seconds")
      const open = yield* engine.poll()
      open.answer(200, { deliveries: [] })
      yield* engine.until(() => said.length === 2)
      assert.match(said[0]!, /^warn: .*is about to stop; worker w-1 keeps its turns/)
      assert.match(said[1]!, /^info: .*answers again/)
      yield* close
    })
  )

  it.effect("waits for a server that is not up yet, at most `reconnectDelay` between two attempts", () =>
    Effect.gen(function* () {
      const { close, engine, opening, said } = yield* opened({ reconnectDelay: 1000 }, (engine) => {
        engine.answer = () => "hang up"
      })
      const fiber = yield* Effect.forkChild(opening)
      const counts: Array<number> = []
      for (const ms of [0, 100, 200, 400, 800, 1000, 1000]) {
        yield* TestClock.adjust(ms)
        counts.push(engine.requests.length)
      }
      engine.answer = () => undefined
      yield* TestClock.adjust(1000)
      yield* Fiber.join(fiber)

      assert.deepStrictEqual(counts, [1, 2, 3, 4, 5, 6, 7])
      assert.strictEqual(said.length, 2)
      yield* close
    })
  )

  it.effect("ends when its key is refused at the start", () =>
    Effect.gen(function* () {
      const { close, opening } = yield* opened({}, (engine) => {
        engine.answer = () => ({ status: 401, body: { error: "no such key" } })
      })

      assert.instanceOf(yield* Effect.flip(opening), UnauthenticatedError)
      yield* close
    })
  )

  it.effect("ends when its key is refused later", () =>
    Effect.gen(function* () {
      const { close, engine, refusals, said } = yield* session()
      const poll = yield* engine.poll()
      const answer = { status: 401, body: { error: "the key was revoked" } }
      engine.answer = () => answer
      poll.answer(answer.status, answer.body)
      yield* passTimeUntil(() => refusals.length > 0)

      assert.instanceOf(refusals[0], UnauthenticatedError)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(engine.of("poll").length, 1)
      // once at the start, and once after the poll was refused
      assert.strictEqual(engine.of("register").length, 2)
      assert.strictEqual(said.length, 2)
      assert.match(said[0]!, /^warn: .*the key was revoked\. Trying once more$/)
      assert.match(said[1]!, /^error: Worker w-1 stops: the key was revoked$/)
      yield* close
      assert.strictEqual(engine.of("w-1").length, 0)
    })
  )

  for (const status of [200, 400, 401, 403, 404, 413]) {
    it.effect(`waits while another server answers with a page and ${status} at the start`, () =>
      Effect.gen(function* () {
        const { close, engine, opening, said } = yield* opened({}, (engine) => {
          engine.answer = () => ({ status, body: "<html>no</html>" })
        })
        const fiber = yield* Effect.forkChild(opening)
        yield* passTimeUntil(() => fiber.pollUnsafe() !== undefined || engine.of("register").length > 2)
        assert.isUndefined(fiber.pollUnsafe())
        engine.answer = () => undefined
        yield* passTimeUntil(() => fiber.pollUnsafe() !== undefined)
        yield* Fiber.join(fiber)

        assert.strictEqual(said.filter((line) => line.startsWith("warn: ")).length, 1)
        assert.match(said.join("\n"), /has answered in place of an Ironflow server/)
        assert.match(said.join("\n"), /answers again/)
        yield* close
      })
    )

    it.effect(`waits while another server answers with a page and ${status} later`, () =>
      Effect.gen(function* () {
        const { close, engine, refusals, said } = yield* session()
        const poll = yield* engine.poll()
        engine.answer = () => ({ status, body: "<html>no</html>" })
        poll.answer(status, "<html>no</html>")
        yield* passTimeUntil(() => refusals.length > 0 || engine.of("poll").length > 2)
        assert.deepStrictEqual(refusals, [])
        engine.answer = () => undefined
        yield* passTimeUntil(() => engine.openPoll !== undefined)

        assert.strictEqual(said.filter((line) => line.startsWith("warn: ")).length, 1)
        yield* close
      })
    )
  }

  it.effect("fails when the engine refuses its functions", () =>
    Effect.gen(function* () {
      const error = {
        name: "ValidationError",
        message: "bad trigger",
        code: "VALIDATION_ERROR",
        retryable: false
      }
      const { close, opening } = yield* opened({}, (engine) => {
        engine.answer = () => ({ status: 400, body: { error: "bad trigger", details: { error } } })
      })

      const failure = yield* Effect.flip(opening)
      assert.instanceOf(failure, ValidationError)
      assert.strictEqual(failure.message, "bad trigger")
      yield* close
    })
  )

  it.effect("signs off when it is closed, and polls no more", () =>
    Effect.gen(function* () {
      const { close, engine } = yield* session()
      yield* engine.poll()
      yield* close

      const signOff = engine.requests.at(-1)!
      assert.deepStrictEqual(
        [signOff.method, signOff.what, signOff.query],
        ["DELETE", "w-1", "?session=ses-1"]
      )
    })
  )

  it.effect("closes even when its sign-off gets no answer", () =>
    Effect.gen(function* () {
      const { close, engine } = yield* session()
      yield* engine.poll()
      engine.answer = ({ method }) => (method === "DELETE" ? "no answer" : undefined)
      const closing = yield* Effect.forkChild(close)
      yield* engine.until(() => engine.of("w-1").length === 1)
      yield* TestClock.adjust("2 seconds")

      yield* Fiber.join(closing)
    })
  )

  it.effect("drops turns whose reports the server never accepts, but not before their leases end", () =>
    Effect.gen(function* () {
      const { close, engine, session: it } = yield* session()
      it.makeRoom(2)
      const poll = yield* engine.poll({ asked: 2 })
      poll.answer(200, {
        deliveries: [
          { seq: 1, job: job("a") },
          { seq: 2, job: job("b") }
        ]
      })
      yield* engine.poll({ seen: 2 })
      engine.answer = ({ what }) =>
        what === "reports"
          ? { status: 400, body: { error: "no such op" } }
          : what === "poll"
            ? { status: 200, body: { deliveries: [] } }
            : undefined

      const exit = yield* Effect.exit(it.report([report("a", settle)]))
      assert.isTrue(Exit.hasDies(exit))
      engine.answer = () => undefined
      for (const seconds of [7, 7, 7, 7, 1]) {
        const open = yield* engine.poll()
        yield* TestClock.adjust(`${seconds} seconds`)
        open.answer(200, { deliveries: [] })
        yield* engine.until(() => engine.openPoll !== undefined && engine.openPoll !== open)
      }
      assert.strictEqual(engine.of("register").length, 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(engine.of("register").length, 2)
      yield* close
    })
  )

  it.effect("reports a late step", () =>
    Effect.gen(function* () {
      const { close, engine, session: it } = yield* session()
      yield* it.late({ runId: "run-1", stepName: "ship", lingerMs: 50 })

      assert.deepStrictEqual(engine.of("late")[0]!.body, {
        session: "ses-1",
        runId: "run-1",
        stepName: "ship",
        lingerMs: 50
      })
      yield* close
    })
  )

  it.effect(
    "splits reports that are too large for one request, and fails the run of an op that is too large by itself",
    () =>
      Effect.gen(function* () {
        const {
          close,
          engine,
          session: it
        } = yield* session({}, (engine) => {
          engine.terms = { ...engine.terms, maxBodyBytes: 8000 }
        })
        const publish = (size: number): TurnOp => ({
          _tag: "Publish",
          stepKey: "p:0",
          name: "p",
          topic: "orders",
          data: "x".repeat(size)
        })

        const acks = yield* it.report([
          report("a", publish(2500), publish(2500), settle),
          report("b", publish(9000), complete),
          report("c", complete)
        ])

        assert.deepStrictEqual(
          acks.map((ack) => (ack._tag === "Accepted" ? ack.outcomes.length : ack.reason)),
          [3, "LIMIT", 1]
        )
        const sent = engine.of("reports").map(({ body }) => body.reports)
        assert.isAbove(sent.length, 1)
        assert.deepStrictEqual(
          sent.flat().flatMap((each: any) => each.ops.map((op: any) => `${each.jobId} ${op._tag}`)),
          ["job-a Publish", "job-a Publish", "job-a Settle", "job-b Fail", "job-c Complete"]
        )
        assert.deepStrictEqual(
          engine.of("reports").map(({ body }) => body.batch),
          sent.map((_, i) => i + 1)
        )
        yield* close
      })
  )
})

describe("createWorker", () => {
  const functions: [] = []

  it("can be stopped while it looks for its server", async () => {
    const looking = createDeferred<string>()
    const silent = () => undefined
    const worker = createWorker({
      functions,
      serverUrl: `http://127.0.0.1:${await unusedPort()}`,
      logger: { debug: silent, info: silent, error: silent, warn: (text) => looking.resolve(text) }
    })

    const stopped = worker.start()
    assert.match(await looking.promise, /refuses connections\. Start it there/)
    await worker.stop()

    assert.isUndefined(await stopped)
    const error = await worker.ready().catch((error: unknown) => error)
    assert.deepInclude(error, { code: "WORKER_STOPPED" })
  })

  it.each<[string, object, RegExp]>([
    ["a malformed URL", { functions, serverUrl: "http//localhost" }, /`serverUrl` "http\/\/localhost"/],
    [
      "an interval of zero",
      { functions, heartbeatInterval: 0 },
      /`heartbeatInterval` must be a positive number/
    ],
    ["a negative delay", { functions, reconnectDelay: -1 }, /`reconnectDelay` must be a positive number/],
    [
      "an unknown transport",
      { functions, transport: "pigeon" },
      /`transport` must be "polling" or "streaming", got "pigeon"/
    ],
    ["no functions", {}, /`functions` must be an array/]
  ])("with %s throws at once", (_, config, message) => {
    // callers in JavaScript can do this
    assert.throws(() => createWorker(config as never), ValidationError, message)
  })
})
