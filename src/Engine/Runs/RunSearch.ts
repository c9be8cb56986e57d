/**
 * Lists runs that match filters. The search reads slices of runs, with other work in between. Each page has a time limit.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { ListRunsResult, Run } from "../../Client/Client.ts"
import type { StoreError, ValidationError } from "../../Errors.ts"
import { compileExpression, type Expression, whereRoots } from "../../Expression.ts"
import { MAX_EXPRESSION_STEPS, expressionSteps } from "../../ExpressionBudget.ts"
import { decodeJson } from "../../Json.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import type { StoreService } from "../Store/Store.ts"
import type { CheckedFilters } from "./CheckFilters.ts"
import { readCursor, writeCursor } from "./RunCursor.ts"
import { type FoundRun, searchRuns, type SearchPlace } from "./RunSearchRows.ts"

/** Time limit of a page, in milliseconds. */
const PAGE_MS = 200
/** A page ends with the run that exceeds this number of characters of data. */
const PAGE_LENGTH = 16 * 1024 * 1024

/** What the caller may see. */
export interface Visibility {
  /** Whether the caller may see the run with this id. */
  readonly canSeeRun: (runId: string) => boolean
  /** Whether the caller may see the input of a run, and the event that started it. */
  readonly canSeeInput: (found: FoundRun) => boolean
}

export interface SearchQuery {
  readonly environment: string
  readonly filters: CheckedFilters
  readonly limit: number
  readonly cursor?: string
}

/** Lists the matching runs. */
export const searchMatchingRuns = (
  store: StoreService,
  { cursor, environment, filters, limit }: SearchQuery,
  visibility: Visibility | undefined
): Effect.Effect<ListRunsResult, ValidationError | StoreError> =>
  Effect.gen(function* () {
    const query = { environment, filters }
    const begin = cursor === undefined ? undefined : yield* readCursor(query, cursor)
    const isMatch = matcherOf(filters, visibility)
    const deadline = (yield* Clock.currentTimeMillis) + PAGE_MS
    const listedBefore = begin?.listedCount ?? 0
    const runs: Array<Run> = []
    let place: SearchPlace | undefined
    let lastPlace: { readonly event: number; readonly key: number } | undefined
    let filledBackTo: number | undefined
    let length = 0

    const result = (members: Partial<ListRunsResult>): ListRunsResult => ({
      runs,
      totalCount: listedBefore + runs.length,
      ...(filledBackTo === undefined ? {} : { filledBackTo: new Date(filledBackTo).toISOString() }),
      ...members
    })
    const resultWithCursor = (
      at: { readonly event: number; readonly key: number },
      further: Partial<ListRunsResult> = {}
    ) =>
      result({
        isTotalExact: false,
        nextCursor: writeCursor(query, {
          by: place!.by,
          event: at.event,
          key: at.key,
          listedCount: listedBefore + runs.length
        }),
        ...further
      })

    while (true) {
      // with `where`, few of the found runs may match, so the slice finds as many as possible; without `where`, one run more than
      // the page needs shows whether another page follows
      const maxRuns = filters.where === undefined ? limit - runs.length + 1 : Number.MAX_SAFE_INTEGER
      const slice = yield* store.read(searchRuns(query, place ?? begin, maxRuns))
      place = slice.place
      filledBackTo = slice.filledBackTo
      let stepsBefore = expressionSteps()
      for (const found of slice.found) {
        if (isMatch(found)) {
          if (runs.length === limit || length > PAGE_LENGTH) return resultWithCursor(lastPlace!)
          runs.push(found.run)
          length += found.length
        }
        lastPlace = found
        if (filters.where === undefined || expressionSteps() - stepsBefore < MAX_EXPRESSION_STEPS) continue
        stepsBefore = expressionSteps()
        yield* yieldToEventLoop
        if ((yield* Clock.currentTimeMillis) >= deadline)
          return resultWithCursor(found, { lookedBackTo: found.run.createdAt })
      }
      lastPlace = slice.place
      if (slice.isLast) return result({ isTotalExact: true })
      yield* yieldToEventLoop
      if ((yield* Clock.currentTimeMillis) >= deadline) {
        return resultWithCursor(slice.place, { lookedBackTo: new Date(slice.lookedBackTo).toISOString() })
      }
    }
  })

/**
 * Whether a found run passes the checks that the database cannot make: whether the caller may see the run, and whether `where`
 * accepts it.
 */
export const matcherOf = (
  filters: CheckedFilters,
  visibility: Visibility | undefined
): ((found: FoundRun) => boolean) => {
  const isVisible = visibilityOf(visibility, filters)
  const where = filters.where === undefined ? undefined : compileExpression(filters.where, whereRoots)
  return (found) => isVisible(found) && (where === undefined || accepts(where, found))
}

/**
 * Whether the caller may see a run in the results of these filters. With a filter by the event, a run is hidden if the caller may
 * not see its event: the result would reveal something of the event.
 */
const visibilityOf = (
  visibility: Visibility | undefined,
  filters: CheckedFilters
): ((found: FoundRun) => boolean) => {
  if (visibility === undefined) return () => true
  const { attributes, entityId, eventName, idempotencyKey, where } = filters
  const filtersByEvent = [attributes, entityId, eventName, idempotencyKey, where].some(
    (filter) => filter !== undefined
  )
  return (found) => visibility.canSeeRun(found.run.id) && (!filtersByEvent || visibility.canSeeInput(found))
}

const accepts = (where: Expression, found: FoundRun): boolean =>
  where({ event: eventOf(found), output: found.run.output ?? null, error: found.run.error ?? null })

/** The event that a run sees, in the form for the expressions of filters. */
export const eventOf = ({ run, startedBy }: FoundRun): { readonly [name: string]: unknown } =>
  startedBy === undefined
    ? {
        id: run.eventId,
        name: "ironflow.invoke",
        version: 1,
        data: run.input ?? null,
        timestamp: run.createdAt
      }
    : { ...startedBy, data: run.input ?? null, metadata: decodeJson(startedBy.metadata) ?? null }
