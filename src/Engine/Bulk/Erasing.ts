/** Begins and carries out erasures: what to search, the next step, and the clean-up. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { EraseOptions } from "../../Client/Bulk.ts"
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import { type EngineError, UnauthorizedError, ValidationError } from "../../Errors.ts"
import { MAX_EXPRESSION_STEPS, expressionSteps } from "../../ExpressionBudget.ts"
import type { Action } from "../../Policy.ts"
import type { EraseTarget } from "../../Protocol/Erase.ts"
import type { Caller } from "../Access/Access.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import { matcherOf } from "../Runs/RunSearch.ts"
import { searchRuns } from "../Runs/RunSearchRows.ts"
import * as ProjectionSaveRows from "../Projections/ProjectionSaveRows.ts"
import type { StoreService } from "../Store/Store.ts"
import type { BulkRecord } from "./BulkRecords.ts"
import * as BulkRows from "./BulkRows.ts"
import { checkErase } from "./CheckErase.ts"
import * as EraseFinding from "./EraseFinding.ts"
import type { CheckedTarget, FoundItems, ErasePlace } from "./EraseRecords.ts"
import * as AdvanceErase from "./AdvanceErase.ts"

/** How many runs or ids one slice searches. */
const ITEMS_PER_SEARCH = 256
/**
 * The delay before another check whether cancelled runs have ended, or another try to empty the write-ahead log, in
 * milliseconds.
 */
const RETRY_DELAY_MS = 1000
/** Maximum number of tries to empty the write-ahead log. A try fails while another connection reads an older state. */
const MAX_CUT_TRIES = 60
/** After how many milliseconds without matches the progress is stored. */
const PROGRESS_INTERVAL_MS = 1000

export interface Erasing {
  /** Checks the request and the caller's permissions, and stores the request. */
  readonly insert: (
    environment: string,
    caller: Caller | undefined,
    target: EraseTarget,
    options: EraseOptions
  ) => Effect.Effect<BulkRecord, EngineError>
  /** Takes the next step of an operation, from its stored record. */
  readonly advance: (
    record: BulkRecord,
    ids: ReadonlyArray<string>
  ) => Effect.Effect<BulkRecord | undefined | typeof BulkRows.OVERTAKEN, EngineError>
  /** Deletes the collected items of ended operations. */
  readonly deleteItemsOfEnded: Effect.Effect<void, EngineError>
  /** Removes the request from the write-ahead log. */
  readonly forgetRequest: Effect.Effect<void>
}

