/** Checks the names of configurations, and checks and encodes their data. */
import { ValidationError } from "./Errors.ts"
import { encodeJson, isObject } from "./Json.ts"
import { checkName, checkSize, kvValueBytes } from "./Limits.ts"

/** Returns the name, if a configuration can have it. Throws `ValidationError` or `LimitExceededError`. */
export const checkConfigName = (name: unknown): string => {
  const checked = checkName("name of a configuration", name)
  if (checked !== "." && checked !== "..") return checked
  throw new ValidationError(
    `${JSON.stringify(checked)} cannot be the name of a configuration, since it has a special meaning in URLs: choose another name`
  )
}

/** The data of a configuration as JSON. Throws `ValidationError` or `LimitExceededError`. */
export const encodeConfig = (name: string, data: unknown): string => {
  const what = `Configuration ${JSON.stringify(checkConfigName(name))}`
  const text = isObject(data) ? encodeJson(data, what) : undefined
  // an object whose `toJSON` returns something that is not an object is refused, too
  if (text === undefined || !text.startsWith("{")) {
    // not the value itself: it may be a secret
    const kind = Array.isArray(data) ? "an array" : data == null ? String(data) : `a ${typeof data}`
    throw new ValidationError(
      `${what} must be an object, got ${isObject(data) ? "something whose JSON is not an object" : kind}`
    )
  }
  return checkSize(what, text, kvValueBytes)
}
