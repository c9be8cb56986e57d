/** Timeouts that allow for a busy process. */
import * as Effect from "effect/Effect"

/** Number of event loop turns in which pending input is read before a timeout counts. */
const POLL_TURNS = 3

/** Lets pending input be read: in a process that was busy, timers fire before I/O. */
export const readPendingInput: Effect.Effect<void> = Effect.repeat(
  Effect.callback<void>((resume) => {
    const turn = setImmediate(() => resume(Effect.void))
    return Effect.sync(() => clearImmediate(turn))
  }),
  { times: POLL_TURNS - 1 }
)

/**
 * Number of parts into which a timeout is divided. A process that is blocked for longer than one part loses only that part of the
 * time, because its request may be sent only afterwards.
 */
export const TIMEOUT_PARTS = 4

/**
 * Ends with `orElse` after `ms`. A blocked process loses at most one part of that time per block, and pending input is read
 * first.
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
