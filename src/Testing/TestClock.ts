/** Effect's `TestClock` with the time of a test engine. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { TestClock } from "effect/testing/TestClock"
import { ValidationError } from "../Errors.ts"
import type { TestError } from "./TestError.ts"
import { show } from "../Show.ts"

/**
 * Makes a clock whose `TestClock.adjust` and `setTime` advance the engine's time. Time goes from one due time to the
 * next, and everything that is due happens on the way. `outer` is the clock that the test has used before. Invalid
 * arguments and failures of `advance` become defects, since the types of `TestClock` allow no failures.
 */
export const testClock = (
  clock: Clock.Clock,
  outer: Clock.Clock,
  advance: (ms: number) => Effect.Effect<void, TestError>
): TestClock => {
  const passTime = (ms: number, problem: () => string): Effect.Effect<void> =>
    Number.isFinite(ms) && ms >= 0
      ? Effect.orDie(advance(ms))
      : Effect.suspend(() => Effect.die(new ValidationError(problem())))
  return {
    ...clock,
    adjust: (duration) =>
      Effect.suspend(() =>
        passTime(
          Duration.toMillis(Duration.fromInputUnsafe(duration)),
          () =>
            `TestClock.adjust() needs a duration that is not negative and not infinite, got ${show(duration)}`
        )
      ),
    setTime: (timestamp) =>
      Effect.suspend(() => {
        const now = clock.currentTimeMillisUnsafe()
        return passTime(timestamp - now, () =>
          Number.isFinite(timestamp)
            ? `TestClock.setTime() cannot go back: the time is ${dateOf(now)}, and the given time is ${dateOf(timestamp)}`
            : `TestClock.setTime() needs a time in milliseconds, got ${show(timestamp)}`
        )
      }),
    withLive: isTestClock(outer) ? outer.withLive : Effect.provideService(Clock.Clock, outer)
  }
}

/** The time as an ISO date, or as a number if it is outside the range of dates. */
const dateOf = (ms: number): string => {
  const date = new Date(ms)
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString()
}

const isTestClock = (clock: Clock.Clock): clock is TestClock => "withLive" in clock
