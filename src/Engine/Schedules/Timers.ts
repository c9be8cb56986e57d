/**
 * A single timer for the whole engine, which is armed for the next due item. While nothing is due, it does not query the
 * database.
 */
import * as Layer from "effect/Layer"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Alarm from "../../Execution/Alarm.ts"
import type { StoreError } from "../../Errors.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import { RETRY_MS, StoreOutage } from "../Store/StoreOutage.ts"
import * as FireDue from "./FireDue.ts"

export interface Timers {
  /** Arms the timer, because something is due at `at`, in epoch milliseconds. */
  readonly arm: (at: number) => void
  /** Fires what is due now, and finds the next due time. Used when another engine has changed due times in an unknown way. */
  readonly fireDueNow: () => void
  /** Fires what is already due. From then on, fires each item when it is due. */
  readonly start: () => void
}

/** How often to check whether the clock of the machine was changed, in milliseconds. */
const WATCH_MS = 10_000

/** The smallest difference that counts as a change of the clock, in milliseconds. */
const MIN_JUMP_MS = 1000

/** Wall clock minus monotonic clock, in milliseconds. */
const clockOffset = (clock: Clock.Clock): number =>
  clock.currentTimeMillisUnsafe() - Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Fires due work as soon as the layer is built. Whoever listens to the commits of that work must be added to the store before. */
export const layer: Layer.Layer<never, never, Store> = Layer.effectDiscard(
  Effect.gen(function* () {
    const store = yield* Store
    const timers = yield* make(store)
    const stop = store.onCommit(({ dueAt, stale }) => {
      if (stale.has("due")) timers.fireDueNow()
      else if (dueAt < Number.POSITIVE_INFINITY) timers.arm(dueAt)
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    timers.start()
  })
)

/** Makes timers that end with the scope. */
export const make = (store: StoreService): Effect.Effect<Timers, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const alarm = yield* Alarm.make
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const outage = new StoreOutage("Timers cannot be fired", "Timers can be fired again")
    let armedFor = Number.POSITIVE_INFINITY
    let cancel: (() => void) | undefined
    let isFiring = false
    let isClosed = false
    let dueWhileFiring = Number.POSITIVE_INFINITY

    const arm = (at: number): void => {
      if (isFiring) {
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
      isFiring = true
      runFork(
        Effect.matchEffect(FireDue.fireDue(store), {
          onSuccess: ({ failed, nextDueAt }) =>
            failed === undefined
              ? Effect.andThen(
                  outage.succeeded(),
                  Effect.sync(() => rearm(nextDueAt))
                )
              : tryAgain(failed),
          onFailure: (error) => tryAgain(error)
        })
      )
    }

    const tryAgain = (error: StoreError): Effect.Effect<void> =>
      // the store may have been closed in the meantime
      isClosed
        ? Effect.void
        : Effect.andThen(
            outage.failed(error),
            Effect.sync(() => {
              // with `STORE_LOCKED`, another engine has taken over the database and fires what is due: the timer stays off
              if (error.code !== "STORE_LOCKED") rearm(clock.currentTimeMillisUnsafe() + RETRY_MS)
            })
          )

    const rearm = (nextDueAt: number): void => {
      const next = Math.min(nextDueAt, dueWhileFiring)
      isFiring = false
      dueWhileFiring = Number.POSITIVE_INFINITY
      if (next < Number.POSITIVE_INFINITY) arm(next)
    }

    let offset = clockOffset(clock)
    // `setInterval`, and not a timer of `clock`: that timer would not notice that `clock` itself was changed
    const watch = setInterval(() => {
      const last = offset
      offset = clockOffset(clock)
      if (Math.abs(offset - last) < MIN_JUMP_MS || isFiring) return
      cancel?.()
      ring()
    }, WATCH_MS)
    watch.unref()

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        clearInterval(watch)
        cancel?.()
        isClosed = true
      })
    )
    return { arm, fireDueNow: () => arm(clock.currentTimeMillisUnsafe()), start: ring }
  })
