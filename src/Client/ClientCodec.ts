/**
 * Encodes and decodes data with schemas, as Effects. Effect's parser is only loaded for schemas of Effect.
 */
import * as Effect from "effect/Effect"
import { type StorageFormat, type DataCodec, standardCodec } from "../DataCodec.ts"
import { SchemaValidationError, ValidationError } from "../Errors.ts"
import { type AnySchema, canEncode, checkSchema } from "../StandardSchema.ts"
import { validated } from "../CheckAsEffect.ts"

/**
 * Makes the error of data that does not match: from the problems with their paths, and from the schema's own
 * exception if it has thrown one.
 */
type Misfit = (problems: ReadonlyArray<string>, cause: unknown) => SchemaValidationError

export interface ClientCodec {
  /**
   * Encodes a value. `what` names it in the error when it cannot be stored; `misfit` makes the error when it
   * does not match.
   */
  readonly encode: (value: unknown, what: string, misfit: Misfit) => Effect.Effect<unknown, ValidationError>
  readonly decode: (kept: unknown, misfit: Misfit) => Effect.Effect<unknown, ValidationError>
}

/**
 * Makes the codec of a schema. Its Effects fail with `ValidationError`, which names `whose`, when `given` is
 * not a schema.
 */
export const clientCodec = (given: AnySchema, carrier: StorageFormat, whose: string): ClientCodec => {
  let made: DataCodec | undefined
  const codec: Effect.Effect<DataCodec, ValidationError> = Effect.suspend(() => {
    if (made !== undefined) return Effect.succeed(made)
    return Effect.flatMap(
      validated(() => checkSchema(given, whose)),
      (schema) =>
        canEncode(schema)
          ? Effect.map(
              Effect.promise(() => import("../EffectSchema.ts")),
              ({ effectCodec }) => (made = effectCodec(schema, carrier))
            )
          : Effect.succeed((made = standardCodec(schema, carrier)))
    )
  })
  return {
    encode: (value, what, misfit) =>
      Effect.flatMap(codec, ({ encode }) => fitting(() => encode(value, what), misfit)),
    decode: (kept, misfit) => Effect.flatMap(codec, ({ decode }) => fitting(() => decode(kept, ""), misfit))
  }
}

/**
 * Runs a check, which may be asynchronous. Data that does not match fails with the error that `misfit` makes.
 */
const fitting = (run: () => unknown, misfit: Misfit): Effect.Effect<unknown, ValidationError> =>
  Effect.mapError(
    Effect.flatMap(validated(run), (result) =>
      result instanceof Promise
        ? Effect.catch(Effect.tryPromise({ try: () => result, catch: (error) => error }), refusal)
        : Effect.succeed(result)
    ),
    (error) => misfitOf(error, misfit)
  )

/** Makes the error with `misfit` when `error` is that of a schema. Any other error stays as it is. */
const misfitOf = (error: ValidationError, misfit: Misfit): ValidationError =>
  error instanceof SchemaValidationError ? misfit(error.validationErrors, error.cause) : error

const refusal = (error: unknown): Effect.Effect<never, ValidationError> =>
  error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
