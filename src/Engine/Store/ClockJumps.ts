/**
 * A clock that is set while the engine runs, or between two starts. What is stored are points in time by the clock; this
 * says when the clock was set, and by how much, so that what holds for a length of time can be moved with it.
 */

/** Less is how clocks are kept right all the time, milliseconds. */
const LEAST_MS = 1000

/** Longer than an engine usually stands still, milliseconds: whether the time has passed or the clock was set cannot be told. */
const GAP_MS = 60 * 60 * 1000

/** For how long nothing is deleted on the strength of a clock that went forward, milliseconds. */
const SETTLED_AFTER_MS = 24 * 60 * 60 * 1000

/** How often the time is stored while there is something to write, milliseconds. */
export const STORE_CLOCK_MS = 10_000

export class ClockJumps {
  /** What the clock shows beside the time that only goes on. */
  #offset: number
  #jumpedAt: number
  #aheadMs: number

  /** `last` is what was stored of the clock, if anything was: what it showed, and how much of that was not trusted. */
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

  /** By how much the clock was set since the last look, milliseconds; 0 when it was not. */
  look(wall: number, monotonic: number): number {
    const jump = wall - monotonic - this.#offset
    if (Math.abs(jump) < LEAST_MS) return 0
    this.#offset += jump
    this.#jumpedAt = monotonic
    this.#aheadMs = Math.max(0, this.#aheadMs + jump)
    return jump
  }

  /**
   * How far the clock has gone forward lately, which may be undone: what is deleted because it is old is deleted by the
   * time before that, until the clock has stood for a day.
   */
  aheadMs(monotonic: number): number {
    if (this.#aheadMs > 0 && monotonic - this.#jumpedAt >= SETTLED_AFTER_MS) this.#aheadMs = 0
    return this.#aheadMs
  }
}

/** What is said of it. */
export const clockWasSet = (ms: number): string => {
  const by = `${Math.round(Math.abs(ms) / 1000)} s`
  return ms < 0
    ? `The clock was set back by ${by}: leases, timeouts and retries keep their length, and what is due at a time comes later`
    : `The clock went forward by ${by}: leases keep their length. What is old by this clock is kept for another day, in case it is set right`
}
