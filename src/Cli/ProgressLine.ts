/** A line of progress on a terminal, which is removed at the end. Without a terminal nothing is printed. */
import * as Effect from "effect/Effect"

/** Replaces the line. */
export const showProgress = (text: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`\r${text}\u001B[K`)
}

/** Removes the line when the effect has ended. */
export const withProgressLine = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.ensuring(
    effect,
    Effect.sync(() => showProgress(""))
  )
