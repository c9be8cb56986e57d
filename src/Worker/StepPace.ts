/**
 * Starts steps at a pace that lets the event loop turn and the leases be renewed in between. Many steps that each
 * keep the event loop busy for a short time would otherwise leave no time for renewals.
 */
import type { LeaseFreshness } from "../Protocol/Worker.ts"
import { nextTick, queueMicrotask, setImmediate } from "../RealTimers.ts"

/** How long steps may start within one turn of the event loop, in milliseconds. */
const BUSY_MS = 25

export class StepPace {
  readonly #now: () => number
  readonly #leases: LeaseFreshness | undefined
  /** When the first step of this turn of the event loop started. */
  #since: number | undefined
  /** What the waiting steps wait for. */
  #halt: "code" | "turn" | "lease" | undefined
  #waiting: Array<() => void> = []

  /** `now` is a monotonic clock, in milliseconds. */
  constructor(now: () => number, leases?: LeaseFreshness) {
    this.#now = now
    this.#leases = leases
  }

  /** Starts a step, now or when the steps before it have started. */
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
      // what it does before it first waits, in microtasks too, counts as its time: the next step begins afterwards
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
    // the first one starts, and the others queue behind it again
    for (const start of waiting) this.begin(start)
  }

  readonly #turned = (): void => {
    this.#since = undefined
    if (this.#halt === "turn") this.#goOn()
  }
}
