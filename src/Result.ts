/**
 * Results of steps and outputs of runs as JSON text. They may have errors in them, as those of `Promise.allSettled` do.
 *
 * An error is stored as `{"ironflow:error": ...}`, in the form that errors have here, and comes back as an error. A text that has
 * such members begins with a space, which `JSON.stringify` never writes: in any other text the same member is data like any
 * other, also in what was stored before there was a form for errors. In a text with errors, members of that name that are data
 * get a backslash more.
 */
import { deserializeError, type SerializedError, serializeError } from "./Errors.ts"
import { isError } from "./Emptied.ts"
import { decodeJson, encodeJson, hasToJson, isObject } from "./Json.ts"
import { jsonDepth } from "./Limits.ts"

const MARK = "ironflow:error"
const isMark = /^\\*ironflow:error$/

/** As `encodeJson`, which says what is refused, and with errors. */
export const encodeResult = (value: unknown, what: string): string | undefined => {
  let marked = false
  const text = encodeJson(value, what, (withErrors) => {
    marked = true
    return mark(withErrors, 0)
  })
  return marked ? ` ${text}` : text
}

/** The value again, with its errors. Throws `ValidationError` when the text is not JSON. */
export const decodeResult = (text: string | undefined): unknown => {
  const value = decodeJson(text)
  return hasErrors(text) ? revive(value) : value
}

/** Whether errors are in the result. That of a `step.tx` stands inside of what the engine has written. */
export const hasErrors = (text: string | undefined): boolean =>
  text !== undefined && (text.charCodeAt(0) === space || text.startsWith('{"value": '))

/** What `hasErrors` says of the text from which the value was parsed. */
export const revive = (value: unknown): unknown => unmark(value, deserializeError)

/** The value for whoever knows nothing of errors in JSON: they are objects with name, message and code. */
export const plainResult = (text: string | undefined): unknown => {
  const value = decodeJson(text)
  return hasErrors(text) ? unmark(value, brief) : value
}

/** A result as the engine tells it: what is in it, and whether errors are. */
interface Told {
  readonly output?: unknown
  readonly outputHasErrors?: true
}

/** The same with the errors as errors. */
export const withErrors = <A extends object>(told: A): A => {
  const { outputHasErrors, ...rest } = told as A & Told
  // without the flag it is what it was
  return outputHasErrors === true ? ({ ...rest, output: revive(rest.output) } as unknown as A) : told
}

const brief = ({ code, message, name }: SerializedError): unknown => ({
  name,
  message,
  ...(code === undefined ? {} : { code })
})

const space = 32

/** What a server of another make keeps of a result: it has no place for the space. */
const ENVELOPE = "ironflow:result"

/** The result for a server that writes JSON anew. */
export const toLegacyOutput = (text: string | undefined): unknown => {
  const value = decodeJson(text)
  if (hasErrors(text)) return { [ENVELOPE]: value }
  return isObject(value) && Object.hasOwn(value, ENVELOPE) ? { [ENVELOPE]: mark(value, 0) } : value
}

/** The text of a result that such a server gives back, if {@link toLegacyOutput} had something to say of it. */
export const fromLegacyOutput = (value: unknown): string | undefined =>
  isObject(value) && Object.hasOwn(value, ENVELOPE) && Object.keys(value).length === 1
    ? ` ${JSON.stringify(value[ENVELOPE])}`
    : undefined

/** A copy in which errors have their form, and members that look like it are escaped. */
const mark = (value: unknown, depth: number): unknown => {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return value
  if (typeof value === "object" && isError(value)) return { [MARK]: serializeError(value) }
  if (hasToJson(value)) return markMembers(value.toJSON(""), depth)
  return markMembers(value, depth)
}

/** `toJSON` is asked once: JSON does not ask the result again. */
const markMembers = (value: unknown, depth: number): unknown => {
  // what is too deep, or a cycle, is refused afterwards
  if (typeof value !== "object" || value === null || depth >= jsonDepth) return value
  if (isError(value)) return { [MARK]: serializeError(value) }
  if (Array.isArray(value)) return value.map((member) => mark(member, depth + 1))
  const keys = Object.keys(value)
  if (keys.length === 0) return value
  return withMembers(
    keys.map((key) => [
      isMark.test(key) ? `\\${key}` : key,
      mark((value as { readonly [key: string]: unknown })[key], depth + 1)
    ])
  )
}

const unmark = (value: unknown, error: (stored: SerializedError) => unknown): unknown => {
  if (typeof value !== "object" || value === null) return value
  if (Array.isArray(value)) return value.map((member) => unmark(member, error))
  const members = Object.entries(value)
  // written by `mark`, from an error of this shape
  if (Object.hasOwn(value, MARK)) return error((value as { readonly [MARK]: SerializedError })[MARK])
  return withMembers(
    members.map(([key, member]) => [isMark.test(key) ? key.slice(1) : key, unmark(member, error)])
  )
}

/** `__proto__` is a member like any other. */
const withMembers = (members: ReadonlyArray<readonly [string, unknown]>): object => {
  const object = {}
  for (const [key, value] of members) {
    Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true })
  }
  return object
}
