/** Timeouts that allow for times in which the process is blocked. */
import * as Effect from "effect/Effect"

/** How many times the event loop goes round, and reads pending input, before a timeout counts. */
const POLL_PASSES = 3

/** Lets pending input be read. After a time in which the process was blocked, timers fire before input is read. */
export const readPendingInput: Effect.Effect<void> = Effect.repeat(
  Effect.callback<void>((resume) => {
    const immediate = setImmediate(() => resume(Effect.void))
    return Effect.sync(() => clearImmediate(immediate))
  }),
  { times: POLL_PASSES - 1 }
)

/**
 * Into how many parts a timeout is divided. While the process is blocked, at most one part of the timeout passes,
 * however long the process is blocked: perhaps the request is sent only afterwards.
 */
export const TIMEOUT_PARTS = 4

/**
 * Ends with `orElse` after `ms` milliseconds, unless the effect ends first. Each time that the process is
 * blocked, at most one part of the timeout passes. Before the timeout counts, pending input is read.
 */
export const timeoutOrElse = <A, E, R, B, E2>(
  effect: Effect.Effect<A, E, R>,
  ms: number,
  orElse: () => Effect.Effect<B, E2>
): Effect.Effect<A | B, E | E2, R> =>
  Effect.raceFirst(
    effect,
    Effect.sleep(ms / TIMEOUT_PARTS).pipe(
      Effect.repeat({ times: TIMEOUT_PARTS - 1 }),
      Effect.andThen(readPendingInput),
      Effect.andThen(Effect.suspend(orElse))
    )
  )
