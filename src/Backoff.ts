/** When to try again. */
import { DEFAULT_RETRY } from "./Constants.ts"
import { ValidationError } from "./Errors.ts"
import { show } from "./Show.ts"

/** How often and when a failed step, or a run that failed outside its steps, is tried again. */
export interface RetryConfig {
  /** Executions in all, the first included; 3 by default. */
  readonly maxAttempts?: number
  /** Milliseconds before the second attempt; 1000 by default. */
  readonly initialDelayMs?: number
  /** Every further delay is this many times as long; 2 by default. */
  readonly backoffFactor?: number
  /** No delay is longer, in milliseconds; 300000 (5 minutes) by default. */
  readonly maxDelayMs?: number
}

/** A retry policy with nothing left open. */
export type RetryPolicy = Required<RetryConfig>

/** The delay in milliseconds after `attempt` (from 1) has failed: `initial * multiplier ^ (attempt - 1)`, at most `max`. */
export const calculateBackoff = (attempt: number, initial: number, max: number, multiplier = 2): number =>
  // An initial delay of 0 stays 0 where the power has grown to infinity.
  initial === 0 ? 0 : Math.min(initial * multiplier ** (attempt - 1), max)

/** The delay in milliseconds before the next attempt, after `failures` failed ones (from 1). */
export const retryDelayMs = (policy: RetryPolicy, failures: number): number =>
  Math.round(calculateBackoff(failures, policy.initialDelayMs, policy.maxDelayMs, policy.backoffFactor))

/** The policy of those who do not say otherwise. */
export const defaultRetry: RetryPolicy = {
  maxAttempts: DEFAULT_RETRY.MAX_ATTEMPTS,
  initialDelayMs: DEFAULT_RETRY.INITIAL_DELAY_MS,
  backoffFactor: DEFAULT_RETRY.BACKOFF_FACTOR,
  maxDelayMs: DEFAULT_RETRY.MAX_DELAY_MS
}

/** No delay is longer than this: past it a timestamp is no date any more. */
const longestDelayMs = 10 * 365 * 86_400_000

/**
 * The configuration with `defaults` filled in. Throws `ValidationError` naming the field. `what` says whose policy it
 * is. Fields that are `undefined` count as absent.
 */
export const resolveRetry = (
  config?: { readonly [K in keyof RetryConfig]: RetryConfig[K] | undefined },
  what = "retry",
  defaults: RetryPolicy = defaultRetry
): RetryPolicy => {
  if (config === undefined) return defaults
  if (typeof config !== "object" || config === null) {
    throw new ValidationError(`Invalid ${what}: it must be an object such as { maxAttempts: 5 }`)
  }
  const initialDelayMs = config.initialDelayMs ?? defaults.initialDelayMs
  const policy: RetryPolicy = {
    maxAttempts: config.maxAttempts ?? defaults.maxAttempts,
    initialDelayMs,
    backoffFactor: config.backoffFactor ?? defaults.backoffFactor,
    // A long first delay raises a cap that was not given.
    maxDelayMs: config.maxDelayMs ?? Math.max(defaults.maxDelayMs, initialDelayMs)
  }
  check(
    what,
    "maxAttempts",
    policy.maxAttempts,
    Number.isInteger(policy.maxAttempts) && policy.maxAttempts >= 1,
    {
      must: "be an integer of at least 1 (the first attempt counts)"
    }
  )
  check(what, "initialDelayMs", policy.initialDelayMs, isDelay(policy.initialDelayMs), delayRule)
  check(what, "maxDelayMs", policy.maxDelayMs, isDelay(policy.maxDelayMs), delayRule)
  check(
    what,
    "backoffFactor",
    policy.backoffFactor,
    Number.isFinite(policy.backoffFactor) && policy.backoffFactor >= 1,
    {
      must: "be a number of at least 1"
    }
  )
  return policy
}

const delayRule = { must: "be a number of milliseconds between 0 and ten years" }

const isDelay = (ms: unknown): boolean => typeof ms === "number" && ms >= 0 && ms <= longestDelayMs

const check = (
  what: string,
  field: string,
  value: unknown,
  ok: boolean,
  rule: { readonly must: string }
): void => {
  if (!ok) throw new ValidationError(`Invalid ${what}.${field}: it must ${rule.must}, got ${show(value)}`)
}
