/** The session of a worker over a scripted stream: its calls and leases when streams are lost. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { readPendingInput } from "../../src/Client/PatientTimeout.ts"
import { ConnectionError, type IronflowError } from "../../src/Errors.ts"
import type { StreamCall } from "../../src/Protocol/TurnStream.ts"
import type { Notice, WorkerRegistration } from "../../src/Protocol/Worker.ts"
import { linkTo } from "../../src/Worker/PollingTransport.ts"
import { resolvePollingOptions } from "../../src/Worker/PollingOptions.ts"
import { type StreamEvents, type Streams, StreamSession } from "../../src/Worker/StreamSession.ts"

interface Call {
  readonly stream: number
  readonly call: StreamCall
  readonly body: any
  readonly answer: (value: unknown) => void
}

const registration: WorkerRegistration = {
  workerId: "w-1",
  environment: "default",
  hostname: "north",
  functions: [],
  maxConcurrentJobs: 10,
  labels: {},
  version: { sdk: "0", runtime: "node" }
}

/** What a stream does with pending calls when it is closed. */
type Closing = "leaves them" | "interrupts them"

/** An engine at the other end of streams that the test opens and loses. */
const open = (closing: Closing = "leaves them", jobs: ReadonlyArray<string> = ["job-a"]) =>
  Effect.gen(function* () {
    const calls: Array<Call> = []
    const registrations: Array<any> = []
    const notices: Array<Notice> = []
    const streams: Array<StreamEvents> = []
    const engine = { answersRoom: true, opens: true, breaks: false, calls, registrations, notices, streams }
    const scripted: Streams = {
      name: "scripted",
      open: (_link, text, events) =>
        Effect.gen(function* () {
          registrations.push(JSON.parse(text))
          if (engine.breaks) return yield* Effect.die(new TypeError("A bug"))
          if (!engine.opens) return yield* new ConnectionError("Nobody is there")
          const number = streams.push(events)
          const waiting = new Set<Deferred.Deferred<unknown, IronflowError>>()
          yield* Effect.addFinalizer(() =>
            Effect.sync(() => {
              if (closing === "interrupts them")
                for (const call of waiting) Deferred.doneUnsafe(call, Effect.interrupt)
            })
          )
          return {
            registered: {
              capabilities: { turns: 1, renewals: true },
              session: `ses-${number}`,
              leaseMs: 15_000,
              presenceMs: 15_000,
              waitMs: 5000,
              maxBodyBytes: 1_000_000,
              lost: []
            },
            stream: {
              call: (call, body) =>
                Effect.suspend(() => {
                  const answer = Deferred.makeUnsafe<unknown, IronflowError>()
                  waiting.add(answer)
                  calls.push({
                    stream: number,
                    call,
                    body: JSON.parse(body),
                    answer: (value) => Deferred.doneUnsafe(answer, Effect.succeed(value))
                  })
                  if (call === "room" && engine.answersRoom) return Effect.succeed(null)
                  return Deferred.await(answer)
                })
            }
          }
        })
    }
    const scope = yield* Scope.make()
    const options = resolvePollingOptions(
      { serverUrl: "http://127.0.0.1:1", logger: false },
      undefined,
      "test"
    )
    const begun: Array<string> = []
    const link = yield* linkTo(options, registration, {
      onJob: ({ jobId }) => void begun.push(jobId),
      onNotice: (notice) => void notices.push(notice)
    }).pipe(
      Scope.provide(scope),
      Effect.provideService(
        HttpClient.HttpClient,
        HttpClient.make(() => Effect.never)
      )
    )
    const session = (yield* StreamSession.open(link, scripted, "w-1-x"))!
    session.start()
    session.onPush({
      deliveries: jobs.map((jobId, i) => ({ seq: i + 1, job: { jobId, runId: `run-${jobId}` } }))
    })
    // deliveries are processed at the end of the turn of the event loop
    yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
    return { ...engine, engine, begun, session, close: Scope.close(scope, Exit.void) }
  })

const report = { jobId: "job-a", runId: "run-job-a", ops: [] }
const reportsOf = (calls: ReadonlyArray<Call>) => calls.filter(({ call }) => call === "report")

/** Lets fibers and the event loop run until `condition` is met. */
const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (let i = 0; !condition(); i++) {
      if (i === 2000) throw new Error("The condition was never met")
      yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
    }
  })

describe.each(["leaves them", "interrupts them"] as const)(
  "a report that waits for its answer when its stream %s on close",
  (closing) => {
    it.effect("is sent again on the next stream, under its number", () =>
      Effect.gen(function* () {
        const it = yield* open(closing)
        const acks = yield* Effect.forkChild(it.session.report([report]))
        yield* until(() => reportsOf(it.calls).length === 1)

        it.streams[0]!.onLost(new ConnectionError("The stream is lost"))
        yield* TestClock.adjust("200 millis")
        yield* until(() => reportsOf(it.calls).length === 2)
        const [first, second] = reportsOf(it.calls)
        second!.answer({ acks: [{ _tag: "Accepted", outcomes: [] }] })

        assert.deepStrictEqual(it.registrations[1].jobs, ["job-a"])
        assert.strictEqual(second!.stream, 2)
        assert.strictEqual(second!.body.batch, first!.body.batch)
        assert.strictEqual(second!.body.session, "ses-2")
        assert.deepStrictEqual(yield* Fiber.join(acks), [{ _tag: "Accepted", outcomes: [] }])
        assert.deepStrictEqual(it.notices, [])
        yield* it.close
      })
    )
  }
)

