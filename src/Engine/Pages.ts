/** Long lists in pages, so that none of them stops the engine. */
import * as Effect from "effect/Effect"
import { LimitExceededError } from "../Errors.ts"
import { gathered, nextTurn, onePage } from "./Yielding.ts"

export interface Page<A> {
  readonly items: ReadonlyArray<A>
  /** After what to go on; absent at the end. */
  readonly nextCursor?: string
}

/** Items on one page of a list, at most. */
export const LIST_PAGE = 1000

/** A page of items by name. */
export const pageByName = <A extends { readonly name: string }>(
  items: ReadonlyArray<A>,
  { limit }: PageQuery
): Page<A> => {
  const last = items.at(-1)?.name
  return { items, ...(items.length < limit || last === undefined ? {} : { nextCursor: last }) }
}

/** A page that is read in slices, each in its own turn of the event loop: of lists whose items take long to look at. */
export const inSlices =
  <A, E>(slice: number, read: (page: PageQuery) => Effect.Effect<Page<A>, E>) =>
  ({ after, limit }: PageQuery): Effect.Effect<Page<A>, E> =>
    Effect.gen(function* () {
      const items: Array<A> = []
      let next: string | undefined = after
      while (next !== undefined && items.length < limit) {
        if (items.length > 0) yield* nextTurn
        const part: Page<A> = yield* read({ after: next, limit: Math.min(slice, limit - items.length) })
        items.push(...part.items)
        next = part.nextCursor
      }
      return { items, ...(next === undefined ? {} : { nextCursor: next }) }
    })

/** Reads page after page, each in its own turn of the event loop. */
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
      if (after !== undefined) yield* nextTurn
    }
    return all
  })

/** Characters of a list that is asked for without a limit: what gathers in memory, and is sent in one piece. */
export const UNPAGED_LENGTH = 16 * 1024 * 1024

/**
 * All items as the inside of a JSON list, and how many they are: page after page, each encoded in its own turn of the event
 * loop, and more than one page for one caller at a time. Fails with `LimitExceededError` for what is too much at once; `what` names it.
 */
export const allAsJson = <A, E>(
  what: string,
  read: (after: string) => Effect.Effect<Page<A>, E>
): Effect.Effect<{ readonly text: string; readonly count: number }, E | LimitExceededError> =>
  gathered((most) =>
    Effect.gen(function* () {
      const pages: Array<string> = []
      let count = 0
      let length = 0
      let after: string | undefined = ""
      for (let left = most; after !== undefined; left--) {
        if (left === 0) return undefined
        const page: Page<A> = yield* onePage(read(after))
        if (page.items.length > 0) {
          const text = JSON.stringify(page.items).slice(1, -1)
          count += page.items.length
          length += text.length
          if (length > UNPAGED_LENGTH) {
            return yield* Effect.fail(
              new LimitExceededError(
                `The list of ${what} (ask for it in pages, with \`limit\`, and the \`nextCursor\` of one page as \`cursor\` of the next)`,
                length,
                UNPAGED_LENGTH,
                "characters"
              )
            )
          }
          pages.push(text)
        }
        after = page.nextCursor
      }
      return { text: pages.join(","), count }
    })
  )

export interface PageQuery {
  readonly after: string
  readonly limit: number
}

/** A part of a list by name: what comes after a name. */
export interface ListPage {
  readonly after: string
  /** At most so many; -1 for all. */
  readonly limit: number
}

export const ALL: ListPage = { after: "", limit: -1 }
