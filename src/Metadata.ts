/** Metadata of an event, a function or a consumer group. It is small, so that every view can show it. */
import { ValidationError } from "./Errors.ts"
import { encodeJson, hasToJson, isObject } from "./Json.ts"
import { checkEntries, checkSize, metadataBytes } from "./Limits.ts"

/**
 * Metadata as JSON; `undefined` for `undefined`. `what` names it (`The metadata of event "order.placed"`). Throws
 * `ValidationError` unless it is a plain object that stays an object in JSON (a date becomes a string), and `LimitExceededError`
 * for more than 256 members or 64 KiB.
 */
export const encodeMetadata = (what: string, metadata: unknown): string | undefined => {
  if (metadata === undefined) return undefined
  const text = isObject(metadata) ? encodeJson(metadata, what) : undefined
  if (!isObject(metadata) || text?.[0] !== "{") throw new ValidationError(`${what} must be an object`)
  checkEntries(what, hasToJson(metadata) ? (JSON.parse(text) as object) : metadata)
  return checkSize(what, text, metadataBytes)
}
