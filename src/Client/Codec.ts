/** Codecs in the client: Effects of what they do, and Effect's parser loaded by whoever brings an Effect schema. */
import * as Effect from "effect/Effect"
import { type Carrier, type DataCodec, standardCodec } from "../DataCodec.ts"
import { SchemaValidationError, ValidationError } from "../Errors.ts"
import { type AnySchema, canEncode, checkSchema } from "../StandardSchema.ts"
import { validated } from "../Checked.ts"

/** What a schema says of data that does not fit: the paths, and what it threw if it threw. */
type Misfit = (problems: ReadonlyArray<string>, cause: unknown) => SchemaValidationError

export interface ClientCodec {
  /** `what` names the data when it cannot be kept at all, and `misfit` makes the error of what does not fit. */
  readonly encode: (value: unknown, what: string, misfit: Misfit) => Effect.Effect<unknown, ValidationError>
  readonly decode: (kept: unknown, misfit: Misfit) => Effect.Effect<unknown, ValidationError>
}

/** The codec of a schema. Its Effects fail with `ValidationError` when it is none; `whose` names it in that. */
export const clientCodec = (given: AnySchema, carrier: Carrier, whose: string): ClientCodec => {
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

/** What may answer later, with what does not fit as the failure that `misfit` makes of it. */
const fitting = (run: () => unknown, misfit: Misfit): Effect.Effect<unknown, ValidationError> =>
  Effect.mapError(
    Effect.flatMap(validated(run), (result) =>
      result instanceof Promise
        ? Effect.catch(Effect.tryPromise({ try: () => result, catch: (error) => error }), refusal)
        : Effect.succeed(result)
    ),
    (error) => misfitOf(error, misfit)
  )

/** The error as `misfit` says it, if it is one of a schema. */
const misfitOf = (error: ValidationError, misfit: Misfit): ValidationError =>
  error instanceof SchemaValidationError ? misfit(error.validationErrors, error.cause) : error

const refusal = (error: unknown): Effect.Effect<never, ValidationError> =>
  error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
