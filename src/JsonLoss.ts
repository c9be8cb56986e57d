/** Detects values that JSON turns into `{}`: a `RegExp`, `Headers`, an `ArrayBuffer`, an iterator, a promise. */
import { isBooleanObject, isNativeError, isNumberObject, isStringObject } from "node:util/types"

/**
 * Whether JSON loses the whole content of an object that is not an array and has no `toJSON`. It keeps plain objects, and
 * instances with their own fields.
 */
export const losesContent = (value: object): boolean => {
  if (isPlain(Object.getPrototypeOf(value))) return false
  // own fields that were added are not their content
  if (value instanceof Map || value instanceof Set || value instanceof Promise) return true
  return Object.keys(value).length === 0 && !isBoxed(value)
}

export const isError = (value: object): value is Error => value instanceof Error || isNativeError(value)

/** Whether it is the prototype of plain objects, also from another realm (a `vm` context, a test runner). */
const isPlain = (prototype: object | null): boolean =>
  prototype === Object.prototype ||
  prototype === null ||
  (Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "isPrototypeOf"))

/** Whether JSON unwraps the object. */
const isBoxed = (value: object): boolean =>
  isStringObject(value) || isNumberObject(value) || isBooleanObject(value)
