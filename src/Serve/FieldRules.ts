/** Checks the fields of a request by rules. A rule returns what is wrong with a value, or `undefined`. */
import { ValidationError } from "../Errors.ts"
import { isObject } from "../Json.ts"

export type Problems = Array<string>
export type Rule = (value: unknown) => string | undefined

export const text: Rule = (value) => (typeof value === "string" ? undefined : "must be a string")
export const number: Rule = (value) => (typeof value === "number" ? undefined : "must be a number")
export const bool: Rule = (value) => (typeof value === "boolean" ? undefined : "must be true or false")
export const object: Rule = (value) => (isObject(value) ? undefined : "must be an object")
export const version: Rule = (value) =>
  Number.isInteger(value) && Number(value) >= 1 ? undefined : "must be an integer, at least 1"
export const list: Rule = (value) => (Array.isArray(value) ? undefined : "must be an array")
export const oneOf =
  (...words: ReadonlyArray<string>): Rule =>
  (value) =>
    words.some((word) => word === value) ? undefined : `must be one of ${words.join(", ")}`
export const optional =
  (rule: Rule): Rule =>
  (value) =>
    value === undefined ? undefined : rule(value)
export const present: Rule = (value) => (value === undefined ? "is required" : undefined)
export const texts: Rule = (value) =>
  isObject(value) && Object.values(value).every((one) => typeof one === "string")
    ? undefined
    : "must be an object of strings"

/** Adds a problem for each field of `value` that breaks its rule; `at` is the path of `value` in the request. */
export const check = (
  at: string,
  value: unknown,
  rules: { readonly [field: string]: Rule },
  problems: Problems
): void => {
  if (!isObject(value)) {
    problems.push(`${at === "" ? "the body" : at}: must be an object`)
    return
  }
  for (const [field, rule] of Object.entries(rules)) {
    const problem = rule(value[field])
    if (problem !== undefined) problems.push(`${at === "" ? "" : `${at}.`}${field}: ${problem}`)
  }
}

/** If there are problems, throws a `ValidationError`. Its message names the first 20 problems, and `validationErrors` has all of them. */
export const throwIfInvalid = (what: string, problems: Problems): void => {
  if (problems.length === 0) return
  throw new ValidationError(`This is not a ${what}: ${problems.slice(0, 20).join("; ")}`, {
    validationErrors: problems
  })
}
