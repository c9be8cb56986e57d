/**
 * What the store calls in the other parts of the engine: when it opens a database, when somebody has changed the clock, and when it
 * checks whether a row is damaged. `Store/StoreCallbacks.ts` describes each callback.
 */
import { loadRegistrations } from "./Functions/FunctionRows.ts"
import { READY_FUNCTIONS } from "./Functions/ReadyFunctions.ts"
import { recoverProjections } from "./Projections/ProjectionOwnerRows.ts"
import { recoverDeliveries } from "./PubSub/DeliveryRows.ts"
import { checkRunReadable } from "./Runs/CheckReadable.ts"
import { runIdOf } from "./Runs/RunRows.ts"
import { recoverLeases } from "./Turns/LostLeases.ts"
import { moveWithClock, setBackBetweenStarts, shortenLeases } from "./Schedules/ClockMoves.ts"
import { all, get, statement } from "./Store/Program.ts"
import type { StoreCallbacks } from "./Store/StoreCallbacks.ts"
import { eventAt } from "./Log/EventViews.ts"

const LIST_SCHEDULES_OF_FUNCTION = statement(
  "EngineStoreCallbacks.listSchedulesOfFunction",
  "SELECT * FROM schedules WHERE function = ?"
)

const FIND_ENTRY = statement("EngineStoreCallbacks.findEntry", "SELECT * FROM kv_entries WHERE rowid = ?")

export const engineStoreCallbacks: StoreCallbacks = {
  loadFunctions: loadRegistrations,
  listReadyFunctions: READY_FUNCTIONS,
  takeOver: [recoverLeases(), shortenLeases(), recoverProjections(), recoverDeliveries()],
  clockWasSet: moveWithClock,
  clockWasSetBack: setBackBetweenStarts,
  *checkReadable(tx, kind, key) {
    switch (kind) {
      case "run":
        return yield* checkRunReadable(tx, key)
      case "event":
        yield* eventAt(key)
        return
      case "schedule":
        return void (yield* all(LIST_SCHEDULES_OF_FUNCTION, key))
      case "key":
        return void (yield* get(FIND_ENTRY, key))
    }
  },
  *nameOf(_tx, kind, key) {
    return kind === "run" ? yield* runIdOf(key) : undefined
  }
}
