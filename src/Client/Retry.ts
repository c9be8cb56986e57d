/** The options for repeating calls over HTTP, and the event that `onRetry` gets. */
import { DEFAULT_CLIENT_RETRY } from "../Constants.ts"
import { ValidationError } from "../Errors.ts"
import type { Keys } from "../OptionKeys.ts"
import { show } from "../Show.ts"

/**
 * How calls that are safe to repeat are tried again. Other calls are repeated only when the server certainly did
 * not receive them, for example because it refused the connection.
 */
export interface ClientRetryConfig {
  /** Maximum number of attempts, the first one included; 3 by default, 1 disables retries. */
  readonly maxAttempts?: number
  /** First delay after the server was busy, in milliseconds; 100 by default. */
  readonly initialDelayMs?: number
  /** Factor by which each further delay grows; 2 by default. */
  readonly backoffFactor?: number
  /** Maximum delay, in milliseconds; 10000 by default. */
  readonly maxDelayMs?: number
  /** Delay after a failed connection, in milliseconds; 2000 by default. */
  readonly connectionDelayMs?: number
  /** Called before each delay. If it throws, the call fails with that error. */
  readonly onRetry?: (event: RetryEvent) => void
}

export const clientRetryKeys = {
  maxAttempts: true,
  initialDelayMs: true,
  backoffFactor: true,
  maxDelayMs: true,
  connectionDelayMs: true,
  onRetry: true
} satisfies Keys<ClientRetryConfig>

/** How far the attempts of a call have come. */
export interface RetryInfo {
  /** The attempt that failed, from 1. */
  readonly attempt: number
  /** Maximum number of attempts, the first one included. */
  readonly maxAttempts: number
  /** Delay before the next attempt, in milliseconds. */
  readonly delayMs: number
}

/** The argument of `onRetry`: an attempt has failed, and the call is about to be tried again. */
export interface RetryEvent extends RetryInfo {
  /** The call, such as `getRun("run_1")`. */
  readonly call: string
  /** Status of the answer, if there was one: 429, 502 or 503. */
  readonly status?: number
  /** Why there was no answer, if there was none. */
  readonly error?: Error
}

export type ResolvedRetry = Required<Omit<ClientRetryConfig, "onRetry">> & Pick<ClientRetryConfig, "onRetry">

/**
 * Checks the configuration, and fills in defaults. Throws a `ValidationError`, whose message begins with `caller`.
 */
export const resolveClientRetry = (config: ClientRetryConfig | undefined, caller: string): ResolvedRetry => {
  const resolved: ResolvedRetry = {
    maxAttempts: DEFAULT_CLIENT_RETRY.MAX_ATTEMPTS,
    initialDelayMs: DEFAULT_CLIENT_RETRY.INITIAL_DELAY_MS,
    backoffFactor: DEFAULT_CLIENT_RETRY.BACKOFF_MULTIPLIER,
    maxDelayMs: DEFAULT_CLIENT_RETRY.MAX_DELAY_MS,
    connectionDelayMs: DEFAULT_CLIENT_RETRY.CONNECTION_RETRY_DELAY_MS,
    ...config
  }
  const { maxAttempts, backoffFactor } = resolved
  if (!Number.isSafeInteger(maxAttempts) || maxAttempts < 1) {
    throw new ValidationError(
      `${caller}: \`retry.maxAttempts\` must be an integer, at least 1, got ${show(maxAttempts)}`
    )
  }
  if (typeof backoffFactor !== "number" || !(backoffFactor >= 1) || !Number.isFinite(backoffFactor)) {
    throw new ValidationError(
      `${caller}: \`retry.backoffFactor\` must be a number, at least 1, got ${show(backoffFactor)}`
    )
  }
  for (const name of ["initialDelayMs", "maxDelayMs", "connectionDelayMs"] as const) {
    const value = resolved[name]
    if (typeof value !== "number" || !(value >= 0) || !Number.isFinite(value)) {
      throw new ValidationError(
        `${caller}: \`retry.${name}\` must be a number of milliseconds, at least 0, got ${show(value)}`
      )
    }
  }
  return resolved
}
