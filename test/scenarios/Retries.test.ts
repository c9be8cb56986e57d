import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { it } from "@effect/vitest"
import { assert, describe } from "vitest"
import { IronflowFunction, Step } from "../../src/effect.ts"
import {
  createNoopLogger,
  type FunctionConfig,
  type FunctionContext,
  InvalidStateError,
  NonRetryableError,
  RetryAfterError,
  StepError,
  StepTimeoutError
} from "../../src/index.ts"
import type { StepRunContext, StepRunOptions } from "../../src/Step.ts"
import { bodyOf, type Part, scenario, type Stage } from "./Story.ts"
import { World } from "./World.ts"

/** A function with one step, `charge`. It returns the result of the step, or a description of its error. */
const charging = (
  code: (stage: Stage, context: StepRunContext) => unknown,
  config: Partial<FunctionConfig> = {},
  options: StepRunOptions = {}
): Part => ({
  config,
  promise:
    (stage) =>
    async ({ step }) => {
      try {
        return await step.run("charge", (context) => code(stage, context), options)
      } catch (error) {
        return describeFailure(error)
      }
    },
  effect: (stage) => () =>
    Step.run(
      "charge",
      bodyOf((context) => code(stage, context)),
      options
    ).pipe(Effect.catch((error) => Effect.succeed<unknown>(describeFailure(error))))
})

const describeFailure = (error: unknown): unknown =>
  error instanceof StepError
    ? [
        error.name,
        error.stepName,
        error.retryable,
        (error.cause as Error).name,
        (error.cause as Error).message
      ]
    : [`not a StepError: ${String(error)}`]

/** Fails this often, then succeeds. */
const failing =
  (times: number) =>
  (stage: Stage, { attempt }: StepRunContext): string => {
    stage.log.push(`charge ${attempt}`)
    if (attempt <= times) throw new Error(`bank is busy (${attempt})`)
    return `receipt ${attempt}`
  }

