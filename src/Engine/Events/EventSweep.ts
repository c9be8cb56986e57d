/** Deletes old events that nothing needs any more: those beyond an age, and those that make the log exceed a size. */
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
 * Deletes old events every hour, until the scope ends. `deliveredPositions` returns, by environment, the position up to which all
 * open subscriptions have received their items.
 */
export const make = (
  store: StoreService,
  deliveredPositions: () => { readonly [environment: string]: number }
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(EventRetention, ({ age, bytes }) => {
    const keepMs = Duration.toMillis(age)
    if (!Number.isFinite(keepMs) && !Number.isFinite(bytes)) return Effect.void
    return everyHour(
      "Old events",
      // old runs are deleted first, because events are kept as long as runs need them
      Effect.flatMap(Effect.andThen(deleteOldRuns(store), findExcess(store, bytes)), (excessBefore) =>
        untilNoPlaceLeft((after: number | undefined) =>
          store.write(
            deleteOldEvents(
              {
                // not infinity, because the arguments of a program may become JSON
                keepMs: Math.min(keepMs, Number.MAX_SAFE_INTEGER),
                excessBefore,
                deliveredPositions: deliveredPositions()
              },
              after
            )
          )
        )
      )
    )
  })

/**
 * Adds up the sizes of events from the newest to the oldest, and returns the position of the oldest event that still fits within
 * the limit. Returns 0 if all events together fit.
 */
const findExcess = (store: StoreService, maxBytes: number): Effect.Effect<number, StoreError> =>
  Effect.gen(function* () {
    if (!Number.isFinite(maxBytes)) return 0
    let bytesLeft = maxBytes
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

const measure = (store: StoreService, before: number, bytesAllowed: number) =>
  store.read(measureEvents(before, bytesAllowed))
