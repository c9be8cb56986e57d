/** Reads lists page by page. Servers without pages return everything at once. */
import * as Effect from "effect/Effect"
import type { IronflowError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import type { Call, Calls } from "./HttpCalls.ts"

/** Items per page; the server may send fewer. */
const PAGE_SIZE = 1000

/**
 * Makes calls for one page after the other, and returns all items. `read` extracts the items of an answer.
 */
export const callPages = <A>(
  { call }: Calls,
  {
    query,
    read,
    ...callMembers
  }: Omit<Call<Array<A>>, "whenUnsupported" | "query"> & {
    readonly query?: { readonly [name: string]: string }
    readonly whenUnsupported?: (status: number) => Effect.Effect<never, IronflowError>
  }
): Effect.Effect<Array<A>, IronflowError> =>
  Effect.gen(function* () {
    const all: Array<A> = []
    let cursor = ""
    while (true) {
      const search = new URLSearchParams({ ...query, limit: String(PAGE_SIZE) })
      if (cursor !== "") search.set("cursor", cursor)
      const page = yield* call<{ readonly items: Array<A>; readonly next: unknown }>({
        ...callMembers,
        query: `?${search}`,
        read: (answer) => {
          const items = read(answer)
          return items === undefined
            ? undefined
            : { items, next: isObject(answer) ? answer.nextCursor : undefined }
        }
      })
      for (const item of page.items) all.push(item)
      // a cursor that comes again would make this loop forever
      if (typeof page.next !== "string" || page.next === "" || page.next === cursor) return all
      cursor = page.next
    }
  })
