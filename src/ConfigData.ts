/** What a configuration may be called, and what it is made of. */
import { ValidationError } from "./Errors.ts"
import { encodeJson, isObject } from "./Json.ts"
import { checkName, checkSize, kvValueBytes } from "./Limits.ts"

/** Returns the name if a configuration can have it. Throws `ValidationError` or `LimitExceededError`. */
export const checkConfigName = (name: unknown): string => {
  const checked = checkName("name of a configuration", name)
  // they mean something else in a path
  if (checked !== "." && checked !== "..") return checked
  throw new ValidationError(`${JSON.stringify(checked)} cannot be the name of a configuration`)
}

/** The data of a configuration as JSON. Throws `ValidationError` or `LimitExceededError`. */
export const encodeConfig = (name: string, data: unknown): string => {
  const what = `Configuration ${JSON.stringify(checkConfigName(name))}`
  const text = isObject(data) ? encodeJson(data, what) : undefined
  // something with a `toJSON` may become anything
  if (text === undefined || !text.startsWith("{")) {
    const kind = Array.isArray(data) ? "an array" : data === null ? "null" : `a ${typeof data}`
    throw new ValidationError(
      `${what} must be an object, got ${isObject(data) ? "something that is none as JSON" : kind}`
    )
  }
  return checkSize(what, text, kvValueBytes)
}
