/** Codecs of the client, as Effects. Effect's parser is loaded only for Effect schemas. */
import * as Effect from "effect/Effect"
import { type StorageFormat, type DataCodec, standardCodec } from "../DataCodec.ts"
import { SchemaValidationError, ValidationError } from "../Errors.ts"
import { type AnySchema, canEncode, checkSchema } from "../StandardSchema.ts"
import { validated } from "../CheckAsEffect.ts"

/** Makes the error of data that does not match: from the paths, and from the schema's own exception if it threw. */
type Misfit = (problems: ReadonlyArray<string>, cause: unknown) => SchemaValidationError

export interface ClientCodec {
  /** `what` names the data in the error when it cannot be stored; `misfit` makes the error when it does not match. */
  readonly encode: (value: unknown, what: string, misfit: Misfit) => Effect.Effect<unknown, ValidationError>
  readonly decode: (kept: unknown, misfit: Misfit) => Effect.Effect<unknown, ValidationError>
}

/**
 * The codec of a schema. Its Effects fail with `ValidationError` when `given` is not a schema; `whose` names it in the message.
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

/** Runs a check that may be asynchronous. Data that does not match fails with the error that `misfit` makes. */
const fitting = (run: () => unknown, misfit: Misfit): Effect.Effect<unknown, ValidationError> =>
  Effect.mapError(
    Effect.flatMap(validated(run), (result) =>
      result instanceof Promise
        ? Effect.catch(Effect.tryPromise({ try: () => result, catch: (error) => error }), refusal)
        : Effect.succeed(result)
    ),
    (error) => misfitOf(error, misfit)
  )

/** Converts a schema error with `misfit`; other errors stay. */
const misfitOf = (error: ValidationError, misfit: Misfit): ValidationError =>
  error instanceof SchemaValidationError ? misfit(error.validationErrors, error.cause) : error

const refusal = (error: unknown): Effect.Effect<never, ValidationError> =>
  error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
