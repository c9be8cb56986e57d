/** Deletes runs that ended long ago, and records of runs that have expired. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreService } from "../Store/Store.ts"
import { BATCH, everyHour, untilEnd, untilNone } from "../Sweep.ts"
import { deleteExpiredRecordings } from "./Recording.ts"
import { deleteEndedRuns } from "./RunRetention.ts"

/** How long a run is kept after it has ended, unless its function says so: 30 days by default; `Duration.infinity` keeps all. */
export const RunRetention = Context.Reference<Duration.Duration>("@ironflow/node/RunRetention", {
  defaultValue: () => Duration.days(30)
})

/** Deletes them until the scope ends. */
export const make = (store: StoreService): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(RunRetention, (retention) => {
    const keepMs = Duration.toMillis(retention)
    const endedRuns = untilEnd((after: number | undefined) =>
      store.write(deleteEndedRuns(keepMs, BATCH, after))
    )
    return everyHour(
      Effect.andThen(
        untilNone(store.write(deleteExpiredRecordings(BATCH))),
        // where the engine keeps all, functions may not
        endedRuns
      )
    )
  })
