/**
 * Reads that yield to the event loop. The database answers synchronously: without a yield, a loop of reads would block requests
 * and timers that it may depend on.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { clearImmediate, setImmediate } from "../RealTimers.ts"

/** Maximum number of reads in a row within one turn of the event loop. */
const IN_A_ROW = 64

export const yieldToEventLoop: Effect.Effect<void> = Effect.callback((resume) => {
  const turn = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(turn))
})

/** Reads in the next turn of the event loop. */
export const yieldFirst = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.andThen(yieldToEventLoop, read)

let inARow = 0

/**
 * Reads at once, or in the next turn when many reads came just before. It is for small reads, which take less time than the wait
 * for a turn.
 */
export const yieldIfMany = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    if (inARow >= IN_A_ROW) return yieldFirst(read)
    if (inARow++ === 0) setImmediate(() => (inARow = 0))
    return read
  })

const pages = Semaphore.makeUnsafe(1)
const answers = Semaphore.makeUnsafe(1)

/** Reads a page, which may be large. Each turn of the event loop reads one page, however many are requested at once. */
export const onePage = <A, E>(read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  pages.withPermits(1)(yieldFirst(read))

/**
 * Collects the result of several pages: `gather` reads at most the given number of pages, and returns `undefined` when that is
 * not everything. Then it is called again, without a limit: for one caller at a time, over all engines of the process, because
 * they share its memory. A waiting caller holds no pages, because its second call begins anew.
 */
export const gathered = <A, E>(
  gather: (most: number) => Effect.Effect<A | undefined, E>
): Effect.Effect<A, E> =>
  Effect.flatMap(gather(1), (all) =>
    all !== undefined
      ? Effect.succeed(all)
      : answers.withPermits(1)(
          Effect.flatMap(gather(Number.POSITIVE_INFINITY), (all) =>
            all === undefined
              ? Effect.die("The pages were not all read, although their number was not limited")
              : Effect.succeed(all)
          )
        )
  )
