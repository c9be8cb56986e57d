/** When calls over HTTP are made again, and who hears of it. */
import { DEFAULT_CLIENT_RETRY } from "../Constants.ts"
import { ValidationError } from "../Errors.ts"
import type { Keys } from "../OptionKeys.ts"
import { show } from "../Show.ts"

/**
 * For calls that do no harm when they are made twice. Others are made again only when the server surely did not receive
 * them, such as when it refused the connection.
 */
export interface ClientRetryConfig {
  /** The first one included; 3 by default, 1 makes every call once. */
  readonly maxAttempts?: number
  /** Before a server that says it is busy is asked again, in milliseconds; 100 by default. */
  readonly initialDelayMs?: number
  /** Each further wait is so many times as long; 2 by default. */
  readonly backoffFactor?: number
  /** The longest wait, in milliseconds; 10000 by default. */
  readonly maxDelayMs?: number
  /** Before a connection that failed is tried again, in milliseconds; 2000 by default. */
  readonly connectionDelayMs?: number
  /** Called before each wait. What it throws fails the call. */
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

/** Where a call stands. */
export interface RetryInfo {
  /** The attempt that failed, from 1. */
  readonly attempt: number
  /** How many attempts there are at most, the first one included. */
  readonly maxAttempts: number
  /** How long it waits before the next one, in milliseconds. */
  readonly delayMs: number
}

/** A call failed and is about to be made again. */
export interface RetryEvent extends RetryInfo {
  /** The call: `getRun("run_1")`. */
  readonly call: string
  /** What the server answered, if it did: 429, 502 or 503. */
  readonly status?: number
  /** Why there was no answer. */
  readonly error?: Error
}

export type ResolvedRetry = Required<Omit<ClientRetryConfig, "onRetry">> & Pick<ClientRetryConfig, "onRetry">

/** Checks the configuration and fills in defaults. `caller` names whose it is. Throws `ValidationError`. */
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
      `${caller}: \`retry.maxAttempts\` must be an integer from 1 up, got ${show(maxAttempts)}`
    )
  }
  if (typeof backoffFactor !== "number" || !(backoffFactor >= 1) || !Number.isFinite(backoffFactor)) {
    throw new ValidationError(
      `${caller}: \`retry.backoffFactor\` must be a number from 1 up, got ${show(backoffFactor)}`
    )
  }
  for (const name of ["initialDelayMs", "maxDelayMs", "connectionDelayMs"] as const) {
    const value = resolved[name]
    if (typeof value !== "number" || !(value >= 0) || !Number.isFinite(value)) {
      throw new ValidationError(
        `${caller}: \`retry.${name}\` must be a number of milliseconds, got ${show(value)}`
      )
    }
  }
  return resolved
}
