/** Lists over HTTP that are read page by page. */
import * as Effect from "effect/Effect"
import type { IronflowError } from "../../Errors.ts"
import { allAsJson, LIST_PAGE, type Page, type PageQuery, readPageQuery } from "../Pages.ts"
import { onePage } from "../Polite.ts"
import { type Call, checked, json, type Reply } from "./Route.ts"

/**
 * The answer to a request for a list that is read page by page: the page that is asked for, or without a `limit` all of it, as
 * `all` puts it together. Fails as {@link allAsJson} does, and for a page that cannot be one.
 */
export const pagedReply = <A, E>(
  name: string,
  query: URLSearchParams,
  {
    all,
    most = LIST_PAGE,
    read,
    what = name
  }: {
    /** Around the items, which come as the inside of a JSON list. */
    readonly all: (items: string, count: number) => string
    readonly most?: number
    /** What it is called when there is too much of it; its name otherwise. */
    readonly what?: string
    /** Leaves out what may not be seen. */
    readonly read: (page: PageQuery) => Effect.Effect<Page<A>, E>
  }
): Effect.Effect<Reply, E | IronflowError> =>
  Effect.flatMap(
    checked(() => readPageQuery(query, most)),
    (page): Effect.Effect<Reply, E | IronflowError> =>
      page === undefined
        ? Effect.map(
            allAsJson(`all ${what}`, (after) => read({ after, limit: most })),
            ({ count, text }) => ({ status: 200, text: all(text, count) })
          )
        : onePage(Effect.map(read(page), ({ items, ...next }) => json({ [name]: items, ...next })))
  )

/** A page without what the caller may not see, as it is sent. */
export const seen = <A extends { readonly name: string }, B = A, E = never>(
  { shows }: Call,
  page: Effect.Effect<Page<A>, E>,
  encode: (item: A) => A | B = (item) => item
): Effect.Effect<Page<A | B>, E> =>
  Effect.map(page, ({ items, ...next }) => ({
    items: items.filter(({ name }) => shows(name)).map(encode),
    ...next
  }))
