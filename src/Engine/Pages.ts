/** Long lists in pages, so that none of them stops the engine. */
import * as Effect from "effect/Effect"
import { LimitExceededError, ValidationError } from "../Errors.ts"
import * as Limits from "../Limits.ts"
import { nextTurn } from "./Polite.ts"

export interface Page<A> {
  readonly items: ReadonlyArray<A>
  /** After what to go on; absent at the end. */
  readonly nextCursor?: string
}

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
