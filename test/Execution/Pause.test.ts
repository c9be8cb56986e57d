import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { NonRetryableError } from "../../src/Errors.ts"
import * as Step from "../../src/Step.ts"
import { attempt, both, type Scenario } from "./Scenario.ts"
import { settle, until } from "./ScriptedEngine.ts"

/** Two branches, whose first steps the test holds. */
const branching: Scenario = {
  promise:
    (probe) =>
    async ({ step }) => {
      const [a, b] = await step.parallel("both", [
        (branch) => branch.run("a", () => probe.hold<number>("a")),
        async (branch) => {
          await branch.run("b", () => probe.hold<number>("b"))
          await branch.sleep("nap", "1s")
          return branch.run("c", probe.code("c", 3))
        }
      ])
      return a + b
    },
  effect: (probe) => () =>
    Effect.gen(function* () {
      const [a, b] = yield* Step.parallel("both", [
        Step.run(
          "a",
          attempt(() => probe.hold<number>("a"))
        ),
        Effect.gen(function* () {
          yield* Step.run(
            "b",
            attempt(() => probe.hold<number>("b"))
          )
          yield* Step.sleep("nap", "1 second")
          return yield* Step.run("c", attempt(probe.code("c", 3)))
        })
      ])
      return a + b
    })
}

describe("a turn whose run is to be paused", () => {
  both(
    "awaits the running steps, begins no other, not even a sleep, and gives the run back",
    branching,
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => log.length === 2, "both steps run")

      engine.pause(true)
      probe.release("b", 2)
      await settle()
      assert.isUndefined(end.value)
      probe.release("a", 1)
      await until(() => end.value !== undefined, "the end of the turn")

      assert.deepStrictEqual(end.value, { _tag: "Suspended", open: [] })
      assert.deepStrictEqual(engine.tags, ["StepDone", "StepDone", "Release"])
      await engine.run(fn)
      assert.deepStrictEqual([engine.status, engine.output], ["completed", 4])
      assert.deepStrictEqual(log, ["a", "b", "c"])
      assert.deepStrictEqual(engine.late, [])
    }
  )

  both("continues when the pause is taken back", branching, async ({ engine, fn, log, probe }) => {
    const { end } = engine.start(fn)
    await until(() => log.length === 2, "both steps run")
    engine.pause(true)
    probe.release("b", 2)
    await settle()
    assert.deepStrictEqual(engine.tags, ["StepDone"])

    engine.pause(false)
    await until(() => engine.tags.includes("Sleep"), "the sleep begins")
    await engine.advance(1000)
    await until(() => log.includes("c"), "the step behind the sleep runs")
    probe.release("a", 1)
    await until(() => end.value !== undefined, "the end of the turn")

    assert.deepStrictEqual([engine.turns.length, engine.output], [1, 4])
    assert.deepStrictEqual(log, ["a", "b", "c"])
  })

  both(
    "keeps a sleep that is over, and begins nothing after it",
    branching,
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => log.length === 2, "both steps run")
      probe.release("b", 2)
      await until(() => engine.tags.includes("Sleep"), "the sleep begins")

      engine.pause(true)
      await engine.advance(1000)
      await settle()
      probe.release("a", 1)
      await until(() => end.value !== undefined, "the end of the turn")

      assert.deepStrictEqual(engine.tags.slice(-3), ["Settle", "StepDone", "Release"])
      assert.deepStrictEqual(log, ["a", "b"])
    }
  )

  both(
    "that only waits, reports its waits",
    {
      promise:
        () =>
        async ({ step }) =>
          step.sleep("nap", "1h"),
      effect: () => () => Step.sleep("nap", "1 hour")
    },
    async ({ engine, fn }) => {
      engine.lingerMs = 1000
      const { end } = engine.start(fn)
      await until(() => engine.tags.length === 1, "the sleep begins")
      engine.pause(true)
      await settle()
      await engine.advance(1000)
      await until(() => end.value !== undefined, "the end of the turn")

      assert.deepStrictEqual(engine.tags, ["Sleep", "Suspend"])
    }
  )

  both(
    "keeps a failed attempt, and leaves the next one to another turn",
    {
      promise:
        (probe) =>
        async ({ step }) =>
          step.run("a", () => probe.hold<number>("a")),
      effect: (probe) => () =>
        Step.run(
          "a",
          attempt(() => probe.hold<number>("a"))
        )
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => log.length === 1, "the step runs")
      engine.pause(true)
      probe.fail("a", new Error("the bank is busy"))
      await until(() => end.value !== undefined, "the end of the turn")

      assert.deepStrictEqual(engine.tags, ["StepRetry", "Suspend"])
      assert.deepStrictEqual(log, ["a"])
    }
  )

  both(
    "ends its run when the handler calls no more steps",
    {
      promise:
        (probe) =>
        async ({ step }) =>
          (await step.run("a", () => probe.hold<number>("a"))) + 1,
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
      engine.pause(true)
      probe.release("a", 1)
      await until(() => end.value !== undefined, "the end of the turn")

      assert.deepStrictEqual([engine.tags, engine.output], [["StepDone", "Complete"], 2])
    }
  )

  both(
    "begins no compensation, and the next turn runs each of them once",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          await step.run("a", probe.code("a", 1))
          step.compensate("a", probe.code("undo a", undefined))
          await step.run("b", async () => {
            await probe.hold("b")
            throw new NonRetryableError("declined")
          })
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          yield* Step.run("a", attempt(probe.code("a", 1)))
          yield* Step.compensate("a", attempt(probe.code("undo a", undefined)))
          yield* Step.run(
            "b",
            attempt(async () => {
              await probe.hold("b")
              throw new NonRetryableError("declined")
            })
          )
        })
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => log.includes("b"), "the step runs")
      engine.pause(true)
      probe.release("b")
      await until(() => end.value !== undefined, "the end of the turn")
      assert.deepStrictEqual(engine.tags.slice(-2), ["Compensate", "Release"])
      assert.deepStrictEqual(log, ["a", "b"])

      await engine.run(fn)

      assert.deepStrictEqual([engine.status, log], ["failed", ["a", "b", "undo a"]])
    }
  )
})
