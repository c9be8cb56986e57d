/**
 * Encodes results of steps and outputs of runs as JSON. They may contain errors, as the result of
 * `Promise.allSettled` does.
 *
 * An error is stored as `{"ironflow:error": ...}` with the serialized error, and is restored as an error. JSON that
 * contains errors begins with a space, which `JSON.stringify` never writes. In all other JSON, also in all that was
 * stored before this form existed, a member with the name `ironflow:error` is ordinary data. When JSON with errors has
 * data with a member of this name, the name gets a backslash in front. A name that already begins with backslashes gets
 * one more.
 */
import { deserializeError, type SerializedError, serializeError } from "./Errors.ts"
import { isError } from "./JsonLoss.ts"
import { decodeJson, encodeJson, hasToJson, isObject } from "./Json.ts"
import { jsonDepth } from "./Limits.ts"

const MARK = "ironflow:error"
const markPattern = /^\\*ironflow:error$/

/** Encodes a result. Throws for what `encodeJson` refuses, except errors. */
export const encodeResult = (value: unknown, what: string): string | undefined => {
  let hasErrorMarks = false
  const text = encodeJson(value, what, (valueWithErrors) => {
    hasErrorMarks = true
    return mark(valueWithErrors, 0)
  })
  return hasErrorMarks ? ` ${text}` : text
}

/** Decodes a result, with its errors. Throws `ValidationError` for invalid JSON. */
export const decodeResult = (text: string | undefined): unknown => {
  const value = decodeJson(text)
  return hasErrors(text) ? revive(value) : value
}

/**
 * Whether the result contains errors. The engine writes `{"value":` before the value of a `step.tx`
 * (`Transact.ts`), so the space of a value with errors comes after that colon.
 */
export const hasErrors = (text: string | undefined): boolean =>
  text !== undefined && (text.charCodeAt(0) === SPACE || text.startsWith('{"value": '))

/** Restores the errors in a value that was parsed from JSON for which `hasErrors` is true. */
export const revive = (value: unknown): unknown => unmark(value, deserializeError)

/** The result for programs that do not know the form of errors. Errors become objects with name, message and code. */
export const plainResult = (text: string | undefined): unknown => {
  const value = decodeJson(text)
  return hasErrors(text) ? unmark(value, summaryOf) : value
}

/** An answer of the engine with the output of a run, which tells whether the output contains errors. */
interface OutputAnswer {
  readonly output?: unknown
  readonly outputHasErrors?: true
}

/** The answer with the errors in its output restored. */
export const restoreErrors = <A extends object>(answer: A): A => {
  const { outputHasErrors, ...rest } = answer as A & OutputAnswer
  // without the flag the answer stays as it is
  return outputHasErrors === true ? ({ ...rest, output: revive(rest.output) } as unknown as A) : answer
}

const summaryOf = ({ code, message, name }: SerializedError): unknown => ({
  name,
  message,
  ...(code === undefined ? {} : { code })
})

const SPACE = 32

/**
 * The name of the member that wraps a result with errors for legacy servers. Such a server encodes the JSON anew, and
 * so loses the space at its start.
 */
const ENVELOPE = "ironflow:result"

/** The result in the form for a legacy server. */
export const toLegacyOutput = (text: string | undefined): unknown => {
  const value = decodeJson(text)
  if (hasErrors(text)) return { [ENVELOPE]: value }
  return isObject(value) && Object.hasOwn(value, ENVELOPE) ? { [ENVELOPE]: mark(value, 0) } : value
}

/** The JSON of a result from a legacy server, if {@link toLegacyOutput} has wrapped it; `undefined` if not. */
export const fromLegacyOutput = (value: unknown): string | undefined =>
  isObject(value) && Object.hasOwn(value, ENVELOPE) && Object.keys(value).length === 1
    ? ` ${JSON.stringify(value[ENVELOPE])}`
    : undefined

/** A copy in which errors have their stored form, and members that look like a stored error are escaped. */
const mark = (value: unknown, depth: number): unknown => {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return value
  if (typeof value === "object" && isError(value)) return { [MARK]: serializeError(value) }
  if (hasToJson(value)) return markMembers(value.toJSON(""), depth)
  return markMembers(value, depth)
}

/** Copies the members. Like `JSON.stringify`, it does not call `toJSON` of what a `toJSON` has returned. */
const markMembers = (value: unknown, depth: number): unknown => {
  // values that are nested too deeply, and cycles, are refused later
  if (typeof value !== "object" || value === null || depth >= jsonDepth) return value
  if (isError(value)) return { [MARK]: serializeError(value) }
  if (Array.isArray(value)) return value.map((member) => mark(member, depth + 1))
  const keys = Object.keys(value)
  if (keys.length === 0) return value
  return withMembers(
    keys.map((key) => [
      markPattern.test(key) ? `\\${key}` : key,
      mark((value as { readonly [key: string]: unknown })[key], depth + 1)
    ])
  )
}

const unmark = (value: unknown, convertError: (stored: SerializedError) => unknown): unknown => {
  if (typeof value !== "object" || value === null) return value
  if (Array.isArray(value)) return value.map((member) => unmark(member, convertError))
  const members = Object.entries(value)
  // the member is no data: `mark` has written it for an error, in this form
  if (Object.hasOwn(value, MARK)) return convertError((value as { readonly [MARK]: SerializedError })[MARK])
  return withMembers(
    members.map(([key, member]) => [markPattern.test(key) ? key.slice(1) : key, unmark(member, convertError)])
  )
}

/** Makes an object of members. `__proto__` is a name like any other. */
const withMembers = (members: ReadonlyArray<readonly [string, unknown]>): object => {
  const object = {}
  for (const [key, value] of members) {
    Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true })
  }
  return object
}
