/** Logs failures of the engine's own work on the store: once when they begin, and once when they are over. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"

/** Delay before the work is tried again, milliseconds. */
export const RETRY_MS = 1000

export class StoreOutage {
  readonly #failing: string
  readonly #over: string
  #isOn = false

  /** `failing` and `over` are sentences: "Timers cannot be fired", "Timers can be fired again". */
  constructor(failing: string, over: string) {
    this.#failing = failing
    this.#over = over
  }

  get isOn(): boolean {
    return this.#isOn
  }

  failed(error: StoreError): Effect.Effect<void> {
    if (this.#isOn) return Effect.void
    this.#isOn = true
    if (error.code === "STORE_LOCKED") return Effect.logError(`${this.#failing}: ${error.message}`)
    const text = `${this.#failing}: ${error.message}. Trying again every second`
    // a full disk needs no stack trace, a bug does
    return error.retryable ? Effect.logError(text) : Effect.logError(text, error)
  }

  succeeded(): Effect.Effect<void> {
    if (!this.#isOn) return Effect.void
    this.#isOn = false
    return Effect.logInfo(this.#over)
  }
}
