/** Decides whether a worker should try its key again when an engine has refused it. */
import type * as Clock from "effect/Clock"
import { monotonicMs } from "./ServerLink.ts"

/**
 * If the engine accepted the key at most this long ago, in milliseconds, the key may have been damaged in
 * transit. It is tried once more, and after that not again for the same time.
 */
const KEY_WORKED_MS = 60_000

export class KeyRefusals {
  readonly #clock: Clock.Clock
  /** When the engine last accepted the key. */
  #admittedAt: number
  /** When a refusal of the key was last doubted. */
  #doubtedAt = Number.NEGATIVE_INFINITY

  constructor(clock: Clock.Clock, admittedAt: number) {
    this.#clock = clock
    this.#admittedAt = admittedAt
  }

  /** Records that the engine accepted the key. */
  admitted(): void {
    this.#admittedAt = monotonicMs(this.#clock)
  }

  /**
   * Doubts a refusal of the key, or of its permissions. Returns whether another attempt should confirm it.
   * After `true`, this returns `false` for a while.
   */
  doubt(): boolean {
    const now = monotonicMs(this.#clock)
    if (now - this.#admittedAt > KEY_WORKED_MS || now - this.#doubtedAt <= KEY_WORKED_MS) return false
    this.#doubtedAt = now
    return true
  }
}
