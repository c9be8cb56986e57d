import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { assert, describe, vi } from "vitest"
import { IronflowFunction, Step } from "../../src/effect.ts"
import { createFunction, type FunctionContext } from "../../src/index.ts"
import { bodyOf, effectOf, type Part, scenario, Stage } from "./Story.ts"
import { World } from "./World.ts"

describe("replay", () => {
  scenario(
    "a step before a sleep of seven days runs once, and its result is there afterwards",
    {
      promise:
        (stage) =>
        async ({ event, step }) => {
          const receipt = await step.run("charge", () => stage.does("charge", `r-${event.data.orderId}`))
          await step.sleep("week", "7d")
          return step.run("thank", () => stage.does("thank", { receipt }))
        },
      effect: (stage) =>
        Effect.fnUntraced(function* ({ event }) {
          const receipt = yield* Step.run(
            "charge",
            Effect.sync(() => stage.does("charge", `r-${event.data.orderId}`))
          )
          yield* Step.sleep("week", "7 days")
          return yield* Step.run(
            "thank",
            Effect.sync(() => stage.does("thank", { receipt }))
          )
        })
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place({ orderId: "o-1" })
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("6 days")
        yield* world.advance("23 hours")
        assert.strictEqual((yield* client.explain(runId)).code, "SLEEPING")
        yield* world.advance("1 hour")

        assert.deepStrictEqual(yield* world.completes(runId), { receipt: "r-o-1" })
        assert.deepStrictEqual(log, ["charge", "thank"])
        assert.deepStrictEqual(yield* world.steps(runId), [
          "charge completed",
          "week completed",
          "thank completed"
        ])
      })
  )

  scenario(
    "several suspensions can be open at the end of a turn, and each settles at its own time",
    {
      promise:
        () =>
        async ({ step }) => {
          const order: Array<string> = []
          const nap = (name: string, duration: string) =>
            step.sleep(name, duration).then(() => void order.push(name))
          await Promise.all([nap("long", "3h"), nap("short", "1h"), nap("middle", "2h")])
          return order
        },
      effect: () =>
        Effect.fnUntraced(function* () {
          const order: Array<string> = []
          const nap = (name: string, duration: string) =>
            Effect.andThen(
              Step.sleep(name, duration),
              Effect.sync(() => void order.push(name))
            )
          yield* Effect.all([nap("long", "3h"), nap("short", "1h"), nap("middle", "2h")], {
            concurrency: "unbounded"
          })
          return order
        })
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        assert.sameMembers(yield* world.steps(runId), ["long waiting", "short waiting", "middle waiting"])
        const first = yield* client.explain(runId)
        assert.include(first.message, '"short"')
        yield* world.advance("1 hour")
        assert.include((yield* client.explain(runId)).message, '"middle"')
        yield* world.advance("1 hour")
        yield* world.advance("1 hour")

        assert.deepStrictEqual(yield* world.completes(runId), ["short", "middle", "long"])
        assert.deepStrictEqual(yield* world.steps(runId), [
          "short completed",
          "middle completed",
          "long completed"
        ])
      })
  )

  scenario(
    "a catch does not see a suspension; finalizers of a suspended Effect handler run with inert steps, a finally does not run",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          try {
            await step.sleep("nap", "1h")
            stage.log.push("woke")
          } catch {
            stage.log.push("caught")
          } finally {
            stage.log.push("finally")
          }
          return "done"
        },
      effect: (stage) => () =>
        Step.sleep("nap", "1 hour").pipe(
          Effect.tap(() => Effect.sync(() => stage.log.push("woke"))),
          Effect.catchCause(() => Effect.sync(() => stage.log.push("caught"))),
          Effect.ensuring(
            Effect.suspend(() => {
              stage.log.push("finally")
              return Effect.exit(
                Step.run(
                  "clean up",
                  Effect.sync(() => stage.does("clean up", 1))
                )
              )
            })
          ),
          Effect.as("done")
        )
    },
    ({ log, style, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.settle
        assert.deepStrictEqual(log, style === "promise" ? [] : ["finally"])
        assert.deepStrictEqual(yield* world.steps(runId), ["nap waiting"])
        log.length = 0
        yield* world.advance("1 hour")

        assert.strictEqual(yield* world.completes(runId), "done")
        assert.deepStrictEqual(
          log,
          style === "promise" ? ["woke", "finally"] : ["woke", "finally", "clean up"]
        )
      })
  )

  const race = {
    world: { onDisk: true },
    promise:
      (stage: Stage) =>
      async ({ step }: FunctionContext) => {
        const winner = await Promise.race([
          step.sleep("deadline", "5m").then(() => "deadline"),
          step.run("work", () => stage.hold<string>("work"))
        ])
        stage.log.push(`winner: ${winner}`)
        await step.sleep("afterwards", "1d")
        return winner
      },
    effect: (stage: Stage) => () =>
      Effect.gen(function* () {
        const winner = yield* Effect.raceFirst(
          Effect.as(Step.sleep("deadline", "5m"), "deadline"),
          Step.run(
            "work",
            bodyOf(() => stage.hold<string>("work"))
          )
        )
        stage.log.push(`winner: ${winner}`)
        yield* Step.sleep("afterwards", "1d")
        return winner
      })
  }

  scenario(
    "a sleep that ends first wins the race against a running step in the same turn, and still wins after a restart",
    race,
    ({ log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the work has begun", () => stage.isHeld("work"))
        yield* world.advance("5 minutes")
        assert.deepStrictEqual(log, ["work", "winner: deadline"])
        stage.release("work", "work")
        yield* world.settle
        yield* world.restart()
        yield* world.advance("1 day")

        assert.strictEqual(yield* world.completes(runId), "deadline")
        assert.notInclude(log, "winner: work")
      })
  )

  scenario(
    "a step that ends first wins the race against a sleep, and still wins long after the sleep is over",
    race,
    ({ log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the work has begun", () => stage.isHeld("work"))
        yield* world.advance("4 minutes")
        stage.release("work", "work")
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 minute")
        yield* world.advance("119 minutes")
        yield* world.restart()
        yield* world.advance("22 hours")

        assert.strictEqual(yield* world.completes(runId), "work")
        assert.strictEqual(stage.count("work"), 1)
        assert.notInclude(log, "winner: deadline")
      })
  )

  const deadline: Part = {
    promise:
      (stage) =>
      async ({ step }) => {
        const first = await Promise.race([
          step.waitForEvent("approval", { event: "order.approved" }).then(({ data }) => data.by),
          step.sleep("deadline", "1h").then(() => "nobody")
        ])
        await step.sleep("afterwards", "2h")
        stage.log.push(first)
        return step.run("note", () => stage.does("note", first))
      },
    effect: (stage) => () =>
      Effect.gen(function* () {
        const first = yield* Effect.raceFirst(
          Effect.map(Step.waitForEvent("approval", { event: "order.approved" }), ({ data }) => data.by),
          Effect.as(Step.sleep("deadline", "1h"), "nobody")
        )
        yield* Step.sleep("afterwards", "2h")
        stage.log.push(first)
        return yield* Step.run(
          "note",
          bodyOf(() => stage.does("note", first))
        )
      })
  }

  for (const [winner, output] of [
    ["the event", "ada"],
    ["the deadline", "nobody"]
  ] as const) {
    scenario(
      `in a race of an event against a deadline ${winner} wins in every turn, although the other comes later`,
      { ...deadline, world: { onDisk: true } },
      ({ log, world }) =>
        Effect.gen(function* () {
          const runId = yield* world.place()
          yield* world.reaches(runId, "SLEEPING")
          if (winner === "the deadline") yield* world.advance("1 hour")
          yield* world.client.emit("order.approved", { by: "ada" })
          yield* world.settle
          yield* world.advance("1 hour")
          yield* world.restart()
          yield* world.advance("1 hour")

          assert.strictEqual(yield* world.completes(runId), output)
          assert.deepStrictEqual([...new Set(log)], [output, "note"])
          assert.strictEqual(yield* world.stuckRuns, 0)
        })
    )
  }

  scenario(
    "the order in which steps ended is the same in every turn, also for the code that continues after each",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          const order: Array<string> = []
          const chain = async (name: string, detours: number) => {
            for (let i = 0; i < detours; i++) await Promise.resolve()
            await step.run(name, () => stage.hold(name))
            for (let i = 0; i < detours; i++) await Promise.resolve()
            order.push(name)
          }
          await Promise.all([chain("a", 9), chain("b", 0), chain("c", 4)])
          stage.log.push(order.join(""))
          await step.sleep("nap", "1h")
          await step.run(`after ${order[0]}`, () => stage.does("after", 1))
          return order.join("")
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          const order: Array<string> = []
          const chain = Effect.fnUntraced(function* (name: string, detours: number) {
            for (let i = 0; i < detours; i++) yield* Effect.promise(() => Promise.resolve())
            yield* Step.run(
              name,
              bodyOf(() => stage.hold(name))
            )
            for (let i = 0; i < detours; i++) yield* Effect.promise(() => Promise.resolve())
            order.push(name)
          })
          yield* Effect.all([chain("a", 9), chain("b", 0), chain("c", 4)], { concurrency: "unbounded" })
          stage.log.push(order.join(""))
          yield* Step.sleep("nap", "1h")
          yield* Step.run(
            `after ${order[0]}`,
            Effect.sync(() => stage.does("after", 1))
          )
          return order.join("")
        })
    },
    ({ log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("all have begun", () => ["a", "b", "c"].every((name) => stage.isHeld(name)))
        for (const name of ["c", "a", "b"]) {
          stage.release(name)
          yield* world.settle
        }
        yield* world.advance("1 hour")

        assert.strictEqual(yield* world.completes(runId), "cab")
        assert.deepStrictEqual(log, ["b", "c", "a", "cab", "cab", "after"])
      })
  )

  scenario(
    "a handler sees the same result at the first execution as in a replay",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          const seen = await step.run("look", (): unknown => ({
            at: new Date(0),
            gone: undefined,
            list: [undefined, 1]
          }))
          const nothing = await step.run("nothing", () => undefined)
          const nil = await step.run("nil", () => null)
          stage.log.push(JSON.stringify({ seen, isUndefined: nothing === undefined, isNull: nil === null }))
          await step.sleep("nap", "1h")
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          const seen = yield* Step.run(
            "look",
            Effect.succeed<unknown>({
              at: new Date(0),
              gone: undefined,
              list: [undefined, 1]
            })
          )
          const nothing = yield* Step.run("nothing", Effect.succeed(undefined))
          const nil = yield* Step.run("nil", Effect.succeed(null))
          stage.log.push(JSON.stringify({ seen, isUndefined: nothing === undefined, isNull: nil === null }))
          yield* Step.sleep("nap", "1h")
        })
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")
        const output = yield* world.completes(runId)

        const seen = {
          seen: { at: "1970-01-01T00:00:00.000Z", list: [null, 1] },
          isUndefined: true,
          isNull: true
        }
        assert.strictEqual(output, undefined)
        assert.deepStrictEqual(
          log.map((line) => JSON.parse(line)),
          [seen, seen]
        )
        assert.notProperty((yield* client.getRunSteps(runId))[1], "output")
      })
  )

  const circle: { self?: unknown } = {}
  circle.self = circle
  for (const [what, value, path] of [
    ["a BigInt", { amount: { cents: 5n } }, "amount.cents"],
    ["a cycle", { circle }, "circle"],
    ["a function", { list: [() => 1] }, "list"]
  ] as const) {
    scenario(
      `a step whose result has ${what} fails at once and says where`,
      {
        promise:
          (stage) =>
          async ({ step }) => {
            await step.run("look", () => stage.does<unknown>("look", value))
          },
        effect: (stage) => () =>
          Step.run(
            "look",
            Effect.sync(() => stage.does<unknown>("look", value))
          )
      },
      ({ log, world }) =>
        Effect.gen(function* () {
          const run = yield* Effect.flatMap(world.place(), (runId) => world.ends(runId))

          assert.strictEqual(run.status, "failed")
          assert.include(run.error?.message, '"look"')
          assert.include(run.error?.message, path)
          assert.deepStrictEqual(log, ["look"])
        })
    )
  }

  scenario(
    "a sleepUntil in the past returns at once and leaves no step; one in the future waits until then",
    {
      promise:
        () =>
        async ({ step }) => {
          await step.sleepUntil("past", "1969-12-31T00:00:00Z")
          await step.sleepUntil("future", new Date(90_000))
          return "up"
        },
      effect: () => () =>
        Effect.gen(function* () {
          yield* Step.sleepUntil("past", "1969-12-31T00:00:00Z")
          yield* Step.sleepUntil("future", new Date(90_000))
          return "up"
        })
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        const { details } = yield* world.reaches(runId, "SLEEPING")
        assert.strictEqual(details.dueAt, "1970-01-01T00:01:30.000Z")
        yield* world.advance("89 seconds")
        assert.strictEqual((yield* client.getRun(runId)).status, "waiting")
        yield* world.advance("1 second")

        assert.strictEqual(yield* world.completes(runId), "up")
        assert.deepStrictEqual(yield* world.steps(runId), ["future completed"])
      })
  )

  scenario(
    "a step that is called in the body of another one is refused with NestedStepError and is not recorded",
    {
      promise:
        () =>
        async ({ step }) =>
          step.run("outer", () =>
            step
              .run("inner", () => 1)
              .then(
                () => "ran",
                (error: Error) => error.name
              )
          ),
      effect: () => () =>
        Step.run(
          "outer",
          Step.run("inner", Effect.succeed(1)).pipe(
            Effect.match({ onFailure: (error) => error.name, onSuccess: () => "ran" }),
            // the type of a body allows no steps, so this cast is needed to test that a body's service refuses them
            (nested) => nested as Effect.Effect<string>
          )
        )
    },
    ({ world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()

        assert.strictEqual(yield* world.completes(runId), "NestedStepError")
        assert.deepStrictEqual(yield* world.steps(runId), ["outer completed"])
      })
  )

  it.effect("a step of the handler's own service is refused in the body of another step, too", () =>
    Effect.gen(function* () {
      const nested = IronflowFunction.make(
        { id: "order", triggers: [{ event: "order.placed" }] },
        Effect.fnUntraced(function* () {
          const steps = yield* Step.Step
          return yield* Step.run(
            "outer",
            steps
              .run("inner", Effect.succeed(1))
              .pipe(Effect.match({ onFailure: (error) => error.name, onSuccess: () => "ran" }))
          )
        })
      )
      const world = yield* World.make({ functions: [nested] })
      const runId = yield* world.place()

      assert.strictEqual(yield* world.completes(runId), "NestedStepError")
      assert.deepStrictEqual(yield* world.steps(runId), ["outer completed"])
    })
  )

  scenario(
    "a handler that awaits its own I/O between steps still completes, in a later turn that waits longer",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          void step.sleep("deadline", "1d")
          await stage.hold("own I/O")
          return step.run("late", () => stage.does("late", "done"))
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          yield* Effect.forkChild(Step.sleep("deadline", "1d"))
          yield* effectOf(() => stage.hold("own I/O")).pipe(Effect.uninterruptible)
          return yield* Step.run(
            "late",
            Effect.sync(() => stage.does("late", "done"))
          )
        })
    },
    ({ log, stage, style, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        stage.release("own I/O")
        yield* world.settle
        if (style === "effect") {
          // the fiber of an ended turn is interrupted, so that it cannot report a late step; the deadline wakes the run
          assert.deepStrictEqual(log, ["own I/O"])
          yield* world.advance("1 day")
        }
        assert.deepStrictEqual(log, ["own I/O", "own I/O"])
        stage.release("own I/O")

        assert.strictEqual(yield* world.completes(runId), "done")
        assert.deepStrictEqual(log, ["own I/O", "own I/O", "late"])
      })
  )

  it.effect("a handler that only returns after its own I/O still completes, in a later turn", () =>
    Effect.gen(function* () {
      const stage = new Stage()
      const returning = createFunction(
        { id: "order", triggers: [{ event: "order.placed" }] },
        async ({ step }) => {
          void step.sleep("deadline", "1d")
          return stage.hold("own I/O")
        }
      )
      const world = yield* World.make({ functions: [returning] })
      const runId = yield* world.place()
      yield* world.reaches(runId, "SLEEPING")
      stage.release("own I/O", "too early")
      yield* world.until("the next turn is there", () => stage.isHeld("own I/O"))
      stage.release("own I/O", "done")

      assert.strictEqual(yield* world.completes(runId), "done")
      yield* world.advance("1 day")
      assert.strictEqual(stage.count("own I/O"), 2)
    })
  )

  scenario(
    "onTurnEnd callbacks and the signal tell a handler of the end of each turn",
    {
      promise:
        (stage) =>
        async ({ onTurnEnd, signal, step }) => {
          onTurnEnd(() => void stage.log.push("turn end"))
          signal.addEventListener("abort", () => stage.log.push(`abort: ${(signal.reason as Error).message}`))
          await step.sleep("nap", "1h")
          return "done"
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          yield* Effect.addFinalizer(() => Effect.sync(() => void stage.log.push("turn end")))
          yield* Step.sleep("nap", "1h")
          return "done"
        }).pipe(Effect.scoped)
    },
    ({ log, style, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")
        yield* world.completes(runId)
        yield* world.settle

        assert.strictEqual(log.filter((line) => line === "turn end").length, 2)
        if (style === "promise") {
          assert.deepStrictEqual(
            log.filter((line) => line.startsWith("abort")).map((line) => line.split(" ").at(-1)),
            ["suspended", "completed"]
          )
        }
      })
  )

  scenario(
    "secrets.get of a secret that the function does not have fails the run's turn and names the secret",
    {
      config: { retry: { maxAttempts: 1 } },
      promise:
        () =>
        async ({ secrets }) =>
          secrets.get("BANK_KEY"),
      effect:
        () =>
        ({ secrets }) =>
          effectOf(() => secrets.get("BANK_KEY"))
    },
    ({ world }) =>
      Effect.gen(function* () {
        const run = yield* Effect.flatMap(world.place(), (runId) => world.ends(runId))

        assert.strictEqual(run.status, "failed")
        assert.include(run.error?.message, '"BANK_KEY"')
      })
  )

  scenario(
    "the logger is silent while finished steps are replayed, so that each line appears once",
    {
      promise:
        () =>
        async ({ logger, step }) => {
          logger.info("begin")
          await step.run("charge", () => 1)
          logger.info("charged")
          await step.sleep("nap", "1h")
          logger.info("woke")
        },
      effect: () =>
        Effect.fnUntraced(function* ({ logger }) {
          logger.info("begin")
          yield* Step.run("charge", Effect.succeed(1))
          logger.info("charged")
          yield* Step.sleep("nap", "1h")
          logger.info("woke")
        })
    },
    ({ world }) =>
      Effect.gen(function* () {
        const lines = yield* Effect.acquireRelease(
          Effect.sync(() => vi.spyOn(console, "info").mockImplementation(() => undefined)),
          (spy) => Effect.sync(() => spy.mockRestore())
        )
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")
        yield* world.completes(runId)

        const prefix = `[ironflow:${runId.slice(-8)}]`
        assert.deepStrictEqual(
          lines.mock.calls.map(([line]) => line),
          [`${prefix} begin`, `${prefix} charged`, `${prefix} woke`]
        )
      })
  )
})
