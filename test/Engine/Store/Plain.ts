/**
 * Plain data, which may go to another thread or process and come back. Functions and instances of classes are not plain.
 * Errors of this package are the exception: they are sent in the form in which they are stored.
 */
import { isDeepStrictEqual } from "node:util"
import {
  deserializeError,
  type IronflowError,
  isIronflowError,
  type SerializedError,
  serializeError
} from "../../../src/Errors.ts"

/** The key under which an error is sent. */
const ERROR = "\u0000error"

const isPlain = (value: object): boolean => {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** The value in the form in which it is sent. Throws when a part of it is not plain. `what` names it: `an argument of "readEntry"`. */
export const toPlain = (what: string, value: unknown): unknown => {
  switch (typeof value) {
    case "function":
    case "symbol":
      throw new Error(`${what} is a ${typeof value}, and no other thread can have it`)
    case "object":
      break
    default:
      return value
  }
  if (value === null || value instanceof Uint8Array) return value
  if (Array.isArray(value)) return value.map((item, index) => toPlain(`${what}[${index}]`, item))
  if (value instanceof Map)
    return new Map(
      [...value].map(([key, item]) => [toPlain(`${what} key`, key), toPlain(`${what} at ${key}`, item)])
    )
  if (value instanceof Set) return new Set([...value].map((item) => toPlain(`${what} item`, item)))
  if (isIronflowError(value)) return { [ERROR]: errorToPlain(value) }
  if (!isPlain(value))
    throw new Error(
      `${what} is a ${value.constructor.name}, and not plain: another thread would get something else`
    )
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, toPlain(`${what}.${key}`, item)])
  )
}

/**
 * The value that was sent, frozen. A driver in this thread may pass on an object that it remembers, or that it also
 * gives to others, so its receivers may not change it.
 */
export const fromPlain = (value: unknown): unknown => freeze(revive(value))

const revive = (value: unknown): unknown => {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value
  if (Array.isArray(value)) return value.map(revive)
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [revive(key), revive(item)]))
  if (value instanceof Set) return new Set([...value].map(revive))
  // only `toPlain` makes this key
  if (ERROR in value) return deserializeError(value[ERROR] as SerializedError)
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, revive(item)]))
}

/** An error in the form in which it is sent. Throws when it would come back different. */
export const errorToPlain = (error: IronflowError): SerializedError => {
  const sent = serializeError(error)
  const back = deserializeError(sent)
  const [has, gets] = [factsOf(error), factsOf(back)]
  if (back.constructor !== error.constructor || has !== gets)
    throw new Error(
      `${error.name} does not come back as it was: ${has} is ${gets} of ${back.constructor.name}`
    )
  return sent
}

const factsOf = (error: Error): string =>
  JSON.stringify(
    Object.entries({ ...error, name: error.name, message: error.message, cause: undefined })
      .filter(([, value]) => value !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
  )

/**
 * Copies the value, and returns a function that tells later whether the value has changed. `what` is as for
 * {@link toPlain}.
 */
export const changeDetector = (what: string, value: unknown): (() => boolean) => {
  const copy = structuredClone(toPlain(what, value))
  return () => !isDeepStrictEqual(structuredClone(toPlain(what, value)), copy)
}

/** Makes the value unchangeable: a change in place is an error. */
const freeze = <A>(value: A): A => {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array || value instanceof Error)
    return value
  if (value instanceof Map || value instanceof Set) {
    for (const item of value.values()) freeze(item)
    for (const method of ["set", "add", "delete", "clear"]) {
      Object.defineProperty(value, method, {
        value: () => {
          throw new TypeError(`${method}: this was given by somebody else, and is not to be changed`)
        }
      })
    }
    return value
  }
  for (const item of Object.values(value)) freeze(item)
  return Object.freeze(value)
}
