/**
 * Encodes events before they are emitted. Takes the name and version from a definition, and encodes the data
 * with its schema.
 */
import * as Effect from "effect/Effect"
import type { DataCodec } from "./DataCodec.ts"
import { SchemaValidationError, ValidationError } from "./Errors.ts"
import { type EventDefinition, isEventDefinition } from "./Event.ts"
import { isObject } from "./Json.ts"
import { show } from "./Show.ts"
import type { AnySchema } from "./StandardSchema.ts"

/** Makes the codec of a schema: `jsonCodec` of `EffectSchema.ts`, or one without Effect's parser. */
export type CodecOf = (schema: AnySchema) => Pick<DataCodec, "encode">

/** An event by name or by definition. */
export interface GivenEvent {
  readonly event?: EventDefinition | undefined
  readonly name?: string | undefined
  readonly data?: unknown
  readonly version?: number | undefined
}

/** An event by name, with encoded data. */
export type Named<Given> = Omit<Given, "event"> & { readonly name: string }

/** Whether the event is given by its definition. */
export const isDefined = (given: unknown): given is { readonly event: EventDefinition } =>
  isObject(given) && isEventDefinition(given.event)

/**
 * The event by name, with the version of its definition and with encoded data. Throws, or rejects when the
 * schema is asynchronous: with `SchemaValidationError`, whose message names the event and each path with the
 * reason; or with `ValidationError` when the given version is not that of the definition.
 */
export const encodeEvent = <Given extends GivenEvent>(
  given: Given & { readonly event: EventDefinition },
  codecOf: CodecOf
): Named<Given> | Promise<Named<Given>> => {
  const { event: definition, ...rest } = given
  const { name, schema, version } = definition
  if (given.version !== undefined && given.version !== version) {
    throw new ValidationError(
      `Event "${name}" is version ${version} by its definition, and ${show(given.version)} was given: leave \`version\` out, or give ` +
        "the definition of that version"
    )
  }
  const named = (data: unknown): Named<Given> => ({ ...rest, name, version, data })
  if (schema === undefined) return named(given.data)
  try {
    const encoded = codecOf(schema).encode(given.data, `Data of event "${name}"`)
    return encoded instanceof Promise ? encoded.then(named, throwNotSent) : named(encoded)
  } catch (error) {
    return throwNotSent(error)
  }
}

const throwNotSent = (error: unknown): never => {
  throw error instanceof SchemaValidationError
    ? new SchemaValidationError(`${error.message}. Nothing was sent`, {
        validationErrors: error.validationErrors,
        cause: error.cause
      })
    : error
}

/**
 * Does what {@link encodeEvent} does, synchronously. Throws `ValidationError` when the schema is
 * asynchronous.
 */
export const encodedNow = <Given extends GivenEvent>(given: Given, codecOf: CodecOf): Named<Given> => {
  // an event without a name goes on, and is refused where invalid names are
  if (!isDefined(given)) return given as Given & Named<Given>
  const encoded = encodeEvent(given, codecOf)
  if (!(encoded instanceof Promise)) return encoded
  // the result is not used, and its rejection must not be an unhandled one
  encoded.catch(() => undefined)
  throw new ValidationError(
    `Data of event "${given.event.name}": the schema validates asynchronously, which is not possible here`
  )
}

/**
 * Makes an Effect of a validation or encoding that may be asynchronous. A `ValidationError` becomes the
 * failure of the Effect.
 */
export const fromValidation = <A>(run: () => A | Promise<A>): Effect.Effect<A, ValidationError> =>
  Effect.suspend(() => {
    try {
      const result = run()
      return result instanceof Promise
        ? Effect.catch(
            Effect.tryPromise({ try: () => result, catch: (error) => error }),
            (error): Effect.Effect<never, ValidationError> => asFailure(error)
          )
        : Effect.succeed(result)
    } catch (error) {
      return asFailure(error)
    }
  })

const asFailure = (error: unknown): Effect.Effect<never, ValidationError> =>
  error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
