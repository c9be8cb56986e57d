/** Timers on a store that is unavailable for a while. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/testing/TestClock"
import { StoreError } from "../../src/Errors.ts"
import type { StoreService } from "../../src/Engine/Store/Store.ts"
import { StoreOutage } from "../../src/Engine/Store/StoreOutage.ts"
import * as Timers from "../../src/Engine/Schedules/Timers.ts"

it.effect("timers that cannot be fired are retried every second, and the problem is logged once", () => {
  const logged: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => void logged.push(`${logLevel} ${String(message)}`))
  return Effect.gen(function* () {
    let callCount = 0
    const full = new StoreError("Cannot fire timers: the disk is full", {
      code: "STORE_UNAVAILABLE",
      retryable: true
    })
    // timers use no other method of the store
    const store = {
      read: () => Effect.succeed(["default"]),
      write: ({ name }: { readonly name: string }) =>
        Effect.suspend((): Effect.Effect<number, StoreError> => {
          if (name === "nextDueAt") callCount++
          const isFull = name === "nextDueAt" ? callCount <= 3 : callCount < 3
          return isFull
            ? Effect.fail(full)
            : Effect.succeed(name === "nextDueAt" ? Number.POSITIVE_INFINITY : 0)
        })
    } as unknown as StoreService
    const timers = yield* Timers.make(store)

    timers.start()
    yield* TestClock.adjust("10 seconds")

    assert.strictEqual(callCount, 4)
    assert.deepStrictEqual(logged, [
      "Warn Timers cannot be fired: Cannot fire timers: the disk is full. Trying again every second",
      "Info Timers can be fired again"
    ])
  }).pipe(Effect.scoped, Effect.provide(Logger.layer([logger])))
})

it.effect("a store that stays away is an error after five seconds, which is logged once", () => {
  const logged: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => void logged.push(`${logLevel} ${String(message)}`))
  return Effect.gen(function* () {
    const unreachable = new StoreError("Cannot reach Postgres", {
      code: "STORE_UNAVAILABLE",
      retryable: true
    })
    const outage = new StoreOutage("Timers cannot be fired", "Timers can be fired again")

    for (let second = 0; second < 20; second++) {
      yield* outage.failed(unreachable)
      yield* TestClock.adjust("1 second")
    }
    yield* outage.succeeded()
    yield* outage.failed(unreachable)
    yield* outage.succeeded()

    const warning = "Warn Timers cannot be fired: Cannot reach Postgres. Trying again every second"
    assert.deepStrictEqual(logged, [
      warning,
      "Error Timers cannot be fired, for 5 s by now: Cannot reach Postgres. Trying again every second",
      "Info Timers can be fired again",
      warning,
      "Info Timers can be fired again"
    ])
  }).pipe(Effect.provide(Logger.layer([logger])))
})
