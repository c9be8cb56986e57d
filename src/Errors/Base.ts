/** The base class of all errors, and the family of errors about missing things. */
import * as Data from "effect/Data"
import { define, isInstance } from "./SafeRead.ts"

/** The options of an error, besides its message. */
export interface IronflowErrorOptions {
  /** The kind of error in upper snake case; `UNKNOWN_ERROR` by default. */
  readonly code?: string
  /** Whether a retry may succeed; `false` by default. */
  readonly retryable?: boolean
  /** Details for programs; none by default. */
  readonly details?: unknown
  /** The error that caused this one; none by default. */
  readonly cause?: unknown
  /** The HTTP status of the response that carried the error; none by default. */
  readonly status?: number
}

/** The options of an error whose class implies everything but the cause. */
export type CauseOption = Pick<IronflowErrorOptions, "cause">

/** The options `details`, `cause`, and those named by `More`, for an error whose class implies all other options. */
export type Facts<More extends keyof IronflowErrorOptions = never> = Pick<
  IronflowErrorOptions,
  "details" | "cause" | More
>

/** The base class of all Ironflow errors. */
export class IronflowError extends Data.Error<{ message: string; cause?: unknown }> {
  /**
   * What `catchTag` matches: the name of the class, or the name of the base class whose tag the class shares. It is
   * always set. The type says that it may be absent, since `catchTag` would otherwise match this class for every
   * other tag, and narrow the remaining errors to `never`.
   */
  declare readonly _tag?: string
  /** The kind of error: the same in code, logs and stored runs. */
  readonly code: string
  /** Whether the engine retries a step or a function that fails with this error. */
  readonly retryable: boolean
  /** Details for programs, if there are any. */
  readonly details: unknown
  /** The HTTP status that this error means, or the status of the response that carried it. */
  declare readonly status?: number

  constructor(message: string, options: IronflowErrorOptions = {}) {
    // The name must be on the prototype before the stack is captured: the first line of the stack shows it.
    nameClass(new.target)
    super(options.cause === undefined ? { message } : { message, cause: options.cause })
    this.code = options.code ?? "UNKNOWN_ERROR"
    this.retryable = options.retryable ?? false
    this.details = options.details
    if (options.status !== undefined) this.status = options.status
  }
}

/**
 * Makes an error without its stack, since capturing a stack takes longer than most operations. It is for expected
 * errors that are made at places where the stack would not show who called.
 */
export const withoutStack = <E extends IronflowError>(make: () => E): E => {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return make()
  } finally {
    Error.stackTraceLimit = limit
  }
}

/**
 * The family of errors that say that something does not exist: `error instanceof NotFoundError` matches all of them.
 * Each of them has its own class, tag and code; this class itself is never thrown.
 */
export abstract class NotFoundError extends IronflowError {}

/** Whether `error` is an Ironflow error. */
export const isIronflowError = (error: unknown): error is IronflowError => isInstance(error, IronflowError)

/** Sets the `name` of the errors of a class, also of a user's subclass. */
const nameClass = (Class: Function): void => {
  const prototype = Class.prototype as object
  if (!Object.hasOwn(prototype, "name")) define(prototype, "name", Class.name, false)
}
