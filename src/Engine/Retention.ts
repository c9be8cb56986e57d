/** Deletes runs that ended long ago and records that have expired, in small transactions, so that nobody waits for it. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreService } from "./Store/Store.ts"

/** How long a run is kept after it has ended: 30 days by default; `Duration.infinity` keeps all. */
export const RunRetention = Context.Reference<Duration.Duration>("@ironflow/node/RunRetention", {
  defaultValue: () => Duration.days(30)
})

/** Runs in one transaction. */
const BATCH = 200

const EVERY = Duration.hours(1)

/** Deletes what is old now and every hour, until the scope ends. */
export const make = (store: StoreService): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const keepMs = Duration.toMillis(yield* RunRetention)
    const sweep = Effect.gen(function* () {
      while ((yield* store.deleteExpiredRecordings(BATCH)) === BATCH) yield* Effect.sleep(10)
      if (!Number.isFinite(keepMs)) return
      const endedBefore = (yield* Clock.currentTimeMillis) - keepMs
      while ((yield* store.deleteEndedRuns(endedBefore, BATCH)) === BATCH) yield* Effect.sleep(10)
    })
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.andThen(
          Effect.catch(sweep, (error) =>
            Effect.logWarning("What is old could not be deleted; trying again in an hour", error)
          ),
          Effect.sleep(EVERY)
        )
      )
    )
  })
