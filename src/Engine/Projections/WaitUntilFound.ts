/** Lets a caller wait without polling: the caller looks again whenever one of the names for which it waits is announced. */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { NamedSignals } from "../NamedSignals.ts"

/** The name under which growth of the log is announced. No projection has this name. */
export const LOG = ""

/**
 * Runs `find` now, and again whenever one of the names is announced, until `find` returns something. Returns `undefined` at the
 * timeout.
 */
export type WaitUntilFound = <A, E>(
  names: ReadonlyArray<string>,
  waitMs: number,
  find: Effect.Effect<A | undefined, E>,
  /** Returns the time, in epoch milliseconds, at which to look again even if no name is announced. */
  nextLookAt?: () => number
) => Effect.Effect<A | undefined, E>

export const makeWaitUntilFound =
  (signals: NamedSignals): WaitUntilFound =>
  (names, waitMs, find, nextLookAt = () => Number.POSITIVE_INFINITY) =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      const deadline = clock.currentTimeMillisUnsafe() + waitMs
      while (true) {
        // listens before `find` runs, because the announcement may come in between
        const announced = Deferred.makeUnsafe<void>()
        const stop = signals.listen(names, () => void Deferred.doneUnsafe(announced, Exit.void))
        const found = yield* Effect.ensuring(
          Effect.flatMap(find, (found) => {
            if (found !== undefined) return Effect.succeed(found)
            const leftMs = Math.min(deadline, nextLookAt()) - clock.currentTimeMillisUnsafe()
            if (leftMs <= 0) return Effect.succeed(undefined)
            return Number.isFinite(leftMs)
              ? Effect.as(Effect.raceFirst(Deferred.await(announced), Effect.sleep(leftMs)), undefined)
              : Effect.as(Deferred.await(announced), undefined)
          }),
          Effect.sync(stop)
        )
        if (found !== undefined) return found
        if (clock.currentTimeMillisUnsafe() >= deadline) return undefined
      }
    })
