/**
 * Reads that leave room for others. The database answers within the call, and a loop of such answers would keep from
 * happening what it looks for.
 */
import * as Effect from "effect/Effect"
import { clearImmediate, setImmediate } from "../RealTimers.ts"

/** Reads that may follow each other within one turn of the event loop. */
const IN_A_ROW = 64

export const nextTurn: Effect.Effect<void> = Effect.callback((resume) => {
  const turn = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(turn))
})

/** A read after a turn of the event loop. */
export const polite = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> => Effect.andThen(nextTurn, read)

let inARow = 0

/** A read at once, unless many have just been. For small ones: to wait for a turn takes longer than they do. */
export const prompt = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    if (inARow >= IN_A_ROW) return polite(read)
    if (inARow++ === 0) setImmediate(() => (inARow = 0))
    return read
  })
