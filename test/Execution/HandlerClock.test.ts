/** Sleeps of an Effect handler outside its steps: they are not durable, and are reported once. */
import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import { make } from "../../src/Function.ts"
import * as Step from "../../src/Step.ts"
import { only } from "./Scenario.ts"

type Programs = { readonly [title: string]: Effect.Effect<unknown, unknown, Step.Step> }

const approval = Step.waitForEvent("approval", { event: "order.approved", timeout: "1 hour" })

describe("a sleep outside of steps while the turn is suspended is reported once per function:", () => {
  const sleeping: Programs = {
    "in a timeout of a wait": Effect.timeoutOption(approval, "300 millis"),
    "in a race": Effect.race(approval, Effect.sleep("1 minute")),
    "in a branch": Step.parallel("both", [approval, Effect.delay(Step.run("later", Effect.void), "1 minute")])
  }
  for (const [where, program] of Object.entries(sleeping)) {
    only(
      where,
      () => make({ id: "order", triggers: [] }, () => Effect.asVoid(program)),
      async ({ engine, fn }) => {
        await engine.turn(fn)
        await engine.turn(fn)

        assert.deepStrictEqual(
          engine.turns.map((ops) => ops.at(-1)?._tag),
          ["Suspend", "Suspend"]
        )
        assert.strictEqual(engine.warnings().length, 1, engine.warnings().join("\n"))
        assert.match(
          engine.warnings()[0]!,
          /^Run run_1 of function "order" .* not durable: .* Use the `timeout` of the wait, race it with `Step\.sleep`/
        )
      }
    )
  }

  const quiet: Programs = {
    "not when the sleep has ended": Effect.andThen(
      Effect.timeout(Step.run("quick", Effect.yieldNow), "1 minute"),
      approval
    ),
    "not when the code of a step has left a sleep running": Effect.andThen(
      Step.run(
        "leave",
        Effect.asVoid(Effect.forkDetach(Effect.sleep("1 minute"), { startImmediately: true }))
      ),
      approval
    ),
    "not when a durable sleep races a wait": Effect.race(approval, Step.sleep("patience", "1 minute"))
  }
  for (const [which, program] of Object.entries(quiet)) {
    only(
      which,
      () => make({ id: "order", triggers: [] }, () => Effect.asVoid(program)),
      async ({ engine, fn }) => {
        assert.strictEqual((await engine.turn(fn))._tag, "Suspended")
        assert.deepStrictEqual(engine.warnings(), [])
      }
    )
  }
})

describe("the clock of a handler", () => {
  only(
    "shows the time of the worker's clock, and has the methods of that clock",
    () =>
      make({ id: "order", triggers: [] }, () =>
        Effect.gen(function* () {
          yield* TestClock.adjust("1 second")
          const nanos = yield* Clock.currentTimeNanos
          return [yield* Clock.currentTimeMillis, Number(nanos)]
        })
      ),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(engine.output, [1000, 1_000_000_000])
    }
  )
})
