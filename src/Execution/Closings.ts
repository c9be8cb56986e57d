/**
 * Groups of branches that start nothing new, and whose running steps are awaited: a parallel call of which a branch has failed, or
 * the whole handler.
 *
 * A group has closed when its steps have ended, all that followed from that has run, and the groups inside it have closed:
 * an inner call's verdict comes before the outer one's.
 */
import type { Outcomes } from "./Outcomes.ts"
import type { RunningSteps } from "./RunningSteps.ts"
import { type BranchGroup, isWithin } from "./Scope.ts"

interface Closing {
  readonly group: BranchGroup
  readonly done: () => void
  draining: boolean
}

/** What it looks at. */
export interface ClosingsOwner {
  readonly outcomes: Pick<Outcomes, "isSettled" | "pump">
  readonly running: Pick<RunningSteps, "has">
  /** Counts the signs of life of the handler. */
  readonly life: number
  /** Calls back when all that follows from what has just happened has run, unless the turn is over then. */
  readonly whenDrained: (fn: () => void) => void
}

export class Closings {
  readonly #owner: ClosingsOwner
  #all: Array<Closing> = []

  constructor(owner: ClosingsOwner) {
    this.#owner = owner
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
      const life = this.#owner.life
      this.#owner.whenDrained(() => this.#drained(closing, life))
    }
  }

  /** Nobody waits for them any more. */
  clear(): void {
    this.#all = []
  }

  #drained(closing: Closing, life: number): void {
    closing.draining = false
    if (!this.#all.includes(closing)) return
    if (life !== this.#owner.life || !this.#mayClose(closing)) {
      // too early: it is looked at again when things have come to rest
      this.#owner.outcomes.pump()
      return
    }
    this.#all = this.#all.filter((other) => other !== closing)
    closing.done()
  }

  #mayClose({ group }: Closing): boolean {
    return (
      this.#owner.outcomes.isSettled &&
      !this.#owner.running.has(group) &&
      !this.#all.some(
        ({ group: other }) => other !== group && other.parent !== undefined && isWithin(other.parent, group)
      )
    )
  }
}
