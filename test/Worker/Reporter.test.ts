import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { ConnectionError, IronflowError, RunCancelledError, ValidationError } from "../../src/Errors.ts"
import type { Logger } from "../../src/Logger.ts"
import type { Outcome, TurnAck, TurnOp, TurnReport } from "../../src/Protocol/Worker.ts"
import { maxTurnsPerBatch, Reporter } from "../../src/Worker/Reporter.ts"

/** A batch that the reporter has sent. It waits until the test answers it. */
interface Sent {
  readonly reports: ReadonlyArray<TurnReport>
  readonly answer: (acks: ReadonlyArray<TurnAck>) => void
  readonly accept: () => void
  readonly fail: (error: ConnectionError) => void
  readonly die: (bug: unknown) => void
}

const setup = Effect.gen(function* () {
  const sent: Array<Sent> = []
  const lines: Array<string> = []
  const line = (message: string) => void lines.push(message)
  const logger: Logger = { debug: line, info: line, warn: line, error: line }
  const context = yield* Effect.context<never>()
  const reporter = new Reporter({
    fork: Effect.runForkWith(context),
    logger,
    send: (reports) =>
      Effect.suspend(() => {
        const answered = Deferred.makeUnsafe<ReadonlyArray<TurnAck>, ConnectionError>()
        sent.push({
          reports,
          answer: (acks) => Deferred.doneUnsafe(answered, Effect.succeed(acks)),
          accept: () => Deferred.doneUnsafe(answered, Effect.succeed(reports.map(accepted))),
          fail: (error) => Deferred.doneUnsafe(answered, Effect.fail(error)),
          die: (bug) => Deferred.doneUnsafe(answered, Effect.die(bug))
        })
        return Deferred.await(answered)
      })
  })
  return { reporter, sent, lines }
})

const accepted = (report: TurnReport): TurnAck => ({
  _tag: "Accepted",
  outcomes: report.ops.map(() => undefined)
})

const settle = (stepKey: string): TurnOp => ({ _tag: "Settle", stepKey })
const complete: TurnOp = { _tag: "Complete", output: undefined }

/** Lets all callbacks, fibers and flushes run that do not wait for time to pass. */
const eventLoopTurns = Effect.promise(async () => {
  for (let i = 0; i < 4; i++) await new Promise<void>((resume) => setImmediate(resume))
})

const opsOf = (batch: Sent | undefined) =>
  batch?.reports.map((report) => `${report.runId}: ${report.ops.map(describeOp).join(" ")}`)
const describeOp = (op: TurnOp) => (op._tag === "Settle" ? op.stepKey : op._tag)

const unexpected = (error: Error) => assert.fail(`not expected to be refused: ${error.message}`)

