/** What all parts of the engine have to do for a database: see `Store/StoreCallbacks.ts`. */
import { loadRegistrations } from "./Functions/FunctionRows.ts"
import { READY_FUNCTIONS } from "./Functions/ReadyFunctions.ts"
import { recoverProjections } from "./Projections/ProjectionOwnerRows.ts"
import { recoverDeliveries } from "./PubSub/DeliveryRows.ts"
import { lookAtRun } from "./Runs/DamagedRun.ts"
import { runIdOf } from "./Runs/RunRows.ts"
import { recoverLeases } from "./Turns/LostLeases.ts"
import { moveWithClock, setBackBetweenStarts, shortenLeases } from "./Schedules/ClockMoves.ts"
import { all, get, statement } from "./Store/Program.ts"
import type { StoreCallbacks } from "./Store/StoreCallbacks.ts"
import { eventAt } from "./Log/EventViews.ts"

const LIST_SCHEDULES_OF_FUNCTION = statement(
  "StoreCallbacks.listSchedulesOfFunction",
  "SELECT * FROM schedules WHERE function = ?"
)

const FIND_ENTRY = statement("StoreCallbacks.findEntry", "SELECT * FROM kv_entries WHERE rowid = ?")

export const storeCallbacks: StoreCallbacks = {
  load: loadRegistrations,
  ready: READY_FUNCTIONS,
  takeOver: [recoverLeases(), shortenLeases(), recoverProjections(), recoverDeliveries()],
  clockWasSet: moveWithClock,
  clockWasSetBack: setBackBetweenStarts,
  *look(tx, kind, key) {
    switch (kind) {
      case "run":
        return yield* lookAtRun(tx, key)
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
