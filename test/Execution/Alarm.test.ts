import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { setImmediate } from "node:timers/promises"
import * as Alarm from "../../src/Execution/Alarm.ts"
import { Heap, type Ranked } from "../../src/Execution/Heap.ts"

describe("Alarm", () => {
  it.effect("calls in the order of their times, each once, whatever the order in which they were set", () =>
    Effect.gen(function* () {
      const alarm = yield* Alarm.make
      const rung: Array<number> = []
      for (const at of [300, 100, 200, 100]) alarm.at(at, () => rung.push(at))

      yield* TestClock.adjust(99)
      assert.deepStrictEqual(rung, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(rung, [100, 100])
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(rung, [100, 100, 200, 300])
      yield* TestClock.adjust(10_000)
      assert.strictEqual(rung.length, 4)
    })
  )

  it.effect("an alarm for a past time rings as soon as possible", () =>
    Effect.gen(function* () {
      const alarm = yield* Alarm.make
      yield* TestClock.adjust(1000)
      const rung: Array<string> = []
      alarm.at(5, () => rung.push("past"))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(rung, ["past"])
    })
  )

  it.effect("a cancelled alarm does not ring, and later ones do", () =>
    Effect.gen(function* () {
      const alarm = yield* Alarm.make
      const rung: Array<string> = []
      const cancel = alarm.at(100, () => rung.push("first"))
      alarm.at(200, () => rung.push("second"))
      cancel()
      cancel()
      yield* TestClock.adjust(200)
      assert.deepStrictEqual(rung, ["second"])
      cancel()
    })
  )

  it.effect("a callback may set and cancel other alarms", () =>
    Effect.gen(function* () {
      const alarm = yield* Alarm.make
      const rung: Array<string> = []
      const cancel = alarm.at(20, () => rung.push("cancelled"))
      alarm.at(10, () => {
        cancel()
        alarm.at(15, () => rung.push("set from within"))
      })
      yield* TestClock.adjust(10)
      yield* TestClock.adjust(10)
      assert.deepStrictEqual(rung, ["set from within"])
    })
  )

  it.effect("an alarm in the far future does not ring early", () =>
    Effect.gen(function* () {
      const alarm = yield* Alarm.make
      const rung: Array<string> = []
      const year = 365 * 86_400_000
      alarm.at(year, () => rung.push("year"))
      yield* TestClock.adjust(year - 1)
      assert.deepStrictEqual(rung, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(rung, ["year"])
    })
  )

  it.effect("nothing rings after its scope has closed", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const alarm = yield* Scope.provide(Alarm.make, scope)
      const rung: Array<string> = []
      alarm.at(10, () => rung.push("before"))
      yield* Scope.close(scope, Exit.void)
      alarm.at(10, () => rung.push("after"))
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(rung, [])
    })
  )

  it.live("cancelled alarms leave no timer, in either order", () =>
    Effect.gen(function* () {
      let timers = 0
      const clock = yield* Clock.Clock
      // the test runner has timers in this process too, so only those of this clock are counted
      const counting: Clock.Clock = Object.create(clock, {
        sleep: {
          value: (duration: Duration.Duration) =>
            Effect.acquireUseRelease(
              Effect.sync(() => timers++),
              () => clock.sleep(duration),
              () => Effect.sync(() => timers--)
            )
        }
      })
      const after = yield* Effect.provideService(Alarm.makeScheduleTimeout, Clock.Clock, counting)
      const cancel = [after(60_000, () => undefined), after(90_000, () => undefined)]
      assert.strictEqual(timers, 1)
      for (const one of cancel) one()
      // the timer is cleared at the end of the turn of the event loop, perhaps of the next one
      yield* Effect.promise(() => setImmediate().then(() => setImmediate()))
      assert.strictEqual(timers, 0)
      after(60_000, () => undefined)
      assert.strictEqual(timers, 1)
    })
  )
})

describe("Heap", () => {
  it("returns its entries in order, also when some are removed", () => {
    // a fixed generator gives the same numbers in every run
    let seed = 42
    const random = (below: number) => {
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed % below
    }
    for (let round = 0; round < 50; round++) {
      const heap = new Heap<Ranked>()
      const entries = Array.from({ length: 60 }, (): Ranked => ({ rank: random(30), position: -1 }))
      for (const entry of entries) heap.add(entry)
      const removed = new Set(entries.filter(() => random(3) === 0))
      for (const entry of removed) heap.remove(entry)
      for (const entry of removed) heap.remove(entry)

      const out: Array<number> = []
      for (let first = heap.peek(); first !== undefined; first = heap.peek()) {
        heap.remove(first)
        out.push(first.rank)
      }
      const expected = entries.filter((entry) => !removed.has(entry)).map(({ rank }) => rank)
      assert.deepStrictEqual(
        out,
        expected.toSorted((a, b) => a - b)
      )
      assert.strictEqual(heap.size, 0)
    }
  })

  it("keeps no removed entries", () => {
    const heap = new Heap<Ranked>()
    for (let i = 0; i < 10_000; i++) {
      const entry: Ranked = { rank: i, position: -1 }
      heap.add(entry)
      heap.remove(entry)
    }
    assert.strictEqual(heap.size, 0)
  })
})
