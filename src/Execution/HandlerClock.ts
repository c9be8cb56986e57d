/**
 * The clock of an Effect handler. It reports sleeps outside of steps, since such sleeps are not durable: they end with
 * the turn.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { StepAttempt } from "../Step.ts"

/**
 * Makes the clock. `onSleep` is called with 1 when a sleep outside of steps begins, and with -1 when it ends.
 */
export const handlerClock = (clock: Clock.Clock, onSleep: (change: 1 | -1) => void): Clock.Clock => ({
  // keeps all other members of the clock, such as the methods of a test clock
  ...clock,
  currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
  currentTimeMillis: clock.currentTimeMillis,
  currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
  currentTimeNanos: clock.currentTimeNanos,
  monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
  monotonicTimeNanos: clock.monotonicTimeNanos,
  sleep: (duration) =>
    Effect.withFiber((fiber) => {
      // this sleep is inside of a step: the code of a step inherits the clock of its handler
      if (Context.getOrUndefined(fiber.context, StepAttempt) !== undefined) return clock.sleep(duration)
      onSleep(1)
      return Effect.ensuring(
        clock.sleep(duration),
        Effect.sync(() => onSleep(-1))
      )
    })
})
