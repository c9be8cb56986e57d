/**
 * Encodes events before they are emitted. A definition gives the name and version of the event, and the schema that
 * encodes the data.
 */
import * as Effect from "effect/Effect"
import type { DataCodec } from "./DataCodec.ts"
import { SchemaValidationError, ValidationError } from "./Errors.ts"
import { type EventDefinition, isEventDefinition } from "./Event.ts"
import { isObject } from "./Json.ts"
import { show } from "./Show.ts"
import type { AnySchema } from "./StandardSchema.ts"

/**
 * Makes the codec of a schema. It is `jsonCodec` of `EffectSchema.ts`, or another function in programs that do not load
 * Effect's parser.
 */
export type CodecOf = (schema: AnySchema) => Pick<DataCodec, "encode">

/** An event by name or by definition. */
export interface GivenEvent {
  readonly event?: EventDefinition | undefined
  readonly name?: string | undefined
  readonly data?: unknown
  readonly version?: number | undefined
}

/** An event by name, with encoded data. */
export type EventByName<Given> = Omit<Given, "event"> & { readonly name: string }

/** Whether the event is given by its definition. */
export const isByDefinition = (given: unknown): given is { readonly event: EventDefinition } =>
  isObject(given) && isEventDefinition(given.event)

/**
 * The event by name, with the version of its definition and with encoded data. For data that does not fit, it throws
 * `SchemaValidationError`, or rejects with it when the schema is asynchronous. The message names the event, and gives
 * each path that does not fit and the reason. When a version is given that is not the version of the definition, it
 * throws `ValidationError`.
 */
export const encodeEvent = <Given extends GivenEvent>(
  given: Given & { readonly event: EventDefinition },
  codecOf: CodecOf
): EventByName<Given> | Promise<EventByName<Given>> => {
  const { event: definition, ...rest } = given
  const { name, schema, version } = definition
  if (given.version !== undefined && given.version !== version) {
    throw new ValidationError(
      `The definition of event "${name}" has version ${version}, but \`version\` is ${show(given.version)}: leave \`version\` out, ` +
        `or give the definition of version ${show(given.version)}`
    )
  }
  const withData = (data: unknown): EventByName<Given> => ({ ...rest, name, version, data })
  if (schema === undefined) return withData(given.data)
  try {
    const encoded = codecOf(schema).encode(given.data, `Data of event "${name}"`)
    return encoded instanceof Promise ? encoded.then(withData, throwNotSent) : withData(encoded)
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
 * Does what {@link encodeEvent} does, synchronously. An event that is given by name is returned as it is. Throws
 * `ValidationError` when the schema is asynchronous.
 */
export const encodeEventNow = <Given extends GivenEvent>(
  given: Given,
  codecOf: CodecOf
): EventByName<Given> => {
  // untyped code may give an event without a name, which the check of event names refuses later
  if (!isByDefinition(given)) return given as Given & EventByName<Given>
  const encoded = encodeEvent(given, codecOf)
  if (!(encoded instanceof Promise)) return encoded
  // the result is not used, and its rejection must not be an unhandled one
  encoded.catch(() => undefined)
  throw new ValidationError(
    `Data of event "${given.event.name}": the schema validates asynchronously, but here it must be synchronous`
  )
}

/**
 * Makes an Effect of a validation or encoding that may be asynchronous. A `ValidationError` becomes the
 * failure of the Effect.
 */
export const validationEffect = <A>(run: () => A | Promise<A>): Effect.Effect<A, ValidationError> =>
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