export const makeErasing = (store: StoreService): Erasing => {
  const insert: Erasing["insert"] = (environment, caller, target, options) =>
    Effect.gen(function* () {
      const { request, ids } = yield* checked(() => {
        const checkedRequest = checkErase(target, options)
        checkMayErase(
          caller,
          environment,
          checkedRequest.request.erase ?? {},
          checkedRequest.ids !== undefined,
          checkedRequest.request.cancel === true
        )
        return checkedRequest
      })
      const { keys, runs } = request.erase ?? {}
      if (runs !== undefined) {
        // an invalid search must fail here, before anything has begun
        yield* store.read(searchRuns({ call: "erase", environment, filters: runs }, undefined, 1))
      }
      if (keys !== undefined) {
        const buckets = [...new Set(keys.map(({ bucket }) => bucket))]
        const missing = yield* store.read(EraseFinding.missingBucket(environment, buckets))
        if (missing !== undefined) {
          return yield* Effect.fail(
            new ValidationError(`erase: there is no bucket "${missing}" in this environment`)
          )
        }
      }
      return yield* store.write(BulkRows.insertBulk(environment, "erase", request, ids, caller?.key?.id))
    })

  /** The next items to erase. */
  const find = (
    { request, environment, place, ...record }: BulkRecord,
    ids: ReadonlyArray<string>
  ): Effect.Effect<FoundItems & { readonly missing: ReadonlyArray<string> }, EngineError> =>
    Effect.gen(function* () {
      const at = (place ?? { phase: "find", source: 0 }) as Extract<ErasePlace, { readonly phase: "find" }>
      const sources = EraseFinding.sourcesOf(request.erase ?? {}, record.idCount !== undefined)
      const source = sources[at.source]
      const nothing = { events: [], runs: [], missing: [] }
      const next: ErasePlace =
        at.source + 1 < sources.length ? { phase: "find", source: at.source + 1 } : { phase: "follow" }
      if (source === undefined) return { ...nothing, place: { phase: "follow" } }
      if (source.from === "ids") {
        const from = at.after ?? 0
        const to = from + ITEMS_PER_SEARCH
        const { keys, missing } = yield* store.read(EraseFinding.keysOfRuns(environment, ids.slice(from, to)))
        return { events: [], runs: keys, missing, place: to < ids.length ? { ...at, after: to } : next }
      }
      if (source.from === "runs") {
        const filters = request.erase!.runs!
        const slice = yield* store.read(searchRuns({ environment, filters }, at.search, ITEMS_PER_SEARCH))
        const isMatch = matcherOf(filters, undefined)
        const runs = yield* filterYielding(slice.found, isMatch)
        return {
          ...nothing,
          runs: runs.map(({ key }) => key),
          place: slice.isLast ? next : { ...at, search: slice.place }
        }
      }
      const { after, candidates } = yield* store.read(
        EraseFinding.findForErase(environment, source, at.after ?? 0)
      )
      const events = yield* filterYielding(candidates, EraseFinding.makeWhereMatcher(source.events))
      return {
        ...nothing,
        events: events.map(({ position }) => position),
        place: after === undefined ? next : { ...at, after }
      }
    })

  /** The items of the next slice that has items. From time to time, returns no items, so that the progress is stored. */
  const findNext = (
    record: BulkRecord,
    ids: ReadonlyArray<string>
  ): Effect.Effect<FoundItems & { readonly missing: ReadonlyArray<string> }, EngineError> =>
    Effect.gen(function* () {
      const beganAt = yield* Clock.currentTimeMillis
      let found = yield* find(record, ids)
      while (
        found.place.phase === "find" &&
        found.events.length + found.runs.length + found.missing.length === 0 &&
        (yield* Clock.currentTimeMillis) - beganAt < PROGRESS_INTERVAL_MS
      ) {
        yield* yieldToEventLoop
        found = yield* find({ ...record, place: found.place }, ids)
      }
      return found
    })

  /**
   * Empties the write-ahead log if that is possible now. Returns whether the log was emptied. A failure is only logged: the
   * data in the tables is erased all the same.
   */
  const cutLog: Effect.Effect<boolean> = Effect.catch(store.cutLog ?? Effect.succeed(true), (error) =>
    Effect.as(
      Effect.logWarning(
        "An erase has ended, but the write-ahead log may still contain the erased data: the log is removed when the engine stops",
        error
      ),
      false
    )
  )

  /** Deletes states that rebuilds of projections have left behind. */
  const deleteOldStates: Effect.Effect<void, EngineError> = Effect.suspend(() =>
    Effect.flatMap(store.write(ProjectionSaveRows.deleteOldStates()), (more) =>
      more ? Effect.andThen(yieldToEventLoop, deleteOldStates) : Effect.void
    )
  )

  /** Removes the erased data and the request from the files. Returns a note for the caller, such as where the data may still be. */
  const cleanUp = ({
    request,
    done,
    rebuild
  }: BulkRecord): Effect.Effect<string | undefined, EngineError> => {
    const hasStates = rebuild !== undefined
    if (!request.dryRun && (done > 0 || request.compact === true))
      return Effect.andThen(
        deleteOldStates,
        store.wipe?.(request.compact === true, { hasStates, onlyEarlierDeletions: done === 0 }) ??
          Effect.succeed(rowsOnlyNote(hasStates))
      )
    return Effect.as(
      // if another connection reads an older state, `forgetRequest` tries again
      cutLog,
      request.dryRun ? undefined : "Nothing was found to erase, and the database was not changed."
    )
  }

  /**
   * Empties the write-ahead log, which contains the request. This is also run after an operation that was cancelled or has
   * stopped.
   */
  const forgetRequest: Effect.Effect<void> = Effect.gen(function* () {
    for (let tries = 0; tries < MAX_CUT_TRIES; tries++) {
      if (yield* cutLog) return
      yield* Effect.sleep(RETRY_DELAY_MS)
    }
  })

  /** Takes the next step of an erasure. */
  const advance: Erasing["advance"] = (record, ids) =>
    Effect.gen(function* () {
      const { environment, id, place } = record
      const at = place as ErasePlace | undefined
      const phase = at?.phase ?? "find"
      if (phase === "clean") {
        const note = yield* cleanUp(record)
        return yield* store.write(AdvanceErase.finishErase(environment, id, record, note))
      }
      if (at?.phase === "await" && at.isWaiting === true) yield* Effect.sleep(RETRY_DELAY_MS)
      const found = phase === "find" ? yield* findNext(record, ids) : undefined
      return yield* store.write(
        found === undefined
          ? AdvanceErase.advanceErase(environment, id, record)
          : AdvanceErase.advanceErase(environment, id, record, found)
      )
    })

  /** Deletes the collected items of ended operations. */
  const deleteItemsOfEnded: Effect.Effect<void, EngineError> = Effect.suspend(() =>
    Effect.flatMap(store.write(AdvanceErase.deleteItemsOfEnded()), (more) =>
      more ? Effect.andThen(yieldToEventLoop, deleteItemsOfEnded) : Effect.void
    )
  )

  return { insert, advance, deleteItemsOfEnded, forgetRequest }
}

