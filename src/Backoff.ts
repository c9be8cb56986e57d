/** Retry policies and delays. */
import { DEFAULT_RETRY } from "./Constants.ts"
import { parseDuration } from "./Duration.ts"
import { retryAfterOf, ValidationError } from "./Errors.ts"
import type { Keys } from "./OptionKeys.ts"
import { show } from "./Show.ts"

/**
 * How a step that failed, or a run that failed outside of its steps, is tried again. The defaults given here are the
 * defaults of functions. A field that a step leaves out has the value of its function, and hooks have defaults of their
 * own.
 */
export interface RetryConfig {
  /** Maximum number of attempts, the first one included; 3 by default. */
  readonly maxAttempts?: number
  /** Delay before the second attempt, in milliseconds; 1000 by default. */
  readonly initialDelayMs?: number
  /** Factor by which each further delay grows; 2 by default. */
  readonly backoffFactor?: number
  /**
   * Maximum delay, in milliseconds, unless the error asks for a longer one. By default 300000 (5 minutes), or
   * `initialDelayMs` if that is longer.
   */
  readonly maxDelayMs?: number
  /** The share of each delay, from 0 to 1, that is subtracted at random, so that retries spread out; 0 by default. */
  readonly jitter?: number
}

export const retryKeys = {
  maxAttempts: true,
  initialDelayMs: true,
  backoffFactor: true,
  maxDelayMs: true,
  jitter: true
} satisfies Keys<RetryConfig>

/** A retry policy with all defaults filled in. Without `jitter` the delays are not random. */
export type RetryPolicy = Required<Omit<RetryConfig, "jitter">> & Pick<RetryConfig, "jitter">

/**
 * The delay in milliseconds after `attempt` (from 1) has failed: `initial * multiplier ^ (attempt - 1)`, at most `max`.
 *
 * ```ts
 * calculateBackoff(3, 1000, 300_000) // 4000: 1000, 2000, 4000 ...
 * ```
 */
export const calculateBackoff = (attempt: number, initial: number, max: number, multiplier = 2): number =>
  // 0 times an infinite power would be NaN
  initial === 0 ? 0 : Math.min(initial * multiplier ** (attempt - 1), max)

/**
 * The delay in milliseconds before the next attempt, after `failures` failed attempts (from 1). `chance`,
 * from 0 to 1, is how much of the jitter is subtracted.
 *
 * ```ts
 * const policy = resolveRetry({ initialDelayMs: 500, jitter: 0.5 })
 * retryDelayMs(policy, 2, Math.random()) // between 500 and 1000
 * ```
 */
export const retryDelayMs = (policy: RetryPolicy, failures: number, chance = 0): number =>
  Math.round(
    calculateBackoff(failures, policy.initialDelayMs, policy.maxDelayMs, policy.backoffFactor) *
      (1 - (policy.jitter ?? 0) * chance)
  )

/** The retry policy when none is configured. */
export const defaultRetry: RetryPolicy = {
  maxAttempts: DEFAULT_RETRY.MAX_ATTEMPTS,
  initialDelayMs: DEFAULT_RETRY.INITIAL_DELAY_MS,
  backoffFactor: DEFAULT_RETRY.BACKOFF_FACTOR,
  maxDelayMs: DEFAULT_RETRY.MAX_DELAY_MS
}

/** The longest delay that a configuration or an error may ask for. A longer one may lead to a date out of range. */
const LONGEST_DELAY_MS = 10 * 365 * 86_400_000

/**
 * The delay in milliseconds that an error asks for before the next attempt, at most ten years. `undefined` when the
 * error asks for none, `NaN` when its `retryAfter` is neither a delay nor a date, and 0 for a date in the past.
 */
export const requestedDelayMs = (error: unknown, now: number): number | undefined => {
  const retryAfter = retryAfterOf(error)
  if (retryAfter === undefined) return undefined
  const ms =
    typeof retryAfter === "number"
      ? retryAfter < 0
        ? Number.NaN
        : retryAfter
      : parseRetryAfter(retryAfter, now)
  return Math.min(Math.round(ms), LONGEST_DELAY_MS)
}

const parseRetryAfter = (retryAfter: unknown, now: number): number => {
  if (retryAfter instanceof Date) return Math.max(0, retryAfter.getTime() - now)
  if (typeof retryAfter !== "string") return Number.NaN
  const text = retryAfter.trim()
  // HTTP: seconds, or a date such as "Wed, 21 Oct 2026 07:28:00 GMT"
  if (/^\d+$/.test(text)) return Number(text) * 1000
  if (/^([A-Z][a-z]{2}|[+-]?\d{4,6}-\d\d)/.test(text)) return Math.max(0, Date.parse(text) - now)
  try {
    return parseDuration(text)
  } catch {
    // this throws no error: the caller, which knows the step, logs the wrong value and the delay that it uses instead
    return Number.NaN
  }
}

/**
 * The policy of a configuration, with missing fields from `defaults`. Fields that are `undefined` count as missing.
 * Throws `ValidationError`, whose message names the field, and names the policy by `what`.
 *
 * ```ts
 * resolveRetry({ maxAttempts: 5 }, "retry of function \"order\"") // with the other defaults
 * ```
 */
export const resolveRetry = (
  config?: { readonly [K in keyof RetryConfig]: RetryConfig[K] | undefined },
  what = "retry",
  defaults: RetryPolicy = defaultRetry
): RetryPolicy => {
  if (config === undefined) return defaults
  if (typeof config !== "object" || config === null) {
    throw new ValidationError(`The ${what} must be an object such as { maxAttempts: 5 }, got ${show(config)}`)
  }
  const initialDelayMs = config.initialDelayMs ?? defaults.initialDelayMs
  const jitter = config.jitter ?? defaults.jitter
  const policy: RetryPolicy = {
    maxAttempts: config.maxAttempts ?? defaults.maxAttempts,
    initialDelayMs,
    backoffFactor: config.backoffFactor ?? defaults.backoffFactor,
    // a first delay that is longer than the default maximum raises that maximum
    maxDelayMs: config.maxDelayMs ?? Math.max(defaults.maxDelayMs, initialDelayMs),
    ...(jitter === undefined ? {} : { jitter })
  }
  check(
    what,
    "maxAttempts",
    policy.maxAttempts,
    Number.isInteger(policy.maxAttempts) && policy.maxAttempts >= 1,
    {
      must: "be an integer, at least 1 (the first attempt counts)"
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
      must: "be a number, at least 1"
    }
  )
  if (jitter !== undefined) {
    check(what, "jitter", jitter, typeof jitter === "number" && jitter >= 0 && jitter <= 1, {
      must: "be a number from 0 to 1"
    })
  }
  return policy
}

const delayRule = { must: "be a number of milliseconds between 0 and ten years" }

const isDelay = (ms: unknown): boolean => typeof ms === "number" && ms >= 0 && ms <= LONGEST_DELAY_MS

const check = (
  what: string,
  field: string,
  value: unknown,
  isValid: boolean,
  rule: { readonly must: string }
): void => {
  if (!isValid) throw new ValidationError(`\`${field}\` of the ${what} must ${rule.must}, got ${show(value)}`)
}
