/** Bulk operations of clients over HTTP. */
import * as Effect from "effect/Effect"
import { checked } from "../../CheckAsEffect.ts"
import type { BulkRuns } from "../../Client/Client.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { isObject } from "../../Json.ts"
import { membersOf } from "../../Protocol/Codec.ts"
import { refuseBlankBulkOptions, callSpecs } from "../../Protocol/Bulk.ts"
import { refuseBlankEraseOptions, type EraseTarget, callSpecs as eraseSpecs } from "../../Protocol/Erase.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { checkBodyMembers } from "./RequestSpelling.ts"
import { answerRoute, bodyRoute } from "./CallRoute.ts"
import { listOptionsOf, readFilters } from "./RunListRequest.ts"

export const bulkRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const bulkOf = (call: Call) => engine.bulk.in(call.environment, call.caller)
  const id = (call: Call): string => variable(call, "id")
  return [
    bodyRoute(callSpecs.startBulk, "Bulk", ({ action, dryRun, fromStep, ids, reason, version }, call) =>
      Effect.flatMap(
        checked((): BulkRuns => {
          checkBodyMembers(callSpecs.startBulk.body!, call.body, "Bulk")
          // a `filters` of `null` counts as absent; other values of `filters` are checked below
          const { filters, ids: _, reason: __, ...otherMembers } = isObject(call.body) ? call.body : {}
          refuseBlankBulkOptions(otherMembers)
          return {
            ...(filters == null ? {} : listOptionsOf(readFilters("Bulk", filters))),
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
    bodyRoute(eraseSpecs.startErase, "Erase", ({ cancel, compact, dryRun, ...target }, call) =>
      Effect.flatMap(
        checked((): EraseTarget => {
          checkBodyMembers(eraseSpecs.startErase.body!, call.body, "Erase")
          const body = isObject(call.body) ? call.body : {}
          refuseBlankEraseOptions(body)
          checkEventMembers(body.events)
          const { configs, events, keys, runIds, runs, streams } = target
          return {
            ...withoutUndefined({ events, streams, keys, configs }),
            ...(runs === undefined && runIds === undefined
              ? {}
              : {
                  runs: {
                    ...(runs === undefined ? {} : listOptionsOf(readFilters("Erase", body.runs))),
                    ...withoutUndefined({ ids: runIds })
                  }
                })
          }
        }),
        (target) => bulkOf(call).erase(target, withoutUndefined({ dryRun, cancel, compact }))
      )
    ),
    answerRoute(callSpecs.listBulk, (call) =>
      Effect.map(bulkOf(call).listBulk(), (operations) => ({ operations }))
    ),
    answerRoute(callSpecs.getBulk, (call) => bulkOf(call).getBulk(id(call))),
    answerRoute(callSpecs.cancelBulk, (call) => bulkOf(call).cancelBulk(id(call)))
  ]
}

const withoutUndefined = <A extends object>(members: A): { [K in keyof A]?: Exclude<A[K], undefined> } =>
  // the filter removes every `undefined`, as the type says
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as never

/** Refuses unknown members. If they were ignored, more events would be erased than intended. */
const checkEventMembers = (events: unknown): void => {
  const eventsNode = membersOf(eraseSpecs.startErase.body!).events!.value
  if (isObject(events)) checkBodyMembers(eventsNode, events, "Erase: `events`")
}
