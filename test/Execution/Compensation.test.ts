import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { NonRetryableError } from "../../src/Errors.ts"
import { createFunction } from "../../src/Function.ts"
import * as Step from "../../src/Step.ts"
import { attempt, both, only, type Probe } from "./Scenario.ts"
import { settle, success, until } from "./ScriptedEngine.ts"

/** Books flight and hotel, registers how to cancel both, and fails for good. */
const booking = {
  promise:
    (probe: Probe) =>
    async ({ step }: { step: Step.StepClient }) => {
      await step.run("flight", probe.code("flight", 1))
      step.compensate("flight", probe.code("cancel flight", undefined))
      await step.run("hotel", probe.code("hotel", 2))
      step.compensate("hotel", probe.code("cancel hotel", undefined))
      await step.run("car", () => {
        throw new NonRetryableError("no car")
      })
    },
  effect: (probe: Probe) => () =>
    Effect.gen(function* () {
      yield* Step.run("flight", attempt(probe.code("flight", 1)))
      yield* Step.compensate("flight", attempt(probe.code("cancel flight", undefined)))
      yield* Step.run("hotel", attempt(probe.code("hotel", 2)))
      yield* Step.compensate("hotel", attempt(probe.code("cancel hotel", undefined)))
      yield* Step.run("car", Effect.fail(new NonRetryableError("no car")))
    })
}