/** The note for an erasure in a store that cannot wipe its files, such as Postgres. */
const rowsOnlyNote = (hasStates: boolean): string =>
  `The data was removed from the tables${hasStates ? ", but states of projections may still contain it until they are rebuilt" : ""}. ` +
  "Backups and exports that were made before still contain it. In Postgres, dead rows contain it until VACUUM has run, and so does the write-ahead log until its segments are recycled; an archive of that log keeps it."

/**
 * Checks that the caller may read and delete everything that the erasure may reach. An erasure tells its caller how much data
 * matches. It also erases data that belongs to the targets: the events that started runs, and forks and invoked runs. Throws
 * `UnauthorizedError` if a policy limits what the API key may read, or denies the key to delete some of the data, or, with
 * `cancel`, to cancel some runs. A dry run needs the same permissions.
 */
const checkMayErase = (
  caller: Caller | undefined,
  environment: string,
  { configs, events, keys, runs, streams }: CheckedTarget,
  hasIds: boolean,
  cancel: boolean
): void => {
  caller?.check("data:erase", "engine:*", environment)
  const isAboutRuns = events !== undefined || runs !== undefined || streams !== undefined || hasIds
  const reads: ReadonlyArray<Action> = [
    "run:read",
    ...(isAboutRuns ? (["function:read", "stream:read", "subscription:read"] as const) : []),
    ...(keys === undefined ? [] : (["kv:read"] as const)),
    ...(configs === undefined ? [] : (["config:read"] as const))
  ]
  const changes: ReadonlyArray<Action> = [
    ...(isAboutRuns ? (["run:delete"] as const) : []),
    ...(cancel ? (["run:cancel"] as const) : []),
    ...(keys === undefined ? [] : (["kv:delete"] as const)),
    ...(configs === undefined ? [] : (["config:delete"] as const))
  ]
  const limited =
    reads.find((action) => caller?.isLimited(action)) ?? changes.find((action) => caller?.isDenied(action))
  if (limited === undefined) return
  throw new UnauthorizedError(
    `Not permitted: an erase also deletes related data (runs, events, keys), and a policy limits ${limited} of this API key: ` +
      "use a key whose policies do not limit it"
  )
}

/** The items that match. Yields to other work in between, because an expression may take long. */
const filterYielding = <A>(
  list: ReadonlyArray<A>,
  isMatch: (item: A) => boolean
): Effect.Effect<ReadonlyArray<A>> =>
  Effect.gen(function* () {
    const fitting: Array<A> = []
    let steps = expressionSteps()
    for (const item of list) {
      if (isMatch(item)) fitting.push(item)
      if (expressionSteps() - steps < MAX_EXPRESSION_STEPS) continue
      steps = expressionSteps()
      yield* yieldToEventLoop
    }
    return fitting
  })
