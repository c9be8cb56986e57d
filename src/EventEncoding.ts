/** Events on their way out: what a definition says of one that is given by it, and its data encoded by the schema. */
import * as Effect from "effect/Effect"
import type { DataCodec } from "./DataCodec.ts"
import { SchemaValidationError, ValidationError } from "./Errors.ts"
import { type EventDefinition, isEventDefinition } from "./Event.ts"
import { isObject } from "./Json.ts"
import { show } from "./Show.ts"
import type { AnySchema } from "./StandardSchema.ts"

/** The codec of a schema: `jsonCodec` of `EffectSchema.ts`, or what does without Effect's parser. */
export type CodecOf = (schema: AnySchema) => Pick<DataCodec, "encode">

/** An event that may be given by its definition, in place of its name. */
export interface GivenEvent {
  readonly event?: EventDefinition | undefined
  readonly name?: string | undefined
  readonly data?: unknown
  readonly version?: number | undefined
}

/** An event by its name, with its data as it is stored. */
export type Named<Given> = Omit<Given, "event"> & { readonly name: string }

/** Whether the event is given by its definition. */
export const isDefined = (given: unknown): given is { readonly event: EventDefinition } =>
  isObject(given) && isEventDefinition(given.event)

/**
 * The event by its name, with the version of its definition and its data encoded. Throws, or rejects when the schema is asynchronous, with
 * `SchemaValidationError`, whose message names the event, and each path with the reason; and with `ValidationError` when
 * another version was asked for.
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
    return encoded instanceof Promise ? encoded.then(named, notSent) : named(encoded)
  } catch (error) {
    return notSent(error)
  }
}

const notSent = (error: unknown): never => {
  throw error instanceof SchemaValidationError
    ? new SchemaValidationError(`${error.message}. Nothing was sent`, {
        validationErrors: error.validationErrors,
        cause: error.cause
      })
    : error
}

/** The event by its name, where nobody can wait: an asynchronous schema throws `ValidationError`. */
export const encodedNow = <Given extends GivenEvent>(given: Given, codecOf: CodecOf): Named<Given> => {
  // what has no name either is refused with all other names that are none
  if (!isDefined(given)) return given as Given & Named<Given>
  const encoded = encodeEvent(given, codecOf)
  if (!(encoded instanceof Promise)) return encoded
  // its outcome is of no use to anybody, and must not become an unhandled rejection
  encoded.catch(() => undefined)
  throw new ValidationError(
    `Data of event "${given.event.name}": the schema validates asynchronously, which is not possible here`
  )
}

/** What is validated or encoded at once, or later when the schema is asynchronous; what does not fit is a failure. */
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