describe("steps that fail", () => {
  scenario(
    "a failed step is retried after a growing delay, and the result of the successful attempt counts",
    charging(failing(2), { retry: { maxAttempts: 3, initialDelayMs: 1000, backoffFactor: 3 } }),
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        const first = yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.deepInclude(first.details, { failures: 1, error: "bank is busy (1)", dueInMs: 1000 })
        yield* world.advance(1000)
        const second = yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.deepInclude(second.details, { failures: 2, error: "bank is busy (2)", dueInMs: 3000 })
        assert.deepInclude((yield* client.getRunSteps(runId))[0], {
          name: "charge",
          status: "waiting",
          attempt: 3
        })
        yield* world.advance(2999)
        assert.lengthOf(log, 2)
        yield* world.advance(1)

        assert.strictEqual(yield* world.completes(runId), "receipt 3")
        assert.deepStrictEqual(log, ["charge 1", "charge 2", "charge 3"])
        assert.deepInclude((yield* client.getRunSteps(runId))[0], { status: "completed", attempt: 3 })
        assert.strictEqual((yield* client.getRun(runId)).attempt, 1)
      })
  )

  scenario(
    "when the attempts are used up the call rejects with StepError, and a handler may catch it and continue",
    charging(failing(9), { retry: { maxAttempts: 2, initialDelayMs: 10 } }),
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* world.advance(10)

        assert.deepStrictEqual(yield* world.completes(runId), [
          "StepError",
          "charge",
          false,
          "Error",
          "bank is busy (2)"
        ])
        assert.lengthOf(log, 2)
        const [charge] = yield* client.getRunSteps(runId)
        assert.deepInclude(charge, { status: "failed", attempt: 2 })
        assert.strictEqual(charge?.error?.message, "bank is busy (2)")
      })
  )

  for (const [what, error, name] of [
    ["NonRetryableError", () => new NonRetryableError("declined"), "NonRetryableError"],
    [
      "another Ironflow error that is not retryable",
      () => new InvalidStateError("declined"),
      "InvalidStateError"
    ],
    [
      "an error with retryable: false",
      () => Object.assign(new Error("declined"), { retryable: false }),
      "Error"
    ]
  ] as const) {
    scenario(
      `${what} is not retried, and keeps its name and message`,
      charging((stage) => {
        stage.log.push("charge")
        throw error()
      }),
      ({ log, world }) =>
        Effect.gen(function* () {
          const runId = yield* world.place()

          assert.deepStrictEqual(yield* world.completes(runId), [
            "StepError",
            "charge",
            false,
            name,
            "declined"
          ])
          assert.deepStrictEqual(log, ["charge"])
        })
    )
  }

  scenario(
    "the step's own retry option replaces the function's, field by field",
    charging(failing(1), { retry: { maxAttempts: 1, initialDelayMs: 7000 } }, { retry: { maxAttempts: 2 } }),
    ({ world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        const { details } = yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.strictEqual(details.dueInMs, 7000)
        yield* world.advance("7 seconds")

        assert.strictEqual(yield* world.completes(runId), "receipt 2")
      })
  )

  scenario(
    "other branches continue while one waits for its next attempt",
    {
      config: { retry: { initialDelayMs: 60_000 } },
      promise:
        (stage) =>
        async ({ step }) =>
          Promise.all([
            step.run("charge", (context) => failing(1)(stage, context)),
            (async () => {
              await step.run("pick", () => stage.does("pick", 1))
              await step.sleep("nap", "10s")
              return step.run("pack", () => stage.does("pack", "packed"))
            })()
          ]),
      effect: (stage) => () =>
        Effect.all(
          [
            Step.run(
              "charge",
              bodyOf((context) => failing(1)(stage, context))
            ),
            Effect.gen(function* () {
              yield* Step.run(
                "pick",
                Effect.sync(() => stage.does("pick", 1))
              )
              yield* Step.sleep("nap", "10s")
              return yield* Step.run(
                "pack",
                Effect.sync(() => stage.does("pack", "packed"))
              )
            })
          ],
          { concurrency: "unbounded" }
        )
    },
    ({ log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("10 seconds")
        assert.deepStrictEqual(log, ["charge 1", "pick", "pack"])
        yield* world.advance("50 seconds")

        assert.deepStrictEqual(yield* world.completes(runId), ["receipt 2", "packed"])
      })
  )

  scenario(
    "the next attempt keeps its number and its time across a restart, and the attempts stay within the policy",
    {
      ...charging(failing(9), { retry: { maxAttempts: 3, initialDelayMs: 60_000, backoffFactor: 1 } }),
      world: { onDisk: true }
    },
    ({ log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        for (let attempt = 1; attempt < 3; attempt++) {
          yield* world.reaches(runId, "WAITING_FOR_RETRY")
          yield* world.advance("30 seconds")
          yield* world.restart()
          yield* world.advance("29 seconds")
          assert.lengthOf(log, attempt)
          yield* world.advance("1 second")
        }
        yield* world.completes(runId)

        assert.deepStrictEqual(log, ["charge 1", "charge 2", "charge 3"])
      })
  )

  scenario(
    "every attempt of a step sees the same idempotency key, and another step another one",
    {
      config: { retry: { initialDelayMs: 10 } },
      promise:
        (stage) =>
        async ({ step }) => {
          const keep = (context: StepRunContext) => {
            stage.log.push(context.idempotencyKey)
            if (context.attempt === 1) throw new Error("again")
          }
          await step.run("charge", keep)
          await step.run("charge", keep, { retry: { maxAttempts: 1 } }).catch(() => undefined)
        },
      effect: (stage) => () => {
        const keep = (context: StepRunContext) => {
          stage.log.push(context.idempotencyKey)
          if (context.attempt === 1) throw new Error("again")
        }
        return Effect.andThen(
          Step.run("charge", bodyOf(keep)),
          Effect.ignore(Step.run("charge", bodyOf(keep), { retry: { maxAttempts: 1 } }))
        )
      }
    },
    ({ log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* world.advance(10)
        yield* world.completes(runId)

        assert.deepStrictEqual(log, [`${runId}:charge:0`, `${runId}:charge:0`, `${runId}:charge:1`])
      })
  )
})

