/** Deletes runs that ended long ago, and expired audit records. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreError } from "../../Errors.ts"
import type { StoreService } from "../Store/Store.ts"
import { BATCH, everyHour, untilBatchNotFull, untilNoPlaceLeft } from "../Sweep.ts"
import { deleteExpiredRecords } from "./RunAudit.ts"
import { deleteEndedRuns } from "./RunRetention.ts"

/**
 * How long a run is kept after it ends, unless its function has a retention of its own: 30 days by default. `Duration.infinity`
 * keeps all runs.
 */
export const RunRetention = Context.Reference<Duration.Duration>("@ironflow/node/RunRetention", {
  defaultValue: () => Duration.days(30)
})

/**
 * Deletes the runs that are too old now. Needed even if the engine keeps all runs, because functions may have a retention of
 * their own.
 */
export const deleteOldRuns = (store: StoreService): Effect.Effect<void, StoreError> =>
  Effect.flatMap(RunRetention, (retention) => {
    const keepMs = Duration.toMillis(retention)
    return untilNoPlaceLeft((after: number | undefined) => store.write(deleteEndedRuns(keepMs, BATCH, after)))
  })

/** Deletes old runs and expired audit records every hour, until the scope ends. */
export const make = (store: StoreService): Effect.Effect<void, never, Scope.Scope> =>
  everyHour(
    "Ended runs and audit records",
    Effect.andThen(untilBatchNotFull(store.write(deleteExpiredRecords(BATCH))), deleteOldRuns(store))
  )
