/**
 * Detects that the clock was set, while the engine runs or between two starts, and by how much. By this amount, the engine can then
 * move stored times that stand for the end of a duration, such as a timeout.
 */

/** The smallest change that counts as a jump. Smaller changes are normal adjustments of the clock. */
const MIN_JUMP_MS = 1000

/**
 * The longest time for which an engine is usually stopped. When more time seems to have passed between two starts, the engine may
 * have been stopped for long, or the clock may have jumped: these look the same, so the time in between counts as a jump.
 */
const USUAL_STOP_MS = 60 * 60 * 1000

/** For this long, deletions ignore that the clock has jumped forward. */
const SETTLED_AFTER_MS = 24 * 60 * 60 * 1000

export class ClockJumps {
  /** Wall clock minus monotonic clock. */
  #offsetMs: number
  /** When the clock last jumped, on the monotonic clock. */
  #jumpedAt: number
  #aheadMs: number

  /** `lastStored` is what was stored last, if anything: the time that the clock showed (`at`), and {@link aheadMs} at that time. */
  constructor(
    wallMs: number,
    monotonicMs: number,
    lastStored: { readonly at: number; readonly aheadMs: number } | undefined
  ) {
    this.#offsetMs = wallMs - monotonicMs
    this.#jumpedAt = monotonicMs
    const gap = lastStored === undefined ? 0 : wallMs - lastStored.at
    this.#aheadMs = Math.max(0, (lastStored?.aheadMs ?? 0) + (gap > USUAL_STOP_MS || gap < 0 ? gap : 0))
  }

  /** By how many milliseconds the clock was set since the last call; 0 when it was not set. */
  detect(wallMs: number, monotonicMs: number): number {
    const jump = wallMs - monotonicMs - this.#offsetMs
    if (Math.abs(jump) < MIN_JUMP_MS) return 0
    this.#offsetMs += jump
    this.#jumpedAt = monotonicMs
    this.#aheadMs = Math.max(0, this.#aheadMs + jump)
    return jump
  }

  /**
   * How far the clock has jumped forward within the last day. Deletions by age use the time without this jump, because the clock
   * may have been set wrong and be set back.
   */
  aheadMs(monotonicMs: number): number {
    if (this.#aheadMs > 0 && monotonicMs - this.#jumpedAt >= SETTLED_AFTER_MS) this.#aheadMs = 0
    return this.#aheadMs
  }
}

/** The log message for a clock jump. */
export const clockJumpMessage = (ms: number): string => {
  const amount = `${Math.round(Math.abs(ms) / 1000)} s`
  return ms < 0
    ? `The clock was set back by ${amount}: leases, timeouts and retries keep their length, and what is due at a point in time, such as the end of a sleepUntil, comes later`
    : `The clock went forward by ${amount}: leases keep their length. Data that is too old by this clock is kept for another day, in case the clock was set wrong`
}
