/** What clients ask over HTTP of what is done to many runs. */
import * as Effect from "effect/Effect"
import { checked } from "../../Checked.ts"
import type { BulkRuns } from "../../Client/Client.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { isObject } from "../../Json.ts"
import { checkBulkSaid, rows } from "../../Protocol/Bulk.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { checkBodyMembers } from "./KnownMembers.ts"
import { answering, reading } from "./RowRoute.ts"
import { listOptionsOf, readBulkFilters } from "./RunListRequest.ts"

export const bulkRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const bulkOf = (call: Call) => engine.bulk.in(call.environment, call.caller)
  const id = (call: Call): string => variable(call, "id")
  return [
    reading(rows.startBulk, "Bulk", ({ action, dryRun, fromStep, ids, reason, version }, call) =>
      Effect.flatMap(
        checked((): BulkRuns => {
          checkBodyMembers(rows.startBulk.body!, call.body, "Bulk")
          // `null` is another way to leave these out
          const { filters, ids: _, reason: __, ...how } = isObject(call.body) ? call.body : {}
          checkBulkSaid(how)
          return {
            ...(filters == null ? {} : listOptionsOf(readBulkFilters(filters))),
            ...(ids === undefined ? {} : { ids })
          }
        }),
        (runs) =>
          bulkOf(call).bulk(action, runs, {
            ...(dryRun === undefined ? {} : { dryRun }),
            ...(fromStep === undefined ? {} : { fromStep }),
            ...(reason === undefined ? {} : { reason }),
            ...(version === undefined ? {} : { version })
          })
      )
    ),
    answering(rows.listBulk, (call) => Effect.map(bulkOf(call).listBulk(), (operations) => ({ operations }))),
    answering(rows.getBulk, (call) => bulkOf(call).getBulk(id(call))),
    answering(rows.cancelBulk, (call) => bulkOf(call).cancelBulk(id(call)))
  ]
}
