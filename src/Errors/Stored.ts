/** How an error is stored and sent, and comes back as the same class. */
import { isEmptied, isError } from "../Emptied.ts"
import { IronflowError, type IronflowErrorOptions, isIronflowError } from "./Base.ts"
import { classes, classNameOf, codes } from "./Classes.ts"
import { ValidationError } from "./Validation.ts"
import { InvokeError } from "./Steps.ts"
import { define, isInstance, read } from "./Reading.ts"

/**
 * Whether the engine tries again after this error.
 *
 * Errors of ours, and any other object with a boolean `retryable`, answer for themselves. Everything else that can be
 * thrown is retryable, a plain `Error` included: say `NonRetryableError` when trying again cannot help.
 */
export const isRetryable = (error: unknown): boolean => {
  const retryable = read(error, "retryable")
  return typeof retryable === "boolean" ? retryable : true
}

/** What the error says of when to try again, unread: a {@link RetryAfterError}, or any object with a `retryAfter`. */
export const retryAfterOf = (error: unknown): unknown => read(error, "retryAfter") ?? undefined

/**
 * The value as an `Error`: an `Error` as it is, a string as the message, an object by its `message`, anything else as
 * text. Never throws.
 */
export const toError = (value: unknown): Error => {
  if (isInstance(value, Error)) return value
  const message = read(value, "message")
  return new Error(typeof message === "string" ? message : describe(value))
}

/** An error as it is stored and sent: enough to come back as the same class where the class is ours. */
export interface SerializedError {
  /** Name of the error's class. */
  readonly name: string
  /** Its message. */
  readonly message: string
  /** What it is, in a word. */
  readonly code?: string
  /** Absent on errors that do not say; they are retryable. */
  readonly retryable?: boolean
  /** Where it was made. */
  readonly stack?: string
  /** Own enumerable properties that JSON can carry, besides the fields above. */
  readonly data?: { readonly [key: string]: unknown }
  /** What was behind it. */
  readonly cause?: SerializedError
  /** For a user's subclass of an error of ours: the name of our class. */
  readonly base?: string
}

const maxCauses = 8
const maxMessageLength = 16_384
const maxStackLength = 16_384
const maxDataLength = 65_536

/**
 * The error, or whatever was thrown, as plain data that JSON can carry. Never throws: what cannot be read or carried is
 * left out. A chain of causes is followed 8 deep; very long messages and stacks are cut, very large data is left out.
 */
export const serializeError = (error: unknown, options: { readonly stack?: boolean } = {}): SerializedError =>
  serialize(error, options.stack ?? true, 0)

const serialize = (thrown: unknown, withStack: boolean, depth: number): SerializedError => {
  const isError = isErrorLike(thrown)
  const error: unknown = isError ? thrown : toError(thrown)
  const ours = isIronflowError(error)
  const name = text(read(error, "name"), "Error")
  const code = read(error, "code")
  const retryable = read(error, "retryable")
  const stack = read(error, "stack")
  const cause = read(error, "cause")
  const data = ownData(error, ours, withStack, depth)
  const base = ours ? classNameOf(error) : undefined

  return {
    name,
    message: text(read(error, "message"), "").slice(0, maxMessageLength),
    ...(typeof code === "string" ? { code } : {}),
    ...(typeof retryable === "boolean" ? { retryable } : {}),
    // The stack of an error that only wraps a thrown value shows this file, which helps nobody.
    ...(withStack && isError && typeof stack === "string" ? { stack: stack.slice(0, maxStackLength) } : {}),
    ...(data === undefined ? {} : { data }),
    ...(cause === undefined || cause === null || depth >= maxCauses
      ? {}
      : { cause: serialize(cause, withStack, depth + 1) }),
    ...(base === undefined || base === name ? {} : { base })
  }
}

/** A typed failure stands in the data of the stored error under this name. Only its schema can read it. */
export const encodedFailure = "ironflow:failure"

/** The error without what only its step's schema can read. */
export const withoutEncoding = (error: SerializedError): SerializedError => {
  if (error.data === undefined || !(encodedFailure in error.data)) return error
  const { [encodedFailure]: _, ...data } = error.data
  return { ...error, data }
}

/**
 * How the run of an invoked function has failed, as the error of the step that invoked it.
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
  const told = serializeError(new InvokeError(functionId, childRunId, messageOf(error)))
  const failure = error.data?.[encodedFailure]
  return {
    ...told,
    cause: withoutEncoding(error),
    ...(failure === undefined ? {} : { data: { ...told.data, [encodedFailure]: failure } })
  }
}

const maxSummaryLength = 512

/** What an error says to people: its message or, since tagged errors often have none, its name and what it carries. */
export const messageOf = ({
  data,
  message,
  name
}: Pick<SerializedError, "message" | "name" | "data">): string => {
  if (message !== "") return message
  const { _tag, [encodedFailure]: _, ...own } = data ?? {}
  const carried = Object.keys(own).length === 0 ? "" : ` ${describe(own)}`
  return `${name}${carried}`.slice(0, maxSummaryLength)
}

