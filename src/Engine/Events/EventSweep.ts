/** Deletes events that are too old, or beyond the size limit, once nothing needs them any more. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreError } from "../../Errors.ts"
import { deleteOldEvents, measureEvents } from "../Log/EventRetention.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import { deleteOldRuns } from "../Runs/RunSweep.ts"
import type { StoreService } from "../Store/Store.ts"
import { everyHour, untilNoPlaceLeft } from "../Sweep.ts"

/** How much of the log is kept; by default all of it. */
export const EventRetention = Context.Reference<{
  readonly age: Duration.Duration
  /** How many bytes of data all events outside of entity streams may have. */
  readonly bytes: number
}>("@ironflow/node/EventRetention", {
  defaultValue: () => ({ age: Duration.infinity, bytes: Number.POSITIVE_INFINITY })
})

/**
 * Deletes old events every hour, until the scope ends. `deliveredTo` returns, by environment, the position up to which all live
 * subscriptions have got their items.
 */
export const make = (
  store: StoreService,
  deliveredTo: () => { readonly [environment: string]: number }
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(EventRetention, ({ age, bytes }) => {
    const keepMs = Duration.toMillis(age)
    if (!Number.isFinite(keepMs) && !Number.isFinite(bytes)) return Effect.void
    return everyHour(
      "Old events",
      // old runs are deleted first, because events are kept as long as runs need them
      Effect.flatMap(Effect.andThen(deleteOldRuns(store), excessBefore(store, bytes)), (excessBefore) =>
        untilNoPlaceLeft((after: number | undefined) =>
          store.write(
            deleteOldEvents(
              // JSON has no infinity
              {
                keepMs: Math.min(keepMs, Number.MAX_SAFE_INTEGER),
                excessBefore,
                deliveredPositions: deliveredTo()
              },
              after
            )
          )
        )
      )
    )
  })

/**
 * The position before which the events exceed the size limit: the sizes are added up from the newest event to the oldest. 0 if
 * all events together are within the limit.
 */
const excessBefore = (store: StoreService, most: number): Effect.Effect<number, StoreError> =>
  Effect.gen(function* () {
    if (!Number.isFinite(most)) return 0
    let bytesLeft = most
    let before = Number.MAX_SAFE_INTEGER
    while (true) {
      const slice: Effect.Success<ReturnType<typeof measure>> = yield* measure(store, before, bytesLeft)
      if (slice === undefined) return 0
      if (slice.excessBefore !== undefined) return slice.excessBefore
      bytesLeft = slice.bytesLeft
      before = slice.before
      yield* yieldToEventLoop
    }
  })

const measure = (store: StoreService, before: number, left: number) => store.read(measureEvents(before, left))
