/** Lists of runs that fit filters: slice after slice, between which others go on, for at most so long a page. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { ListRunsResult, Run } from "../../Client/Client.ts"
import type { StoreError, ValidationError } from "../../Errors.ts"
import { compileExpression, type Expression, whereRoots } from "../../Expression.ts"
import { MAX_STEPS, stepsTaken } from "../../ExpressionBudget.ts"
import { decodeJson } from "../../Json.ts"
import { nextTurn } from "../Yielding.ts"
import type { StoreService } from "../Store/Store.ts"
import type { CheckedFilters } from "./CheckFilters.ts"
import { readCursor, writeCursor } from "./RunCursor.ts"
import { type FoundRun, searchRuns, type SearchPlace } from "./RunSearchRows.ts"

/** How long a page is looked for, milliseconds. */
const PAGE_MS = 200
/** Characters of data on one page, unless one run alone has more. */
const PAGE_LENGTH = 16 * 1024 * 1024

/** What may be known to whoever asks. */
export interface Visible {
  readonly run: (runId: string) => boolean
  /** What the run was given, and which event has started it. */
  readonly input: (found: FoundRun) => boolean
}

export interface SearchQuery {
  readonly environment: string
  readonly filters: CheckedFilters
  readonly limit: number
  readonly cursor?: string
}

/** Lists the runs that fit. */
export const searchFor = (
  store: StoreService,
  { cursor, environment, filters, limit }: SearchQuery,
  visible: Visible | undefined
): Effect.Effect<ListRunsResult, ValidationError | StoreError> =>
  Effect.gen(function* () {
    const query = { environment, filters }
    const begin = cursor === undefined ? undefined : yield* readCursor(query, cursor)
    const isMatch = matcherOf(filters, visible)
    const until = (yield* Clock.currentTimeMillis) + PAGE_MS
    const before = begin?.listed ?? 0
    const runs: Array<Run> = []
    let place: SearchPlace | undefined
    let reached: { readonly event: number; readonly key: number } | undefined
    let filledBackTo: number | undefined
    let length = 0

    const result = (rest: Partial<ListRunsResult>): ListRunsResult => ({
      runs,
      totalCount: before + runs.length,
      ...(filledBackTo === undefined ? {} : { filledBackTo: new Date(filledBackTo).toISOString() }),
      ...rest
    })
    const more = (at: { readonly event: number; readonly key: number }, rest: Partial<ListRunsResult> = {}) =>
      result({
        isTotalExact: false,
        nextCursor: writeCursor(query, {
          by: place!.by,
          event: at.event,
          key: at.key,
          listed: before + runs.length
        }),
        ...rest
      })

    while (true) {
      // an expression may fit few: as many as there is time for; otherwise one more says whether there is another page
      const most = filters.where === undefined ? limit - runs.length + 1 : Number.MAX_SAFE_INTEGER
      const slice = yield* store.read(searchRuns(query, place ?? begin, most))
      place = slice.place
      filledBackTo = slice.filledBackTo
      let steps = stepsTaken()
      for (const found of slice.found) {
        if (isMatch(found)) {
          if (runs.length === limit || length > PAGE_LENGTH) return more(reached!)
          runs.push(found.run)
          length += found.length
        }
        reached = found
        if (filters.where === undefined || stepsTaken() - steps < MAX_STEPS) continue
        steps = stepsTaken()
        yield* nextTurn
        if ((yield* Clock.currentTimeMillis) >= until)
          return more(found, { lookedBackTo: found.run.createdAt })
      }
      reached = slice.place
      if (slice.isLast) return result({ isTotalExact: true })
      yield* nextTurn
      if ((yield* Clock.currentTimeMillis) >= until) {
        return more(slice.place, { lookedBackTo: new Date(slice.lookedBackTo).toISOString() })
      }
    }
  })

/** Whether a run that was found fits what cannot be asked of the database: what the caller may know, and `where`. */
export const matcherOf = (
  filters: CheckedFilters,
  visible: Visible | undefined
): ((found: FoundRun) => boolean) => {
  const isSeen = seenBy(visible, filters)
  const where = filters.where === undefined ? undefined : compileExpression(filters.where, whereRoots)
  return (found) => isSeen(found) && (where === undefined || fits(where, found))
}

/** Filters that say something of an event would tell of events that the caller may not have. */
const seenBy = (visible: Visible | undefined, filters: CheckedFilters): ((found: FoundRun) => boolean) => {
  if (visible === undefined) return () => true
  const { attributes, entityId, eventName, idempotencyKey, where } = filters
  const tellsOfEvent = [attributes, entityId, eventName, idempotencyKey, where].some(
    (filter) => filter !== undefined
  )
  return (found) => visible.run(found.run.id) && (!tellsOfEvent || visible.input(found))
}

const fits = (where: Expression, found: FoundRun): boolean =>
  where({ event: eventOf(found), output: found.run.output ?? null, error: found.run.error ?? null })

/** The event that a run sees. */
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
