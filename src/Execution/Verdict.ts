/** Decides what follows a failure of a step's code, or of the handler. */
import { isRetryable } from "../Errors.ts"
import { isAbortFailure } from "./Attempt.ts"

export interface FailedAttempt {
  readonly error: unknown
  /** Why the code was asked to stop; `undefined` when it was not. */
  readonly abortReason: Error | undefined
  /** How many attempts of the step have failed, including this attempt. */
  readonly failures: number
  readonly maxAttempts: number
  /** Whether nothing new may start in the step's branch. */
  readonly isStopped: boolean
}

/**
 * `"failed"`: the failure is the step's outcome. `"again"`: the step is retried later. `"stopped"`: the step
 * has no outcome in this turn. If the handler calls the step in a later turn, the step is started again.
 */
export const attemptVerdict = (failed: FailedAttempt): "failed" | "again" | "stopped" => {
  const { abortReason, error, failures, isStopped, maxAttempts } = failed
  if (abortReason !== undefined && isAbortFailure(error, abortReason)) return "stopped"
  if (!isRetryable(error) || failures >= maxAttempts) return "failed"
  return isStopped ? "stopped" : "again"
}

export interface FailedHandler {
  readonly error: unknown
  /** Whether the error is the typed failure of a step whose retries are used up. */
  readonly isStepFailure: boolean
  /** The run's attempt, from 1. */
  readonly attempt: number
  readonly maxAttempts: number
  /** The number of registered compensations. */
  readonly compensations: number
}

/**
 * `"again"`: the run is retried later. `"compensate"`: the run fails, and its compensations run first. `"failed"`: the
 * run fails, and has no compensations.
 */
export const handlerVerdict = (failed: FailedHandler): "again" | "compensate" | "failed" => {
  const { attempt, compensations, error, isStepFailure, maxAttempts } = failed
  if (isRetryable(error) && !isStepFailure && attempt < maxAttempts) return "again"
  return compensations > 0 ? "compensate" : "failed"
}
