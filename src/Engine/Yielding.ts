/**
 * Reads that yield to the event loop. The database answers within the call: without a yield, a loop of reads would keep out the
 * requests and timers that it waits for.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { clearImmediate, setImmediate } from "../RealTimers.ts"

/** Reads that may follow each other within one turn of the event loop. */
const IN_A_ROW = 64

export const nextTurn: Effect.Effect<void> = Effect.callback((resume) => {
  const turn = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(turn))
})

/** A read after a turn of the event loop. */
export const yieldFirst = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.andThen(nextTurn, read)

let inARow = 0

/** A read at once, unless many have just been. For small ones: to wait for a turn takes longer than they do. */
export const yieldIfMany = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    if (inARow >= IN_A_ROW) return yieldFirst(read)
    if (inARow++ === 0) setImmediate(() => (inARow = 0))
    return read
  })

const pages = Semaphore.makeUnsafe(1)
const answers = Semaphore.makeUnsafe(1)

/** A read of a page, which may be large: one in a turn of the event loop, however many are asked for at once. */
export const onePage = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  pages.withPermits(1)(yieldFirst(read))

/**
 * What is put together of pages: `gather` gathers so many at most, and gives `undefined` when that is not all. What takes more than
 * one page is done for one caller at a time, in all engines of the process, whose memory it is; and begins anew, so that those who wait
 * hold nothing.
 */
export const gathered = <A, E>(
  gather: (most: number) => Effect.Effect<A | undefined, E>
): Effect.Effect<A, E> =>
  Effect.flatMap(gather(1), (all) =>
    all !== undefined
      ? Effect.succeed(all)
      : answers.withPermits(1)(
          Effect.flatMap(gather(Number.POSITIVE_INFINITY), (all) =>
            all === undefined ? Effect.die("All pages are not all there is") : Effect.succeed(all)
          )
        )
  )
