/**
 * Encodes and decodes the data of events and inputs that a test provides. Data is encoded as a client would send
 * it, and decoded as a handler would receive it.
 */
import { jsonCodec } from "../EffectSchema.ts"
import { checkStreamEvent, type NewStreamEvent } from "../EntityStream.ts"
import { ValidationError } from "../Errors.ts"
import { type EventDefinition, isEventDefinition } from "../Event.ts"
import { validateEvent } from "../EventData.ts"
import { encodeEventNow, type GivenEvent } from "../EventEncoding.ts"
import type { AnyFunction } from "../Function.ts"

/** The data of the event that a function's handler receives. */
export type HandledData<F> = F extends
  { readonly handler: (context: infer C) => unknown } | { readonly program: (context: infer C) => unknown }
  ? C extends { readonly event: { readonly data: infer T } }
    ? T
    : unknown
  : unknown

/**
 * The input of an invoked function as its handler receives it. Throws `ValidationError` when the schema does not accept it, or
 * validates asynchronously.
 */
export const decodeInput = (fn: AnyFunction, input: unknown): unknown => {
  const decoded = validateEvent(fn, { name: "ironflow.invoke", version: 1, data: input })
  if (decoded instanceof Promise) {
    throw new ValidationError(
      `mockInvoke(): the schema of function "${fn.config.id}" validates asynchronously, which mockInvoke() cannot wait for: ` +
        "give mockInvoke() the id of the function in place of the function"
    )
  }
  return decoded.data
}

/** The event as a client would send it, with its data encoded by the event's definition. */
export const eventOf = (event: string | EventDefinition, data: unknown): NewStreamEvent => {
  const given = isEventDefinition(event) ? { event, data } : { name: event, data }
  const { version, ...named } = encodeEventNow<GivenEvent>(given, jsonCodec)
  return checkStreamEvent({ ...named, ...(version === undefined ? {} : { version }) })
}
