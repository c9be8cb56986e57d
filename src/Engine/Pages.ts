/** Reads long lists in pages, so that no list blocks the engine. */
import * as Effect from "effect/Effect"
import { LimitExceededError } from "../Errors.ts"
import { gathered, yieldToEventLoop, onePage } from "./Yielding.ts"

export interface Page<A> {
  readonly items: ReadonlyArray<A>
  /** The cursor of the next page; absent at the end. */
  readonly nextCursor?: string
}

/** Maximum number of items on one page of a list. */
export const LIST_PAGE = 1000

/** Makes a page of items that are sorted by name: the cursor of the next page is the name of the last item. */
export const pageByName = <A extends { readonly name: string }>(
  items: ReadonlyArray<A>,
  { limit }: PageQuery
): Page<A> => {
  const last = items.at(-1)?.name
  return { items, ...(items.length < limit || last === undefined ? {} : { nextCursor: last }) }
}

/** Reads a page in slices, each in its own turn of the event loop. It is for lists whose items take long to read. */
export const inSlices =
  <A, E>(sliceLength: number, read: (page: PageQuery) => Effect.Effect<Page<A>, E>) =>
  ({ after, limit }: PageQuery): Effect.Effect<Page<A>, E> =>
    Effect.gen(function* () {
      const items: Array<A> = []
      let next: string | undefined = after
      while (next !== undefined && items.length < limit) {
        if (items.length > 0) yield* yieldToEventLoop
        const slice: Page<A> = yield* read({
          after: next,
          limit: Math.min(sliceLength, limit - items.length)
        })
        items.push(...slice.items)
        next = slice.nextCursor
      }
      return { items, ...(next === undefined ? {} : { nextCursor: next }) }
    })

/** Reads all items of a list, page after page, each page in its own turn of the event loop. */
export const allPages = <A, E>(
  read: (after: string) => Effect.Effect<Page<A>, E>
): Effect.Effect<Array<A>, E> =>
  Effect.gen(function* () {
    const all: Array<A> = []
    let after: string | undefined = ""
    while (after !== undefined) {
      const page: Page<A> = yield* read(after)
      for (const item of page.items) all.push(item)
      after = page.nextCursor
      if (after !== undefined) yield* yieldToEventLoop
    }
    return all
  })

/** Maximum number of characters of a list without a limit. Such a list is collected in memory and sent in one piece. */
export const UNPAGED_LENGTH = 16 * 1024 * 1024

/**
 * All items of a list as JSON, without the brackets, and the number of items. Each page is encoded in its own turn of the event
 * loop, and lists of more than one page are read for one caller at a time. Fails with `LimitExceededError` when the text is longer
 * than {@link UNPAGED_LENGTH}. `what` names the items in the message of that error.
 */
export const allAsJson = <A, E>(
  what: string,
  read: (after: string) => Effect.Effect<Page<A>, E>
): Effect.Effect<{ readonly text: string; readonly count: number }, E | LimitExceededError> =>
  gathered((maxPages) =>
    Effect.gen(function* () {
      const pages: Array<string> = []
      let count = 0
      let length = 0
      let after: string | undefined = ""
      for (let pagesLeft = maxPages; after !== undefined; pagesLeft--) {
        // `gathered` then calls this function again, without a limit
        if (pagesLeft === 0) return undefined
        const page: Page<A> = yield* onePage(read(after))
        if (page.items.length > 0) {
          const text = JSON.stringify(page.items).slice(1, -1)
          count += page.items.length
          length += text.length
          if (length > UNPAGED_LENGTH) {
            return yield* Effect.fail(
              new LimitExceededError(`The list of ${what}`, length, UNPAGED_LENGTH, "characters", {
                isLowerBound: true,
                advice:
                  "Ask for it in pages, with `limit`, and the `nextCursor` of one page as `cursor` of the next"
              })
            )
          }
          pages.push(text)
        }
        after = page.nextCursor
      }
      return { text: pages.join(","), count }
    })
  )

/** Which page to read: at most `limit` items after the cursor `after`. */
export interface PageQuery {
  readonly after: string
  readonly limit: number
}

/** Which items of a list that is sorted by name to read: those after the name `after`. */
export interface ListPage {
  readonly after: string
  /** Maximum number of items; -1 for all. */
  readonly limit: number
}

export const ALL: ListPage = { after: "", limit: -1 }
