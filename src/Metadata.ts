/** What is said about an event, a function or a consumer group, beside it: small, so that it can be shown with it everywhere. */
import { ValidationError } from "./Errors.ts"
import { encodeJson, hasToJson, isObject } from "./Json.ts"
import { checkEntries, checkSize, metadataBytes } from "./Limits.ts"

/**
 * Metadata as JSON text; `undefined` for `undefined`. `what` names it (`The metadata of event "order.placed"`). Throws `ValidationError`
 * when it is no object as JSON has it (a date is a text) or not plain data, `LimitExceededError` when it has more than 256 members or 64 KiB.
 */
export const encodeMetadata = (what: string, metadata: unknown): string | undefined => {
  if (metadata === undefined) return undefined
  const text = isObject(metadata) ? encodeJson(metadata, what) : undefined
  if (!isObject(metadata) || text?.[0] !== "{") throw new ValidationError(`${what} must be an object`)
  checkEntries(what, hasToJson(metadata) ? (JSON.parse(text) as object) : metadata)
  return checkSize(what, text, metadataBytes)
}
