/**
 * Checks and encodes the metadata of an event, a function or a consumer group. Metadata is small, so that it can be
 * shown together with the thing that has it.
 */
import { ValidationError } from "./Errors.ts"
import { encodeJson, hasToJson, isObject } from "./Json.ts"
import { checkEntries, checkSize, metadataBytes } from "./Limits.ts"
import { show } from "./Show.ts"

/**
 * Metadata as JSON; `undefined` for `undefined`. `what` names the metadata (`The metadata of event "order.placed"`).
 * Throws `ValidationError` when the metadata is not an object, or becomes something else in JSON, as a date becomes a
 * string. Throws `LimitExceededError` when the metadata has more than 256 members or 64 KiB.
 */
export const encodeMetadata = (what: string, metadata: unknown): string | undefined => {
  if (metadata === undefined) return undefined
  const text = isObject(metadata) ? encodeJson(metadata, what) : undefined
  if (!isObject(metadata) || text?.[0] !== "{")
    throw new ValidationError(`${what} must be an object, got ${show(metadata)}`)
  checkEntries(what, hasToJson(metadata) ? (JSON.parse(text) as object) : metadata)
  return checkSize(what, text, metadataBytes)
}
