/** One timer for the whole engine, armed for the next thing that is due; an idle engine asks the database nothing. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Alarm from "../Execution/Alarm.ts"
import type { StoreService } from "./Store/Store.ts"
import { RETRY_MS, StoreOutage } from "./StoreOutage.ts"

export interface Timers {
  /** Something is due at `at` (epoch milliseconds): fire it then. */
  readonly arm: (at: number) => void
  /** Fires what is due already, and then everything when it is due. */
  readonly start: () => void
}

/** Timers that end with the scope. */
export const make = (store: StoreService): Effect.Effect<Timers, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const alarm = yield* Alarm.make
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const outage = new StoreOutage("Timers cannot be fired", "Timers are fired again")
    let armedFor = Number.POSITIVE_INFINITY
    let cancel: (() => void) | undefined
    let firing = false
    let dueWhileFiring = Number.POSITIVE_INFINITY

    const arm = (at: number): void => {
      if (firing) {
        dueWhileFiring = Math.min(dueWhileFiring, at)
        return
      }
      if (at >= armedFor) return
      cancel?.()
      armedFor = at
      cancel = alarm.at(at, ring)
    }

    const ring = (): void => {
      armedFor = Number.POSITIVE_INFINITY
      cancel = undefined
      firing = true
      runFork(
        Effect.matchEffect(store.fireDue(), {
          onSuccess: ({ nextDueAt }) =>
            Effect.andThen(
              outage.succeeded(),
              Effect.sync(() => rearm(nextDueAt))
            ),
          onFailure: (error) =>
            Effect.andThen(
              outage.failed(error),
              Effect.sync(() => rearm(clock.currentTimeMillisUnsafe() + RETRY_MS))
            )
        })
      )
    }

    const rearm = (nextDueAt: number): void => {
      const next = Math.min(nextDueAt, dueWhileFiring)
      firing = false
      dueWhileFiring = Number.POSITIVE_INFINITY
      if (next < Number.POSITIVE_INFINITY) arm(next)
    }

    yield* Effect.addFinalizer(() => Effect.sync(() => cancel?.()))
    return { arm, start: ring }
  })
