/** Subscribing by definition: to the events of its name, whose data its schema decodes. */
import { type EventData, type EventDefinition, isEventDefinition } from "../Event.ts"
import { type AnySchema, canEncode, validate } from "../StandardSchema.ts"

/** Data of the events of a pattern or definition; unknown in advance (`any`) for a pattern. */
// oxlint-disable-next-line typescript/no-explicit-any -- a pattern says nothing about the data
export type SubscribedData<P> = P extends EventDefinition ? EventData<P> : any

/** What decodes the data; `undefined` when it stays as it is. Effect's parser is loaded with the first Effect schema. */
export const decoderOf = async (
  pattern: string | EventDefinition
): Promise<((data: unknown) => unknown) | undefined> => {
  if (!isEventDefinition(pattern) || pattern.schema === undefined) return undefined
  const { name } = pattern
  const schema: AnySchema = pattern.schema
  const standard = canEncode(schema) ? (await import("../EffectSchema.ts")).asStandard(schema) : schema
  return (data) => validate(standard, data, `Data of event "${name}"`)
}
