/** Checks of the names and data of configurations. */
import { ValidationError } from "./Errors.ts"
import { encodeJson, isObject } from "./Json.ts"
import { checkName, checkSize, kvValueBytes } from "./Limits.ts"

/** Returns the name, if a configuration can have it. Throws `ValidationError` or `LimitExceededError`. */
export const checkConfigName = (name: unknown): string => {
  const checked = checkName("name of a configuration", name)
  // `.` and `..` have a special meaning in a path
  if (checked !== "." && checked !== "..") return checked
  throw new ValidationError(`${JSON.stringify(checked)} cannot be the name of a configuration`)
}

/** The data of a configuration as JSON. Throws `ValidationError` or `LimitExceededError`. */
export const encodeConfig = (name: string, data: unknown): string => {
  const what = `Configuration ${JSON.stringify(checkConfigName(name))}`
  const text = isObject(data) ? encodeJson(data, what) : undefined
  // not an object: `toJSON` may return anything
  if (text === undefined || !text.startsWith("{")) {
    const kind = Array.isArray(data) ? "an array" : data === null ? "null" : `a ${typeof data}`
    throw new ValidationError(
      `${what} must be an object, got ${isObject(data) ? "something whose JSON is not an object" : kind}`
    )
  }
  return checkSize(what, text, kvValueBytes)
}
