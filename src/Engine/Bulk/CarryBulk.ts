/** Carries bulk operations out in the background: those that begin here, and those that were left unfinished. */
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

/** How often progress without matches is stored. */
const NOTED_EVERY_MS = 1000
/** The delay before another try after an error. */
const AGAIN_MS = 1000
/** Maximum number of tries of the same slice. */
const TRIES = 10

export interface BulkCarrier {
  /** Carries an operation out in the background, unless this engine does so already. */
  readonly begin: (operation: Pick<BulkRecord, "action" | "environment" | "id">) => Effect.Effect<void>
}

/** Continues unfinished operations, and works until the scope ends. */
export const makeBulkCarrier = (
  store: StoreService,
  { callerOf, nextSlice }: BulkSearch,
  erasing: Erasing,
  tell: {
    /** Called when this engine has carried an operation out, or stopped it. */
    readonly ended: (id: string) => void
    /** Called when operations have ended at other engines. */
    readonly endedElsewhere: () => void
  }
): Effect.Effect<BulkCarrier, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Scope.Scope
    const isShared = store.node !== undefined
    /** The operations that this engine carries out. */
    const carried = new Set<string>()

    /** Stops an operation, unless another engine has continued it since `record`. */
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
          onSuccess: () => Effect.sync(() => tell.ended(record.id)),
          onFailure: (cause) =>
            Effect.logError(
              `Bulk operation ${record.id} has stopped (${error}), and this could not be stored: it is tried again ${isShared ? "later" : "when the engine is started again"}`,
              cause
            )
        }
      )

    /** Runs an operation until it has ended, or another engine carries it out. */
    const carryOn = (environment: string, id: string): Effect.Effect<void> =>
      Effect.gen(function* () {
        const found = yield* store.read(BulkRows.getBulk(environment, id))
        const ids = found?.idCount === undefined ? [] : yield* store.read(BulkRows.idsOfBulk(environment, id))
        /** As it is stored, as far as this engine knows. */
        let record = found
        /** Where it is, after slices without matches that are not stored. */
        let place = record?.place
        let mayBeStale = false
        let notedAt = 0
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
            if (isInVain(slice) && now - notedAt < NOTED_EVERY_MS) return from
            notedAt = now
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
            // shared: the other engine goes on with it; alone: it was changed meanwhile, so read it again
            if (isShared) return
            continue
          }
          const { failure } = next
          if (isFinal(failure) || ++tries === TRIES) {
            // others may be able to continue it, and so may this engine later
            if (isShared && isUnavailable(failure)) return
            yield* end(from, failure.message)
            break
          }
          yield* Effect.logWarning(`Bulk operation ${id} could not continue; trying again`, failure)
          yield* Effect.sleep(AGAIN_MS)
        }
        tell.ended(id)
        if (found?.action === "erase") yield* Effect.andThen(erasing.forgetEnded, erasing.forgetAsked)
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
        if (carried.has(id)) return Effect.void
        carried.add(id)
        const carrying =
          action === "erase"
            ? Effect.acquireUseRelease(
                Effect.sync(() => store.overwrite?.(true)),
                () => carryOn(environment, id),
                () => Effect.sync(() => store.overwrite?.(false))
              )
            : carryOn(environment, id)
        const afterwards = Effect.sync(() => {
          carried.delete(id)
          watched?.look()
        })
        return Effect.asVoid(Effect.forkIn(Effect.ensuring(carrying, afterwards), scope))
      })

    const forgetEnded = Effect.asVoid(
      Effect.forkIn(
        Effect.catch(erasing.forgetEnded, (error) =>
          Effect.logError(
            "The work data of an ended erase could not be deleted: it is deleted after the next erase, or when the engine is started again",
            error
          )
        ),
        scope
      )
    )

    const watched = !isShared
      ? undefined
      : yield* continueAbandonedBulk(store, {
          isCarried: (id) => carried.has(id),
          begin,
          eraseEnded: forgetEnded,
          ended: tell.endedElsewhere
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

/** Whether a slice has nothing that must be stored at once. */
const isInVain = ({ isLast, items, notAllowed }: BulkSlice): boolean =>
  !isLast && items.length === 0 && notAllowed.length === 0

/** Whether a retry would fail in the same way. */
const isFinal = (error: IronflowError): boolean => error._tag !== "StoreError" || isDamage(error)

/** Whether this engine cannot reach the database now. */
const isUnavailable = (error: IronflowError): boolean => error.code === "STORE_UNAVAILABLE"
