/** Time limits that are fair to a process that was too busy to look. */
import * as Effect from "effect/Effect"

/** Turns of the event loop, in each of which what has come in is read. */
const LOOKS = 3

/** Reads what has come in: timers of a process that was busy fire before that. */
export const lookAgain: Effect.Effect<void> = Effect.repeat(
  Effect.callback<void>((resume) => {
    const turn = setImmediate(() => resume(Effect.void))
    return Effect.sync(() => clearImmediate(turn))
  }),
  { times: LOOKS - 1 }
)

/**
 * Into so many parts a time limit is divided. A process that is busy for longer than one of them loses that one, and not what it
 * could not have read in the others: what it asks may not even have gone out before it is free again.
 */
export const PARTS = 4

/** Ends with `orElse` when the effect takes longer than `ms` of a process that is not busy, counted until what has come by then is read. */
export const inTime = <A, E, R, B, E2>(
  effect: Effect.Effect<A, E, R>,
  ms: number,
  orElse: () => Effect.Effect<B, E2>
): Effect.Effect<A | B, E | E2, R> =>
  Effect.raceFirst(
    effect,
    Effect.sleep(ms / PARTS).pipe(
      Effect.repeat({ times: PARTS - 1 }),
      Effect.andThen(lookAgain),
      Effect.andThen(Effect.suspend(orElse))
    )
  )
