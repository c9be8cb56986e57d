/**
 * Keeps an engine from judging calls by outdated access records. Changes by other engines usually arrive within a moment. They do
 * not arrive while the engine is frozen, or cut off from the database. Without this check, a key that was deleted at another
 * engine would still work for the first calls after such a time.
 */
import * as Effect from "effect/Effect"
import { StoreError } from "../../Errors.ts"
import type { SharedCopy } from "../Store/SharedCopy.ts"

/**
 * For how long the records count as current without another read, in milliseconds. The engine asks the database once a second, so
 * more time passes only when the engine was frozen, or is cut off.
 */
const CURRENT_MS = 2000
/** How many reads in a second unknown keys may cause. */
const MAX_UNKNOWN_KEY_READS = 50
/** How long a read may take, in milliseconds. */
const MAX_REFRESH_MS = 5000

export interface AccessFreshnessOptions {
  readonly copy: SharedCopy
  /** See `StoreService.sinceCurrentMs`. */
  readonly sinceCurrentMs: () => number
  /** When the records were last read, in milliseconds of the clock {@link now}. */
  readonly readAt: () => number
  /** A monotonic clock, in milliseconds. */
  readonly now: () => number
  /** Whether a key has this secret. */
  readonly knows: (key: string) => boolean
}

export class AccessFreshness {
  readonly #options: AccessFreshnessOptions
  /** When unknown keys last caused reads, oldest first. */
  #unknownAt: Array<number> = []

  constructor(options: AccessFreshnessOptions) {
    this.#options = options
  }

  /**
   * Whether {@link refresh} must come before a call is judged. `key` is the secret in the call, if there is one. If the secret is
   * unknown, another engine may just have created its key: then this returns `true`, which counts towards
   * {@link MAX_UNKNOWN_KEY_READS}.
   */
  needsRefresh(key?: string): boolean {
    return !this.#isCurrent() || (key !== undefined && this.#mayBeNew(key))
  }

  /** Reads the records. Fails with a `StoreError` when they cannot be read in time and may be outdated. */
  readonly refresh: Effect.Effect<void, StoreError> = Effect.suspend(() =>
    Effect.catch(
      Effect.timeoutOrElse(this.#options.copy.refreshed, {
        duration: MAX_REFRESH_MS,
        orElse: () => Effect.fail(cannotJudge())
      }),
      (error) => (this.#isCurrent() ? Effect.void : Effect.fail(error))
    )
  )

  #isCurrent(): boolean {
    const { copy, sinceCurrentMs, now, readAt } = this.#options
    return !copy.isOutdated() && Math.min(sinceCurrentMs(), now() - readAt()) <= CURRENT_MS
  }

  /** Whether an unknown key may cause a read now. If so, counts this read. */
  #mayBeNew(key: string): boolean {
    const { knows, now } = this.#options
    if (knows(key)) return false
    this.#unknownAt = this.#unknownAt.filter((at) => now() - at < 1000)
    if (this.#unknownAt.length >= MAX_UNKNOWN_KEY_READS) return false
    this.#unknownAt.push(now())
    return true
  }
}

const cannotJudge = (): StoreError =>
  new StoreError(
    "This engine cannot reach its database, and so cannot know who may call it now. Try again later, or at another engine",
    { code: "STORE_UNAVAILABLE", retryable: true }
  )
