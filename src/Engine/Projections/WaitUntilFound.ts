/** Waiting without polling: a waiter looks again when something was announced that it may wait for. */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { NamedSignals } from "../NamedSignals.ts"

/** The name under which growth of the log is announced; no projection has it. */
export const LOG = ""

/** Looks again whenever one of the names is announced, until `look` finds something; `undefined` at the timeout. */
export type WaitUntilFound = <A, E>(
  names: ReadonlyArray<string>,
  waitMs: number,
  look: Effect.Effect<A | undefined, E>,
  /** When to look again in any case, epoch milliseconds. */
  until?: () => number
) => Effect.Effect<A | undefined, E>

export const makeWaitUntilFound =
  (signals: NamedSignals): WaitUntilFound =>
  (names, waitMs, look, until = () => Number.POSITIVE_INFINITY) =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      const deadline = clock.currentTimeMillisUnsafe() + waitMs
      while (true) {
        // listen first, then look: it may happen in between
        const happened = Deferred.makeUnsafe<void>()
        const stop = signals.listen(names, () => void Deferred.doneUnsafe(happened, Exit.void))
        const found = yield* Effect.ensuring(
          Effect.flatMap(look, (found) => {
            if (found !== undefined) return Effect.succeed(found)
            const restMs = Math.min(deadline, until()) - clock.currentTimeMillisUnsafe()
            if (restMs <= 0) return Effect.succeed(undefined)
            return Number.isFinite(restMs)
              ? Effect.as(Effect.raceFirst(Deferred.await(happened), Effect.sleep(restMs)), undefined)
              : Effect.as(Deferred.await(happened), undefined)
          }),
          Effect.sync(stop)
        )
        if (found !== undefined) return found
        if (clock.currentTimeMillisUnsafe() >= deadline) return undefined
      }
    })
