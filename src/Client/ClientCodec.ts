/**
 * Encodes and decodes data with schemas, as Effects. Effect's parser is only loaded for schemas of Effect.
 */
import * as Effect from "effect/Effect"
import { type StorageFormat, type DataCodec, standardCodec } from "../DataCodec.ts"
import { SchemaValidationError, ValidationError } from "../Errors.ts"
import { type AnySchema, canEncode, checkSchema } from "../StandardSchema.ts"
import { validated } from "../CheckAsEffect.ts"

/**
 * Makes the error for data that does not match a schema. `problems` name the paths in the data. `cause` is the
 * exception of the schema, if the schema has thrown one.
 */
type MakeSchemaError = (problems: ReadonlyArray<string>, cause: unknown) => SchemaValidationError

export interface ClientCodec {
  /**
   * Encodes a value. `what` names the value in the error when it cannot be stored. `makeError` makes the error when the
   * value does not match the schema.
   */
  readonly encode: (
    value: unknown,
    what: string,
    makeError: MakeSchemaError
  ) => Effect.Effect<unknown, ValidationError>
  readonly decode: (stored: unknown, makeError: MakeSchemaError) => Effect.Effect<unknown, ValidationError>
}

/**
 * Makes the codec of a schema. If `schemaArgument` is not a schema, the Effects of the codec fail with a
 * `ValidationError`, in which `owner` names the schema.
 */
export const clientCodec = (schemaArgument: AnySchema, format: StorageFormat, owner: string): ClientCodec => {
  let loadedCodec: DataCodec | undefined
  const codec: Effect.Effect<DataCodec, ValidationError> = Effect.suspend(() => {
    if (loadedCodec !== undefined) return Effect.succeed(loadedCodec)
    return Effect.flatMap(
      validated(() => checkSchema(schemaArgument, owner)),
      (schema) =>
        canEncode(schema)
          ? Effect.map(
              Effect.promise(() => import("../EffectSchema.ts")),
              ({ effectCodec }) => (loadedCodec = effectCodec(schema, format))
            )
          : Effect.succeed((loadedCodec = standardCodec(schema, format)))
    )
  })
  return {
    encode: (value, what, makeError) =>
      Effect.flatMap(codec, ({ encode }) => checkedData(() => encode(value, what), makeError)),
    decode: (stored, makeError) =>
      Effect.flatMap(codec, ({ decode }) => checkedData(() => decode(stored, ""), makeError))
  }
}

/**
 * Runs a check of data, which may be asynchronous. If the data does not match, the Effect fails with the error that
 * `makeError` makes.
 */
const checkedData = (
  run: () => unknown,
  makeError: MakeSchemaError
): Effect.Effect<unknown, ValidationError> =>
  Effect.mapError(
    Effect.flatMap(validated(run), (result) =>
      result instanceof Promise
        ? Effect.catch(Effect.tryPromise({ try: () => result, catch: (error) => error }), failOrDie)
        : Effect.succeed(result)
    ),
    (error) => replaceSchemaError(error, makeError)
  )

/** Replaces the error of a schema by the error that `makeError` makes. Returns any other error unchanged. */
const replaceSchemaError = (error: ValidationError, makeError: MakeSchemaError): ValidationError =>
  error instanceof SchemaValidationError ? makeError(error.validationErrors, error.cause) : error

/** Fails with the error if it is a `ValidationError`. Any other error becomes a defect. */
const failOrDie = (error: unknown): Effect.Effect<never, ValidationError> =>
  error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
