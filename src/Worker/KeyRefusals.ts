/** Decides whether a worker should try its API key again after an engine has refused the key. */
import type * as Clock from "effect/Clock"
import { monotonicMs } from "./ServerLink.ts"

/**
 * If the engine refuses a key that it accepted at most this long ago, in milliseconds, the key may have been damaged in
 * transit, and is tried once more. A second refusal within this time is believed.
 */
const KEY_WORKED_MS = 60_000

export class KeyRefusals {
  readonly #clock: Clock.Clock
  /** When the engine last accepted the key. */
  #acceptedAt: number
  /** When a refusal of the key was last doubted, and the key was tried once more. */
  #doubtedAt = Number.NEGATIVE_INFINITY

  constructor(clock: Clock.Clock, admittedAt: number) {
    this.#clock = clock
    this.#acceptedAt = admittedAt
  }

  /** Records that the engine accepted the key. */
  noteAcceptance(): void {
    this.#acceptedAt = monotonicMs(this.#clock)
  }

  /**
   * Doubts a refusal of the key, or of its permissions. Returns whether another attempt should confirm the refusal.
   * After `true`, returns `false` for a while.
   */
  doubt(): boolean {
    const now = monotonicMs(this.#clock)
    if (now - this.#acceptedAt > KEY_WORKED_MS || now - this.#doubtedAt <= KEY_WORKED_MS) return false
    this.#doubtedAt = now
    return true
  }
}
