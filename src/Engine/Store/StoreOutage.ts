/**
 * Logs failures of work that the engine does on the store by itself, such as firing timers. Of the failures that follow one
 * another, it logs once that they have begun, once that they last long, and once that they are over. A database that cannot be
 * reached for a moment is logged as a warning.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { IronflowError } from "../../Errors.ts"

/** Delay before the work is tried again. */
export const RETRY_MS = 1000
/** Failures that last longer than this are logged as an error. A restart of the database takes less. */
const LONG_MS = 5000

export class StoreOutage {
  readonly #failureText: string
  readonly #recoveryText: string
  readonly #howOften: string
  /** When the failures began, on a monotonic clock in milliseconds; `undefined` while there are none. */
  #beganAt: number | undefined
  #isLoggedAsError = false

  /**
   * `failureText` and `recoveryText` are sentences: "Timers cannot be fired", "Timers can be fired again". `howOften` says how
   * often the work is tried again: "every second" by default.
   */
  constructor(failureText: string, recoveryText: string, howOften = "every second") {
    this.#failureText = failureText
    this.#recoveryText = recoveryText
    this.#howOften = howOften
  }

  get isOn(): boolean {
    return this.#beganAt !== undefined
  }

  failed(error: Pick<IronflowError, "code" | "message" | "retryable">): Effect.Effect<void> {
    return Clock.clockWith((clock) => {
      const now = Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      const isFirst = this.#beganAt === undefined
      const lastsMs = now - (this.#beganAt ??= now)
      // errors on which an operator has to act, and bugs, which are logged with their stack trace
      const isError = !error.retryable || error.code === "STORE_LOCKED"
      if (this.#isLoggedAsError || !(isFirst || isError || lastsMs >= LONG_MS)) return Effect.void
      this.#isLoggedAsError = isError || lastsMs >= LONG_MS
      if (error.code === "STORE_LOCKED") return Effect.logError(`${this.#failureText}: ${error.message}`)
      const messageWithRetry = `${error.message}. Trying again ${this.#howOften}`
      if (isError) return Effect.logError(`${this.#failureText}: ${messageWithRetry}`, error)
      return isFirst
        ? Effect.logWarning(`${this.#failureText}: ${messageWithRetry}`)
        : Effect.logError(
            `${this.#failureText}, for ${Math.round(lastsMs / 1000)} s by now: ${messageWithRetry}`
          )
    })
  }

  succeeded(): Effect.Effect<void> {
    if (this.#beganAt === undefined) return Effect.void
    this.#beganAt = undefined
    this.#isLoggedAsError = false
    return Effect.logInfo(this.#recoveryText)
  }
}
