/**
 * Detects that the clock was set, while the engine runs or between two starts, and by how much. Stored times are points in time.
 * Those that stand for a duration can then be moved by the same amount.
 */

/** The smallest change that counts as a jump, milliseconds. Smaller ones are normal adjustments of the clock. */
const LEAST_MS = 1000

/**
 * The longest time for which an engine usually stands still, milliseconds. A longer gap may be a jump of the clock or a long
 * pause: they look the same.
 */
const GAP_MS = 60 * 60 * 1000

/** How long deletions ignore a forward jump of the clock, milliseconds. */
const SETTLED_AFTER_MS = 24 * 60 * 60 * 1000

export class ClockJumps {
  /** Wall clock minus monotonic clock. */
  #offset: number
  #jumpedAt: number
  #aheadMs: number

  /** `last` is the stored clock, if any. `at`: the time that it showed. `aheadMs`: how much of that was not trusted. */
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

  /** How far the clock was set since the last look, milliseconds; 0 when it was not. */
  look(wall: number, monotonic: number): number {
    const jump = wall - monotonic - this.#offset
    if (Math.abs(jump) < LEAST_MS) return 0
    this.#offset += jump
    this.#jumpedAt = monotonic
    this.#aheadMs = Math.max(0, this.#aheadMs + jump)
    return jump
  }

  /**
   * How far the clock has jumped forward lately, milliseconds. The jump may be undone, so for a day deletions by age use the time
   * without it.
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
