/** Lists over HTTP that are read page by page. */
import * as Effect from "effect/Effect"
import { type IronflowError, LimitExceededError, ValidationError } from "../../Errors.ts"
import { allAsJson, LIST_PAGE, type Page, type PageQuery } from "../../Engine/Pages.ts"
import { onePage } from "../../Engine/Yielding.ts"
import type { Codec } from "../../Protocol/Codec.ts"
import { encoder } from "../../Protocol/Requests.ts"
import type { Row } from "../../Protocol/Row.ts"
import { type Call, json, type Reply } from "./Route.ts"
import { checked } from "../../Checked.ts"
import * as Limits from "../../Limits.ts"

/** What is in a list: the answer itself, or its one member that is a list. */
export type ItemOf<A> =
  A extends ReadonlyArray<infer Item>
    ? Item
    : { [K in keyof A]-?: Exclude<A[K], undefined> extends ReadonlyArray<infer Item> ? Item : never }[keyof A]

export interface Paging {
  /** Items on a page. */
  readonly most?: number
  /** What the list is called when there is too much of it; as in its pages otherwise. */
  readonly what?: string
  /** What is around all of the items where nobody asks for a page, which come as the inside of a JSON list. */
  readonly all?: (items: string, count: number) => string
}

/** How the row says that a list is sent. */
const listIn = <A>({ answer, dialect, page = "" }: Row<A>) => {
  const member = answer?.kind === "fields" ? answer.fields[page] : undefined
  const list = member?.of ?? answer
  return {
    page,
    // of the type, it is a list
    encode: encoder<ItemOf<A>>((list?.kind === "list" ? list.of : { kind: "json" }) as Codec<ItemOf<A>>),
    all: (items: string): string => {
      if (member === undefined) return `[${items}]`
      const isLeftOut = dialect === "connect" && member.isLeftOut === true && items === ""
      return isLeftOut ? "{}" : `{"${page}":[${items}]}`
    }
  }
}

/**
 * Answers a request for a list that is read page by page: the page that is asked for, or without a `limit` all of it. `read` leaves
 * out what may not be seen. Fails as {@link allAsJson} does, and for a page that cannot be one.
 */
export const pagedReply = <A>(row: Row<A>) => {
  const { encode, page: name, ...list } = listIn(row)
  return <E>(
    query: URLSearchParams,
    read: (page: PageQuery) => Effect.Effect<Page<ItemOf<A>>, E>,
    { all = list.all, most = LIST_PAGE, what = name }: Paging = {}
  ): Effect.Effect<Reply, E | IronflowError> => {
    const encoded = (page: PageQuery) =>
      Effect.map(read(page), ({ items, ...next }) => ({ items: items.map(encode), ...next }))
    return Effect.flatMap(
      checked(() => readPageQuery(query, most)),
      (page): Effect.Effect<Reply, E | IronflowError> =>
        page === undefined
          ? Effect.map(
              allAsJson(`all ${what}`, (after) => encoded({ after, limit: most })),
              ({ count, text }) => ({ status: 200, text: all(text, count) })
            )
          : onePage(Effect.map(encoded(page), ({ items, ...next }) => json({ [name]: items, ...next })))
    )
  }
}

/** A page without what the caller may not see. */
export const seen = <A extends { readonly name: string }, E>(
  { shows }: Call,
  page: Effect.Effect<Page<A>, E>
): Effect.Effect<Page<A>, E> =>
  Effect.map(page, ({ items, ...next }) => ({ items: items.filter(({ name }) => shows(name)), ...next }))

/** Characters of a page of a list whose items may be long, besides its last item. */
const PAGE_LENGTH = 1024 * 1024

/** Items that are encoded in one turn of the event loop, when all are asked for. */
const ITEMS_A_TURN = 100

/**
 * Answers a request for a list that is in memory: a page of it by id, or without a `limit` all of it in its order. Fails as
 * {@link allAsJson} does, and for a page that cannot be one.
 */
export const listReply = <A>(row: Row<A>) => {
  const { all, encode, page: name } = listIn(row)
  return (
    query: URLSearchParams,
    items: ReadonlyArray<ItemOf<A> & { readonly id: string }>
  ): Effect.Effect<Reply, IronflowError> =>
    Effect.flatMap(
      checked(() => readPageQuery(query, LIST_PAGE)),
      (page) => {
        if (page === undefined) return inTurns(name, items, encode, all)
        const left = items
          .filter(({ id }) => id > page.after)
          .sort((one, other) => (one.id < other.id ? -1 : 1))
        const texts: Array<string> = []
        let length = 0
        while (texts.length < Math.min(page.limit, left.length) && length < PAGE_LENGTH) {
          const text = JSON.stringify(encode(left[texts.length]!))
          length += text.length
          texts.push(text)
        }
        const next =
          left.length > texts.length ? `,"nextCursor":${JSON.stringify(left[texts.length - 1]!.id)}` : ""
        return Effect.succeed<Reply>({ status: 200, text: `{"${name}":[${texts.join(",")}]${next}}` })
      }
    )
}

/** All items, each part of them encoded in its own turn of the event loop. */
export const inTurns = <A>(
  name: string,
  items: ReadonlyArray<A>,
  encode: (item: A) => unknown,
  all: (items: string) => string
): Effect.Effect<Reply, LimitExceededError> =>
  Effect.map(
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
