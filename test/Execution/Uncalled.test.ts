/** The warning that code no longer calls a recorded step, and when there is no warning. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type AnyFunction, createFunction, type FunctionHandler, make } from "../../src/Function.ts"
import * as Step from "../../src/Step.ts"
import { both } from "./Scenario.ts"
import { ScriptedEngine, success } from "./ScriptedEngine.ts"

const define = (handler: FunctionHandler): AnyFunction =>
  createFunction({ id: "order", triggers: [] }, handler)

const before = define(async ({ step }) => {
  await step.run("reserve", () => 1)
  await step.run("charge", () => 2)
  await step.waitForEvent("approval", { event: "order.approved", timeout: "7d" })
  await step.run("ship", () => 3)
})

/** Runs the code of `before` until the run waits, then the changed code. */
const deploy = (
  title: string,
  after: AnyFunction,
  expected: ReadonlyArray<RegExp>,
  test: (engine: ScriptedEngine) => Promise<void> = async () => undefined
) =>
  it.effect(title, () =>
    Effect.gen(function* () {
      const engine = yield* ScriptedEngine.make
      yield* Effect.promise(async () => {
        await engine.turn(before)
        assert.deepStrictEqual(engine.warnings(), [])
        await engine.turn(after)
        await test(engine)
      })
      const warnings = engine.warnings()
      assert.strictEqual(warnings.length, expected.length, warnings.join("\n"))
      for (const [i, pattern] of expected.entries()) assert.match(warnings[i]!, pattern)
    })
  )

describe("a run is reported once when its code no longer calls a recorded step", () => {
  deploy(
    "when a step was renamed",
    define(async ({ step }) => {
      await step.run("reserve", () => 1)
      await step.run("pay", () => 2)
      await step.waitForEvent("approval", { event: "order.approved", timeout: "7d" })
    }),
    [
      /^Run run_1 of function "order" waits without having called recorded steps: "charge"\. .*ironflow verify/
    ]
  )
  deploy(
    "when a wait was renamed",
    define(async ({ step }) => {
      await step.run("reserve", () => 1)
      await step.run("charge", () => 2)
      await step.waitForEvent("consent", { event: "order.approved", timeout: "7d" })
    }),
    [/waits without having called recorded steps: "approval"\./]
  )
  deploy(
    "when a step was removed, and the run completes",
    define(async ({ step }) => {
      await step.run("charge", () => 2)
    }),
    [/completed without having called recorded steps: "reserve", "approval"\./]
  )
  deploy(
    "when a step was swapped for a wait of another name",
    define(async ({ step }) => {
      await step.run("reserve", () => 1)
      await step.sleep("cool off", "7d")
      await step.waitForEvent("approval", { event: "order.approved", timeout: "8d" })
    }),
    [/waits without having called recorded steps: "charge", "approval"\./, /: "charge"\./],
    async (engine) => {
      const after = define(async ({ step }) => {
        await step.run("reserve", () => 1)
        await step.sleep("cool off", "7d")
        await step.waitForEvent("approval", { event: "order.approved", timeout: "8d" })
      })
      engine.fire("cool off:0")
      await engine.turn(after)
    }
  )
  deploy(
    "in the first of several turns",
    define(async ({ step }) => {
      await step.run("pay", () => 2)
      await step.sleep("one", "1d")
    }),
    [/: "reserve", "charge", "approval"\./],
    async (engine) => {
      const same = define(async ({ step }) => {
        await step.run("pay", () => 2)
        await step.sleep("one", "1d")
        await step.sleep("two", "1d")
      })
      engine.lines.length = 0
      await engine.turn(same)
      engine.fire("one:0")
      await engine.turn(same)
    }
  )
  deploy(
    "when the changed code is an Effect handler",
    make({ id: "order", triggers: [] }, () => Step.run("pay", Effect.succeed(1))),
    [/completed without having called recorded steps: "reserve", "charge", "approval"\./]
  )
})

