/** For subscriptions to an event definition: the type of the events' data, and the decoder of this data. */
import { type EventData, type EventDefinition, isEventDefinition } from "../Event.ts"
import { decodeForReader } from "../EventVersions.ts"
import { type AnySchema, canEncode, validate } from "../StandardSchema.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"

/** The data type of a pattern or definition; `any` for a pattern. */
// oxlint-disable-next-line typescript/no-explicit-any -- a pattern says nothing about the data
export type SubscribedData<P> = P extends EventDefinition ? EventData<P> : any

/**
 * Decodes data that was emitted with `version`, and that the registered definitions have upcast. A legacy server tells no
 * version: its data counts as data of the version of the definition.
 */
export type SubscribedDecoder = (
  data: unknown,
  version: number | undefined,
  registered: EventDefinitionRegistry | undefined
) => unknown

/**
 * Makes the decoder of the data; `undefined` when data is not decoded. Effect's parser is only loaded for
 * schemas of Effect.
 */
export const decoderOf = async (
  pattern: string | EventDefinition
): Promise<SubscribedDecoder | undefined> => {
  if (!isEventDefinition(pattern)) return undefined
  const { name } = pattern
  const schema: AnySchema | undefined = pattern.schema
  const standard =
    schema !== undefined && canEncode(schema)
      ? (await import("../EffectSchema.ts")).asStandard(schema)
      : schema
  return (upcastData, version, registered) =>
    decodeForReader(
      { name, version: version ?? pattern.version, data: upcastData },
      pattern,
      registered,
      (data) => (standard === undefined ? data : validate(standard, data, `Data of event "${name}"`))
    )
}
