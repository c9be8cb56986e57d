/** Stores and sends errors, and restores them as the same class. */
import { isError, losesContent } from "../JsonLoss.ts"
import { IronflowError, type IronflowErrorOptions, isIronflowError } from "./Base.ts"
import { classes, classNameOf, codes } from "./Classes.ts"
import { ValidationError } from "./Validation.ts"
import { InvokeError } from "./Steps.ts"
import { define, isInstance, read } from "./SafeRead.ts"

/**
 * Whether the engine retries after this error.
 *
 * For an Ironflow error, and any other object with a boolean `retryable`, this is its `retryable`. Everything else
 * that can be thrown is retryable, also a plain `Error`: throw `NonRetryableError` when a retry cannot help.
 */
export const isRetryable = (error: unknown): boolean => {
  const retryable = read(error, "retryable")
  return typeof retryable === "boolean" ? retryable : true
}

/**
 * The `retryAfter` of a {@link RetryAfterError}, or of any object that has one: when to retry, not yet parsed.
 */
export const retryAfterOf = (error: unknown): unknown => read(error, "retryAfter") ?? undefined

/**
 * Makes an `Error` of the value. An `Error` stays as it is. A string becomes the message, and so does an object's
 * `message` if it is a string. Any other value is described in the message, an object as JSON. Never throws.
 */
export const toError = (value: unknown): Error => {
  if (isInstance(value, Error)) return value
  const message = read(value, "message")
  return new Error(typeof message === "string" ? message : describe(value))
}

/** An error as it is stored and sent: enough to restore an Ironflow error as the same class. */
export interface SerializedError {
  /** Name of the error's class. */
  readonly name: string
  /** The message. */
  readonly message: string
  /** The kind of error. */
  readonly code?: string
  /** Whether a retry may succeed. Absent when the error does not say; it is then retryable. */
  readonly retryable?: boolean
  /** The stack. */
  readonly stack?: string
  /** The error's own enumerable properties that JSON can hold, except those that have fields here. */
  readonly data?: { readonly [key: string]: unknown }
  /** The cause of the error. */
  readonly cause?: SerializedError
  /** For a user's subclass of an Ironflow error: the name of the Ironflow class. */
  readonly base?: string
}

const MAX_CAUSES = 8
const MAX_MESSAGE_LENGTH = 16_384
const MAX_STACK_LENGTH = 16_384
const MAX_DATA_LENGTH = 65_536

/**
 * Makes plain JSON data of the error, or of any thrown value. Never throws: what JSON cannot hold is left out. Causes
 * are followed 8 deep; very long messages and stacks are cut, and very large properties are left out.
 */
export const serializeError = (error: unknown, options: { readonly stack?: boolean } = {}): SerializedError =>
  serialize(error, options.stack ?? true, 0)

const serialize = (thrown: unknown, withStack: boolean, depth: number): SerializedError => {
  const isThrownError = isErrorLike(thrown)
  const error: unknown = isThrownError ? thrown : toError(thrown)
  const isOurs = isIronflowError(error)
  const name = text(read(error, "name"), "Error")
  const code = read(error, "code")
  const retryable = read(error, "retryable")
  const stack = read(error, "stack")
  const cause = read(error, "cause")
  const data = ownData(error, isOurs, withStack, depth)
  const base = isOurs ? classNameOf(error) : undefined

  return {
    name,
    message: text(read(error, "message"), "").slice(0, MAX_MESSAGE_LENGTH),
    ...(typeof code === "string" ? { code } : {}),
    ...(typeof retryable === "boolean" ? { retryable } : {}),
    // A thrown value that is not an error was wrapped in one by this function, and the stack of that error would show
    // this file.
    ...(withStack && isThrownError && typeof stack === "string"
      ? { stack: stack.slice(0, MAX_STACK_LENGTH) }
      : {}),
    ...(data === undefined ? {} : { data }),
    ...(cause === undefined || cause === null || depth >= MAX_CAUSES
      ? {}
      : { cause: serialize(cause, withStack, depth + 1) }),
    ...(base === undefined || base === name ? {} : { base })
  }
}

/**
 * The key under which the `data` of a stored error holds its typed failure in encoded form. Only the schema of that
 * failure can decode it.
 */