describe("errors that set the time of the next attempt", () => {
  const hour = 3_600_000
  /** The clock of these tests begins at 0, and the delay of the policy is one second. */
  for (const [what, error, dueInMs] of [
    ["RetryAfterError with text", () => new RetryAfterError("busy", "90s"), 90_000],
    ["RetryAfterError with milliseconds", () => new RetryAfterError("busy", 1500), 1500],
    ["RetryAfterError with no delay", () => new RetryAfterError("busy", 0), 0],
    ["RetryAfterError with a Date", () => new RetryAfterError("busy", new Date(hour)), hour],
    ["RetryAfterError with a Date that has passed", () => new RetryAfterError("busy", new Date(-hour)), 0],
    ["RetryAfterError with more than maxDelayMs", () => new RetryAfterError("busy", "3d"), 72 * hour],
    ["RetryAfterError with the seconds of HTTP", () => new RetryAfterError("busy", "120"), 120_000],
    [
      "RetryAfterError with the date of HTTP",
      () => new RetryAfterError("busy", "Thu, 01 Jan 1970 00:30:00 GMT"),
      hour / 2
    ],
    ["any error with retryAfter", () => Object.assign(new Error("busy"), { retryAfter: "10s" }), 10_000],
    ["any object with retryAfter", () => ({ message: "busy", retryAfter: new Date(hour) }), hour],
    [
      "an error whose retryAfter cannot be read",
      () => Object.assign(new Error("busy"), { retryAfter: "soon" }),
      1000
    ],
    ["an error whose retryAfter is null", () => Object.assign(new Error("busy"), { retryAfter: null }), 1000]
  ] as const) {
    scenario(
      `a step that fails with ${what} is retried after ${dueInMs} ms`,
      charging(
        (_, { attempt }) => {
          if (attempt === 1) throw error()
          return `receipt ${attempt}`
        },
        { retry: { maxDelayMs: 60_000, jitter: 0 } }
      ),
      ({ world }) =>
        Effect.gen(function* () {
          const runId = yield* world.place()
          if (dueInMs > 0) {
            const { details } = yield* world.reaches(runId, "WAITING_FOR_RETRY")
            assert.deepInclude(details, { failures: 1, error: "busy", dueInMs })
            yield* world.advance(dueInMs - 1)
            assert.strictEqual((yield* world.client.getRun(runId)).status, "waiting")
            yield* world.advance(1)
          }

          assert.strictEqual(yield* world.completes(runId), "receipt 2")
        })
    )
  }

  scenario(
    "an error outside of steps sets the time of the run's next attempt, also one that a handler took from a StepError",
    {
      config: { retry: { maxAttempts: 3 } },
      promise:
        () =>
        async ({ run, step }) => {
          if (run.attempt === 1) throw new RetryAfterError("busy", "5m")
          const code = () => {
            throw new RetryAfterError("closed", new Date(3 * hour))
          }
          if (run.attempt === 2) {
            await step.run("charge", code, { retry: { maxAttempts: 1 } }).catch((error: StepError) => {
              throw error.cause
            })
          }
          return run.attempt
        },
      effect:
        () =>
        ({ run }) =>
          Effect.gen(function* () {
            if (run.attempt === 1) return yield* Effect.fail(new RetryAfterError("busy", "5m"))
            if (run.attempt === 2) {
              yield* Step.run("charge", Effect.fail(new RetryAfterError("closed", new Date(3 * hour))), {
                retry: { maxAttempts: 1 }
              }).pipe(Effect.catchTag("StepError", (error) => Effect.fail(error.cause)))
            }
            return run.attempt
          })
    },
    ({ world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        const first = yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.deepInclude(first.details, { attempt: 2, dueInMs: 300_000 })
        yield* world.advance("5 minutes")
        const second = yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.deepInclude(second.details, { attempt: 3, dueInMs: 3 * hour - 300_000 })
        yield* world.advance(3 * hour - 300_000)

        assert.strictEqual(yield* world.completes(runId), 3)
      })
  )

  scenario(
    "a retryAfter that cannot be read is named in the worker's log, with the step",
    charging(
      (_, { attempt }) => {
        if (attempt === 1) throw Object.assign(new Error("busy"), { retryAfter: "soon" })
        return attempt
      },
      { retry: { initialDelayMs: 10 } }
    ),
    ({ world }) =>
      Effect.gen(function* () {
        const warnings: Array<string> = []
        const logger = { ...createNoopLogger(), warn: (message: string) => void warnings.push(message) }
        yield* world.shutDownWorkers
        yield* world.startWorker({ logger })
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* world.advance(10)
        yield* world.completes(runId)

        assert.lengthOf(warnings, 1)
        assert.match(
          warnings[0]!,
          /Step "charge" failed .*`retryAfter` is neither a delay nor a date: "soon".* in 10ms/
        )
      })
  )

  scenario(
    "the attempts stay within the policy, and an error that is not retryable is not retried",
    charging(
      (stage, { attempt }) => {
        stage.log.push(`charge ${attempt}`)
        throw attempt === 2
          ? Object.assign(new Error("declined"), { retryable: false, retryAfter: "1s" })
          : new RetryAfterError("busy", 10)
      },
      { retry: { maxAttempts: 3 } }
    ),
    ({ log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* world.advance(10)

        assert.deepStrictEqual(yield* world.completes(runId), [
          "StepError",
          "charge",
          false,
          "Error",
          "declined"
        ])
        assert.deepStrictEqual(log, ["charge 1", "charge 2"])
      })
  )

  scenario(
    "with jitter, runs that fail together are not retried together",
    charging(failing(1), { retry: { initialDelayMs: 60_000, jitter: 0.5 } }),
    ({ world }) =>
      Effect.gen(function* () {
        const delays = new Set<number>()
        for (let i = 0; i < 8; i++) {
          const { details } = yield* world.reaches(yield* world.place(), "WAITING_FOR_RETRY")
          delays.add(Number(details.dueInMs))
        }

        assert.isAbove(delays.size, 1)
        for (const delay of delays) assert.isTrue(delay > 30_000 - 1 && delay <= 60_000, String(delay))
      })
  )
})

