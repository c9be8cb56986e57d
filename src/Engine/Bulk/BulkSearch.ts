/** Finds the runs of bulk operations, slice by slice, and decides for each run whether the caller may act on it. */
import * as Effect from "effect/Effect"
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import type { Run } from "../../Client/Client.ts"
import { type EngineError, UnauthorizedError } from "../../Errors.ts"
import { MAX_EXPRESSION_STEPS, expressionSteps } from "../../ExpressionBudget.ts"
import type { Action } from "../../Policy.ts"
import type { BulkAction } from "../../Protocol/Bulk.ts"
import type { Access, Caller } from "../Access/Access.ts"
import { visibleTo } from "../Access/RunAccess.ts"
import type { CheckedFilters } from "../Runs/CheckFilters.ts"
import { matcherOf } from "../Runs/RunSearch.ts"
import { type FoundRun, searchRuns, type SearchPlace } from "../Runs/RunSearchRows.ts"
import type { StoreService } from "../Store/Store.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import type { BulkItem, BulkRecord, BulkSlice } from "./BulkRecords.ts"

/** How many runs one transaction changes. */
const RUNS_PER_TRANSACTION = 50
/** How many runs one search reads, and how many runs one transaction of a dry run checks. */
const RUNS_PER_SEARCH = 256

/** The permission that the API key needs for each run. A `rerun` needs the permission to retry. */
export const actionOf: { readonly [A in BulkRecord["action"]]: Action } = {
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

/** A bulk operation on runs. */
type RunsRecord = BulkRecord & { readonly action: BulkAction }

export interface BulkSearch {
  /** The caller that began an operation. Fails when its key no longer works. */
  readonly callerOf: (record: BulkRecord) => Effect.Effect<Caller | undefined, EngineError>
  /** The next slice of the runs of an operation. `ids`: the ids that the request named; empty for a request with filters. */
  readonly nextSlice: (
    record: RunsRecord,
    ids: ReadonlyArray<string>
  ) => Effect.Effect<BulkSlice, EngineError>
}

export const makeBulkSearch = (store: StoreService, access: Access["Service"]): BulkSearch => {
  const callerOf: BulkSearch["callerOf"] = ({ byKey }) =>
    checked(() => {
      if (byKey === undefined) return undefined
      const caller = access.callerOf(byKey)
      if (caller === undefined) {
        throw new UnauthorizedError(
          `The API key ${byKey}, with which the operation was begun, no longer exists: begin the operation again with another key`
        )
      }
      caller.checkAlive()
      return caller
    })

  const nextSlice: BulkSearch["nextSlice"] = (record, ids) =>
    Effect.gen(function* () {
      const caller = yield* callerOf(record)
      if (record.idCount !== undefined) return sliceOfIds(record, ids, caller)
      const maxRuns = record.request.dryRun ? RUNS_PER_SEARCH : RUNS_PER_TRANSACTION
      return yield* search(record, record.request.filters ?? {}, caller, maxRuns)
    })

  const search = (
    { action, environment, place }: RunsRecord,
    filters: CheckedFilters,
    caller: Caller | undefined,
    most: number
  ): Effect.Effect<BulkSlice, EngineError> =>
    Effect.gen(function* () {
      const searchPlace = place as SearchPlace | undefined
      const slice = yield* store.read(searchRuns({ environment, filters }, searchPlace, RUNS_PER_SEARCH))
      const isMatch = matcherOf(filters, visibleTo(caller, environment))
      const items: Array<BulkItem> = []
      let stepsBefore = expressionSteps()
      let lastFound: FoundRun | undefined
      for (const found of slice.found) {
        if (items.length === most) {
          return {
            items,
            notAllowed: [],
            place: { ...slice.place, event: lastFound!.event, key: lastFound!.key },
            lookedBackTo: Date.parse(lastFound!.run.createdAt),
            isLast: false
          }
        }
        lastFound = found
        if (isMatch(found) && mayDo(caller, action, environment, found.run)) {
          const { endedAt, id } = found.run
          items.push({ runId: id, endedAt: endedAt === undefined ? null : Date.parse(endedAt) })
        }
        if (expressionSteps() - stepsBefore < MAX_EXPRESSION_STEPS) continue
        stepsBefore = expressionSteps()
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

  return { callerOf, nextSlice }
}

/** Whether the caller may carry out the action on the run by a single call. */
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
  { action, request, environment, place }: RunsRecord,
  ids: ReadonlyArray<string>,
  caller: Caller | undefined
): BulkSlice => {
  const index = place !== undefined && "index" in place ? place.index : 0
  const next = index + (request.dryRun ? RUNS_PER_SEARCH : RUNS_PER_TRANSACTION)
  const page = ids.slice(index, next)
  const isVisible = visibleTo(caller, environment).canSeeRun
  const isAllowed = (id: string): boolean => mayDo(caller, action, environment, { id, status: "paused" })
  return {
    // the statuses of these runs are not known here, so `onlyPaused` leaves a part of the check to the transaction
    items: page
      .filter((id) => !isVisible(id) || isAllowed(id))
      .map((runId) =>
        !isVisible(runId)
          ? { runId, isHidden: true }
          : mayDo(caller, action, environment, { id: runId, status: "failed" })
            ? { runId }
            : { runId, onlyPaused: true }
      ),
    notAllowed: page.filter((id) => isVisible(id) && !isAllowed(id)),
    place: { index: next },
    isLast: next >= ids.length
  }
}
