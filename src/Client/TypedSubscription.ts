/** For subscriptions to an event definition: the type of the events' data, and the decoder of this data. */
import { type EventData, type EventDefinition, isEventDefinition } from "../Event.ts"
import { type AnySchema, canEncode, validate } from "../StandardSchema.ts"

/** The data type of a pattern or definition; `any` for a pattern. */
// oxlint-disable-next-line typescript/no-explicit-any -- a pattern says nothing about the data
export type SubscribedData<P> = P extends EventDefinition ? EventData<P> : any

/**
 * Makes the decoder of the data; `undefined` when data is not decoded. Effect's parser is only loaded for
 * schemas of Effect.
 */
export const decoderOf = async (
  pattern: string | EventDefinition
): Promise<((data: unknown) => unknown) | undefined> => {
  if (!isEventDefinition(pattern) || pattern.schema === undefined) return undefined
  const { name } = pattern
  const schema: AnySchema = pattern.schema
  const standard = canEncode(schema) ? (await import("../EffectSchema.ts")).asStandard(schema) : schema
  return (data) => validate(standard, data, `Data of event "${name}"`)
}