describe("a worker on a stream", () => {
  it.effect("gives up a stream that answers pings and never a report", () =>
    Effect.gen(function* () {
      const it = yield* open()
      const acks = yield* Effect.forkChild(it.session.report([report]))
      yield* until(() => reportsOf(it.calls).length === 1)

      yield* TestClock.adjust("5 seconds")
      yield* Effect.andThen(readPendingInput, readPendingInput)
      yield* TestClock.adjust("1 second")
      yield* until(() => reportsOf(it.calls).length === 2)
      const again = reportsOf(it.calls)[1]!
      again.answer({ acks: [{ _tag: "Accepted", outcomes: [] }] })

      assert.strictEqual(again.stream, 2)
      assert.lengthOf(yield* Fiber.join(acks), 1)
      assert.deepStrictEqual(it.notices, [])
      yield* it.close
    })
  )

  it.effect("sends its current jobs with every ping", () =>
    Effect.gen(function* () {
      const it = yield* open("leaves them", ["job-a", "job-b"])

      yield* TestClock.adjust("4 seconds")
      const renewals = it.calls.filter(({ body }) => body.holding !== undefined)

      assert.isAtLeast(renewals.length, 1)
      assert.deepStrictEqual(renewals.at(-1)!.body.holding, ["job-a", "job-b"])
      yield* it.close
    })
  )

  it.effect(
    "begins no job that arrives together with its revocation, and reports at once that it has dropped it",
    () =>
      Effect.gen(function* () {
        const it = yield* open("leaves them", ["job-a"])
        it.session.onPush({ deliveries: [{ seq: 2, job: { jobId: "job-b", runId: "run-b" } }] })
        it.session.onPush({
          deliveries: [{ seq: 3, notice: { _tag: "Cancelled", jobId: "job-b", reason: "no stock" } }]
        })
        const next = () => it.calls.find(({ body }) => body.seen === 3)
        yield* until(() => next() !== undefined)

        assert.deepStrictEqual(it.begun, ["job-a"])
        assert.deepInclude(next()!.body, { holding: ["job-a"], asked: 1 })
        yield* it.close
      })
  )

  it.effect("accepts nothing from a stream that was lost before its data was read", () =>
    Effect.gen(function* () {
      const it = yield* open("leaves them", ["job-a"])
      it.session.onPush({ deliveries: [{ seq: 2, job: { jobId: "job-b", runId: "run-b" } }] })
      it.streams[0]!.onLost(new ConnectionError("The stream is lost"))
      yield* TestClock.adjust("200 millis")
      yield* until(() => it.registrations.length === 2)

      assert.deepStrictEqual([it.begun, it.registrations[1].jobs], [["job-a"], ["job-a"]])
      yield* it.close
    })
  )

  it.effect("aborts nothing while its engine is away for half of the lease", () =>
    Effect.gen(function* () {
      const it = yield* open()
      // the worst moment: just before the worker would have renewed its leases
      yield* TestClock.adjust("1800 millis")

      it.engine.opens = false
      it.streams[0]!.onLost(new ConnectionError("The engine has stopped"))
      yield* TestClock.adjust("7500 millis")
      it.engine.opens = true
      yield* TestClock.adjust("1500 millis")

      assert.strictEqual(it.streams.length, 2)
      assert.deepStrictEqual(it.registrations.at(-1).jobs, ["job-a"])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(it.notices, [])
      yield* it.close
    })
  )

  it.effect("aborts its turns two seconds before the last renewed lease can expire", () =>
    Effect.gen(function* () {
      const it = yield* open()
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(it.notices, [])

      const renewedBefore = it.calls.filter(({ body }) => body.holding !== undefined).length
      it.engine.answersRoom = false
      it.engine.opens = false
      const beat = Effect.andThen(
        TestClock.adjust("100 millis"),
        Effect.sync(() => it.calls.filter(({ body }) => body.holding !== undefined).length > renewedBefore)
      )
      // this renewal gets no answer, so the one before it counts, which was sent an eighth of the lease earlier
      yield* Effect.repeat(beat, { until: (sent) => sent })
      yield* TestClock.adjust("11000 millis")
      assert.deepStrictEqual(it.notices, [])
      yield* TestClock.adjust("200 millis")
      yield* until(() => it.notices.length > 0)

      assert.deepStrictEqual(
        it.notices.map((notice) => [notice._tag, notice.jobId]),
        [["LeaseLost", "job-a"]]
      )
      yield* it.close
    })
  )

  it.effect("waits between its attempts to connect while its engine is away", () =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      let sleeps = 0
      const counting: Clock.Clock = Object.create(clock, {
        sleep: {
          value: (duration: Parameters<Clock.Clock["sleep"]>[0]) => {
            sleeps++
            return clock.sleep(duration)
          }
        }
      })
      const it = yield* Effect.provideService(open(), Clock.Clock, counting)
      it.engine.opens = false
      it.streams[0]!.onLost(new ConnectionError("The engine has stopped"))
      yield* TestClock.adjust("1 minute")
      // a dozen attempts to connect, and a heartbeat every two seconds
      assert.isBelow(sleeps, 100)

      it.engine.opens = true
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(it.streams.length, 2)
      yield* it.close
    })
  )

  it.effect("registers again after a defect in its transport", () =>
    Effect.gen(function* () {
      const it = yield* open()
      it.engine.breaks = true
      it.streams[0]!.onLost(new ConnectionError("The stream is lost"))
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(it.streams.length, 1)

      it.engine.breaks = false
      yield* TestClock.adjust("2 seconds")

      assert.strictEqual(it.streams.length, 2)
      yield* it.close
    })
  )
})
