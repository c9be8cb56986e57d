/**
 * Bulk operations: one action on many runs. An operation is first stored, and then carried out in the background, in small
 * transactions with other work in between. After a restart, or at another engine, it goes on where it was. The caller does not have
 * to wait for it.
 *
 * Its permissions are those of the caller's key, checked for each run at that time: it can do only what the key could do by
 * single calls.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { BulkApi, BulkOptions, BulkRuns, EraseOptions } from "../../Client/Bulk.ts"
import type { EffectKind, Run } from "../../Client/Client.ts"
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import {
  BulkNotFoundError,
  type EngineError,
  type IronflowError,
  TimeoutError,
  UnauthorizedError,
  ValidationError
} from "../../Errors.ts"
import * as Alarm from "../../Execution/Alarm.ts"
import { MAX_STEPS, stepsTaken } from "../../ExpressionBudget.ts"
import * as Limits from "../../Limits.ts"
import type { Action } from "../../Policy.ts"
import type { BulkAction } from "../../Protocol/Bulk.ts"
import type { EraseTarget } from "../../Protocol/Erase.ts"
import { showMs } from "../../Show.ts"
import { Access, type Caller } from "../Access/Access.ts"
import { visibleTo } from "../Access/RunAccess.ts"
import { yieldToEventLoop, yieldFirst } from "../Yielding.ts"
import type { CheckedFilters } from "../Runs/CheckFilters.ts"
import { matcherOf } from "../Runs/RunSearch.ts"
import { type FoundRun, searchRuns, type SearchPlace } from "../Runs/RunSearchRows.ts"
import { NamedSignals } from "../NamedSignals.ts"
import { isDamage } from "../Store/SqliteErrors.ts"
import { Store } from "../Store/Store.ts"
import type { BulkItem, BulkRecord, BulkSlice } from "./BulkRecords.ts"
import * as BulkRows from "./BulkRows.ts"
import { checkBulk } from "./CheckBulk.ts"
import { makeErasing } from "./Erasing.ts"
import { shown } from "./ShownBulk.ts"
import { continueAbandonedBulk } from "./AbandonedBulk.ts"

/** Runs that one transaction changes; in a dry run, runs that it checks. */
const AT_ONCE = 50
const COUNTED_AT_ONCE = 256
/** How often progress without matches is stored. */
const NOTED_EVERY_MS = 1000
/** The delay before another try after an error. */
const AGAIN_MS = 1000
/** Most tries of the same slice. */
const TRIES = 10

export interface BulkService {
  /** For an outside caller, or for the engine's own process. */
  readonly in: (environment: string, caller?: Caller) => Raw<BulkApi<EffectKind>, EngineError>
}

export class Bulk extends Context.Service<Bulk, BulkService>()("@ironflow/node/Engine/Bulk") {}

/** The action that the key needs for each run. A new run of the same input counts as a retry. */
const actionOf: { readonly [A in BulkRecord["action"]]: Action } = {
  erase: "data:erase",
  cancel: "run:cancel",
  retry: "run:retry",
  resume: "run:resume",
  pause: "run:pause",
  rerun: "run:retry",
  fork: "run:fork",
  move: "run:move",
  delete: "run:delete"
}