describe("timeouts", () => {
  const hanging = (stage: Stage, { attempt, signal }: StepRunContext) =>
    attempt === 1 ? stage.holdUntilAborted("charge", signal) : "receipt"

  for (const [where, config, options] of [
    ["the function's stepTimeout", { stepTimeout: "30s", retry: { initialDelayMs: 1000 } }, {}],
    [
      "the step's timeout, which replaces the function's,",
      { stepTimeout: "5m", retry: { initialDelayMs: 1000 } },
      { timeout: "30s" }
    ]
  ] as const) {
    scenario(
      `${where} aborts an attempt that takes longer, and the step is retried`,
      charging(hanging, config, options),
      ({ log, stage, world }) =>
        Effect.gen(function* () {
          const runId = yield* world.place()
          yield* world.until("the step runs", () => stage.isHeld("charge"))
          yield* world.advance("29 seconds")
          assert.deepStrictEqual(log, ["charge"])
          yield* world.advance("1 second")
          const { details } = yield* world.reaches(runId, "WAITING_FOR_RETRY")
          assert.strictEqual(details.error, 'Step "charge" timed out after 30s')
          assert.deepStrictEqual(log, ["charge", "charge aborted: StepTimeoutError"])
          yield* world.advance("1 second")

          assert.strictEqual(yield* world.completes(runId), "receipt")
        })
    )
  }

  scenario(
    "a step that times out for good rejects with a StepError whose cause is the StepTimeoutError",
    charging(
      (stage, { signal }) => stage.holdUntilAborted("charge", signal),
      { retry: { maxAttempts: 1 } },
      { timeout: "30s" }
    ),
    ({ stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("charge"))
        yield* world.advance("30 seconds")

        assert.deepStrictEqual(yield* world.completes(runId), [
          "StepError",
          "charge",
          false,
          StepTimeoutError.name,
          'Step "charge" timed out after 30s'
        ])
      })
  )

  scenario(
    "the function's timeout ends a turn that takes longer and counts as an attempt of the run; suspended time does not count",
    {
      config: { timeout: 60_000, retry: { maxAttempts: 2, initialDelayMs: 1000 } },
      promise:
        (stage) =>
        async ({ run, step }) => {
          await step.sleep("nap", "1h")
          await step.run("charge", ({ signal }) =>
            run.attempt === 1 ? stage.holdUntilAborted("charge", signal) : stage.does("charge again", 1)
          )
          return run.attempt
        },
      effect:
        (stage) =>
        ({ run }) =>
          Effect.gen(function* () {
            yield* Step.sleep("nap", "1h")
            yield* Step.run(
              "charge",
              bodyOf(({ signal }) =>
                run.attempt === 1 ? stage.holdUntilAborted("charge", signal) : stage.does("charge again", 1)
              )
            )
            return run.attempt
          })
    },
    ({ client, log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")
        yield* world.until("the step runs", () => stage.isHeld("charge"))
        yield* world.advance("1 minute")
        const { details } = yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.strictEqual(details.attempt, 2)
        assert.include(String(details.error), "60000ms")
        assert.strictEqual((yield* client.getRun(runId)).error?.code, "FUNCTION_TIMEOUT")
        yield* world.advance("1 second")

        assert.strictEqual(yield* world.completes(runId), 2)
        assert.deepStrictEqual(log, ["charge", "charge aborted: FunctionTimeoutError", "charge again"])
      })
  )
})

