/** The time of a test engine as Effect's `TestClock`. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { TestClock } from "effect/testing/TestClock"
import { ValidationError } from "../Errors.ts"
import type { TestError } from "./TestError.ts"
import { show } from "../Show.ts"

/**
 * `TestClock.adjust` and `setTime` of a test that has this clock let the engine's time pass, from one due time to the next, so
 * that all that is due until then has happened, whatever it led to. What they cannot do, and what `advance` fails with, are
 * defects: the types of Effect leave no room for failures. `outer` is the clock that the test was on before.
 */
export const testClock = (
  clock: Clock.Clock,
  outer: Clock.Clock,
  advance: (ms: number) => Effect.Effect<void, TestError>
): TestClock => {
  const pass = (ms: number, asked: unknown): Effect.Effect<void> =>
    Number.isFinite(ms) && ms >= 0
      ? Effect.orDie(advance(ms))
      : Effect.die(
          new ValidationError(
            `The time of a test engine goes on, and ends somewhere: it cannot pass to ${show(asked)}`
          )
        )
  return {
    ...clock,
    adjust: (duration) =>
      Effect.suspend(() => pass(Duration.toMillis(Duration.fromInputUnsafe(duration)), duration)),
    setTime: (timestamp) =>
      Effect.suspend(() => pass(timestamp - clock.currentTimeMillisUnsafe(), timestamp)),
    withLive: isTestClock(outer) ? outer.withLive : Effect.provideService(Clock.Clock, outer)
  }
}

const isTestClock = (clock: Clock.Clock): clock is TestClock => "withLive" in clock