describe("compensation", () => {
  both(
    "runs in reverse order of registration, and each is durable before the next",
    booking,
    async ({ engine, fn, log }) => {
      await engine.turn(fn)

      assert.deepStrictEqual(log, ["flight", "hotel", "cancel hotel", "cancel flight"])
      assert.deepStrictEqual(engine.tags, [
        "StepDone",
        "StepDone",
        "StepDone",
        "Compensate",
        "StepDone",
        "StepDone",
        "Fail"
      ])
      assert.deepStrictEqual(engine.ops("Compensate")[0]?.compensations, ["flight", "hotel"])
      assert.deepStrictEqual(
        engine.ops("StepDone").map(({ kind, name }) => [kind, name]),
        [
          ["run", "flight"],
          ["run", "hotel"],
          ["run", "car"],
          ["compensate", "compensate:hotel"],
          ["compensate", "compensate:flight"]
        ]
      )
      assert.deepStrictEqual(engine.keys.slice(3), ["compensate:hotel:0", "compensate:flight:0"])
      assert.strictEqual(engine.error?.message, "no car")
    }
  )

  both("begins only when the decision to compensate is durable", booking, async ({ engine, fn, log }) => {
    engine.manual = true
    engine.start(fn)
    for (let i = 0; i < 3; i++) {
      await settle()
      engine.commit()
    }
    await settle()
    assert.deepStrictEqual(log, ["flight", "hotel", "cancel hotel"])
  })

  both("continues after a crash with what is left", booking, async ({ engine, fn, log }) => {
    engine.manual = true
    engine.start(fn)
    while (!engine.keys.includes("compensate:hotel:0")) {
      await settle()
      engine.commit()
    }
    engine.crash()
    const before = log.length
    engine.manual = false

    await engine.turn(fn)
    assert.deepStrictEqual(log.slice(before), ["cancel flight"])
    assert.strictEqual(engine.status, "failed")
    assert.strictEqual(engine.error?.message, "no car")
    // the decision to compensate is not made again
    assert.strictEqual(engine.ops("Compensate").length, 1)
  })

  both(
    "does not run when the run is tried again, or when it completes",
    {
      config: { retry: { maxAttempts: 2, initialDelayMs: 1 } },
      promise:
        (probe) =>
        async ({ run, step }) => {
          step.compensate("charge", probe.code("refund", undefined))
          if (run.attempt === 1) throw new Error("hiccup")
        },
      effect:
        (probe) =>
        ({ run }) =>
          Effect.gen(function* () {
            yield* Step.compensate("charge", attempt(probe.code("refund", undefined)))
            if (run.attempt === 1) return yield* Effect.fail(new Error("hiccup"))
            return undefined
          })
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.strictEqual(engine.status, "completed")
      assert.deepStrictEqual(log, [])
    }
  )

  both(
    "that fails for good is recorded and logged, and the others still run",
    {
      config: { retry: { maxAttempts: 2, initialDelayMs: 10 } },
      promise:
        (probe) =>
        async ({ step }) => {
          step.compensate("first", probe.code("undo first", undefined))
          step.compensate("second", () => {
            probe.log.push("undo second")
            throw new Error("bank closed")
          })
          throw new NonRetryableError("declined")
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          yield* Step.compensate("first", attempt(probe.code("undo first", undefined)))
          yield* Step.compensate(
            "second",
            Effect.suspend(() => {
              probe.log.push("undo second")
              return Effect.fail(new Error("bank closed"))
            })
          )
          return yield* Effect.fail(new NonRetryableError("declined"))
        })
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      // the function's retry policy applies, with a suspension between the attempts
      assert.deepStrictEqual(log, ["undo second", "undo second", "undo first"])
      assert.strictEqual(engine.outcome("compensate:second:0")?._tag, "Failure")
      assert.strictEqual(engine.outcome("compensate:first:0")?._tag, "Success")
      assert.strictEqual(engine.error?.message, "declined")
      assert.include(engine.warnings("error")[0], 'the compensation of step "second" failed: bank closed')
      assert.isTrue(engine.tags.includes("Suspend"))
    }
  )

  both(
    "may be registered several times under the same name",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          for (const n of [0, 1]) step.compensate("charge", probe.code(`undo ${n}`, undefined))
          throw new NonRetryableError("declined")
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          for (const n of [0, 1])
            yield* Step.compensate("charge", attempt(probe.code(`undo ${n}`, undefined)))
          return yield* Effect.fail(new NonRetryableError("declined"))
        })
    },
    async ({ engine, fn, log }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(log, ["undo 1", "undo 0"])
      assert.deepStrictEqual(engine.keys, ["compensate:charge:1", "compensate:charge:0"])
    }
  )

  both(
    "begins no new steps: while a run compensates, its handler only registers, and unrecorded steps stay pending",
    booking,
    async ({ engine, fn, log }) => {
      engine.journal.push({
        stepKey: "flight:0",
        name: "flight",
        kind: "run",
        outcome: success(1),
        attempt: 1
      })
      engine.compensating = {
        error: { name: "Error", message: "no car" },
        compensations: ["flight", "hotel"]
      }

      await engine.turn(fn)
      assert.deepStrictEqual(log, ["cancel flight"])
      const lost = engine.outcome("compensate:hotel:0")
      assert.strictEqual(lost?._tag === "Failure" ? lost.error.code : undefined, "COMPENSATION_LOST")
      assert.include(engine.warnings("error")[0], 'compensation of step "hotel" could not be rebuilt')
      assert.strictEqual(engine.status, "failed")
      assert.strictEqual(engine.error?.message, "no car")
    }
  )

  both(
    "does not depend on what the handler of the compensating run returns or throws",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          step.compensate("flight", probe.code("cancel flight", undefined))
          return "fine after all"
        },
      effect: (probe) => () =>
        Effect.as(
          Step.compensate("flight", attempt(probe.code("cancel flight", undefined))),
          "fine after all"
        )
    },
    async ({ engine, fn, log }) => {
      engine.compensating = { error: { name: "Error", message: "no car" }, compensations: ["flight", "gone"] }
      await engine.turn(fn)
      assert.deepStrictEqual(log, ["cancel flight"])
      assert.strictEqual(engine.status, "failed")
      assert.deepStrictEqual(engine.keys, ["compensate:gone:0", "compensate:flight:0"])
    }
  )

  only(
    "includes a sibling that succeeds while the handler fails, also after a crash",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        await Promise.all([
          (async () => {
            await step.run("charge", () => probe.hold("charge"))
            step.compensate("charge", probe.code("refund", undefined))
          })(),
          step.run("reserve", () => {
            throw new NonRetryableError("sold out")
          })
        ])
      }),
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => engine.keys.includes("reserve:0"), "one has failed")
      await settle()
      assert.strictEqual(end.value, undefined)
      engine.manual = true
      probe.release("charge", 1)
      await settle()
      assert.deepStrictEqual(
        engine.uncommitted.map(({ _tag }) => _tag),
        ["StepDone", "Compensate"]
      )
      // of the two ops only the step arrives, as if the report had been cut off
      engine.crash()
      engine.journal.push({
        stepKey: "charge:0",
        name: "charge",
        kind: "run",
        outcome: success(1),
        attempt: 1
      })
      engine.manual = false

      await engine.turn(fn)
      assert.deepStrictEqual(log, ["charge", "refund"])
      assert.strictEqual(engine.error?.message, "sold out")
    }
  )

  only(
    "withdraws steps that are still open when the run fails for good",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        step.compensate("charge", probe.code("refund", undefined))
        void step.sleep("nap", "1h")
        await step.run("bad", () => {
          throw new NonRetryableError("declined")
        })
      }),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(engine.tags, ["Sleep", "StepDone", "Withdraw", "Compensate", "StepDone", "Fail"])
    }
  )

  only(
    "does not let a step begin that was held back when another branch failed the run",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        await step.run("flight", probe.code("flight", 1))
        step.compensate("flight", probe.code("cancel flight", undefined))
        const hotel = async () => {
          await step.run("hotel", probe.code("hotel", 2))
          await step.run("pay", probe.code("pay", 3))
        }
        const car = async () => {
          await step.run("car", probe.code("car", 4))
          throw new NonRetryableError("no car")
        }
        await Promise.all([hotel(), car()])
      }),
    async ({ engine, fn, log }) => {
      await engine.turn(fn)

      assert.deepStrictEqual(log, ["flight", "hotel", "car", "cancel flight"])
      assert.strictEqual(engine.status, "failed")
    }
  )

  only(
    "is refused at once without a function or a name",
    () =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        const refusals: Array<string> = []
        for (const register of [
          () => step.compensate(" ", () => undefined),
          // @ts-expect-error -- a caller in JavaScript may do this
          () => step.compensate("charge", undefined)
        ]) {
          try {
            register()
          } catch (error) {
            refusals.push((error as Error).name)
          }
        }
        return refusals
      }),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(engine.output, ["ValidationError", "ValidationError"])
    }
  )
})
