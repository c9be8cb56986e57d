/**
 * Carries out bulk operations in the background: operations that begin at this engine, and operations that were left unfinished.
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type { IronflowError } from "../../Errors.ts"
import { isDamage } from "../Store/SqliteErrors.ts"
import type { StoreService } from "../Store/Store.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import { continueAbandonedBulk } from "./AbandonedBulk.ts"
import type { BulkRecord, BulkSlice } from "./BulkRecords.ts"
import * as BulkRows from "./BulkRows.ts"
import type { BulkSearch } from "./BulkSearch.ts"
import type { Erasing } from "./Erasing.ts"

/** After how many milliseconds without matches the progress is stored. */
const PROGRESS_INTERVAL_MS = 1000
/** The delay before another try after an error, in milliseconds. */
const RETRY_DELAY_MS = 1000
/** Maximum number of tries of the same slice. */
const MAX_TRIES = 10

export interface BulkCarrier {
  /** Carries out an operation in the background, unless this engine already does. */
  readonly begin: (operation: Pick<BulkRecord, "action" | "environment" | "id">) => Effect.Effect<void>
}

/** Continues unfinished operations, and works until the scope ends. */
export const makeBulkCarrier = (
  store: StoreService,
  { callerOf, nextSlice }: BulkSearch,
  erasing: Erasing,
  callbacks: {
    /** Called when this engine has carried out or stopped an operation. */
    readonly onEnded: (id: string) => void
    /** Called when operations may have ended at other engines. */
    readonly onEndedElsewhere: () => void
  }
): Effect.Effect<BulkCarrier, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Scope.Scope
    const isShared = store.node !== undefined
    /** The operations that this engine carries out. */
    const carriedIds = new Set<string>()

    /** Stops an operation, unless another engine has continued it since `record` was read. */
    const end = (record: BulkRecord, error: string): Effect.Effect<void> =>
      Effect.matchEffect(
        store.write(
          BulkRows.endBulk(
            record.environment,
            record.id,
            "stopped",
            record.byKey ?? "local",
            error,
            isShared ? record : undefined
          )
        ),
        {
          onSuccess: () => Effect.sync(() => callbacks.onEnded(record.id)),
          onFailure: (cause) =>
            Effect.logError(
              `Bulk operation ${record.id} has stopped (${error}), and this could not be stored: the operation is tried again ${isShared ? "later" : "when the engine is started again"}`,
              cause
            )
        }
      )

    /** Runs an operation until it has ended, or another engine carries it out. */
    const runOperation = (environment: string, id: string): Effect.Effect<void> =>
      Effect.gen(function* () {
        const found = yield* store.read(BulkRows.getBulk(environment, id))
        const ids = found?.idCount === undefined ? [] : yield* store.read(BulkRows.idsOfBulk(environment, id))
        /** The operation, as this engine last read or stored it. */
        let record = found
        /** Where the next slice begins: beyond `record.place` after slices without matches, which are not all stored. */
        let place = record?.place
        let mayBeStale = false
        let progressStoredAt = 0
        let tries = 0
        const advance = (from: BulkRecord) =>
          Effect.gen(function* () {
            if (mayBeStale) {
              const stored = yield* store.read(BulkRows.getBulk(environment, id))
              place = stored?.place
              mayBeStale = false
              return stored
            }
            const { action } = from
            if (action === "erase") {
              yield* callerOf(from)
              const advanced = yield* erasing.advance(from, ids)
              tries = 0
              return advanced
            }
            const slice = yield* nextSlice(
              { ...from, action, ...(place === undefined ? {} : { place }) },
              ids
            )
            place = slice.place
            const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
            if (canBeStoredLater(slice) && now - progressStoredAt < PROGRESS_INTERVAL_MS) return from
            progressStoredAt = now
            const advanced = yield* store.write(BulkRows.advanceBulk(environment, id, from, slice))
            tries = 0
            return advanced
          })
        while (record?.status === "running") {
          const from: BulkRecord = record
          yield* yieldToEventLoop
          const next = yield* Effect.result(advance(from))
          if (next._tag === "Success" && next.success !== BulkRows.OVERTAKEN) {
            record = next.success
            continue
          }
          mayBeStale = true
          if (next._tag === "Success") {
            // if several engines share the database, another engine continues the operation; otherwise the changed operation is
            // read again
            if (isShared) return
            continue
          }
          const { failure } = next
          if (isFinal(failure) || ++tries === MAX_TRIES) {
            // another engine may reach the database and continue the operation, or this engine does so later
            if (isShared && isUnavailable(failure)) return
            yield* end(from, failure.message)
            break
          }
          yield* Effect.logWarning(`Bulk operation ${id} could not continue; trying again`, failure)
          yield* Effect.sleep(RETRY_DELAY_MS)
        }
        callbacks.onEnded(id)
        if (found?.action === "erase")
          yield* Effect.andThen(erasing.deleteItemsOfEnded, erasing.forgetRequest)
      }).pipe(
        Effect.catch((error) =>
          Effect.logError(
            `Bulk operation ${id} cannot be read: it continues ${isShared ? "later" : "when the engine is started again"}`,
            error
          )
        )
      )

    const begin: BulkCarrier["begin"] = ({ action, environment, id }) =>
      Effect.suspend(() => {
        if (carriedIds.has(id)) return Effect.void
        carriedIds.add(id)
        const carrying =
          action === "erase"
            ? Effect.acquireUseRelease(
                Effect.sync(() => store.overwrite?.(true)),
                () => runOperation(environment, id),
                () => Effect.sync(() => store.overwrite?.(false))
              )
            : runOperation(environment, id)
        const afterwards = Effect.sync(() => {
          carriedIds.delete(id)
          abandoned?.checkSoon()
        })
        return Effect.asVoid(Effect.forkIn(Effect.ensuring(carrying, afterwards), scope))
      })

    const forgetEnded = Effect.asVoid(
      Effect.forkIn(
        Effect.catch(erasing.deleteItemsOfEnded, (error) =>
          Effect.logError(
            "The work data of an ended erase could not be deleted: it is deleted after the next erase, or when the engine is started again",
            error
          )
        ),
        scope
      )
    )

    const abandoned = !isShared
      ? undefined
      : yield* continueAbandonedBulk(store, {
          isCarried: (id) => carriedIds.has(id),
          begin,
          afterErase: forgetEnded,
          onEndedElsewhere: callbacks.onEndedElsewhere
        })

    yield* Effect.matchEffect(store.read(BulkRows.runningBulk()), {
      onSuccess: (running) => Effect.andThen(forgetEnded, Effect.forEach(running, begin)),
      onFailure: (error) =>
        Effect.logError(
          `Unfinished bulk operations could not be read: they continue ${isShared ? "later" : "when the engine is started again"}`,
          error
        )
    })

    return { begin }
  })

/** Whether the progress of a slice need not be stored at once: the slice has no runs, and more slices follow. */
const canBeStoredLater = ({ isLast, items, notAllowed }: BulkSlice): boolean =>
  !isLast && items.length === 0 && notAllowed.length === 0

/** Whether another try would fail in the same way. */
const isFinal = (error: IronflowError): boolean => error._tag !== "StoreError" || isDamage(error)

/** Whether this engine cannot reach the database now. */
const isUnavailable = (error: IronflowError): boolean => error.code === "STORE_UNAVAILABLE"
