import * as Effect from "effect/Effect"
import { assert, describe } from "vitest"
import { Step } from "../../src/effect.ts"
import { NonRetryableError, type ParallelOptions, type StepClient } from "../../src/index.ts"
import { bodyOf, type Part, scenario, type Stage } from "./Story.ts"

const names = ["a", "b", "c"] as const

/** Runs a held step in each of three branches. */
const threeBranches = (options: ParallelOptions = {}, after?: string): Part => ({
  config: { retry: { maxAttempts: 1 } },
  promise:
    (stage) =>
    async ({ step }) => {
      let result: unknown
      try {
        result = await step.parallel(
          "checks",
          names.map(
            (name) => (branch: StepClient) =>
              branch.run("check", ({ signal }) => stage.holdUntilAborted(name, signal))
          ),
          options
        )
      } catch (error) {
        result = `failed: ${(error as Error).message}`
      }
      stage.log.push("after")
      if (after !== undefined) await step.sleep("nap", after)
      return Array.isArray(result) ? result.map(orMessage) : result
    },
  effect: (stage) => () =>
    Effect.gen(function* () {
      const result: unknown = yield* Step.parallel(
        "checks",
        names.map((name) =>
          Step.run(
            "check",
            bodyOf(({ signal }) => stage.holdUntilAborted(name, signal))
          )
        ),
        options
      ).pipe(Effect.catch((error) => Effect.succeed(`failed: ${error.message}`)))
      stage.log.push("after")
      if (after !== undefined) yield* Step.sleep("nap", after)
      return Array.isArray(result) ? result.map(orMessage) : result
    })
})

const orMessage = (value: unknown) => (value instanceof Error ? `Error: ${value.message}` : value)

const allRun = (stage: Stage) => () => names.every((name) => stage.isHeld(name))

