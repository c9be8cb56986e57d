import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import * as Alarm from "../../src/Execution/Alarm.ts"
import { type Activity, classifyActivity, Quiescence } from "../../src/Execution/Quiescence.ts"
import { settle } from "./ScriptedEngine.ts"

describe("the state of a turn, from its activity:", () => {
  /** The activity of a turn that waits for a sleep. */
  const waits: Activity = {
    closings: 0,
    heldOps: 0,
    heldCode: 0,
    deferred: 0,
    suspended: 1,
    shelved: 0,
    isSettled: true,
    isPausing: false,
    isWrappingUp: false
  }
  for (const [what, given, verdict] of [
    ["it waits, and does nothing else", {}, "quiet"],
    ["it waits for nothing", { suspended: 0 }, "busy"],
    ["a parallel call awaits its steps", { closings: 1 }, "busy"],
    ["the handler has not seen an outcome", { isSettled: false }, "busy"],
    ["a call waits for the journal", { heldOps: 1 }, "busy"],
    ["code waits for a report that is not durable", { heldCode: 1 }, "busy"],
    ["calls stay pending, and the turn waits for nothing", { suspended: 0, shelved: 1 }, "busy"],
    ["it wraps up, and only waits", { isWrappingUp: true }, "quiet"],
    ["it wraps up, and the handler wants code", { isWrappingUp: true, heldCode: 1 }, "release"],
    ["it wraps up, and a step's outcome is for another turn", { isWrappingUp: true, deferred: 1 }, "release"],
    [
      "it wraps up, and a parallel call awaits its steps",
      { isWrappingUp: true, heldCode: 1, closings: 1 },
      "busy"
    ],
    ["it wraps up, and a call waits for the journal", { isWrappingUp: true, heldOps: 1 }, "busy"],
    ["its run is to be paused, and it only waits", { isPausing: true }, "quiet"],
    ["its run is to be paused, and the handler wants a step", { isPausing: true, heldOps: 1 }, "release"],
    [
      "its run is to be paused, and the handler has not seen an outcome",
      { isPausing: true, heldOps: 1, isSettled: false },
      "busy"
    ]
  ] as ReadonlyArray<[string, Partial<Activity>, ReturnType<typeof classifyActivity>]>) {
    it(`${verdict}: ${what}`, () =>
      assert.strictEqual(classifyActivity({ ...waits, ...given }, false), verdict))
  }

  it("busy: code runs, or a report is on its way", () => {
    assert.strictEqual(classifyActivity(undefined, false), "busy")
  })

  it("quiet: calls stay pending in a turn that registers its compensations again", () => {
    assert.strictEqual(classifyActivity({ ...waits, suspended: 0, shelved: 1 }, true), "quiet")
    assert.strictEqual(classifyActivity({ ...waits, suspended: 0 }, true), "busy")
  })
})

describe("Quiescence", () => {
  const start = Effect.fnUntraced(function* (lingerMs: number) {
    const turn = { isQuiet: true, activityCount: 0, falls: 0, onQuiet: () => void turn.falls++ }
    const quiet = new Quiescence(turn, lingerMs, { alarm: yield* Alarm.make, clock: yield* Clock.Clock })
    return { turn, quiet }
  })
  const rest = Effect.promise(settle)

  it.effect("a turn without a linger is over when it is still quiet two turns of the event loop later", () =>
    Effect.gen(function* () {
      const { quiet, turn } = yield* start(0)

      quiet.check()
      quiet.check()

      assert.strictEqual(turn.falls, 0)
      yield* rest
      assert.strictEqual(turn.falls, 1)
    })
  )

  it.effect("an active turn is not checked", () =>
    Effect.gen(function* () {
      const { quiet, turn } = yield* start(0)
      turn.isQuiet = false

      quiet.check()
      turn.isQuiet = true
      yield* rest

      assert.strictEqual(turn.falls, 0)
    })
  )

  it.effect("activity between two checks delays the end", () =>
    Effect.gen(function* () {
      const { quiet, turn } = yield* start(0)

      quiet.check()
      turn.isQuiet = false
      yield* rest
      assert.strictEqual(turn.falls, 0)

      turn.isQuiet = true
      quiet.check()
      yield* rest
      assert.strictEqual(turn.falls, 1)
    })
  )

  it.effect("a turn is over after its linger and not before", () =>
    Effect.gen(function* () {
      const { quiet, turn } = yield* start(50)
      quiet.check()
      yield* rest

      yield* TestClock.adjust(49)
      yield* rest
      assert.strictEqual(turn.falls, 0)
      yield* TestClock.adjust(1)
      yield* rest
      assert.strictEqual(turn.falls, 1)
    })
  )

  it.effect("activity restarts the linger", () =>
    Effect.gen(function* () {
      const { quiet, turn } = yield* start(50)
      quiet.check()
      yield* rest
      yield* TestClock.adjust(40)

      turn.activityCount++
      quiet.check()
      yield* rest
      yield* TestClock.adjust(49)
      yield* rest
      assert.strictEqual(turn.falls, 0)

      yield* TestClock.adjust(1)
      yield* rest
      assert.strictEqual(turn.falls, 1)
    })
  )

  it.effect("unreported activity is found at the end of the linger", () =>
    Effect.gen(function* () {
      const { quiet, turn } = yield* start(50)
      quiet.check()
      yield* rest

      turn.activityCount++
      yield* TestClock.adjust(50)
      yield* rest
      assert.strictEqual(turn.falls, 0)

      yield* TestClock.adjust(50)
      yield* rest
      assert.strictEqual(turn.falls, 1)
    })
  )

  it.effect("a check during the linger, without activity, does not delay the end", () =>
    Effect.gen(function* () {
      const { quiet, turn } = yield* start(50)
      quiet.check()
      yield* rest
      yield* TestClock.adjust(40)

      quiet.check()
      yield* rest
      yield* TestClock.adjust(10)
      yield* rest

      assert.strictEqual(turn.falls, 1)
    })
  )

  it.effect("a turn that has ended in another way does not end again", () =>
    Effect.gen(function* () {
      const looking = yield* start(0)
      looking.quiet.check()
      looking.quiet.stop()
      const lingering = yield* start(50)
      lingering.quiet.check()
      yield* rest
      lingering.quiet.stop()

      yield* rest
      yield* TestClock.adjust(50)
      yield* rest

      assert.deepStrictEqual([looking.turn.falls, lingering.turn.falls], [0, 0])
    })
  )
})
