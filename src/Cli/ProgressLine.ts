/** What is said on a terminal while something goes on: one line, which is gone afterwards. Where nobody looks nothing is said. */
import * as Effect from "effect/Effect"

/** Says how far it is, in place of what was said before. */
export const showProgress = (text: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`\r${text}\u001B[K`)
}

/** Takes away what was told, when it has ended. */
export const withProgressLine = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.ensuring(
    effect,
    Effect.sync(() => showProgress(""))
  )