describe("parallel", () => {
  scenario(
    "results are in the order of the branches, whatever the order in which these end",
    threeBranches(),
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("all run", allRun(stage))
        for (const name of ["c", "a", "b"]) {
          stage.release(name, name.toUpperCase())
          yield* world.settle
        }

        assert.deepStrictEqual(yield* world.completes(runId), ["A", "B", "C"])
        const steps = yield* client.getRunSteps(runId)
        assert.deepStrictEqual(
          steps.map(({ id, output }) => [id.slice(runId.length + 1), output]),
          [
            ["checks:2:check:0", "C"],
            ["checks:0:check:0", "A"],
            ["checks:1:check:0", "B"]
          ]
        )
      })
  )

  scenario(
    "no more branches run at once than concurrency allows",
    threeBranches({ concurrency: 2 }),
    ({ log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("two run", () => stage.isHeld("a") && stage.isHeld("b"))
        yield* world.settle
        assert.deepStrictEqual(log, ["a", "b"])
        stage.release("b", 2)
        yield* world.until("the third runs", () => stage.isHeld("c"))
        stage.release("c", 3)
        stage.release("a", 1)

        assert.deepStrictEqual(yield* world.completes(runId), [1, 2, 3])
      })
  )

  scenario(
    "with failFast running steps are aborted, awaited and recorded before the call rejects; a replay rejects with the same error",
    { ...threeBranches({}, "1h"), world: { onDisk: true } },
    ({ log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("all run", allRun(stage))
        // this step ignores its signal
        const ignoring = stage.hold("c, ignoring")
        stage.release("c", ignoring)
        yield* world.settle
        stage.fail("b", new NonRetryableError("b is out of stock"))
        yield* world.settle
        assert.include(log, "a aborted: StepAbortedError")
        assert.notInclude(log, "after")
        stage.release("c, ignoring", "c is done")
        yield* world.reaches(runId, "SLEEPING")
        assert.deepStrictEqual(yield* world.steps(runId), ["check failed", "check completed", "nap waiting"])
        yield* world.restart()
        yield* world.advance("1 hour")

        assert.strictEqual(yield* world.completes(runId), "failed: b is out of stock")
        for (const name of names) assert.strictEqual(stage.count(name), 1)
        assert.strictEqual(stage.count("after"), 2)
      })
  )

  scenario(
    "with failFast no further branch begins",
    threeBranches({ concurrency: 1 }),
    ({ log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the first runs", () => stage.isHeld("a"))
        stage.fail("a", new NonRetryableError("no"))

        assert.strictEqual(yield* world.completes(runId), "failed: no")
        assert.deepStrictEqual(log, ["a", "after"])
      })
  )

  scenario(
    "with failFast compensations of steps that were running are registered before the call rejects",
    {
      config: { retry: { maxAttempts: 1 } },
      promise:
        (stage) =>
        async ({ step }) => {
          await step.parallel("booking", [
            async (branch: StepClient) => {
              await branch.run("hotel", () => stage.hold("hotel"))
              branch.compensate("hotel", () => stage.does("cancel hotel", 1))
            },
            (branch: StepClient) => branch.run("car", () => stage.hold("car"))
          ])
        },
      effect: (stage) => () =>
        Step.parallel("booking", [
          Effect.andThen(
            Step.run(
              "hotel",
              bodyOf(() => stage.hold("hotel"))
            ),
            Step.compensate(
              "hotel",
              Effect.sync(() => stage.does("cancel hotel", 1))
            )
          ),
          Step.run(
            "car",
            bodyOf(() => stage.hold("car"))
          )
        ])
    },
    ({ log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("both run", () => stage.isHeld("hotel") && stage.isHeld("car"))
        stage.fail("car", new NonRetryableError("no car"))
        yield* world.settle
        stage.release("hotel", "h-1")
        const run = yield* world.ends(runId)

        assert.strictEqual(run.error?.message, "no car")
        assert.deepStrictEqual(log, ["hotel", "car", "cancel hotel"])
      })
  )

  scenario(
    "with allSettled every branch ends, and failures are in the result as Errors",
    threeBranches({ onError: "allSettled" }, "1h"),
    ({ stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("all run", allRun(stage))
        stage.fail("b", new NonRetryableError("b is out of stock"))
        yield* world.settle
        stage.release("c", "C")
        stage.release("a", "A")
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")

        assert.deepStrictEqual(yield* world.completes(runId), ["A", "Error: b is out of stock", "C"])
      })
  )

  scenario(
    "an empty list gives an empty result and no step",
    {
      promise:
        () =>
        async ({ step }) => [await step.parallel("none", []), await step.map("none", [], async () => 1)],
      effect: () => () =>
        Effect.all([Step.parallel("none", []), Step.map("none", [], () => Effect.succeed(1))])
    },
    ({ world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()

        assert.deepStrictEqual(yield* world.completes(runId), [[], []])
        assert.deepStrictEqual(yield* world.steps(runId), [])
      })
  )

  scenario(
    "map passes items with their index, and the ids of steps nest",
    {
      promise:
        () =>
        async ({ step }) =>
          step.map("rows", ["x", "y"], (item, row, index) =>
            row.map("cells", [1, 2], (cell, branch) => branch.run("fill", () => `${item}${index}${cell}`))
          ),
      effect: () => () =>
        Step.map("rows", ["x", "y"], (item, index) =>
          Step.map("cells", [1, 2], (cell) => Step.run("fill", Effect.succeed(`${item}${index}${cell}`)))
        )
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()

        assert.deepStrictEqual(yield* world.completes(runId), [
          ["x01", "x02"],
          ["y11", "y12"]
        ])
        assert.sameMembers(
          (yield* client.getRunSteps(runId)).map(({ id }) => id.slice(runId.length + 1)),
          ["rows:0:cells:0:fill:0", "rows:0:cells:1:fill:0", "rows:1:cells:0:fill:0", "rows:1:cells:1:fill:0"]
        )
      })
  )

  scenario(
    "a branch that sleeps delays no other branch, and each step is recorded once over many turns",
    {
      promise:
        (stage) =>
        async ({ step }) =>
          step.map("parcels", [3, 1, 2], async (days, branch) => {
            await branch.run("pack", () => stage.does(`pack ${days}`, 1))
            await branch.sleep("ripen", `${days}d`)
            return branch.run("send", () => stage.does(`send ${days}`, days))
          }),
      effect: (stage) => () =>
        Step.map(
          "parcels",
          [3, 1, 2],
          Effect.fnUntraced(function* (days) {
            yield* Step.run(
              "pack",
              Effect.sync(() => stage.does(`pack ${days}`, 1))
            )
            yield* Step.sleep("ripen", `${days}d`)
            return yield* Step.run(
              "send",
              Effect.sync(() => stage.does(`send ${days}`, days))
            )
          })
        )
    },
    ({ log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        for (let day = 0; day < 3; day++) yield* world.advance("1 day")

        assert.deepStrictEqual(yield* world.completes(runId), [3, 1, 2])
        assert.deepStrictEqual(log, ["pack 3", "pack 1", "pack 2", "send 1", "send 2", "send 3"])
      })
  )

  scenario(
    "with failFast a suspended branch does not delay the call, and its wait is dropped",
    {
      promise:
        () =>
        async ({ step }) => {
          const error = await step
            .parallel("checks", [
              (branch: StepClient) => branch.sleep("nap", "1d"),
              (branch: StepClient) => branch.waitForEvent("approval", { event: "order.approved" }),
              (branch: StepClient) =>
                branch.run("stock", () => {
                  throw new NonRetryableError("out of stock")
                })
            ])
            .catch((error: Error) => error.message)
          await step.sleep("afterwards", "2h")
          return error
        },
      effect: () => () =>
        Effect.gen(function* () {
          const error = yield* Step.parallel("checks", [
            Step.sleep("nap", "1d"),
            Step.waitForEvent("approval", { event: "order.approved" }),
            Step.run("stock", Effect.fail(new NonRetryableError("out of stock")))
          ]).pipe(Effect.catch((error) => Effect.succeed(error.message)))
          yield* Step.sleep("afterwards", "2h")
          return error
        })
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.settle
        assert.deepStrictEqual(yield* world.steps(runId), ["stock failed", "afterwards waiting"])
        yield* client.emit("order.approved", {})
        yield* world.settle
        yield* world.advance("2 hours")

        assert.strictEqual(yield* world.completes(runId), "out of stock")
        assert.deepStrictEqual(yield* world.steps(runId), ["stock failed", "afterwards completed"])
      })
  )
})