export const layer: Layer.Layer<Bulk, never, Store | Access> = Layer.effect(
  Bulk,
  Effect.gen(function* () {
    const store = yield* Store
    const access = yield* Access
    const after = yield* Alarm.makeScheduleTimeout
    const scope = yield* Scope.Scope
    const endings = new NamedSignals()
    const erasing = makeErasing(store)
    const isShared = store.node !== undefined
    /** The operations that this engine carries out. */
    const carried = new Set<string>()

    const tellEnd = (id: string): void => {
      endings.notify(id)
      store.callOthers?.("bulk")
    }

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
          onSuccess: () => Effect.sync(() => tellEnd(record.id)),
          // it is tried again: after a restart, or when it stands still
          onFailure: (cause) => Effect.logError(`Bulk operation ${record.id} has stopped: ${error}`, cause)
        }
      )

    /** The caller that began it. Fails when its key no longer works. */
    const callerOf = ({ byKey }: BulkRecord) =>
      checked(() => {
        if (byKey === undefined) return undefined
        const caller = access.callerOf(byKey)
        if (caller === undefined) {
          throw new UnauthorizedError(`The API key ${byKey} that began it no longer exists`)
        }
        caller.checkAlive()
        return caller
      })

    /** The next slice of matching runs. */
    const look = (
      record: BulkRecord & { readonly action: BulkAction },
      ids: ReadonlyArray<string>
    ): Effect.Effect<BulkSlice, EngineError> =>
      Effect.gen(function* () {
        const caller = yield* callerOf(record)
        if (record.idCount !== undefined) return sliceOfIds(record, ids, caller)
        const most = record.asked.dryRun ? COUNTED_AT_ONCE : AT_ONCE
        return yield* search(record, record.asked.filters ?? {}, caller, most)
      })

    const search = (
      { action, environment, place }: BulkRecord & { readonly action: BulkAction },
      filters: CheckedFilters,
      caller: Caller | undefined,
      most: number
    ): Effect.Effect<BulkSlice, EngineError> =>
      Effect.gen(function* () {
        const from = place as SearchPlace | undefined
        const slice = yield* store.read(searchRuns({ environment, filters }, from, COUNTED_AT_ONCE))
        const isMatch = matcherOf(filters, visibleTo(caller, environment))
        const items: Array<BulkItem> = []
        let steps = stepsTaken()
        let last: FoundRun | undefined
        for (const found of slice.found) {
          if (items.length === most) {
            return {
              items,
              notAllowed: [],
              place: { ...slice.place, event: last!.event, key: last!.key },
              lookedBackTo: Date.parse(last!.run.createdAt),
              isLast: false
            }
          }
          last = found
          if (isMatch(found) && mayDo(caller, action, environment, found.run)) {
            const { endedAt, id } = found.run
            items.push({ runId: id, endedAt: endedAt === undefined ? null : Date.parse(endedAt) })
          }
          if (stepsTaken() - steps < MAX_STEPS) continue
          steps = stepsTaken()
          yield* yieldToEventLoop
        }
        return {
          items,
          notAllowed: [],
          place: slice.place,
          ...(slice.isLast ? {} : { lookedBackTo: slice.lookedBackTo }),
          isLast: slice.isLast
        }
      })

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
            const slice = yield* look({ ...from, action, ...(place === undefined ? {} : { place }) }, ids)
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
            // the other engine carries it out
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
        tellEnd(id)
        if (found?.action === "erase") yield* Effect.andThen(erasing.forgetEnded, erasing.forgetAsked)
      }).pipe(
        Effect.catch((error) =>
          Effect.logError(
            `Bulk operation ${id} cannot be read: it continues ${isShared ? "later" : "when the engine is started again"}`,
            error
          )
        )
      )

    const begin = (environment: string, id: string, isErase: boolean): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (carried.has(id)) return Effect.void
        carried.add(id)
        const carrying = isErase
          ? Effect.acquireUseRelease(
              Effect.sync(() => store.overwrite?.(true)),
              () => carryOn(environment, id),
              () => Effect.sync(() => store.overwrite?.(false))
            )
          : carryOn(environment, id)
        const left = Effect.sync(() => {
          carried.delete(id)
          watched?.look()
        })
        return Effect.asVoid(Effect.forkIn(Effect.ensuring(carrying, left), scope))
      })

    const forgetEnded = Effect.asVoid(
      Effect.forkIn(
        Effect.catch(erasing.forgetEnded, (error) =>
          Effect.logError("The work data of an ended erase could not be deleted", error)
        ),
        scope
      )
    )

    const watched = !isShared
      ? undefined
      : yield* continueAbandonedBulk(store, {
          isCarried: (id) => carried.has(id),
          begin: ({ action, environment, id }) => begin(environment, id, action === "erase"),
          eraseEnded: forgetEnded,
          ended: () => endings.notifyAll()
        })

    yield* Effect.matchEffect(store.read(BulkRows.runningBulk()), {
      onSuccess: (running) =>
        Effect.andThen(
          forgetEnded,
          Effect.forEach(running, ({ action, environment, id }) => begin(environment, id, action === "erase"))
        ),
      onFailure: (error) =>
        Effect.logError(
          `Unfinished bulk operations could not be read: they continue ${isShared ? "later" : "when the engine is started again"}`,
          error
        )
    })

    return {
      in: (environment, caller) => {
        const byKey = caller?.key?.id
        /** Visible to the caller that began it, and to those who may read all runs. */
        const mayKnow = (record: BulkRecord): boolean =>
          caller?.key === undefined || record.byKey === byKey || caller.mayAll("run:read")

        const get = (id: string): Effect.Effect<BulkRecord, EngineError> =>
          Effect.flatMap(
            checked(() => Limits.checkName("bulk operation id", id)),
            () =>
              Effect.flatMap(store.read(BulkRows.getBulk(environment, id)), (record) =>
                record === undefined || !mayKnow(record)
                  ? Effect.fail(new BulkNotFoundError(id))
                  : Effect.succeed(record)
              )
          )

        const wait = (id: string, isLate: () => boolean, listen: (wake: () => void) => void) => {
          const again: Effect.Effect<BulkRecord | undefined, EngineError> = Effect.suspend(() => {
            const woken = Deferred.makeUnsafe<void>()
            const wake = () => void Deferred.doneUnsafe(woken, Exit.void)
            listen(wake)
            // listen first, then look: it may end in between
            const forget = endings.listen([id], wake)
            return Effect.ensuring(
              Effect.flatMap(get(id), (record) =>
                record.status !== "running"
                  ? Effect.succeed(record)
                  : isLate()
                    ? Effect.undefined
                    : Effect.andThen(Deferred.await(woken), again)
              ),
              Effect.sync(forget)
            )
          })
          return again
        }

        return {
          bulk: (action: BulkAction, runs: BulkRuns, options: BulkOptions = {}) =>
            Effect.gen(function* () {
              const { asked, ids } = yield* checked(() => {
                const it = checkBulk(action, runs, options)
                caller?.checkAny(actionOf[it.action], "run")
                return it
              })
              if (asked.filters !== undefined) {
                // an invalid search fails here, before anything begins
                yield* store.read(searchRuns({ environment, filters: asked.filters }, undefined, 1))
              }
              const record = yield* store.write(BulkRows.insertBulk(environment, action, asked, ids, byKey))
              yield* begin(environment, record.id, false)
              return shown(record)
            }),
          erase: (target: EraseTarget, options: EraseOptions = {}) =>
            Effect.gen(function* () {
              const record = yield* erasing.insert(environment, caller, target, options)
              yield* begin(environment, record.id, true)
              return shown(record)
            }),
          listBulk: () =>
            Effect.map(
              yieldFirst(store.read(BulkRows.listBulk(environment, BulkRows.MAX_LISTED_OPERATIONS))),
              (records) => records.filter(mayKnow).map(shown)
            ),
          getBulk: (id) => Effect.map(yieldFirst(get(id)), shown),
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
              tellEnd(id)
              return shown(record)
            }),
          waitForBulk: (id, { timeout } = {}) =>
            Effect.suspend(() => {
              if (timeout !== undefined && !(timeout >= 0 && Number.isFinite(timeout))) {
                return Effect.fail(
                  new ValidationError(
                    `The timeout of waitForBulk must be a number of milliseconds, got ${timeout}`
                  )
                )
              }
              let isLate = false
              let wake = () => {}
              const stay =
                timeout === undefined
                  ? () => undefined
                  : after(timeout, () => {
                      isLate = true
                      wake()
                    })
              return Effect.ensuring(
                Effect.flatMap(
                  wait(
                    id,
                    () => isLate,
                    (next) => (wake = next)
                  ),
                  (record) =>
                    record === undefined
                      ? Effect.fail(notYet(id, timeout ?? 0))
                      : Effect.succeed(shown(record))
                ),
                Effect.sync(stay)
              )
            })
        }
      }
    }
  })
)

