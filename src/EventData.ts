/** Decodes the data of events for handlers, and encodes the input of invocations. */
import { asStandard, encodeNow } from "./EffectSchema.ts"
import { SchemaValidationError } from "./Errors.ts"
import type { EventDefinition } from "./Event.ts"
import { decodeForReader } from "./EventVersions.ts"
import type { AnyFunction } from "./Function.ts"
import { isObject } from "./Json.ts"
import { matchesPattern } from "./Pattern.ts"
import { type AnySchema, canEncode, isSchema, validateData } from "./StandardSchema.ts"
import type { Invokable } from "./Step.ts"
import { cronEventName } from "./Trigger.ts"
import type { EventDefinitionRegistry } from "./Upcaster.ts"

/** An event for a function, whose data the registered definitions have upcast. */
export interface TriggeringEvent {
  readonly name: string
  /** The version with which the event was emitted. */
  readonly version: number
  readonly data: unknown
}

/** The name and data of an event, as the handler receives them. */
export interface HandledEvent {
  readonly name: string
  readonly data: unknown
}

/**
 * Validates and decodes the data of an event for a handler. The schema is that of the event's definition among the
 * triggers, or else that of the function. An invocation of a function without a schema uses the first definition among
 * the triggers whose schema accepts the input, and the event gets the name of that definition. An input that no schema
 * accepts is passed on unchanged when one of the triggers has no definition, and is refused otherwise. `registered` are
 * the event definitions of the worker. Throws `SchemaValidationError`, or rejects with it when a schema is
 * asynchronous.
 */
export const validateEvent = (
  fn: AnyFunction,
  event: TriggeringEvent,
  registered?: Pick<EventDefinitionRegistry, "getLatestVersion">
): HandledEvent | Promise<HandledEvent> => {
  const { data, name } = event
  const { definitions = [], id, schema, triggers } = fn.config
  const definition = definitions.find((definition) => definition.name === name)
  const isTriggered = triggers.some((trigger) => matchesPattern(cronEventName(id, trigger), name))
  if (definition !== undefined || schema !== undefined || isTriggered || definitions.length === 0) {
    const reader = definition ?? { schema }
    return decodeForReader(event, definition, registered, (data) => decode(name, reader.schema, data))
  }
  const acceptsAnyInput = triggers.length > definitions.length
  return tryDefinitions(definitions, data, (problems) => {
    if (acceptsAnyInput) return { name, data }
    throw new SchemaValidationError(
      problems.length === 1
        ? problems[0]!.message
        : `The input of function "${id}" fits none of its events: ${problems.map(({ message }) => message).join("; ")}`,
      { validationErrors: problems.flatMap(({ validationErrors }) => validationErrors) }
    )
  })
}

const decode = (
  name: string,
  schema: AnySchema | undefined,
  data: unknown
): HandledEvent | Promise<HandledEvent> => {
  if (schema === undefined) return { name, data }
  const decoded = validateData(asStandard(schema), data, `Data of event "${name}"`)
  return decoded instanceof Promise ? decoded.then((data) => ({ name, data })) : { name, data: decoded }
}

const tryDefinitions = (
  definitions: ReadonlyArray<EventDefinition>,
  data: unknown,
  orElse: (problems: ReadonlyArray<SchemaValidationError>) => HandledEvent,
  problems: ReadonlyArray<SchemaValidationError> = []
): HandledEvent | Promise<HandledEvent> => {
  const [definition, ...rest] = definitions
  if (definition === undefined) return orElse(problems)
  const tryNext = (error: unknown) => {
    if (!(error instanceof SchemaValidationError)) throw error
    return tryDefinitions(rest, data, orElse, [...problems, error])
  }
  try {
    const event = decode(definition.name, definition.schema, data)
    return event instanceof Promise ? event.catch(tryNext) : event
  } catch (error) {
    return tryNext(error)
  }
}

/**
 * Encodes the input of an invocation with the schema with which the invoked function will decode it. This is done for a
 * function that is given by value, has an Effect handler, and has exactly one event definition, with an Effect schema.
 * For any other function the input is returned as it is. Throws `SchemaValidationError`.
 */
export const encodeInput = (target: string | Invokable, input: unknown): unknown => {
  if (typeof target !== "object" || target === null || !("program" in target)) return input
  const { definitions, id }: { readonly definitions?: unknown; readonly id?: unknown } = target.config
  const definition: unknown =
    Array.isArray(definitions) && definitions.length === 1 ? definitions[0] : undefined
  return isObject(definition) && isSchema(definition.schema) && canEncode(definition.schema)
    ? encodeNow(definition.schema, input, `Input of invoked function "${String(id)}"`)
    : input
}