describe("Reporter", () => {
  it.effect("the last step and the completion that follows it in microtasks are sent together", () =>
    Effect.gen(function* () {
      const { reporter, sent } = yield* setup
      const outbox = reporter.open("job-1", "run-1", unexpected)

      outbox.report(settle("charge"))
      yield* Effect.promise(async () => {
        for (let i = 0; i < 20; i++) await Promise.resolve()
        outbox.report(complete)
      })
      yield* eventLoopTurns

      assert.deepStrictEqual(sent.map(opsOf), [["run-1: charge Complete"]])
    })
  )

  it.effect("one batch is in flight at a time, and the next one has everything since, in order", () =>
    Effect.gen(function* () {
      const { reporter, sent } = yield* setup
      const first = reporter.open("job-1", "run-1", unexpected)
      const second = reporter.open("job-2", "run-2", unexpected)

      first.report(settle("a"))
      yield* eventLoopTurns
      second.report(settle("x"))
      first.report(settle("b"))
      first.report(settle("c"))
      second.report(settle("y"))
      yield* eventLoopTurns
      assert.deepStrictEqual(sent.map(opsOf), [["run-1: a"]])

      sent[0]!.accept()
      yield* eventLoopTurns
      assert.deepStrictEqual(sent.map(opsOf), [["run-1: a"], ["run-2: x y", "run-1: b c"]])
    })
  )

  it.effect("each op's callback gets the op's outcome, after the answer and in order", () =>
    Effect.gen(function* () {
      const { reporter, sent } = yield* setup
      const outbox = reporter.open("job-1", "run-1", unexpected)
      const seen: Array<unknown> = []
      const outcome: Outcome = { _tag: "Success", value: '{"runId":"run-9"}' }

      outbox.report(settle("a"), (o) => seen.push(["a", o]))
      outbox.report(settle("b"))
      outbox.report(settle("c"), (o) => seen.push(["c", o]))
      yield* eventLoopTurns
      assert.deepStrictEqual(seen, [])

      sent[0]!.answer([{ _tag: "Accepted", outcomes: [undefined, undefined, outcome] }])
      yield* eventLoopTurns
      assert.deepStrictEqual(seen, [
        ["a", undefined],
        ["c", outcome]
      ])
    })
  )

  it.effect("a batch holds at most 512 turns", () =>
    Effect.gen(function* () {
      const { reporter, sent } = yield* setup

      for (let i = 0; i <= maxTurnsPerBatch; i++) {
        reporter.open(`job-${i}`, `run-${i}`, unexpected).report(settle("a"))
      }
      yield* eventLoopTurns
      sent[0]!.accept()
      yield* eventLoopTurns

      assert.deepStrictEqual(
        sent.map((batch) => batch.reports.length),
        [512, 1]
      )
      assert.strictEqual(sent[1]!.reports[0]!.runId, "run-512")
    })
  )

  const refusals = [
    { reason: "LEASE_LOST", class: IronflowError, code: "LEASE_LOST" },
    { reason: "CANCELLED", class: RunCancelledError, code: "RUN_CANCELLED" },
    { reason: "LIMIT", class: ValidationError, code: "LIMIT_EXCEEDED" }
  ] as const
  for (const refusal of refusals) {
    it.effect(
      `a turn that is refused with ${refusal.reason} gets ${refusal.code} once, and its queued ops are dropped`,
      () =>
        Effect.gen(function* () {
          const { reporter, sent } = yield* setup
          const errors: Array<Error> = []
          const refused = reporter.open("job-1", "run-1", (error) => errors.push(error))
          const other = reporter.open("job-2", "run-2", unexpected)
          const seen: Array<string> = []

          refused.report(settle("a"), () => seen.push("a"))
          other.report(settle("x"), () => seen.push("x"))
          yield* eventLoopTurns
          refused.report(settle("b"), () => seen.push("b"))
          sent[0]!.answer([
            { _tag: "Refused", reason: refusal.reason, message: "told by the engine" },
            { _tag: "Accepted", outcomes: [undefined] }
          ])
          yield* eventLoopTurns
          refused.report(settle("c"), () => seen.push("c"))
          yield* eventLoopTurns

          assert.strictEqual(errors.length, 1)
          assert.instanceOf(errors[0], refusal.class)
          assert.strictEqual((errors[0] as IronflowError).code, refusal.code)
          assert.deepStrictEqual(seen, ["x"])
          assert.strictEqual(sent.length, 1)
        })
    )
  }

  it.effect(
    "a batch that fails with the connection is sent again with growing delays until it is answered, with one warning",
    () =>
      Effect.gen(function* () {
        const { reporter, sent, lines } = yield* setup
        const outbox = reporter.open("job-1", "run-1", unexpected)
        const seen: Array<string> = []

        outbox.report(settle("a"), () => seen.push("a"))
        yield* eventLoopTurns
        sent[0]!.fail(new ConnectionError("connection refused"))
        yield* eventLoopTurns
        outbox.report(settle("b"), () => seen.push("b"))
        yield* TestClock.adjust(99)
        assert.strictEqual(sent.length, 1)

        yield* TestClock.adjust(1)
        sent[1]!.fail(new ConnectionError("connection refused"))
        yield* eventLoopTurns
        yield* TestClock.adjust(199)
        assert.strictEqual(sent.length, 2)

        yield* TestClock.adjust(1)
        sent[2]!.accept()
        yield* eventLoopTurns
        assert.deepStrictEqual(sent.map(opsOf), [["run-1: a"], ["run-1: a"], ["run-1: a"], ["run-1: b"]])
        assert.deepStrictEqual(seen, ["a"])
        assert.strictEqual(lines.length, 1)
        assert.include(lines[0], "connection refused")
      })
  )

  it.effect("attempts to send are never more than 5 seconds apart", () =>
    Effect.gen(function* () {
      const { reporter, sent } = yield* setup
      reporter.open("job-1", "run-1", unexpected).report(settle("a"))
      yield* eventLoopTurns

      for (let i = 0; i < 12; i++) {
        sent[i]!.fail(new ConnectionError("connection refused"))
        yield* eventLoopTurns
        yield* TestClock.adjust(5000)
      }

      assert.strictEqual(sent.length, 13)
    })
  )

  it.effect("a defect of the transport ends the turns of the batch and nothing else", () =>
    Effect.gen(function* () {
      const { reporter, sent, lines } = yield* setup
      const errors: Array<Error> = []
      const bug = new TypeError("undefined is not a session")

      reporter.open("job-1", "run-1", (error) => errors.push(error)).report(settle("a"))
      yield* eventLoopTurns
      sent[0]!.die(bug)
      yield* eventLoopTurns
      reporter.open("job-2", "run-2", unexpected).report(settle("x"))
      yield* eventLoopTurns

      assert.strictEqual((errors[0] as IronflowError).code, "REPORT_FAILED")
      assert.strictEqual(errors[0]!.cause, bug)
      assert.strictEqual(lines.length, 1)
      assert.deepStrictEqual(opsOf(sent[1]), ["run-2: x"])
    })
  )

  it.effect(
    "a callback that throws ends its own turn and pauses its run, and the other turns of the batch get their answers",
    () =>
      Effect.gen(function* () {
        const { reporter, sent } = yield* setup
        const errors: Array<Error> = []
        const seen: Array<string> = []

        reporter
          .open("job-1", "run-1", (error) => errors.push(error))
          .report(settle("a"), () => {
            throw new RangeError("broken")
          })
        reporter.open("job-2", "run-2", unexpected).report(settle("x"), () => seen.push("x"))
        yield* eventLoopTurns
        sent[0]!.accept()
        yield* eventLoopTurns

        assert.strictEqual((errors[0] as IronflowError).code, "TURN_BROKEN")
        assert.deepStrictEqual(seen, ["x"])
        assert.deepStrictEqual(opsOf(sent[1]), ["run-1: Pause"])
      })
  )

  it.effect("releasing a turn gives the run back after its reports, and accepts no more reports", () =>
    Effect.gen(function* () {
      const { reporter, sent } = yield* setup
      const outbox = reporter.open("job-1", "run-1", unexpected)
      const ended = reporter.open("job-2", "run-2", unexpected)

      outbox.report(settle("a"))
      outbox.release()
      outbox.report(settle("b"))
      ended.report(complete)
      ended.release()
      yield* eventLoopTurns

      assert.deepStrictEqual(opsOf(sent[0]), ["run-1: a Release", "run-2: Complete"])
    })
  )

  it.effect("the reporter is idle once everything is answered", () =>
    Effect.gen(function* () {
      const { reporter, sent } = yield* setup
      const order: Array<string> = []
      reporter.open("job-1", "run-1", unexpected).report(settle("a"), () => order.push("answered"))

      const idle = yield* Effect.forkChild(
        Effect.tap(reporter.awaitIdle, () => Effect.sync(() => order.push("idle"))),
        { startImmediately: true }
      )
      yield* eventLoopTurns
      assert.deepStrictEqual(order, [])
      sent[0]!.accept()
      yield* eventLoopTurns

      assert.deepStrictEqual(order, ["answered", "idle"])
      assert.isDefined(idle.pollUnsafe())
    })
  )

  it.effect("the reporter sends nothing after a stop, not even a batch that failed before", () =>
    Effect.gen(function* () {
      const { reporter, sent } = yield* setup
      const outbox = reporter.open("job-1", "run-1", unexpected)

      outbox.report(settle("a"))
      yield* eventLoopTurns
      sent[0]!.fail(new ConnectionError("connection refused"))
      yield* eventLoopTurns
      reporter.stop()
      outbox.report(settle("b"))
      yield* TestClock.adjust("1 minute")
      yield* eventLoopTurns

      assert.strictEqual(sent.length, 1)
    })
  )
})
