import * as Effect from "effect/Effect"
import { assert, describe } from "vitest"
import { Step } from "../../src/effect.ts"
import { NonRetryableError } from "../../src/index.ts"
import type { StepRunContext } from "../../src/Step.ts"
import { bodyOf, type Part, scenario, type Stage } from "./Story.ts"

interface Trip {
  /** Steps in order; each is compensated by `cancel <step>`. */
  readonly steps: ReadonlyArray<string>
  readonly cancel?: (stage: Stage, name: string, context: StepRunContext) => unknown
  /** The step that comes last. */
  readonly last?: (stage: Stage, context: StepRunContext) => unknown
  readonly maxAttempts?: number
  /** A sleep between the steps and the last one. */
  readonly nap?: string
}

const noCar = () => {
  throw new NonRetryableError("no car")
}

const booking = ({
  steps,
  cancel = (stage, name) => stage.does(`cancel ${name}`, 1),
  last = noCar,
  maxAttempts = 3,
  nap
}: Trip): Part => ({
  config: { retry: { maxAttempts, initialDelayMs: 1000, backoffFactor: 1 } },
  promise:
    (stage) =>
    async ({ step }) => {
      for (const name of steps) {
        await step.run(name, ({ idempotencyKey }) => stage.does(name, idempotencyKey))
        step.compensate(name, (context) => cancel(stage, name, context))
      }
      if (nap !== undefined) await step.sleep("nap", nap)
      return step.run("car", (context) => last(stage, context))
    },
  effect: (stage) => () =>
    Effect.gen(function* () {
      for (const name of steps) {
        yield* Step.run(
          name,
          bodyOf(({ idempotencyKey }) => stage.does(name, idempotencyKey))
        )
        yield* Step.compensate(
          name,
          bodyOf((context) => cancel(stage, name, context))
        )
      }
      if (nap !== undefined) yield* Step.sleep("nap", nap)
      return yield* Step.run(
        "car",
        bodyOf((context) => last(stage, context))
      )
    })
})

