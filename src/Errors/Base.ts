/** The class that every error of ours extends, and the family of those that say that something is not there. */
import * as Data from "effect/Data"
import { define, isInstance } from "./Reading.ts"

/** What an error may be given besides its message. */
export interface IronflowErrorOptions {
  /** What it is, in upper snake case; `UNKNOWN_ERROR` by default. */
  readonly code?: string
  /** Whether trying again may help; `false` by default. */
  readonly retryable?: boolean
  /** The facts, for programs; none by default. */
  readonly details?: unknown
  /** The error behind it; none by default. */
  readonly cause?: unknown
  /** The HTTP status that came with it. */
  readonly status?: number
}

/** The options of an error whose code is its class. */
export type CauseOption = Pick<IronflowErrorOptions, "cause">

/** The options of an error whose class says the rest: its facts, and `More` of them. */
export type Facts<More extends keyof IronflowErrorOptions = never> = Pick<
  IronflowErrorOptions,
  "details" | "cause" | More
>

/** The base of all errors of ours. */
export class IronflowError extends Data.Error<{ message: string; cause?: unknown }> {
  /**
   * The name of the class, always there. To the compiler it may be absent: `catchTag` would else take this class for every
   * other, and hold nothing of it to be left afterwards.
   */
  declare readonly _tag?: string
  /** What it is, in a word that is the same in code, logs and stored runs. */
  readonly code: string
  /** Whether the engine tries again when a step or a function fails with it. */
  readonly retryable: boolean
  /** The facts, where there are some. */
  readonly details: unknown
  /** The HTTP status of such an error, or the one that came with it over HTTP. */
  declare readonly status?: number

  constructor(message: string, options: IronflowErrorOptions = {}) {
    // The name has to be on the prototype before the stack is captured: the stack's first line shows it.
    nameClass(new.target)
    super(options.cause === undefined ? { message } : { message, cause: options.cause })
    this.code = options.code ?? "UNKNOWN_ERROR"
    this.retryable = options.retryable ?? false
    this.details = options.details
    if (options.status !== undefined) this.status = options.status
  }
}

/**
 * An error made without its stack, which takes longer than most operations: for an answer to expect, made where nobody who
 * could have caused it is on the stack.
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
 * The family of the errors that say that there is no such thing: `error instanceof NotFoundError` is one question for all of
 * them. Each of them is a class with a tag and a code of its own, and this one is never raised.
 */
export abstract class NotFoundError extends IronflowError {}

/** Whether `error` is one of ours. */
export const isIronflowError = (error: unknown): error is IronflowError => isInstance(error, IronflowError)

/** A user's subclass is named after its class. */
const nameClass = (Class: Function): void => {
  const prototype = Class.prototype as object
  if (!Object.hasOwn(prototype, "name")) define(prototype, "name", Class.name, false)
}
