/**
 * Starts steps at such a pace that the event loop can turn in between, and the leases can be renewed. Otherwise many
 * steps that each keep the event loop busy for a short time would leave no time for renewals.
 */
import type { LeaseFreshness } from "../Protocol/Worker.ts"
import { nextTick, queueMicrotask, setImmediate } from "../RealTimers.ts"

/** For how long steps may start one after another within one turn of the event loop, in milliseconds. */
const BUSY_MS = 25

export class StepPace {
  readonly #now: () => number
  readonly #leases: LeaseFreshness | undefined
  /** When the first step started in this turn of the event loop. */
  #since: number | undefined
  /**
   * What the waiting steps wait for; `undefined` when a step may start. `code`: the step that has just started reaches
   * its first wait. `turn`: the next turn of the event loop. `lease`: the leases are recent.
   */
  #halt: "code" | "turn" | "lease" | undefined
  #waiting: Array<() => void> = []

  /** `now` is the time of a monotonic clock, in milliseconds. */
  constructor(now: () => number, leases?: LeaseFreshness) {
    this.#now = now
    this.#leases = leases
  }

  /** Starts a step: at once, or after the steps that wait already. */
  readonly begin = (start: () => void): void => {
    if (this.#halt === undefined) this.#try(start)
    else this.#waiting.push(start)
  }

  #try(start: () => void): void {
    const now = this.#now()
    if (this.#since === undefined) {
      this.#since = now
      setImmediate(this.#turned)
    }
    if (now - this.#since >= BUSY_MS) {
      this.#halt = "turn"
      this.#waiting.push(start)
    } else if (this.#leases?.isRecent() === false) {
      this.#halt = "lease"
      this.#waiting.push(start)
      this.#leases.renew(this.#goOn)
    } else {
      // The next step begins when this step first waits. So the time counts that this step takes until then, also in
      // microtasks.
      this.#halt = "code"
      queueMicrotask(this.#hasBegun)
      start()
    }
  }

  readonly #hasBegun = (): void => nextTick(this.#goOn)

  readonly #goOn = (): void => {
    this.#halt = undefined
    const waiting = this.#waiting
    if (waiting.length === 0) return
    this.#waiting = []
    // the first of the waiting steps starts, and the others queue again behind it
    for (const start of waiting) this.begin(start)
  }

  readonly #turned = (): void => {
    this.#since = undefined
    if (this.#halt === "turn") this.#goOn()
  }
}
