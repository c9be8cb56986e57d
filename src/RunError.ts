/** Errors of runs and steps, as clients see them. */
import { messageOf, type SerializedError, withoutEncoding } from "./Errors.ts"

/** Why a run or a step has failed. */
export interface RunError {
  /** A sentence for a person. */
  readonly message: string
  /** What it is, in a word. */
  readonly code: string
  /** Name of the error's class. */
  readonly name?: string
  /** Where it was made. */
  readonly stack?: string
  /** Whether it would have been tried again. */
  readonly retryable?: boolean
  /** The facts, where there are some. */
  readonly details?: unknown
  /** What it came from: for a `StepError` what the step threw. */
  readonly cause?: RunError
}

/** A stored error as clients see it. */
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

/** The stacks of an error and its causes. Where a step's error was wrapped is of no use to anybody but us. */
const stackOf = (error: SerializedError): string | undefined => {
  const cause = error.cause === undefined ? undefined : stackOf(error.cause)
  if (cause === undefined) return error.stack
  const own = error.name === "StepError" ? `${error.name}: ${error.message}` : error.stack
  return own === undefined ? cause : `${own}\nCaused by: ${cause}`
}