const notYet = (id: string, timeout: number): TimeoutError =>
  new TimeoutError(`Bulk operation ${id} did not end within ${showMs(timeout)}, and continues`, timeout)

/** Whether a slice has nothing that must be stored at once. */
const isInVain = ({ isLast, items, notAllowed }: BulkSlice): boolean =>
  !isLast && items.length === 0 && notAllowed.length === 0

/** Whether a retry would fail in the same way. */
const isFinal = (error: IronflowError): boolean => error._tag !== "StoreError" || isDamage(error)

/** Whether this engine cannot reach the database now. */
const isUnavailable = (error: IronflowError): boolean => error.code === "STORE_UNAVAILABLE"

/** Whether the key may do to a run what a single call would do. */
const mayDo = (
  caller: Caller | undefined,
  action: BulkAction,
  environment: string,
  { id, status }: Pick<Run, "id" | "status">
): boolean =>
  caller === undefined ||
  (caller.may(actionOf[action], `run:${id}`, environment) &&
    // resuming a failed run is a retry
    (action !== "resume" || status === "paused" || caller.isNotDenied("run:retry", `run:${id}`, environment)))

const sliceOfIds = (
  { action, asked, environment, place }: BulkRecord & { readonly action: BulkAction },
  ids: ReadonlyArray<string>,
  caller: Caller | undefined
): BulkSlice => {
  const index = place !== undefined && "index" in place ? place.index : 0
  const next = index + (asked.dryRun ? COUNTED_AT_ONCE : AT_ONCE)
  const some = ids.slice(index, next)
  const isSeen = visibleTo(caller, environment).run
  const isAllowed = (id: string): boolean => mayDo(caller, action, environment, { id, status: "paused" })
  return {
    // the status of a run that is given by id is not known here
    items: some
      .filter((id) => !isSeen(id) || isAllowed(id))
      .map((runId) =>
        !isSeen(runId)
          ? { runId, isHidden: true }
          : mayDo(caller, action, environment, { id: runId, status: "failed" })
            ? { runId }
            : { runId, onlyPaused: true }
      ),
    notAllowed: some.filter((id) => isSeen(id) && !isAllowed(id)),
    place: { index: next },
    isLast: next >= ids.length
  }
}
