/** Decides where the database of an engine is, from its options: a file, or Postgres. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readEnvironmentVariable } from "../EnvironmentVariables.ts"
import { type StoreError, toError, ValidationError } from "../Errors.ts"
import type { PostgresOptions } from "./Store/Postgres/Options.ts"
import type { Store } from "./Store/Store.ts"

const DATABASE_URL = "IRONFLOW_DATABASE_URL"

/**
 * The database URL of an engine: the given one, or that in the environment variable when neither a URL nor a file was given.
 * `undefined` for a file. Throws a `ValidationError` when both were given. `names` are the names of these options, for the
 * message.
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
          // for invalid options, only a `ValidationError` is thrown
          catch: (error) => toError(error) as ValidationError
        })
    )
  )
