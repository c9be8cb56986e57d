/** The data of events as handlers get it. */
import { asStandard, encodeNow } from "./EffectSchema.ts"
import { isObject } from "./Json.ts"
import type { Invokable } from "./Step.ts"
import { type AnyFunction, isEffectFunction } from "./Function.ts"
import { matchesPattern } from "./Pattern.ts"
import { type AnySchema, isEffectSchema, validateData } from "./StandardSchema.ts"

/**
 * The data of an event as the function's handler gets it: validated and decoded by its schema, or by the schema of the
 * event's definition. Throws, or rejects when the schema is asynchronous, with `SchemaValidationError`.
 */
export const validateEventData = (fn: AnyFunction, eventName: string, data: unknown): unknown => {
  const schema = schemaOf(fn, eventName)
  return schema === undefined ? data : validateData(asStandard(schema), data, `Data of event "${eventName}"`)
}

/**
 * The input of a function that is invoked as it is sent: encoded by the event definition by which the function will decode it.
 * Of a function that is known by its id, and of an async one, the input goes as it is. Throws `SchemaValidationError`.
 */
export const encodeInput = (target: string | Invokable, input: unknown): unknown => {
  if (typeof target !== "object" || target === null || !("program" in target)) return input
  const { definitions, id }: { readonly definitions?: unknown; readonly id?: unknown } = target.config
  const definition: unknown =
    Array.isArray(definitions) && definitions.length === 1 ? definitions[0] : undefined
  return isObject(definition) && isEffectSchema(definition.schema)
    ? encodeNow(definition.schema, input, `Input of invoked function "${String(id)}"`)
    : input
}

const schemaOf = (fn: AnyFunction, eventName: string): AnySchema | undefined => {
  if (!isEffectFunction(fn)) return fn.config.schema
  const { definitions, triggers } = fn.config
  const named = definitions.find((definition) => definition.name === eventName)
  if (named !== undefined) return named.schema
  // An invoked run has an event of no trigger's name. With one definition its input is that event's data.
  const triggered = triggers.some(({ event }) => event !== undefined && matchesPattern(event, eventName))
  return triggered || definitions.length !== 1 ? undefined : definitions[0]?.schema
}
