/** Cursors of run lists: opaque strings. A cursor is valid only for the query whose page returned it. */
import { createHash } from "node:crypto"
import * as Effect from "effect/Effect"
import { ValidationError } from "../../Errors.ts"

/**
 * A place in a list of runs. Most lists are ordered by creation, which is the order of `key`. Some lists are ordered by the
 * events that started the runs, and then by `key`: there, `event` is the position of the event in the log.
 */
export interface ListPlace {
  readonly event: number
  readonly key: number
  /** How many runs are on the pages before this place. */
  readonly listedCount: number
  /** The search plan of the list; see `SearchPlans.ts`. */
  readonly by: string
}

/** A digest that identifies the query of a cursor. Queries are plain data with their members in a fixed order. */
const digestOf = (query: object): string =>
  createHash("sha256").update(JSON.stringify(query)).digest("base64url").slice(0, 11)

export const writeCursor = (query: object, { by, event, key, listedCount }: ListPlace): string =>
  Buffer.from(JSON.stringify([digestOf(query), key, event, listedCount, by])).toString("base64url")

/** Reads a cursor. Fails with `ValidationError` when it is invalid, or belongs to another query. */
export const readCursor = (query: object, cursor: string): Effect.Effect<ListPlace, ValidationError> => {
  const parsed = parse(cursor)
  const subject = `Cursor "${cursor}"`
  if (parsed === undefined) {
    return Effect.fail(
      new ValidationError(
        `${subject} is not one that listRuns returned: pass the nextCursor of the previous page`
      )
    )
  }
  const [digest, key, event, listedCount, by] = parsed
  return digest === digestOf(query)
    ? Effect.succeed({ key, event, listedCount, by })
    : Effect.fail(
        new ValidationError(
          `${subject} belongs to a list with other filters or of another environment: pass it with the filters and to the environment of the page that returned it, or begin without a cursor`
        )
      )
}

const parse = (cursor: string): readonly [string, number, number, number, string] | undefined => {
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(cursor, "base64url").toString())
  } catch {
    // the cursor is not JSON
    return undefined
  }
  if (!Array.isArray(parsed) || parsed.length !== 5) return undefined
  const [digest, key, event, listedCount, by] = parsed as ReadonlyArray<unknown>
  const isPlace = [key, event, listedCount].every((part) => Number.isSafeInteger(part) && Number(part) >= 0)
  return isPlace && typeof digest === "string" && typeof by === "string"
    ? [digest, Number(key), Number(event), Number(listedCount), by]
    : undefined
}
