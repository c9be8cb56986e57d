/** What follows when the code of a step, or the handler itself, has failed. */
import { isRetryable } from "../Errors.ts"
import { isAbortFailure } from "./Attempt.ts"

export interface FailedAttempt {
  readonly error: unknown
  /** Why the code had been told to stop, if it had. */
  readonly abortReason: Error | undefined
  /** Failed attempts of the step, this one included. */
  readonly failures: number
  readonly maxAttempts: number
  /** Whether nothing new may start in the step's branch. */
  readonly isStopped: boolean
}

/**
 * `"failed"`: the failure is the step's outcome. `"again"`: it is tried again later. `"stopped"`: it has no outcome in this
 * turn; if it is wanted at all, it starts again in another one.
 */
export const attemptVerdict = (failed: FailedAttempt): "failed" | "again" | "stopped" => {
  const { abortReason, error, failures, isStopped, maxAttempts } = failed
  if (abortReason !== undefined && isAbortFailure(error, abortReason)) return "stopped"
  if (!isRetryable(error) || failures >= maxAttempts) return "failed"
  return isStopped ? "stopped" : "again"
}

export interface FailedHandler {
  readonly error: unknown
  /** Whether it is the typed failure of a step, which has been tried again as often as it may be. */
  readonly isStepFailure: boolean
  /** The run's attempt, from 1. */
  readonly attempt: number
  readonly maxAttempts: number
  /** How many compensations are registered. */
  readonly compensations: number
}

/** `"again"`: the run is tried again later. `"compensate"`: it has failed, and what it has done is undone first. */
export const handlerVerdict = (failed: FailedHandler): "again" | "compensate" | "failed" => {
  const { attempt, compensations, error, isStepFailure, maxAttempts } = failed
  if (isRetryable(error) && !isStepFailure && attempt < maxAttempts) return "again"
  return compensations > 0 ? "compensate" : "failed"
}
