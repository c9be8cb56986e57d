/** What JSON makes `{}` of, whatever is in it: a `RegExp`, `Headers`, an `ArrayBuffer`, an iterator, a promise. */
import { isBooleanObject, isNativeError, isNumberObject, isStringObject } from "node:util/types"

/**
 * Whether JSON loses all of an object that is no array and has no `toJSON`. It keeps plain objects, and instances with
 * fields of their own.
 */
export const isEmptied = (value: object): boolean => {
  if (isPlain(Object.getPrototypeOf(value))) return false
  // the fields that somebody gave it are not what is in it
  if (value instanceof Map || value instanceof Set || value instanceof Promise) return true
  return Object.keys(value).length === 0 && !isBoxed(value)
}

export const isError = (value: object): value is Error => value instanceof Error || isNativeError(value)

/** Whether it is the prototype of plain objects, also of another realm (a `vm` context, a test runner). */
const isPlain = (prototype: object | null): boolean =>
  prototype === Object.prototype ||
  prototype === null ||
  (Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "isPrototypeOf"))

/** JSON takes the value out. */
const isBoxed = (value: object): boolean =>
  isStringObject(value) || isNumberObject(value) || isBooleanObject(value)
