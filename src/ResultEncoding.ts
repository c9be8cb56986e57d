/**
 * Results of steps and outputs of runs as JSON. They may contain errors, as those of `Promise.allSettled` do.
 *
 * An error is stored as `{"ironflow:error": ...}` with the serialized error, and restored as an error. JSON with such members
 * begins with a space, which `JSON.stringify` never writes. In any other JSON, including everything stored before this form
 * existed, a member of that name is ordinary data. In JSON with errors, members of that name that are data get an additional
 * backslash.
 */
import { deserializeError, type SerializedError, serializeError } from "./Errors.ts"
import { isError } from "./JsonLoss.ts"
import { decodeJson, encodeJson, hasToJson, isObject } from "./Json.ts"
import { jsonDepth } from "./Limits.ts"

const MARK = "ironflow:error"
const isMark = /^\\*ironflow:error$/

/** Encodes a result. It refuses what `encodeJson` refuses, except errors. */
export const encodeResult = (value: unknown, what: string): string | undefined => {
  let marked = false
  const text = encodeJson(value, what, (withErrors) => {
    marked = true
    return mark(withErrors, 0)
  })
  return marked ? ` ${text}` : text
}

/** Decodes a result, with its errors. Throws `ValidationError` for invalid JSON. */
export const decodeResult = (text: string | undefined): unknown => {
  const value = decodeJson(text)
  return hasErrors(text) ? revive(value) : value
}

/** Whether the result contains errors. For a `step.tx`, they are inside the outcome that the engine wrote. */
export const hasErrors = (text: string | undefined): boolean =>
  text !== undefined && (text.charCodeAt(0) === SPACE || text.startsWith('{"value": '))

/** Restores the errors in a parsed value for which `hasErrors` was true. */
export const revive = (value: unknown): unknown => unmark(value, deserializeError)

/** The value for programs that do not know this form: errors become objects with name, message and code. */
export const plainResult = (text: string | undefined): unknown => {
  const value = decodeJson(text)
  return hasErrors(text) ? unmark(value, brief) : value
}

/** An output from the engine, and whether it contains errors. */
interface Told {
  readonly output?: unknown
  readonly outputHasErrors?: true
}

/** The same, with the errors restored. */
export const withErrors = <A extends object>(told: A): A => {
  const { outputHasErrors, ...rest } = told as A & Told
  // without the flag the output is unchanged
  return outputHasErrors === true ? ({ ...rest, output: revive(rest.output) } as unknown as A) : told
}

const brief = ({ code, message, name }: SerializedError): unknown => ({
  name,
  message,
  ...(code === undefined ? {} : { code })
})

const SPACE = 32

/** Wraps a result for servers that re-encode JSON, which would lose the leading space. */
const ENVELOPE = "ironflow:result"

/** The result for a server that re-encodes JSON. */
export const toLegacyOutput = (text: string | undefined): unknown => {
  const value = decodeJson(text)
  if (hasErrors(text)) return { [ENVELOPE]: value }
  return isObject(value) && Object.hasOwn(value, ENVELOPE) ? { [ENVELOPE]: mark(value, 0) } : value
}

/** The JSON of a result from such a server, if {@link toLegacyOutput} wrapped it. */
export const fromLegacyOutput = (value: unknown): string | undefined =>
  isObject(value) && Object.hasOwn(value, ENVELOPE) && Object.keys(value).length === 1
    ? ` ${JSON.stringify(value[ENVELOPE])}`
    : undefined

/** A copy with errors in their stored form, and members that look like it escaped. */
const mark = (value: unknown, depth: number): unknown => {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return value
  if (typeof value === "object" && isError(value)) return { [MARK]: serializeError(value) }
  if (hasToJson(value)) return markMembers(value.toJSON(""), depth)
  return markMembers(value, depth)
}

/** Calls `toJSON` once per value, as JSON does not call it on the result again. */
const markMembers = (value: unknown, depth: number): unknown => {
  // excessive depth and cycles are refused later
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
  // `mark` wrote it from an error of this shape
  if (Object.hasOwn(value, MARK)) return error((value as { readonly [MARK]: SerializedError })[MARK])
  return withMembers(
    members.map(([key, member]) => [isMark.test(key) ? key.slice(1) : key, unmark(member, error)])
  )
}

/** Handles `__proto__` as ordinary data. */
const withMembers = (members: ReadonlyArray<readonly [string, unknown]>): object => {
  const object = {}
  for (const [key, value] of members) {
    Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true })
  }
  return object
}