export const encodedFailureKey = "ironflow:failure"

/** The error without its encoded failure. It is for code that does not know the schema that decodes the failure. */
export const withoutEncodedFailure = (error: SerializedError): SerializedError => {
  if (error.data === undefined || !(encodedFailureKey in error.data)) return error
  const { [encodedFailureKey]: _, ...data } = error.data
  return { ...error, data }
}

/**
 * Makes the error of an invoking step from the error of the invoked function's run.
 *
 * ```ts
 * Errors.invokeFailure("make-invoice", "run_1", Errors.serializeError(new Error("There is no such order")))
 * ```
 */
export const invokeFailure = (
  functionId: string,
  childRunId: string,
  error: SerializedError
): SerializedError => {
  const invokeError = serializeError(new InvokeError(functionId, childRunId, messageOf(error)))
  const failure = error.data?.[encodedFailureKey]
  return {
    ...invokeError,
    cause: withoutEncodedFailure(error),
    ...(failure === undefined ? {} : { data: { ...invokeError.data, [encodedFailureKey]: failure } })
  }
}

const MAX_SUMMARY_LENGTH = 512

/**
 * The text of an error for people: its message. Tagged errors often have no message; their text is their name and
 * properties.
 */
export const messageOf = ({
  data,
  message,
  name
}: Pick<SerializedError, "message" | "name" | "data">): string => {
  if (message !== "") return message
  const { _tag, [encodedFailureKey]: _, ...properties } = data ?? {}
  const shownProperties = Object.keys(properties).length === 0 ? "" : ` ${describe(properties)}`
  return `${name}${shownProperties}`.slice(0, MAX_SUMMARY_LENGTH)
}

/**
 * Restores an error. A built-in or Ironflow error gets its class back; any other error becomes an `Error` with the
 * stored name. Never throws.
 */
export const deserializeError = (stored: SerializedError): Error => revive(stored, 0)

const revive = (storedError: SerializedError | null | undefined, depth: number): Error => {
  const stored: Partial<SerializedError> = storedError ?? {}
  const message = text(stored.message, "")
  const name = text(stored.name, "Error")
  const hasCause = stored.cause !== undefined && stored.cause !== null && depth < MAX_CAUSES
  const error = construct(
    stored,
    name,
    message,
    hasCause ? revive(stored.cause, depth + 1) : undefined,
    depth
  )

  if (error.name !== name) define(error, "name", name, false)
  const isOurs = isIronflowError(error)
  for (const [key, value] of Object.entries(stored.data ?? {})) {
    if ((key === "errors" && error instanceof AggregateError) || key === encodedFailureKey) continue
    if (!fieldKeys.has(key) || (key === "code" && !isOurs)) define(error, key, value, true)
  }
  if (!isOurs) {
    if (stored.code !== undefined) define(error, "code", stored.code, true)
    if (stored.retryable !== undefined) define(error, "retryable", stored.retryable, true)
  }
  define(error, "stack", stored.stack ?? `${name}: ${message}`, false)
  return error
}

const construct = (
  stored: Partial<SerializedError>,
  name: string,
  message: string,
  cause: Error | undefined,
  depth: number
): Error => {
  const Class = classes.get(stored.base ?? name)
  // An Ironflow error always has a code and `retryable`. Other errors may share a name with ours: `DOMException`
  // has a `TimeoutError`.
  if (Class !== undefined && typeof stored.code === "string" && typeof stored.retryable === "boolean") {
    return Reflect.construct(
      IronflowError,
      [message, { code: stored.code, retryable: stored.retryable, details: stored.data?.["details"], cause }],
      Class
    )
  }
  const options = cause === undefined ? undefined : { cause }
  if (name === "AggregateError") {
    const errors = stored.data?.["errors"]
    const revived =
      Array.isArray(errors) && depth < MAX_CAUSES ? errors.map((inner) => revive(inner, depth + 1)) : []
    return new AggregateError(revived, message, options)
  }
  return new (builtIns.get(name) ?? Error)(message, options)
}

/**
 * Makes an error from its code, for a response that does not name the class. Returns `undefined` when the code is
 * unknown, or when `details` lacks a member that the class requires.
 *
 * ```ts
 * Errors.errorOfCode("VALIDATION_ERROR", "The order has no items")
 * ```
 */
