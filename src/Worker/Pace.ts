/**
 * Lets the event loop turn between steps whose code keeps it busy, and the engine answer: many such steps, one right after the
 * other, would leave no time to renew the leases, though each of them alone is short enough.
 */
import type { Touch } from "../Protocol/Worker.ts"
import { nextTick, queueMicrotask, setImmediate } from "../RealTimers.ts"

/** How long steps may begin in one turn of the event loop, milliseconds. */
const BUSY_MS = 25

export class Pace {
  readonly #now: () => number
  readonly #touch: Touch | undefined
  /** When the first step of this turn of the event loop began. */
  #since: number | undefined
  /** What those that wait wait for. */
  #halt: "code" | "turn" | "touch" | undefined
  #waiting: Array<() => void> = []

  /** `now` is a clock that nobody sets, milliseconds. */
  constructor(now: () => number, touch?: Touch) {
    this.#now = now
    this.#touch = touch
  }

  /** Begins a step, now or as soon as its turn has come. */
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
    } else if (this.#touch?.isRecent() === false) {
      this.#halt = "touch"
      this.#waiting.push(start)
      this.#touch.renew(this.#goOn)
    } else {
      // its code may go on behind promises that are settled already, before anybody else has a chance
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
    // the first takes its turn, and the others are behind it again
    for (const start of waiting) this.begin(start)
  }

  readonly #turned = (): void => {
    this.#since = undefined
    if (this.#halt === "turn") this.#goOn()
  }
}
