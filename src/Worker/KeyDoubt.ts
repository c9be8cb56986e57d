/** Whether an engine means it that refuses the key of a worker. */
import type * as Clock from "effect/Clock"
import { monotonicMs } from "./ServerLink.ts"

/**
 * A key that the engine took so short a time ago may have been damaged on its way when it is refused, milliseconds: it is tried once
 * more, and not again for as long.
 */
const keyWorkedMs = 60_000

export class KeyDoubt {
  readonly #clock: Clock.Clock
  /** When the engine last took the key of the worker, and when it was tried once more after it did not. */
  #admittedAt: number
  #doubtedAt = Number.NEGATIVE_INFINITY

  constructor(clock: Clock.Clock, admittedAt: number) {
    this.#clock = clock
    this.#admittedAt = admittedAt
  }

  /** The engine has answered. */
  admitted(): void {
    this.#admittedAt = monotonicMs(this.#clock)
  }

  /** Whether a refusal of the key, or of what it may do, is to be heard twice. */
  isDoubtful(): boolean {
    const now = monotonicMs(this.#clock)
    if (now - this.#admittedAt > keyWorkedMs || now - this.#doubtedAt <= keyWorkedMs) return false
    this.#doubtedAt = now
    return true
  }
}
