/**
 * Groups of branches that start nothing new, and whose running steps are awaited: a parallel call of which a branch has failed, or
 * the whole handler.
 *
 * A group has closed when its steps have ended, all that followed from that has run, and the groups inside it have closed:
 * an inner call's verdict comes before the outer one's.
 */
import { type BranchGroup, isWithin } from "./Scope.ts"

interface Closing {
  readonly group: BranchGroup
  readonly done: () => void
  draining: boolean
}

export interface ClosingsOptions {
  /** Whether the handler was given all outcomes, and all that followed from the last one has run. */
  readonly isSettled: () => boolean
  readonly hasRunning: (group: BranchGroup) => boolean
  /** Counts the signs of life of the handler. */
  readonly life: () => number
  /** Calls back when all that follows from what has just happened has run, unless the turn is over then. */
  readonly whenDrained: (fn: () => void) => void
  /** It was too early: has {@link Closings.check} called again when things have come to rest. */
  readonly again: () => void
}

export class Closings {
  readonly #options: ClosingsOptions
  #all: Array<Closing> = []

  constructor(options: ClosingsOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#all.length
  }

  /** `done` is called once, when the group has closed. */
  add(group: BranchGroup, done: () => void): void {
    this.#all.push({ group, done, draining: false })
  }

  /** Something has come to rest: looks which groups may close. */
  check(): void {
    for (const closing of this.#all) {
      if (closing.draining || !this.#mayClose(closing)) continue
      closing.draining = true
      const life = this.#options.life()
      this.#options.whenDrained(() => this.#drained(closing, life))
    }
  }

  /** Nobody waits for them any more. */
  clear(): void {
    this.#all = []
  }

  #drained(closing: Closing, life: number): void {
    closing.draining = false
    if (!this.#all.includes(closing)) return
    if (life !== this.#options.life() || !this.#mayClose(closing)) {
      this.#options.again()
      return
    }
    this.#all = this.#all.filter((other) => other !== closing)
    closing.done()
  }

  #mayClose({ group }: Closing): boolean {
    return (
      this.#options.isSettled() &&
      !this.#options.hasRunning(group) &&
      !this.#all.some(
        ({ group: other }) => other !== group && other.parent !== undefined && isWithin(other.parent, group)
      )
    )
  }
}
