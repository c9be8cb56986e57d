import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Step from "../../src/Step.ts"
import { attempt, both } from "./Scenario.ts"
import { settle, until } from "./ScriptedEngine.ts"

describe("a turn that wraps up", () => {
  both(
    "awaits the running steps, begins no other, and gives the run back",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const [a, b] = await step.parallel("both", [
            (branch) => branch.run("a", () => probe.hold<number>("a")),
            (branch) => branch.run("b", () => probe.hold<number>("b"))
          ])
          return step.run("sum", probe.code("sum", a + b))
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const [a, b] = yield* Step.parallel("both", [
            Step.run(
              "a",
              attempt(() => probe.hold<number>("a"))
            ),
            Step.run(
              "b",
              attempt(() => probe.hold<number>("b"))
            )
          ])
          return yield* Step.run("sum", attempt(probe.code("sum", a + b)))
        })
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => log.length === 2, "both steps run")

      engine.wrapUp()
      probe.release("a", 1)
      await settle()
      assert.isUndefined(end.value)
      probe.release("b", 2)
      await until(() => end.value !== undefined, "the end of the turn")

      assert.deepStrictEqual(end.value, { _tag: "Suspended", open: [] })
      assert.deepStrictEqual(log, ["a", "b"])
      assert.strictEqual(engine.tags.at(-1), "Release")
      await engine.run(fn)
      assert.deepStrictEqual([engine.status, engine.output], ["completed", 3])
      assert.deepStrictEqual(log, ["a", "b", "sum"])
      assert.deepStrictEqual(engine.late, [])
    }
  )

  both(
    "ends as usual when the handler calls no more steps that run code",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const a = await step.run("a", () => probe.hold<number>("a"))
          return a + 1
        },
      effect: (probe) => () =>
        Effect.map(
          Step.run(
            "a",
            attempt(() => probe.hold<number>("a"))
          ),
          (a) => a + 1
        )
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => log.length === 1, "the step runs")

      engine.wrapUp()
      probe.release("a", 1)
      await until(() => end.value !== undefined, "the end of the turn")

      assert.deepStrictEqual(engine.tags, ["StepDone", "Complete"])
      assert.strictEqual(engine.output, 2)
    }
  )

  both(
    "still suspends, with what it waits for",
    {
      promise:
        () =>
        async ({ step }) =>
          step.sleep("nap", "1h"),
      effect: () => () => Step.sleep("nap", "1 hour")
    },
    async ({ engine, fn }) => {
      const { end } = engine.start(fn)
      engine.wrapUp()
      await until(() => end.value !== undefined, "the end of the turn")

      assert.deepStrictEqual(engine.tags, ["Sleep", "Suspend"])
    }
  )

  both(
    "also wraps up at a step whose outcome arrives in another turn, and steps beside it finish",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const [{ runId }, b] = await step.parallel("both", [
            (branch) => branch.invokeAsync("ship"),
            (branch) => branch.run("b", probe.code("b", "b"))
          ])
          return [runId, b]
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const [{ runId }, b] = yield* Step.parallel("both", [
            Step.invokeAsync("ship"),
            Step.run("b", attempt(probe.code("b", "b")))
          ])
          return [runId, b]
        })
    },
    async ({ engine, fn, log }) => {
      engine.defers = (op) => op._tag === "InvokeAsync"

      const end = await engine.turn(fn)

      assert.deepStrictEqual(end, { _tag: "Suspended", open: [] })
      assert.strictEqual(engine.tags.at(-1), "Release")
      assert.strictEqual(engine.ops("InvokeAsync").length, 1)
      await engine.run(fn)
      assert.deepStrictEqual(engine.output, ["child-of-both:0:ship:0", "b"])
      assert.deepStrictEqual(log, ["b"])
      assert.strictEqual(engine.ops("InvokeAsync").length, 1)
    }
  )
})
