/**
 * Keeps an engine from judging calls by outdated access records. Changes by other engines are usually heard of within a moment.
 * They are not heard of while the engine is frozen, or cut off from the database. Without this check, a key that was deleted
 * elsewhere would still work for the first calls after that.
 */
import * as Effect from "effect/Effect"
import { StoreError } from "../../Errors.ts"
import type { SharedCopy } from "../Store/SharedCopy.ts"

/**
 * For how long the records count as current without another look, milliseconds. The engine asks the database once a second, so
 * more time passes only when the engine was frozen, or is cut off.
 */
const CURRENT_MS = 2000
/** How many looks in a second may be caused by unknown keys. */
const UNKNOWN_LOOKS = 50
/** How long a look may take, milliseconds. */
const MOST_LOOK_MS = 5000

export interface AccessFreshnessOptions {
  readonly copy: SharedCopy
  /** See `StoreService.currentMs`. */
  readonly currentMs: () => number
  /** When the records were last read, milliseconds by {@link now}. */
  readonly readAt: () => number
  /** A monotonic clock, milliseconds. */
  readonly now: () => number
  /** Whether a key has this secret. */
  readonly knows: (key: string) => boolean
}

export class AccessFreshness {
  readonly #options: AccessFreshnessOptions
  /** When unknown keys last caused looks, oldest first. */
  #unknownAt: Array<number> = []

  constructor(options: AccessFreshnessOptions) {
    this.#options = options
  }

  /**
   * Whether {@link look} must come before a call is judged. `key` is the secret in the call, if it has one. If it is unknown,
   * another engine may just have created its key.
   */
  needsLook(key?: string): boolean {
    return !this.#isCurrent() || (key !== undefined && this.#mayBeNew(key))
  }

  /** Reads the records. If they cannot be read and may be outdated, fails with a retryable `StoreError`. */
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
    "This engine cannot reach its database, and so cannot know who may call it now. Try again later, or at another engine",
    { code: "STORE_UNAVAILABLE", retryable: true }
  )