describe("errors outside of steps", () => {
  const broken = (error: () => unknown): Part => ({
    config: { retry: { maxAttempts: 3, initialDelayMs: 1000 } },
    promise:
      (stage) =>
      async ({ run, step }: FunctionContext) => {
        await step.run("charge", () => stage.does("charge", 1))
        stage.log.push(`turn ${run.attempt}`)
        if (run.attempt < 9) throw error()
      },
    effect:
      (stage) =>
      ({ run }) =>
        Effect.gen(function* () {
          yield* Step.run(
            "charge",
            Effect.sync(() => stage.does("charge", 1))
          )
          stage.log.push(`turn ${run.attempt}`)
          if (run.attempt < 9) return yield* Effect.fail(error())
        })
  })

  scenario(
    "run the function again by its policy, and steps keep their results",
    broken(() => new TypeError("not a function")),
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* world.advance(1000)
        const { details } = yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.deepInclude(details, { attempt: 3, dueInMs: 2000, error: "not a function" })
        yield* world.advance(2000)
        const run = yield* world.ends(runId)

        assert.deepInclude(run, { status: "failed", attempt: 3, maxAttempts: 3 })
        assert.deepInclude(run.error, { name: "TypeError", message: "not a function" })
        assert.deepStrictEqual(log, ["charge", "turn 1", "turn 2", "turn 3"])
        assert.strictEqual((yield* client.explain(runId)).code, "FAILED")
      })
  )

  scenario(
    "that are not retryable fail the run at once",
    broken(() => new NonRetryableError("no")),
    ({ log, world }) =>
      Effect.gen(function* () {
        const run = yield* Effect.flatMap(world.place(), (runId) => world.ends(runId))

        assert.deepInclude(run, { status: "failed", attempt: 1 })
        assert.deepStrictEqual(log, ["charge", "turn 1"])
      })
  )

  scenario(
    "are retried even if the thrown value is no Error, and its text is kept",
    broken(() => "just text"),
    ({ world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        const { details } = yield* world.reaches(runId, "WAITING_FOR_RETRY")

        assert.strictEqual(details.error, "just text")
      })
  )

  scenario(
    "never use more attempts than the policy allows, however often the process dies in between",
    { ...broken(() => new Error("no")), world: { onDisk: true } },
    ({ log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* world.restart()
        yield* world.advance("1 second")
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* world.restart()
        yield* world.restart()
        yield* world.advance("2 seconds")

        assert.deepInclude(yield* world.ends(runId), { status: "failed", attempt: 3 })
        assert.deepStrictEqual(log, ["charge", "turn 1", "turn 2", "turn 3"])
      })
  )
})

