/** The delay before a failed step or run is retried. */
import * as Context from "effect/Context"
import * as Random from "effect/Random"
import { requestedDelayMs, retryDelayMs, type RetryPolicy } from "../Backoff.ts"
import { retryAfterOf } from "../Errors.ts"
import { show, showMs } from "../Show.ts"
import type { TurnHost } from "./TurnHost.ts"

/** A failure after which another attempt follows. */
export interface RetriedFailure {
  readonly error: unknown
  /** How many attempts have failed so far. */
  readonly failures: number
  readonly retry: RetryPolicy
  /** The subject of the warning, such as `Run run_1 of function "order": Step "charge"`. */
  readonly what: () => string
}

/**
 * The delay in milliseconds before the next attempt: the delay that the error asks for, or else the delay of the
 * policy.
 */
export const delayBeforeRetry = (
  { clock, context, logger }: Pick<TurnHost, "clock" | "context" | "logger">,
  { error, failures, retry, what }: RetriedFailure
): number => {
  const requested = requestedDelayMs(error, clock.currentTimeMillisUnsafe())
  if (requested !== undefined && !Number.isNaN(requested)) return requested
  const chance = retry.jitter === undefined ? 0 : Context.get(context, Random.Random).nextDoubleUnsafe()
  const delayMs = retryDelayMs(retry, failures, chance)
  if (requested !== undefined) {
    logger.warn(
      `${what()} failed with an error whose \`retryAfter\` is neither a delay nor a date: ` +
        `${show(retryAfterOf(error))}. The next attempt comes in ${showMs(delayMs)}, as the retry policy says`
    )
  }
  return delayMs
}
