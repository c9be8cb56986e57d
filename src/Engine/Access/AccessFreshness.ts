/**
 * Keeps an engine from judging calls by outdated access records. Changes by other engines usually arrive within a moment, but not
 * while the engine is frozen, or cut off from the database. Without this check, a key that another engine has deleted would still
 * work for the first calls after such a time.
 */
import * as Effect from "effect/Effect"
import { StoreError } from "../../Errors.ts"
import type { SharedCopy } from "../Store/SharedCopy.ts"

/**
 * When the engine has not known for this many milliseconds that the records are current, they must be read again. The engine asks
 * the database once a second, so this happens only when the engine was frozen, or is cut off.
 */
const CURRENT_MS = 2000
/** Maximum number of reads in a second that unknown keys cause. */
const MAX_UNKNOWN_KEY_READS = 50
/** Maximum duration of a read, in milliseconds. */
const MAX_REFRESH_MS = 5000

export interface AccessFreshnessOptions {
  readonly copy: SharedCopy
  /** See `StoreService.sinceCurrentMs`. */
  readonly sinceCurrentMs: () => number
  /** When the records were last read, in milliseconds of the clock {@link monotonicMs}. */
  readonly readAt: () => number
  /** A monotonic clock, in milliseconds. */
  readonly monotonicMs: () => number
  /** Whether a key has this secret. */
  readonly knowsSecret: (key: string) => boolean
}

export class AccessFreshness {
  readonly #options: AccessFreshnessOptions
  /** The times of the last reads that unknown keys have caused, oldest first. */
  #unknownKeyReads: Array<number> = []

  constructor(options: AccessFreshnessOptions) {
    this.#options = options
  }

  /**
   * Whether {@link refresh} must come before a call is judged. `key` is the secret in the call, if there is one. If the secret is
   * unknown, another engine may just have created its key. Then this returns `true`, unless there were {@link
   * MAX_UNKNOWN_KEY_READS} such answers within a second.
   */
  needsRefresh(key?: string): boolean {
    return !this.#isCurrent() || (key !== undefined && this.#mayBeNew(key))
  }

  /** Reads the records. Fails with a `StoreError` when they cannot be read in time and may be outdated. */
  readonly refresh: Effect.Effect<void, StoreError> = Effect.suspend(() =>
    Effect.catch(
      Effect.timeoutOrElse(this.#options.copy.refreshed, {
        duration: MAX_REFRESH_MS,
        orElse: () => Effect.fail(cannotJudgeError())
      }),
      (error) => (this.#isCurrent() ? Effect.void : Effect.fail(error))
    )
  )

  #isCurrent(): boolean {
    const { copy, sinceCurrentMs, monotonicMs, readAt } = this.#options
    return !copy.isOutdated() && Math.min(sinceCurrentMs(), monotonicMs() - readAt()) <= CURRENT_MS
  }

  /** Whether an unknown key may cause a read now. If so, counts this read. */
  #mayBeNew(key: string): boolean {
    const { knowsSecret, monotonicMs } = this.#options
    if (knowsSecret(key)) return false
    this.#unknownKeyReads = this.#unknownKeyReads.filter((at) => monotonicMs() - at < 1000)
    if (this.#unknownKeyReads.length >= MAX_UNKNOWN_KEY_READS) return false
    this.#unknownKeyReads.push(monotonicMs())
    return true
  }
}

const cannotJudgeError = (): StoreError =>
  new StoreError(
    "This engine cannot reach its database, and so cannot know who may call it now. Try again later, or at another engine",
    { code: "STORE_UNAVAILABLE", retryable: true }
  )