describe("compensations", () => {
  scenario(
    "run in reverse order when a run fails for good, and the run has the original error",
    booking({ steps: ["flight", "hotel", "guide"] }),
    ({ log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        const run = yield* world.ends(runId)

        assert.deepInclude(run, { status: "failed" })
        assert.strictEqual(run.error?.message, "no car")
        assert.deepStrictEqual(log, [
          "flight",
          "hotel",
          "guide",
          "cancel guide",
          "cancel hotel",
          "cancel flight"
        ])
        assert.deepStrictEqual(yield* world.steps(runId), [
          "flight completed",
          "hotel completed",
          "guide completed",
          "car failed",
          "compensate:guide completed",
          "compensate:hotel completed",
          "compensate:flight completed"
        ])
      })
  )

  scenario(
    "run when the attempts of a step are used up, and not before",
    booking({
      steps: ["flight"],
      maxAttempts: 2,
      last: (stage) => {
        stage.log.push("car")
        throw new Error("the line is busy")
      }
    }),
    ({ log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.deepStrictEqual(log, ["flight", "car"])
        yield* world.advance("1 second")

        assert.strictEqual((yield* world.ends(runId)).status, "failed")
        assert.deepStrictEqual(log, ["flight", "car", "car", "cancel flight"])
      })
  )

  scenario(
    "do not run when the run completes or is cancelled",
    booking({ steps: ["flight"], nap: "1h", last: () => "car" }),
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const cancelled = yield* world.place()
        const completed = yield* world.place()
        yield* world.reaches(cancelled, "SLEEPING")
        yield* world.reaches(completed, "SLEEPING")
        yield* client.cancelRun(cancelled)
        yield* world.advance("1 hour")

        assert.strictEqual(yield* world.completes(completed), "car")
        assert.deepStrictEqual(log, ["flight", "flight"])
        assert.deepStrictEqual(yield* world.steps(cancelled), ["flight completed"])
      })
  )

  scenario(
    "are retried by the policy; one that fails for good is recorded as failed, and the others still run",
    booking({
      steps: ["flight", "hotel"],
      maxAttempts: 2,
      cancel: (stage, name, { attempt }) => {
        stage.log.push(`cancel ${name} ${attempt}`)
        if (name === "hotel") throw new Error("the hotel does not answer")
      }
    }),
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.strictEqual((yield* client.getRun(runId)).status, "compensating")
        assert.deepInclude(yield* Effect.flip(client.cancelRun(runId)), { code: "INVALID_STATE" })
        yield* world.advance("1 second")
        const run = yield* world.ends(runId)

        assert.strictEqual(run.error?.message, "no car")
        assert.deepStrictEqual(log, [
          "flight",
          "hotel",
          "cancel hotel 1",
          "cancel hotel 2",
          "cancel flight 1"
        ])
        const steps = yield* client.getRunSteps(runId)
        assert.deepStrictEqual(
          steps.filter(({ kind }) => kind === "compensate").map(({ name, status }) => [name, status]),
          [
            ["compensate:hotel", "failed"],
            ["compensate:flight", "completed"]
          ]
        )
      })
  )

  for (const [how, leave] of [
    ["the process dies", "restart"],
    ["the worker is stopped", "deploy"]
  ] as const) {
    scenario(
      `continue when ${how} in the middle of them, and no finished one runs again`,
      {
        ...booking({
          steps: ["flight", "hotel", "guide"],
          cancel: (stage, name) =>
            name === "hotel" && stage.count("cancel hotel") === 0
              ? stage.hold("cancel hotel")
              : stage.does(`cancel ${name}`, 1)
        }),
        world: { onDisk: true }
      },
      ({ log, stage, world }) =>
        Effect.gen(function* () {
          const runId = yield* world.place()
          yield* world.until("the second is running", () => stage.isHeld("cancel hotel"))
          yield* world.settle
          yield* world[leave]()
          const run = yield* world.ends(runId)

          assert.strictEqual(run.error?.message, "no car")
          assert.strictEqual(run.attempt, 1)
          assert.deepStrictEqual(log, [
            "flight",
            "hotel",
            "guide",
            "cancel guide",
            "cancel hotel",
            "cancel hotel",
            "cancel flight"
          ])
        })
    )
  }

  scenario(
    "whose code is no longer registered are recorded as failed, and the others run",
    {
      ...booking({
        steps: ["flight", "hotel"],
        cancel: (stage, name) =>
          stage.count("guard") === 0 ? stage.hold("guard") : stage.does(`cancel ${name}`, 1)
      }),
      world: { onDisk: true }
    },
    ({ toFunction, log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the first is running", () => stage.isHeld("guard"))
        yield* world.crash
        yield* world.start([toFunction(booking({ steps: ["flight"] }))])
        const run = yield* world.ends(runId)

        assert.strictEqual(run.error?.message, "no car")
        assert.deepStrictEqual(log, ["flight", "hotel", "guard", "cancel flight"])
        const steps = yield* world.client.getRunSteps(runId)
        const hotel = steps.find(({ name }) => name === "compensate:hotel")
        assert.deepInclude(hotel, { status: "failed" })
        assert.strictEqual(hotel?.error?.code, "COMPENSATION_LOST")
      })
  )

  scenario(
    "let retryRun run the compensated steps again in a new generation, with new idempotency keys",
    booking({
      steps: ["flight"],
      last: (stage) => {
        if (stage.count("cancel flight") === 0) throw new NonRetryableError("no car")
        return "car"
      }
    }),
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.ends(runId)
        const [before] = yield* client.getRunSteps(runId)
        yield* client.retryRun(runId)
        assert.strictEqual(yield* world.completes(runId), "car")

        const [after] = yield* client.getRunSteps(runId)
        assert.deepStrictEqual(log, ["flight", "cancel flight", "flight"])
        assert.strictEqual(before?.output, `${runId}:flight:0`)
        assert.strictEqual(after?.output, `${runId}:flight:0@1`)
        assert.deepStrictEqual(yield* world.steps(runId), ["flight completed", "car completed"])
      })
  )

  scenario(
    "that failed for good run again when the retried run fails again",
    booking({
      steps: ["flight"],
      maxAttempts: 1,
      cancel: (stage) => {
        stage.log.push("cancel flight")
        if (stage.count("cancel flight") === 1) throw new Error("the airline does not answer")
      }
    }),
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.ends(runId)
        yield* client.retryRun(runId)
        yield* world.ends(runId)

        assert.deepStrictEqual(log, ["flight", "cancel flight", "cancel flight"])
        assert.deepStrictEqual(yield* world.steps(runId), [
          "flight completed",
          "car failed",
          "compensate:flight completed"
        ])
      })
  )

  scenario(
    "run after errors outside of steps only when the attempts of the run are used up",
    {
      config: { retry: { maxAttempts: 2, initialDelayMs: 1000 } },
      promise:
        (stage) =>
        async ({ step }) => {
          await step.run("flight", () => stage.does("flight", 1))
          step.compensate("flight", () => stage.does("cancel flight", 1))
          throw new Error("out of luck")
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          yield* Step.run(
            "flight",
            Effect.sync(() => stage.does("flight", 1))
          )
          yield* Step.compensate(
            "flight",
            Effect.sync(() => stage.does("cancel flight", 1))
          )
          return yield* Effect.fail(new Error("out of luck"))
        })
    },
    ({ log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.deepStrictEqual(log, ["flight"])
        yield* world.advance("1 second")
        yield* world.ends(runId)

        assert.deepStrictEqual(log, ["flight", "cancel flight"])
      })
  )
})