describe("no warning is logged", () => {
  deploy(
    "for code that calls every recorded step, and then more",
    define(async ({ step }) => {
      await step.run("reserve", () => 1)
      await step.run("charge", () => 2)
      await step.waitForEvent("approval", { event: "order.approved", timeout: "1d" })
      await step.run("label", () => 2)
    }),
    [],
    async (engine) => engine.fire("approval:0", success({}))
  )

  both(
    "for a race whose loser stays open",
    {
      promise:
        () =>
        async ({ step }) => {
          await Promise.race([
            step.sleep("short", "1d"),
            step.waitForEvent("paid", { event: "order.paid", timeout: "7d" })
          ])
          await step.sleep("after", "1d")
          return "done"
        },
      effect: () => () =>
        Effect.gen(function* () {
          yield* Effect.race(
            Step.sleep("short", "1 day"),
            Effect.asVoid(Step.waitForEvent("paid", { event: "order.paid", timeout: "7 days" }))
          )
          yield* Step.sleep("after", "1 day")
          return "done"
        })
    },
    async ({ engine, fn }) => {
      await engine.run(fn)
      assert.strictEqual(engine.output, "done")
      assert.deepStrictEqual(engine.warnings(), [])
    }
  )

  both(
    "for parallel branches of which one fails fast",
    {
      config: { retry: { maxAttempts: 1 } },
      promise:
        () =>
        async ({ step }) => {
          const branches = [
            async (branch: typeof step) => {
              await branch.run("a1", () => 1)
              await branch.sleep("a2", "3d")
              await branch.run("a3", () => 1)
            },
            async (branch: typeof step) => {
              await branch.sleep("b1", "1d")
              await branch.run("b2", () => {
                throw new Error("no")
              })
            },
            async (branch: typeof step) => void (await branch.run("c1", () => 1))
          ]
          await step.parallel("all", branches, { concurrency: 2 }).catch(() => undefined)
          await step.sleep("after", "1d")
          return "done"
        },
      effect: () => () =>
        Effect.gen(function* () {
          yield* Step.parallel(
            "all",
            [
              Effect.gen(function* () {
                yield* Step.run("a1", Effect.succeed(1))
                yield* Step.sleep("a2", "3 days")
                yield* Step.run("a3", Effect.succeed(1))
              }),
              Effect.gen(function* () {
                yield* Step.sleep("b1", "1 day")
                yield* Step.run("b2", Effect.fail(new Error("no")))
              }),
              Effect.asVoid(Step.run("c1", Effect.succeed(1)))
            ],
            { concurrency: 2 }
          ).pipe(Effect.ignore)
          yield* Step.sleep("after", "1 day")
          return "done"
        })
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      engine.fire("all:1:b1:0")
      await engine.turn(fn)
      engine.fire("after:0")
      await engine.turn(fn)
      assert.strictEqual(engine.output, "done")
      assert.deepStrictEqual(engine.warnings(), [])
    }
  )

  both(
    "for turns that are retried or rolled back",
    {
      config: { retry: { maxAttempts: 2, initialDelayMs: 10 } },
      promise:
        () =>
        async ({ step, run }) => {
          if (run.attempt === 2) throw new Error("the shop is closed")
          await step.run("charge", () => 1)
          step.compensate("charge", () => undefined)
          throw new Error("no van")
        },
      effect:
        () =>
        ({ run }) =>
          Effect.gen(function* () {
            if (run.attempt === 2) return yield* Effect.fail(new Error("the shop is closed"))
            yield* Step.run("charge", Effect.succeed(1))
            yield* Step.compensate("charge", Effect.void)
            return yield* Effect.fail(new Error("no van"))
          })
    },
    async ({ engine, fn }) => {
      await engine.run(fn)
      assert.strictEqual(engine.status, "failed")
      assert.deepStrictEqual(engine.warnings(), [])
    }
  )
})
