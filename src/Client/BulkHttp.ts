/** Bulk operations over HTTP. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { type IronflowError, TimeoutError, ValidationError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import * as operations from "../Protocol/Bulk.ts"
import { checkEraseTarget, refuseBlankEraseOptions, startErase } from "../Protocol/Erase.ts"
import { checkBulkFilterNames } from "../RunFilters.ts"
import { show, showMs } from "../Show.ts"
import type { BulkApi } from "./Bulk.ts"
import type { EffectKind } from "./ApiKinds.ts"
import { quote } from "./HttpCalls.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Connection } from "./HttpConnection.ts"
import type { Raw } from "./NarrowErrors.ts"
import { makeOperationCalls } from "./OperationCalls.ts"
import { encodeFilters } from "./RunFilterBody.ts"

/** The interval between the first two polls of `waitForBulk`, in milliseconds. Later intervals grow. */
const FIRST_INTERVAL_MS = 100
/** The longest interval between two polls, in milliseconds. */
const LONGEST_INTERVAL_MS = 2000

export const make = (connection: Connection): Raw<BulkApi<EffectKind>> => {
  const { ask, failUnsupported } = makeOperationCalls(connection)
  const whenUnsupported = (what: string) =>
    failUnsupported(what, "Act on each run by itself, with calls such as cancelRun")
  const getBulk = (id: string) =>
    ask(operations.getBulk, "getBulk", {
      variables: { id },
      whenUnsupported: whenUnsupported(`getBulk(${quote(id)})`)
    })

  return {
    bulk: (action, runs, options = {}) =>
      Effect.flatMap(
        validated(() => {
          if (!isObject(runs)) {
            throw new ValidationError(
              `bulk: select runs by filters such as { status: "failed" } or by { ids: [...] }, got ${show(runs)}`
            )
          }
          const { ids, ...filters } = runs
          const { dryRun, fromStep, reason, version } = options
          operations.refuseBlankBulkOptions({ ids, dryRun, fromStep, reason, version })
          checkBulkFilterNames(filters)
          const body = encodeFilters(filters)
          return {
            action,
            ...(Object.keys(filters).length === 0 ? {} : { filters: body }),
            ids,
            dryRun,
            fromStep,
            reason,
            version
          }
        }),
        (body) =>
          ask(operations.startBulk, "bulk", {
            subject: action,
            body,
            whenUnsupported: whenUnsupported(`bulk(${quote(action)})`)
          })
      ),
    erase: (target, options = {}) =>
      Effect.flatMap(
        validated(() => {
          checkEraseTarget(target)
          const { configs, events, keys, runs, streams } = target
          const { cancel, compact, dryRun } = options
          refuseBlankEraseOptions({ configs, events, keys, runs, streams, cancel, compact, dryRun })
          const { ids, ...filters } = runs ?? {}
          checkBulkFilterNames(filters, "erase")
          return {
            events,
            // `runs` with neither ids nor filters is sent too: the server refuses it
            ...(Object.keys(filters).length === 0 && ids !== undefined
              ? {}
              : runs && { runs: encodeFilters(filters) }),
            runIds: ids,
            streams,
            keys,
            configs,
            dryRun,
            cancel,
            compact
          }
        }),
        (body) =>
          ask(startErase, "erase", {
            body,
            whenUnsupported: failUnsupported("erase()", "Upgrade the server")
          })
      ),
    listBulk: () =>
      Effect.map(
        ask(operations.listBulk, "listBulk", { whenUnsupported: whenUnsupported("listBulk()") }),
        ({ operations }) => operations
      ),
    getBulk,
    cancelBulk: (id) => ask(operations.cancelBulk, "cancelBulk", { variables: { id } }),
    waitForBulk: (id, { timeout } = {}) =>
      Effect.gen(function* () {
        if (timeout !== undefined && !(timeout >= 0 && Number.isFinite(timeout))) {
          return yield* new ValidationError(
            `The timeout of waitForBulk must be a number of milliseconds, at least 0, got ${show(timeout)}`
          )
        }
        const clock = yield* Clock.Clock
        const startedAt = clock.monotonicTimeNanosUnsafe()
        for (let pauseMs = FIRST_INTERVAL_MS; ; pauseMs = Math.min(pauseMs * 1.5, LONGEST_INTERVAL_MS)) {
          const operation = yield* getBulk(id)
          if (operation.status !== "running") return operation
          const remainingMs =
            (timeout ?? Number.POSITIVE_INFINITY) - Number(clock.monotonicTimeNanosUnsafe() - startedAt) / 1e6
          if (remainingMs <= 0) return yield* failTimedOut(id, timeout ?? 0)
          yield* Effect.sleep(Math.min(pauseMs, remainingMs))
        }
      })
  }
}

const failTimedOut = (id: string, timeout: number): Effect.Effect<never, IronflowError> =>
  Effect.fail(
    new TimeoutError(`Bulk operation ${id} did not end within ${showMs(timeout)}, and continues`, timeout)
  )
