/**
 * Starts steps at such a pace that the event loop does other work between them, such as renewing the leases. Without
 * this, many steps that each keep the event loop busy for a short time would leave no time for renewals.
 */
import type { LeaseFreshness } from "../Protocol/Worker.ts"
import { nextTick, queueMicrotask, setImmediate } from "../RealTimers.ts"

/** For how long steps may start one after another within one pass of the event loop, in milliseconds. */
const BUSY_MS = 25

export class StepPace {
  readonly #now: () => number
  readonly #leases: LeaseFreshness | undefined
  /** When the first step started in this pass of the event loop. */
  #busySince: number | undefined
  /**
   * What keeps the waiting steps from starting; `undefined` when a step may start. `code`: the step that has just
   * started has not yet reached its first wait. `pass`: the time for this pass of the event loop is used up.
   * `lease`: the leases are not recent.
   */
  #blockedBy: "code" | "pass" | "lease" | undefined
  #waitingSteps: Array<() => void> = []

  /** `now` is the time of a monotonic clock, in milliseconds. */
  constructor(now: () => number, leases?: LeaseFreshness) {
    this.#now = now
    this.#leases = leases
  }

  /** Starts a step: at once, or after the steps that wait already. */
  readonly begin = (start: () => void): void => {
    if (this.#blockedBy === undefined) this.#startIfAllowed(start)
    else this.#waitingSteps.push(start)
  }

  #startIfAllowed(start: () => void): void {
    const now = this.#now()
    if (this.#busySince === undefined) {
      this.#busySince = now
      setImmediate(this.#onNextPass)
    }
    if (now - this.#busySince >= BUSY_MS) {
      this.#blockedBy = "pass"
      this.#waitingSteps.push(start)
    } else if (this.#leases?.isRecent() === false) {
      this.#blockedBy = "lease"
      this.#waitingSteps.push(start)
      this.#leases.renew(this.#startWaiting)
    } else {
      // The next step begins when this step first waits. So the time that this step takes until then counts towards
      // `BUSY_MS`, also the time in microtasks.
      this.#blockedBy = "code"
      queueMicrotask(this.#onFirstWait)
      start()
    }
  }

  readonly #onFirstWait = (): void => nextTick(this.#startWaiting)

  readonly #startWaiting = (): void => {
    this.#blockedBy = undefined
    const steps = this.#waitingSteps
    if (steps.length === 0) return
    this.#waitingSteps = []
    // the first of the waiting steps starts, and the others queue again behind it
    for (const start of steps) this.begin(start)
  }

  readonly #onNextPass = (): void => {
    this.#busySince = undefined
    if (this.#blockedBy === "pass") this.#startWaiting()
  }
}
