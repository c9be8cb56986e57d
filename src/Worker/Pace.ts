/**
 * Lets the event loop turn between steps whose code keeps it busy. Many such steps in one turn of the loop would leave no time to
 * report, and to renew leases, though each of them alone is short enough.
 */

/** How long steps may begin in one turn of the event loop, milliseconds. */
const BUSY_MS = 25

export class Pace {
  readonly #now: () => number
  /** When the first step of this turn of the event loop began. */
  #since: number | undefined
  #waiting: Array<() => void> = []

  /** `now` is a clock that nobody sets, milliseconds. */
  constructor(now: () => number) {
    this.#now = now
  }

  /** Begins a step, now or as soon as the event loop has turned. */
  readonly begin = (start: () => void): void => {
    const now = this.#now()
    if (this.#since === undefined) {
      this.#since = now
      setImmediate(this.#turned)
    }
    if (this.#waiting.length === 0 && now - this.#since < BUSY_MS) start()
    else this.#waiting.push(start)
  }

  readonly #turned = (): void => {
    this.#since = undefined
    const waiting = this.#waiting
    this.#waiting = []
    for (const start of waiting) this.begin(start)
  }
}
