/**
 * Bulk operations: one action on many runs. An operation is first stored, and then carried out in the background, in small
 * transactions with other work in between. After a restart, or at another engine, it goes on where it was. The caller does not
 * have to wait for it.
 *
 * An operation has the permissions of the API key of its caller. They are checked for each run just before the action: at that
 * moment, the key must permit a single call with the same action.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { BulkApi, BulkOptions, BulkRuns, EraseOptions } from "../../Client/Bulk.ts"
import type { EffectKind } from "../../Client/Client.ts"
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import { BulkNotFoundError, type EngineError, TimeoutError, ValidationError } from "../../Errors.ts"
import * as Limits from "../../Limits.ts"
import type { BulkAction } from "../../Protocol/Bulk.ts"
import type { EraseTarget } from "../../Protocol/Erase.ts"
import { show, showMs } from "../../Show.ts"
import { Access, type Caller } from "../Access/Access.ts"
import { yieldFirst } from "../Yielding.ts"
import { searchRuns } from "../Runs/RunSearchRows.ts"
import { NamedSignals } from "../NamedSignals.ts"
import { Store } from "../Store/Store.ts"
import type { BulkRecord } from "./BulkRecords.ts"
import * as BulkRows from "./BulkRows.ts"
import { actionOf, makeBulkSearch } from "./BulkSearch.ts"
import { makeBulkCarrier } from "./CarryBulk.ts"
import { checkBulk } from "./CheckBulk.ts"
import { makeErasing } from "./Erasing.ts"
import { toBulkOperation } from "./ShownBulk.ts"

export interface BulkService {
  /** The methods for a caller over the network; without `caller`, for the engine's own process. */
  readonly in: (environment: string, caller?: Caller) => Raw<BulkApi<EffectKind>, EngineError>
}

export class Bulk extends Context.Service<Bulk, BulkService>()("@ironflow/node/Engine/Bulk") {}

export const layer: Layer.Layer<Bulk, never, Store | Access> = Layer.effect(
  Bulk,
  Effect.gen(function* () {
    const store = yield* Store
    const access = yield* Access
    const endings = new NamedSignals()
    const erasing = makeErasing(store)

    const notifyEnd = (id: string): void => {
      endings.notify(id)
      store.markStale?.("bulk")
    }
    const { begin } = yield* makeBulkCarrier(store, makeBulkSearch(store, access), erasing, {
      onEnded: notifyEnd,
      onEndedElsewhere: () => endings.notifyAll()
    })

    return {
      in: (environment, caller) => {
        const byKey = caller?.key?.id
        /** An operation is visible to the caller that began it, and to callers that may read all runs. */
        const isVisible = (record: BulkRecord): boolean =>
          caller?.key === undefined || record.byKey === byKey || caller.mayAll("run:read")

        const get = (id: string): Effect.Effect<BulkRecord, EngineError> =>
          Effect.flatMap(
            checked(() => Limits.checkName("bulk operation id", id)),
            () =>
              Effect.flatMap(store.read(BulkRows.getBulk(environment, id)), (record) =>
                record === undefined || !isVisible(record)
                  ? Effect.fail(new BulkNotFoundError(id))
                  : Effect.succeed(record)
              )
          )

        /** Waits until the operation has ended, and returns it. */
        const awaitEnd = (id: string): Effect.Effect<BulkRecord, EngineError> =>
          Effect.suspend(() => {
            const endSignal = Deferred.makeUnsafe<void>()
            // listens before it reads, because the operation may end in between
            const stopListening = endings.listen([id], () => void Deferred.doneUnsafe(endSignal, Exit.void))
            return Effect.ensuring(
              Effect.flatMap(get(id), (record) =>
                record.status === "running"
                  ? Effect.andThen(Deferred.await(endSignal), awaitEnd(id))
                  : Effect.succeed(record)
              ),
              Effect.sync(stopListening)
            )
          })

        return {
          bulk: (action: BulkAction, runs: BulkRuns, options: BulkOptions = {}) =>
            Effect.gen(function* () {
              const { request, ids } = yield* checked(() => {
                const checkedRequest = checkBulk(action, runs, options)
                caller?.checkAny(actionOf[checkedRequest.action], "run")
                return checkedRequest
              })
              if (request.filters !== undefined) {
                // an invalid search fails here, before anything begins
                yield* store.read(
                  searchRuns({ call: "bulk", environment, filters: request.filters }, undefined, 1)
                )
              }
              const record = yield* store.write(BulkRows.insertBulk(environment, action, request, ids, byKey))
              yield* begin(record)
              return toBulkOperation(record)
            }),
          erase: (target: EraseTarget, options: EraseOptions = {}) =>
            Effect.gen(function* () {
              const record = yield* erasing.insert(environment, caller, target, options)
              yield* begin(record)
              return toBulkOperation(record)
            }),
          listBulk: () =>
            Effect.map(
              yieldFirst(store.read(BulkRows.listBulk(environment, BulkRows.MAX_LISTED_OPERATIONS))),
              (records) => records.filter(isVisible).map(toBulkOperation)
            ),
          getBulk: (id) => Effect.map(yieldFirst(get(id)), toBulkOperation),
          cancelBulk: (id) =>
            Effect.gen(function* () {
              const { action, byKey: owner } = yield* get(id)
              yield* checked(() => {
                if (owner !== byKey)
                  caller?.check(actionOf[action], action === "erase" ? "engine:*" : "run:*", environment)
              })
              const record = yield* store.write(
                BulkRows.endBulk(environment, id, "cancelled", byKey ?? "local")
              )
              notifyEnd(id)
              return toBulkOperation(record)
            }),
          waitForBulk: (id, { timeout } = {}) =>
            Effect.suspend(() => {
              if (timeout !== undefined && !(timeout >= 0 && Number.isFinite(timeout))) {
                return Effect.fail(
                  new ValidationError(
                    `The timeout of waitForBulk must be a number of milliseconds, at least 0, got ${show(timeout)}`
                  )
                )
              }
              if (timeout === undefined) return Effect.map(awaitEnd(id), toBulkOperation)
              return Effect.gen(function* () {
                const ended = yield* Effect.timeoutOption(awaitEnd(id), timeout)
                // the operation may have ended at the moment of the timeout; `get` fails if the operation is unknown
                const record = Option.isSome(ended) ? ended.value : yield* get(id)
                return record.status === "running"
                  ? yield* Effect.fail(timeoutError(id, timeout))
                  : toBulkOperation(record)
              })
            })
        }
      }
    }
  })
)

const timeoutError = (id: string, timeout: number): TimeoutError =>
  new TimeoutError(`Bulk operation ${id} did not end within ${showMs(timeout)}, and continues`, timeout)
