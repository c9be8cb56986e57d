/** Effect's `TestClock` with the time of a test engine. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { TestClock } from "effect/testing/TestClock"
import { ValidationError } from "../Errors.ts"
import type { TestError } from "./TestError.ts"
import { show } from "../Show.ts"

/**
 * Makes a clock whose `TestClock.adjust` and `setTime` advance the engine's time. Time goes from one due time
 * to the next, and all that is due happens, with its consequences. `outer` is the clock that the test had
 * before. Unsupported operations, and failures of `advance`, become defects, since the types of Effect allow
 * no failures there.
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
            `The time of a test engine only moves forward, within the range of dates: it cannot move to ${show(asked)}`
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
