/** Logs when an engine cannot be reached and when it answers again, and computes the delays between attempts. */
import { calculateBackoff } from "../Backoff.ts"
import type { Logger } from "../Logger.ts"
import { isAccessError } from "./AccessErrors.ts"

/** The first delay, in milliseconds. Each later delay is twice as long, up to a limit. */
const FIRST_DELAY_MS = 100

export class Outage {
  readonly #logger: Logger
  readonly #longestDelayMs: number
  readonly #url: string
  #failures = 0

  /** `longestDelayMs` limits the delay between attempts. */
  constructor(logger: Logger, url: string, longestDelayMs: number) {
    this.#logger = logger
    this.#url = url
    this.#longestDelayMs = longestDelayMs
  }

  /** Records a failed attempt, and logs the first one. Returns the delay before the next attempt, in milliseconds. */
  attemptFailed(error: Error): number {
    this.#failures++
    if (this.#failures === 1) {
      // a worker whose key or permissions are refused again stops
      const isRefusal = isAccessError(error) || isAccessError(error.cause)
      this.#logger.warn(
        `${error.message}. ${isRefusal ? "Trying once more" : "Trying again until the server answers"}`
      )
    }
    return calculateBackoff(
      this.#failures,
      Math.min(FIRST_DELAY_MS, this.#longestDelayMs),
      this.#longestDelayMs
    )
  }

  /** Records a successful attempt. */
  attemptSucceeded(): void {
    if (this.#failures > 0) this.#logger.info(`The Ironflow server at ${this.#url} answers again`)
    this.#failures = 0
  }
}
