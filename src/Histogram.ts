/** A histogram of durations, in seconds, with fixed bounds. */

/** Upper bounds in seconds, from a millisecond to a day. */
const secondBounds: ReadonlyArray<number> = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600,
  86400
]

export interface HistogramData {
  readonly bounds: ReadonlyArray<number>
  /**
   * For each bound, the number of values up to it and above the bound before. The last entry counts the
   * values above all bounds.
   */
  readonly counts: ReadonlyArray<number>
  readonly sum: number
  readonly count: number
  /** The smallest value; 0 while there are none. */
  readonly min: number
  readonly max: number
}

export class Histogram {
  readonly #counts: Array<number> = Array.from({ length: secondBounds.length + 1 }, () => 0)
  #sum = 0
  #count = 0
  #min = Number.POSITIVE_INFINITY
  #max = 0

  /** Adds a duration in seconds; a negative one counts as 0. */
  add(seconds: number): void {
    const value = seconds > 0 ? seconds : 0
    let i = 0
    while (i < secondBounds.length && value > secondBounds[i]!) i++
    this.#counts[i]!++
    this.#sum += value
    this.#count++
    if (value < this.#min) this.#min = value
    if (value > this.#max) this.#max = value
  }

  data(): HistogramData {
    return {
      bounds: secondBounds,
      counts: [...this.#counts],
      sum: this.#sum,
      count: this.#count,
      min: this.#count === 0 ? 0 : this.#min,
      max: this.#max
    }
  }
}