/** The error again: the same class where it is ours or built in, else an `Error` of that name. Never throws. */
export const deserializeError = (stored: SerializedError): Error => revive(stored, 0)

const revive = (damaged: SerializedError | null | undefined, depth: number): Error => {
  const stored: Partial<SerializedError> = damaged ?? {}
  const message = text(stored.message, "")
  const name = text(stored.name, "Error")
  const hasCause = stored.cause !== undefined && stored.cause !== null && depth < maxCauses
  const error = construct(
    stored,
    name,
    message,
    hasCause ? revive(stored.cause, depth + 1) : undefined,
    depth
  )

  if (error.name !== name) define(error, "name", name, false)
  const ours = isIronflowError(error)
  for (const [key, value] of Object.entries(stored.data ?? {})) {
    if ((key === "errors" && error instanceof AggregateError) || key === encodedFailure) continue
    if (!standardKeys.has(key) || (key === "code" && !ours)) define(error, key, value, true)
  }
  if (!ours) {
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
  // All errors of ours have both, and other people's errors may have our names (`DOMException` has a `TimeoutError`).
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
      Array.isArray(errors) && depth < maxCauses ? errors.map((inner) => revive(inner, depth + 1)) : []
    return new AggregateError(revived, message, options)
  }
  return new (builtIns.get(name) ?? Error)(message, options)
}

/**
 * The error of a code, for one of which no class has come. `undefined` when the code is not known, or when `details` has not what an
 * error of its class must have.
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
  const known = codes.get(code)
  if (known === undefined) return undefined
  const [Class, ...facts] = known
  const { details } = options
  if (Class === ValidationError) return new ValidationError(message, { ...options, code })
  if (facts.some((fact) => read(details, fact) === undefined)) return undefined
  const error: IronflowError = Reflect.construct(IronflowError, [message, { ...options, code }], Class)
  for (const fact of facts) define(error, fact, read(details, fact), true)
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

/** What is carried by fields of its own. */
const standardKeys: ReadonlySet<string> = new Set(["name", "message", "code", "retryable", "stack", "cause"])

const ownData = (
  error: unknown,
  ours: boolean,
  withStack: boolean,
  depth: number
): { [key: string]: unknown } | undefined => {
  const data: { [key: string]: unknown } = {}
  let empty = true
  const put = (key: string, value: unknown) => {
    define(data, key, value, true)
    empty = false
  }
  for (const key of ownKeys(error)) {
    // A code that is not a string is data like any other.
    const carried = standardKeys.has(key) && !(key === "code" && typeof read(error, key) !== "string")
    if (carried || (ours && key === "_tag")) continue
    const copy = jsonCopy(read(error, key))
    if (copy !== undefined) put(key, copy)
  }
  if (isInstance(error, AggregateError) && depth < maxCauses) {
    const errors = read(error, "errors")
    if (Array.isArray(errors)) {
      put(
        "errors",
        errors.slice(0, maxCauses).map((inner) => serialize(inner, withStack, depth + 1))
      )
    }
  }
  return empty ? undefined : data
}

const ownKeys = (value: unknown): ReadonlyArray<string> => {
  if (typeof value !== "object" || value === null) return []
  try {
    return Object.keys(value)
  } catch {
    // A proxy that refuses to list its keys has no data that could be carried.
    return []
  }
}

const jsonCopy = (value: unknown): unknown => {
  const json = jsonText(value)
  return json === undefined || json.length > maxDataLength ? undefined : JSON.parse(json)
}

const jsonText = (value: unknown): string | undefined => {
  try {
    return JSON.stringify(value, withoutEmptied) as string | undefined
  } catch {
    // A cycle, a BigInt or a getter that throws: JSON cannot carry it.
    return undefined
  }
}

/** Leaves out what JSON would make `{}` of. Of errors inside it keeps what they say. */
function withoutEmptied(this: { readonly [key: string]: unknown }, key: string, value: unknown): unknown {
  const original = this[key]
  if (typeof original === "object" && original !== null && isError(original)) {
    const { code, message, name } = original as Error & { readonly code?: unknown }
    return { name, message, ...(typeof code === "string" ? { code } : {}) }
  }
  return typeof value === "object" && value !== null && !Array.isArray(value) && isEmptied(value)
    ? undefined
    : value
}

const text = (value: unknown, orElse: string): string => (typeof value === "string" ? value : orElse)

/** Errors of another realm (a `vm` context, a test runner) are not instances of this realm's `Error`. */
const isErrorLike = (value: unknown): boolean =>
  isInstance(value, Error) ||
  (typeof read(value, "message") === "string" && typeof read(value, "stack") === "string")

const describe = (value: unknown): string => {
  try {
    const json = typeof value === "object" && value !== null ? jsonText(value) : undefined
    return (json ?? String(value)).slice(0, maxMessageLength)
  } catch {
    return `a value that cannot be shown as text (${typeof value})`
  }
}
