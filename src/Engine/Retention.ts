/** Deletes runs that ended long ago and records that have expired, in small transactions, so that nobody waits for it. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreService } from "./Store/Store.ts"

/** How long a run is kept after it has ended: 30 days by default; `Duration.infinity` keeps all. */
export const RunRetention = Context.Reference<Duration.Duration>("@ironflow/node/RunRetention", {
  defaultValue: () => Duration.days(30)
})

/** How much of each topic is kept: messages of 30 days, 256 MiB of data, by default. */
export const MessageRetention = Context.Reference<{
  readonly age: Duration.Duration
  readonly topicBytes: number
}>("@ironflow/node/MessageRetention", {
  defaultValue: () => ({ age: Duration.days(30), topicBytes: 256 * 1024 * 1024 })
})

/** How long a consumer group is kept that no member is connected to, unless somebody has configured or paused it. */
export const GROUP_RETENTION_MS = 30 * 24 * 60 * 60 * 1000

/** Runs in one transaction. */
const BATCH = 200

const EVERY = Duration.hours(1)

/** Deletes what is old now and every hour, until the scope ends. */
export const make = (
  store: StoreService,
  activeGroups: () => ReadonlyArray<number>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { age, topicBytes } = yield* MessageRetention
    const sweepMessages = Effect.gen(function* () {
      const now = store.settledNow()
      const storedBefore = now - Duration.toMillis(age)
      let { after } = yield* store.deleteOldMessages({ storedBefore, topicBytes }, BATCH)
      while (after !== undefined) {
        yield* Effect.sleep(10)
        ;({ after } = yield* store.deleteOldMessages({ storedBefore, topicBytes }, BATCH, after))
      }
      const groups = activeGroups()
      if (groups.length > 0) yield* store.touchGroups(groups)
      while ((yield* store.deleteAbandonedGroups(now - GROUP_RETENTION_MS, BATCH)) === BATCH) {
        yield* Effect.sleep(10)
      }
    })
    const keepMs = Duration.toMillis(yield* RunRetention)
    const sweep = Effect.gen(function* () {
      yield* sweepMessages

      while ((yield* store.deleteExpiredIdempotencyKeys(BATCH)) === BATCH) yield* Effect.sleep(10)
      while ((yield* store.deleteExpiredRecordings(BATCH)) === BATCH) yield* Effect.sleep(10)
      if (!Number.isFinite(keepMs)) return
      const endedBefore = store.settledNow() - keepMs
      let { after } = yield* store.deleteEndedRuns(endedBefore, BATCH)
      while (after !== undefined) {
        yield* Effect.sleep(10)
        ;({ after } = yield* store.deleteEndedRuns(endedBefore, BATCH, after))
      }
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
