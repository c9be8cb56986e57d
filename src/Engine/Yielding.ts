/**
 * Reads that yield to the event loop. SQLite answers synchronously: without a yield, a loop of reads would block all requests and
 * timers, even the one that the loop waits for.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { clearImmediate, setImmediate } from "../RealTimers.ts"

/** How many reads {@link yieldIfMany} makes within one turn of the event loop before it yields. */
const READS_PER_TURN = 64

export const yieldToEventLoop: Effect.Effect<void> = Effect.callback((resume) => {
  const turn = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(turn))
})

/** Reads in the next turn of the event loop. */
export const yieldFirst = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.andThen(yieldToEventLoop, read)

let readsInTurn = 0

/**
 * Reads at once, or in the next turn when there were already many reads in this turn. It is for small reads, which take less time
 * than the wait for a turn.
 */
export const yieldIfMany = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    if (readsInTurn >= READS_PER_TURN) return yieldFirst(read)
    if (readsInTurn++ === 0) setImmediate(() => (readsInTurn = 0))
    return read
  })

const pageReads = Semaphore.makeUnsafe(1)
const longLists = Semaphore.makeUnsafe(1)

/** Reads a page, which may be large. Each turn of the event loop reads one page, however many are requested at once. */
export const onePage = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  pageReads.withPermits(1)(yieldFirst(read))

/**
 * Collects a result from pages. `gather` reads at most `maxPages` pages. It is first called for one page, and returns `undefined`
 * when there are more. Then it is called again, without a limit, and reads from the first page on. These second calls run one at a
 * time, over all engines of the process, since they share the memory of the process. A caller that waits for its second call holds
 * no pages.
 */
export const gathered = <A, E>(
  gather: (maxPages: number) => Effect.Effect<A | undefined, E>
): Effect.Effect<A, E> =>
  Effect.flatMap(gather(1), (all) =>
    all !== undefined
      ? Effect.succeed(all)
      : longLists.withPermits(1)(
          Effect.flatMap(gather(Number.POSITIVE_INFINITY), (all) =>
            all === undefined
              ? Effect.die("The pages were not all read, although their number was not limited")
              : Effect.succeed(all)
          )
        )
  )
