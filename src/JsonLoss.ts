/**
 * Finds values that JSON turns into `{}`: a `RegExp`, `Headers`, an `ArrayBuffer`, an iterator, a promise.
 */
import { isBooleanObject, isNativeError, isNumberObject, isStringObject } from "node:util/types"

/**
 * Whether JSON loses all that an object holds, for an object that is no array and has no `toJSON`. JSON keeps
 * plain objects, and instances with fields of their own.
 */
export const losesContent = (value: object): boolean => {
  if (isPlain(Object.getPrototypeOf(value))) return false
  // the content of a map, set or promise is lost, even if fields were added to the object
  if (value instanceof Map || value instanceof Set || value instanceof Promise) return true
  return Object.keys(value).length === 0 && !isBoxed(value)
}

export const isError = (value: object): value is Error => value instanceof Error || isNativeError(value)

/**
 * Whether this is the prototype of plain objects, in this realm or in another one (a `vm` context, a test runner).
 */
const isPlain = (prototype: object | null): boolean =>
  prototype === Object.prototype ||
  prototype === null ||
  (Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "isPrototypeOf"))

/** Whether JSON writes the object as the primitive value in it. */
const isBoxed = (value: object): boolean =>
  isStringObject(value) || isNumberObject(value) || isBooleanObject(value)
