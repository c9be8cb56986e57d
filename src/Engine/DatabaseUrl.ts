/** Decides from the options of an engine whether its database is a file or on Postgres, and makes the layer for Postgres. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readEnvironmentVariable } from "../EnvironmentVariables.ts"
import { type StoreError, toError, ValidationError } from "../Errors.ts"
import type { PostgresOptions } from "./Store/Postgres/Options.ts"
import type { Store } from "./Store/Store.ts"

const DATABASE_URL = "IRONFLOW_DATABASE_URL"

/**
 * The database URL of an engine: the given URL, or `IRONFLOW_DATABASE_URL` when neither a URL nor a file was given. `undefined`
 * when the database is a file. Throws a `ValidationError` when both a URL and a file were given. `names` are the names of these two
 * options in the message of that error.
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

/** {@link Store} on Postgres. Its code is loaded only when the layer is used. */
export const layerPostgres = (options: PostgresOptions): Layer.Layer<Store, StoreError | ValidationError> =>
  Layer.unwrap(
    Effect.flatMap(
      Effect.promise(() => import("./PostgresStore.ts")),
      ({ layer }) =>
        Effect.try({
          try: () => layer(options),
          // safe cast: `layer` throws only for invalid options, and always a `ValidationError`
          catch: (error) => toError(error) as ValidationError
        })
    )
  )
