/**
 * Keeps an engine from deciding by access records that other engines have changed meanwhile. News of such changes arrive within a
 * moment, but not while the engine is frozen or cut off from the database: then a key that was deleted elsewhere would still work
 * for the first calls after that.
 */
import * as Effect from "effect/Effect"
import { StoreError } from "../../Errors.ts"
import type { SharedCopy } from "../Store/SharedCopy.ts"

/**
 * For how long the records count without another look, in milliseconds. The engine asks the database once a second, so it takes
 * longer only when the engine was frozen, or is cut off.
 */
const CURRENT_MS = 2000
/** How many looks unknown keys may cause in a second. */
const UNKNOWN_LOOKS = 10
/** How long a look may take, in milliseconds. */
const MOST_LOOK_MS = 5000

export interface AccessFreshnessOptions {
  readonly copy: SharedCopy
  /** `StoreService.currentMs`. */
  readonly currentMs: () => number
  /** When the records were last read, in milliseconds of {@link now}. */
  readonly readAt: () => number
  /** A monotonic clock, in milliseconds. */
  readonly now: () => number
  /** Whether this is the secret of a key. */
  readonly knows: (key: string) => boolean
}

export class AccessFreshness {
  readonly #options: AccessFreshnessOptions
  /** When unknown keys last caused looks: the oldest first. */
  #unknownAt: Array<number> = []

  constructor(options: AccessFreshnessOptions) {
    this.#options = options
  }

  /**
   * Whether {@link look} must come before a call is judged. `key` is that of the call, if it has one: another engine may just have
   * made it.
   */
  needsLook(key?: string): boolean {
    return !this.#isCurrent() || (key !== undefined && this.#mayBeNew(key))
  }

  /** Reads the records. Fails with a retryable `StoreError` when they may be outdated, and cannot be read. */
  readonly look: Effect.Effect<void, StoreError> = Effect.suspend(() =>
    Effect.catch(
      Effect.timeoutOrElse(this.#options.copy.refreshed, {
        duration: MOST_LOOK_MS,
        orElse: () => Effect.fail(unknown())
      }),
      (error) => (this.#isCurrent() ? Effect.void : Effect.fail(error))
    )
  )

  #isCurrent(): boolean {
    const { copy, currentMs, now, readAt } = this.#options
    return !copy.isOutdated() && Math.min(currentMs(), now() - readAt()) <= CURRENT_MS
  }

  #mayBeNew(key: string): boolean {
    const { knows, now } = this.#options
    if (knows(key)) return false
    this.#unknownAt = this.#unknownAt.filter((at) => now() - at < 1000)
    if (this.#unknownAt.length >= UNKNOWN_LOOKS) return false
    this.#unknownAt.push(now())
    return true
  }
}

const unknown = (): StoreError =>
  new StoreError(
    "This engine cannot reach its database, and so cannot know whether the API key still works. Try again later, or at another engine",
    { code: "STORE_UNAVAILABLE", retryable: true }
  )
