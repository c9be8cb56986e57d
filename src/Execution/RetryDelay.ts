/** How long until something that failed is tried again. */
import * as Context from "effect/Context"
import * as Random from "effect/Random"
import { askedDelayMs, retryDelayMs, type RetryPolicy } from "../Backoff.ts"
import { retryAfterOf } from "../Errors.ts"
import { show, showMs } from "../Show.ts"
import type { TurnHost } from "./TurnHost.ts"

export interface Failed {
  readonly error: unknown
  /** How often it has failed by now. */
  readonly failures: number
  readonly retry: RetryPolicy
  /** What has failed, for a message: `Run run_1 of function "order": Step "charge"`. */
  readonly what: () => string
}

/** Milliseconds: as the error asks for, or else by the policy. */
export const delayBeforeRetry = (
  { clock, context, logger }: Pick<TurnHost, "clock" | "context" | "logger">,
  { error, failures, retry, what }: Failed
): number => {
  const asked = askedDelayMs(error, clock.currentTimeMillisUnsafe())
  if (asked !== undefined && !Number.isNaN(asked)) return asked
  const chance = retry.jitter === undefined ? 0 : Context.get(context, Random.Random).nextDoubleUnsafe()
  const delayMs = retryDelayMs(retry, failures, chance)
  if (asked !== undefined) {
    logger.warn(
      `${what()} failed with an error whose \`retryAfter\` is ` +
        `neither a delay nor a date, ${show(retryAfterOf(error))}. It is tried again in ${showMs(delayMs)}, as its retry policy says`
    )
  }
  return delayMs
}
