/**
 * Metadata of an event, a function or a consumer group. It is small, so that it can be shown with everything
 * else.
 */
import { ValidationError } from "./Errors.ts"
import { encodeJson, hasToJson, isObject } from "./Json.ts"
import { checkEntries, checkSize, metadataBytes } from "./Limits.ts"

/**
 * Metadata as JSON; `undefined` for `undefined`. `what` names it (`The metadata of event "order.placed"`).
 * Throws `ValidationError` when it is no plain object that stays one in JSON (a date becomes a string), and
 * `LimitExceededError` when it has more than 256 members or 64 KiB.
 */
export const encodeMetadata = (what: string, metadata: unknown): string | undefined => {
  if (metadata === undefined) return undefined
  const text = isObject(metadata) ? encodeJson(metadata, what) : undefined
  if (!isObject(metadata) || text?.[0] !== "{") throw new ValidationError(`${what} must be an object`)
  checkEntries(what, hasToJson(metadata) ? (JSON.parse(text) as object) : metadata)
  return checkSize(what, text, metadataBytes)
}