describe("typed results and failures", () => {
  class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String }) {}
  const Receipt = Schema.Struct({ id: Schema.String, paidAt: Schema.DateFromString })

  for (const [what, step] of [
    ["of a step", Step.run("charge", Effect.fail(new Declined({ reason: "too poor" })), { error: Declined })],
    [
      "of a transaction",
      Step.tx("charge", () => Effect.fail(new Declined({ reason: "too poor" })), { error: Declined })
    ],
    [
      "of a step in a branch",
      Step.parallel("all", [
        Step.run("charge", Effect.fail(new Declined({ reason: "too poor" })), { error: Declined })
      ])
    ],
    [
      "that the handler has caught and failed with",
      Step.run("charge", Effect.fail(new Declined({ reason: "too poor" })), { error: Declined }).pipe(
        Effect.catchTag("Declined", (error) => Effect.fail(error))
      )
    ],
    ["that is a text", Step.run("charge", Effect.fail("too poor"), { error: Schema.String })]
  ] as const) {
    it.effect(`an uncaught typed failure ${what} ends the run, as an exhausted step does`, () =>
      Effect.gen(function* () {
        const log: Array<string> = []
        const fn = IronflowFunction.make(
          {
            id: "order",
            triggers: [{ event: "order.placed" }],
            retry: { maxAttempts: 3, initialDelayMs: 10 }
          },
          Effect.fnUntraced(function* ({ run }) {
            log.push(`turn ${run.attempt}`)
            yield* Step.run("pick", Effect.succeed(1))
            yield* Step.compensate(
              "pick",
              Effect.sync(() => log.push("put back"))
            )
            yield* step
          })
        )
        const world = yield* World.make({ functions: [fn] })
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* world.advance(10)
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* world.advance(20)
        const run = yield* world.ends(runId)

        assert.deepInclude(run, { status: "failed", attempt: 1 })
        assert.include(JSON.stringify(run.error), "too poor")
        assert.deepStrictEqual(log, ["turn 1", "turn 1", "turn 1", "put back"])
      })
    )
  }

  it.effect("a handler's own error for a typed failure is retried", () =>
    Effect.gen(function* () {
      const fn = IronflowFunction.make(
        { id: "order", triggers: [{ event: "order.placed" }], retry: { maxAttempts: 1 } },
        ({ run }) =>
          Step.run("charge", Effect.fail(new Declined({ reason: "too poor" })), { error: Declined }).pipe(
            Effect.mapError(() => new Error(`order ${run.attempt}`))
          )
      )
      const retried = { ...fn, config: { ...fn.config, retry: { maxAttempts: 2, initialDelayMs: 10 } } }
      const world = yield* World.make({ functions: [retried] })
      const runId = yield* world.place()
      yield* world.reaches(runId, "WAITING_FOR_RETRY")
      yield* world.advance(10)
      yield* world.reaches(runId, "WAITING_FOR_RETRY")
      yield* world.advance(10)

      assert.deepInclude((yield* world.ends(runId)).error, { message: "order 2" })
    })
  )

  it.effect("a result with a schema is the same in every turn, and a failure stays typed", () =>
    Effect.gen(function* () {
      const seen: Array<unknown> = []
      const fn = IronflowFunction.make(
        { id: "order", triggers: [{ event: "order.placed" }], retry: { maxAttempts: 1 } },
        Effect.fnUntraced(function* () {
          const { paidAt } = yield* Step.run("charge", Effect.succeed({ id: "r-1", paidAt: new Date(5) }), {
            success: Receipt
          })
          const reason = yield* Step.run("again", Effect.fail(new Declined({ reason: "too poor" })), {
            error: Declined
          }).pipe(Effect.catchTag("Declined", (error) => Effect.succeed(error.reason)))
          seen.push([paidAt, reason])
          yield* Step.sleep("nap", "1h")
          return paidAt.toISOString()
        })
      )
      const world = yield* World.make({ functions: [fn] })
      const runId = yield* world.place()
      yield* world.reaches(runId, "SLEEPING")
      yield* world.advance("1 hour")

      assert.strictEqual(yield* world.completes(runId), "1970-01-01T00:00:00.005Z")
      assert.deepStrictEqual(seen, [
        [new Date(5), "too poor"],
        [new Date(5), "too poor"]
      ])
    })
  )
})