export const errorOfCode = (
  code: string,
  message: string,
  options: Omit<IronflowErrorOptions, "code"> = {}
): IronflowError | undefined => {
  const entry = codes.get(code)
  if (entry === undefined) return undefined
  const [Class, ...requiredDetails] = entry
  const { details } = options
  if (Class === ValidationError) return new ValidationError(message, { ...options, code })
  if (requiredDetails.some((key) => read(details, key) === undefined)) return undefined
  const error: IronflowError = Reflect.construct(IronflowError, [message, { ...options, code }], Class)
  for (const key of requiredDetails) define(error, key, read(details, key), true)
  return error
}

const builtIns: ReadonlyMap<string, ErrorConstructor> = new Map([
  ["TypeError", TypeError],
  ["RangeError", RangeError],
  ["SyntaxError", SyntaxError],
  ["ReferenceError", ReferenceError],
  ["EvalError", EvalError],
  ["URIError", URIError]
])

/** Properties that have their own fields in `SerializedError`. */
const fieldKeys: ReadonlySet<string> = new Set(["name", "message", "code", "retryable", "stack", "cause"])

const ownData = (
  error: unknown,
  isOurs: boolean,
  withStack: boolean,
  depth: number
): { [key: string]: unknown } | undefined => {
  const data: { [key: string]: unknown } = {}
  let isEmpty = true
  const put = (key: string, value: unknown) => {
    define(data, key, value, true)
    isEmpty = false
  }
  for (const key of ownKeys(error)) {
    // A code that is not a string is treated as data.
    const hasOwnField = fieldKeys.has(key) && !(key === "code" && typeof read(error, key) !== "string")
    if (hasOwnField || (isOurs && key === "_tag")) continue
    const copy = jsonCopy(read(error, key))
    if (copy !== undefined) put(key, copy)
  }
  if (isInstance(error, AggregateError) && depth < MAX_CAUSES) {
    const errors = read(error, "errors")
    if (Array.isArray(errors)) {
      put(
        "errors",
        errors.slice(0, MAX_CAUSES).map((inner) => serialize(inner, withStack, depth + 1))
      )
    }
  }
  return isEmpty ? undefined : data
}

const ownKeys = (value: unknown): ReadonlyArray<string> => {
  if (typeof value !== "object" || value === null) return []
  try {
    return Object.keys(value)
  } catch {
    // A proxy has thrown when its keys were listed: it counts as an object without data.
    return []
  }
}

const jsonCopy = (value: unknown): unknown => {
  const json = jsonText(value)
  return json === undefined || json.length > MAX_DATA_LENGTH ? undefined : JSON.parse(json)
}

const jsonText = (value: unknown): string | undefined => {
  try {
    return JSON.stringify(value, withoutEmptied) as string | undefined
  } catch {
    // A cycle, a BigInt or a getter that throws: JSON cannot hold it.
    return undefined
  }
}

/**
 * A JSON replacer that leaves out values that JSON would turn into `{}`. Of errors inside the data the replacer keeps
 * the name, the message and the code.
 */
function withoutEmptied(this: { readonly [key: string]: unknown }, key: string, value: unknown): unknown {
  const original = this[key]
  if (typeof original === "object" && original !== null && isError(original)) {
    const { code, message, name } = original as Error & { readonly code?: unknown }
    return { name, message, ...(typeof code === "string" ? { code } : {}) }
  }
  return typeof value === "object" && value !== null && !Array.isArray(value) && losesContent(value)
    ? undefined
    : value
}

const text = (value: unknown, orElse: string): string => (typeof value === "string" ? value : orElse)

/**
 * Whether the value is an error, also of another realm (a `vm` context, a test runner), where it is not an
 * instance of this realm's `Error`.
 */
const isErrorLike = (value: unknown): boolean =>
  isInstance(value, Error) ||
  (typeof read(value, "message") === "string" && typeof read(value, "stack") === "string")

const describe = (value: unknown): string => {
  try {
    const json = typeof value === "object" && value !== null ? jsonText(value) : undefined
    return (json ?? String(value)).slice(0, MAX_MESSAGE_LENGTH)
  } catch {
    return `a value that cannot be shown as text (${typeof value})`
  }
}
