/** What a worker says when its engine cannot be reached, and how long it waits before it tries again. */
import { calculateBackoff } from "../Backoff.ts"
import type { Logger } from "../Logger.ts"

/** The first wait, in milliseconds; each further one is twice as long. */
const firstDelayMs = 100

export class Outage {
  readonly #logger: Logger
  readonly #longestDelayMs: number
  readonly #url: string
  #failures = 0

  /** `longestDelayMs` bounds the waits between attempts. */
  constructor(logger: Logger, url: string, longestDelayMs: number) {
    this.#logger = logger
    this.#url = url
    this.#longestDelayMs = longestDelayMs
  }

  /** An attempt has failed: says so at the first one. Returns the milliseconds to wait before the next. */
  failed(error: Error): number {
    this.#failures++
    if (this.#failures === 1) this.#logger.warn(`${error.message}. Trying again until it answers`)
    return calculateBackoff(
      this.#failures,
      Math.min(firstDelayMs, this.#longestDelayMs),
      this.#longestDelayMs
    )
  }

  /** An attempt has succeeded. */
  over(): void {
    if (this.#failures > 0) this.#logger.info(`The Ironflow server at ${this.#url} answers again`)
    this.#failures = 0
  }
}
