/** The errors of runs and steps, in the form for clients. */
import { messageOf, type SerializedError, withoutEncoding } from "./Errors.ts"

/** The error of a run or a step. */
export interface RunError {
  /** The error message. */
  readonly message: string
  /** The error code. */
  readonly code: string
  /** Name of the error's class. */
  readonly name?: string
  /** The stack trace. */
  readonly stack?: string
  /** Whether the error is retryable. */
  readonly retryable?: boolean
  /** Details, if there are any. */
  readonly details?: unknown
  /** The cause; for a `StepError` the error that the step threw. */
  readonly cause?: RunError
}

/** Converts a stored error to the form for clients. */
export const runErrorOf = (stored: SerializedError): RunError => {
  const error = withoutEncoding(stored)
  const stack = stackOf(error)
  const details = error.data?.details ?? error.data
  return {
    message: messageOf(error),
    code: error.code ?? "ERROR",
    name: error.name,
    ...(stack === undefined ? {} : { stack }),
    ...(error.retryable === undefined ? {} : { retryable: error.retryable }),
    ...(details === undefined ? {} : { details }),
    ...(error.cause === undefined ? {} : { cause: runErrorOf(error.cause) })
  }
}

/**
 * The stacks of an error and its causes. The stack of a `StepError` with a cause is left out: it only shows our own
 * code.
 */
const stackOf = (error: SerializedError): string | undefined => {
  const cause = error.cause === undefined ? undefined : stackOf(error.cause)
  if (cause === undefined) return error.stack
  const ownStack = error.name === "StepError" ? `${error.name}: ${error.message}` : error.stack
  return ownStack === undefined ? cause : `${ownStack}\nCaused by: ${cause}`
}
