/**
 * Detects that the clock was set, while the engine runs or between two starts, and by how much. Then stored times that stand for
 * the end of a duration, such as a timeout, can be moved by the same amount.
 */

/** The smallest change that counts as a jump. Smaller changes are normal adjustments of the clock. */
const LEAST_MS = 1000

/**
 * The longest time for which an engine is usually stopped. When more time seems to have passed between two starts, the engine may
 * have been stopped for long, or the clock may have jumped: these look the same, so the gap counts as a jump.
 */
const GAP_MS = 60 * 60 * 1000

/** How long deletions ignore a forward jump of the clock. */
const SETTLED_AFTER_MS = 24 * 60 * 60 * 1000

export class ClockJumps {
  /** Wall clock minus monotonic clock. */
  #offset: number
  /** When the clock last jumped, on the monotonic clock. */
  #jumpedAt: number
  #aheadMs: number

  /** `last` is what was stored last, if anything: the time that the clock showed (`at`), and {@link aheadMs} at that time. */
  constructor(
    wall: number,
    monotonic: number,
    last: { readonly at: number; readonly aheadMs: number } | undefined
  ) {
    this.#offset = wall - monotonic
    this.#jumpedAt = monotonic
    const gap = last === undefined ? 0 : wall - last.at
    this.#aheadMs = Math.max(0, (last?.aheadMs ?? 0) + (gap > GAP_MS || gap < 0 ? gap : 0))
  }

  /** By how many milliseconds the clock was set since the last call; 0 when it was not set. */
  detect(wall: number, monotonic: number): number {
    const jump = wall - monotonic - this.#offset
    if (Math.abs(jump) < LEAST_MS) return 0
    this.#offset += jump
    this.#jumpedAt = monotonic
    this.#aheadMs = Math.max(0, this.#aheadMs + jump)
    return jump
  }

  /**
   * How far the clock has jumped forward within the last day. Deletions by age use the time without this jump, because the clock
   * may have been set wrong and be set back.
   */
  aheadMs(monotonic: number): number {
    if (this.#aheadMs > 0 && monotonic - this.#jumpedAt >= SETTLED_AFTER_MS) this.#aheadMs = 0
    return this.#aheadMs
  }
}

/** The log message for a clock jump. */
export const clockJumpMessage = (ms: number): string => {
  const by = `${Math.round(Math.abs(ms) / 1000)} s`
  return ms < 0
    ? `The clock was set back by ${by}: leases, timeouts and retries keep their length, and what is due at a point in time, such as the end of a sleepUntil, comes later`
    : `The clock went forward by ${by}: leases keep their length. Data that is too old by this clock is kept for another day, in case the clock was set wrong`
}
