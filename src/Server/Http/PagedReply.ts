/** Replies with one page of a list, or with all its items. The list is read page by page, or is in memory. */
import * as Effect from "effect/Effect"
import { type IronflowError, LimitExceededError, ValidationError } from "../../Errors.ts"
import { allAsJson, LIST_PAGE, type Page, type PageQuery } from "../../Engine/Pages.ts"
import { onePage } from "../../Engine/Yielding.ts"
import type { Codec } from "../../Protocol/Codec.ts"
import { encoder } from "../../Protocol/ServerCodec.ts"
import type { CallSpec } from "../../Protocol/CallSpec.ts"
import { type Call, json, type Reply } from "./Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import * as Limits from "../../Limits.ts"

/**
 * The type of a list's items. The list is the response itself, or the only member of the response that is a
 * list.
 */
export type ItemOf<A> =
  A extends ReadonlyArray<infer Item>
    ? Item
    : { [K in keyof A]-?: Exclude<A[K], undefined> extends ReadonlyArray<infer Item> ? Item : never }[keyof A]

export interface Paging {
  /** Maximum number of items on a page. */
  readonly maxItems?: number
  /** The name of the list in the error for a list that is too long. By default its name in the response. */
  readonly what?: string
  /**
   * Makes the text of the response with the whole list, when no page is requested. `items` is the JSON of the items,
   * separated by commas.
   */
  readonly encodeAll?: (items: string, count: number) => string
}

/** The list in the response that a spec declares: the name of its member, and the codec of its items. */
const listIn = <A>({ answer, dialect, page = "" }: CallSpec<A>) => {
  const member = answer?.kind === "fields" ? answer.fields[page] : undefined
  const list = member?.value ?? answer
  return {
    page,
    // `CallSpec` only allows `page` for a list, so the codec is that of the items
    encode: encoder<ItemOf<A>>((list?.kind === "list" ? list.item : { kind: "json" }) as Codec<ItemOf<A>>),
    encodeAll: (items: string): string => {
      if (member === undefined) return `[${items}]`
      const isLeftOut = dialect === "connect" && member.isLeftOut === true && items === ""
      return isLeftOut ? "{}" : `{"${page}":[${items}]}`
    }
  }
}

/**
 * Replies to a request for a list that is read page by page: with the requested page, or with all items when
 * there is no `limit`. `read` must leave out items that the caller may not see. Fails as {@link allAsJson}
 * does, and for an invalid `limit` or `cursor`.
 */
export const pagedReply = <A>(spec: CallSpec<A>) => {
  const { encode, page: name, ...list } = listIn(spec)
  return <E>(
    query: URLSearchParams,
    read: (page: PageQuery) => Effect.Effect<Page<ItemOf<A>>, E>,
    { encodeAll = list.encodeAll, maxItems = LIST_PAGE, what = name }: Paging = {}
  ): Effect.Effect<Reply, E | IronflowError> => {
    const encodedPage = (page: PageQuery) =>
      Effect.map(read(page), ({ items, ...next }) => ({ items: items.map(encode), ...next }))
    return Effect.flatMap(
      checked(() => readPageQuery(query, maxItems)),
      (page): Effect.Effect<Reply, E | IronflowError> =>
        page === undefined
          ? Effect.map(
              allAsJson(`all ${what}`, (after) => encodedPage({ after, limit: maxItems })),
              ({ count, text }) => ({ status: 200, text: encodeAll(text, count) })
            )
          : onePage(Effect.map(encodedPage(page), ({ items, ...next }) => json({ [name]: items, ...next })))
    )
  }
}

/** Leaves out the items of a page that the caller may not see. */
export const visibleItems = <A extends { readonly name: string }, E>(
  { shows }: Call,
  page: Effect.Effect<Page<A>, E>
): Effect.Effect<Page<A>, E> =>
  Effect.map(page, ({ items, ...next }) => ({ items: items.filter(({ name }) => shows(name)), ...next }))

/** How long a page of long items may become before it ends, in characters. Its last item may exceed this. */
const PAGE_LENGTH = 1024 * 1024

/** How many items are encoded in one turn of the event loop, when all items are requested. */
const ITEMS_PER_TURN = 100

/**
 * Replies to a request for a list in memory: with a page in the order of ids, or with all items in their own
 * order when there is no `limit`. Fails as {@link allAsJson} does, and for an invalid `limit` or `cursor`.
 */
export const listReply = <A>(spec: CallSpec<A>) => {
  const { encodeAll, encode, page: name } = listIn(spec)
  return (
    query: URLSearchParams,
    items: ReadonlyArray<ItemOf<A> & { readonly id: string }>
  ): Effect.Effect<Reply, IronflowError> =>
    Effect.flatMap(
      checked(() => readPageQuery(query, LIST_PAGE)),
      (page) => {
        if (page === undefined) return replyInTurns(name, items, encode, encodeAll)
        const remaining = items
          .filter(({ id }) => id > page.after)
          .sort((one, other) => (one.id < other.id ? -1 : 1))
        const texts: Array<string> = []
        let length = 0
        while (texts.length < Math.min(page.limit, remaining.length) && length < PAGE_LENGTH) {
          const text = JSON.stringify(encode(remaining[texts.length]!))
          length += text.length
          texts.push(text)
        }
        const next =
          remaining.length > texts.length
            ? `,"nextCursor":${JSON.stringify(remaining[texts.length - 1]!.id)}`
            : ""
        return Effect.succeed<Reply>({ status: 200, text: `{"${name}":[${texts.join(",")}]${next}}` })
      }
    )
}

/** Replies with all items, which are encoded in several turns of the event loop. */
export const replyInTurns = <A>(
  name: string,
  items: ReadonlyArray<A>,
  encode: (item: A) => unknown,
  encodeAll: (items: string) => string
): Effect.Effect<Reply, LimitExceededError> =>
  Effect.map(
    allAsJson(`all ${name}`, (after) =>
      Effect.sync(() => {
        const start = Number(after)
        const end = start + ITEMS_PER_TURN
        return {
          items: items.slice(start, end).map(encode),
          ...(end < items.length ? { nextCursor: String(end) } : {})
        }
      })
    ),
    ({ text }) => ({ status: 200, text: encodeAll(text) })
  )

/**
 * Reads which page is requested. `undefined` when there is no `limit`: all items are requested. Throws
 * `ValidationError` or `LimitExceededError`.
 */
export const readPageQuery = (query: URLSearchParams, maxItems: number): PageQuery | undefined => {
  const limit = query.get("limit")
  const after = query.get("cursor") ?? ""
  if (limit === null) {
    if (after === "") return undefined
    throw new ValidationError(
      "`cursor` is given without `limit`: only a list with a `limit` has pages, so give `limit` too"
    )
  }
  if (!/^\d{1,9}$/.test(limit) || Number(limit) < 1) {
    throw new ValidationError(
      `The limit must be an integer from 1 to 999999999, got ${JSON.stringify(limit.slice(0, 64))}`
    )
  }
  if (after.length > Limits.keyLength) {
    throw new LimitExceededError("The cursor", after.length, Limits.keyLength, "characters")
  }
  return { after, limit: Math.min(Number(limit), maxItems) }
}
