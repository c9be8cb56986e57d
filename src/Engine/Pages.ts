/** Long lists in pages, so that none of them stops the engine. */
import * as Effect from "effect/Effect"
import { LimitExceededError, ValidationError } from "../Errors.ts"
import * as Limits from "../Limits.ts"
import type { Reply } from "./Http/Route.ts"
import { gathered, nextTurn, onePage } from "./Polite.ts"

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

/** Characters of a page of a list whose items may be long, besides its last item. */
const PAGE_LENGTH = 1024 * 1024
/** Items that are encoded in one turn of the event loop, when all are asked for. */
const ITEMS_A_TURN = 100

/**
 * The answer to a request for a list that is in memory: a page of it by id, or without a `limit` all of it in its order. `encode`
 * makes an item, and `all` what is around all of them. Fails as {@link allAsJson} does.
 */
export const listReply = <A extends { readonly id: string }>(
  name: string,
  items: ReadonlyArray<A>,
  page: PageQuery | undefined,
  encode: (item: A) => unknown = (item) => item,
  all: (items: string) => string = (text) => `{"${name}":[${text}]}`
): Effect.Effect<Reply, LimitExceededError> => {
  if (page === undefined) {
    return Effect.map(
      allAsJson(`all ${name}`, (after) =>
        Effect.sync(() => {
          const begin = Number(after)
          const end = begin + ITEMS_A_TURN
          return {
            items: items.slice(begin, end).map(encode),
            ...(end < items.length ? { nextCursor: String(end) } : {})
          }
        })
      ),
      ({ text }) => ({ status: 200, text: all(text) })
    )
  }
  const left = items.filter(({ id }) => id > page.after).sort((one, other) => (one.id < other.id ? -1 : 1))
  const texts: Array<string> = []
  let length = 0
  while (texts.length < Math.min(page.limit, left.length) && length < PAGE_LENGTH) {
    const text = JSON.stringify(encode(left[texts.length]!))
    length += text.length
    texts.push(text)
  }
  const next = left.length > texts.length ? `,"nextCursor":${JSON.stringify(left[texts.length - 1]!.id)}` : ""
  return Effect.succeed({ status: 200, text: `{"${name}":[${texts.join(",")}]${next}}` })
}

export interface PageQuery {
  readonly after: string
  readonly limit: number
}

/**
 * The page that a request asks for; `undefined` without a `limit`, which asks for everything. Throws `ValidationError` or
 * `LimitExceededError`.
 */
export const readPageQuery = (query: URLSearchParams, most: number): PageQuery | undefined => {
  const limit = query.get("limit")
  const after = query.get("cursor") ?? ""
  if (limit === null) {
    if (after === "") return undefined
    throw new ValidationError("A cursor needs a limit beside it")
  }
  if (!/^\d{1,9}$/.test(limit) || Number(limit) < 1) {
    throw new ValidationError(
      `The limit must be an integer from 1 up, got ${JSON.stringify(limit.slice(0, 64))}`
    )
  }
  if (after.length > Limits.keyLength) {
    throw new LimitExceededError("The cursor", after.length, Limits.keyLength, "characters")
  }
  return { after, limit: Math.min(Number(limit), most) }
}
