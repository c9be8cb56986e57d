/** Where the database of an engine is, of what its user has said: a file, or Postgres. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readEnvironmentVariable } from "../Environment.ts"
import { type StoreError, toError, ValidationError } from "../Errors.ts"
import type { PostgresOptions } from "./Store/Postgres/Options.ts"
import type { Store } from "./Store/Store.ts"

/** The environment variable. */
const DATABASE_URL = "IRONFLOW_DATABASE_URL"

/**
 * The URL that was given, or that of the environment variable when neither it nor a file was; `undefined` for a file. Throws a
 * `ValidationError` when both were given; `names` are what they are called.
 */
export const databaseUrlOf = (
  given: string | undefined,
  file: string | undefined,
  names: { readonly url: string; readonly file: string }
): string | undefined => {
  if (given !== undefined && file !== undefined) {
    throw new ValidationError(`Give ${names.url} or ${names.file}, not both: an engine has one database`)
  }
  return given ?? (file === undefined ? readEnvironmentVariable(DATABASE_URL) : undefined)
}

/** {@link Store} on Postgres, which is loaded now: an engine on a file has no use for it. */
export const layerPostgres = (options: PostgresOptions): Layer.Layer<Store, StoreError | ValidationError> =>
  Layer.unwrap(
    Effect.flatMap(
      Effect.promise(() => import("./PostgresStore.ts")),
      ({ layer }) =>
        Effect.try({
          try: () => layer(options),
          // nothing else is thrown for options
          catch: (error) => toError(error) as ValidationError
        })
    )
  )
