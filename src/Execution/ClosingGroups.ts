/**
 * Groups of branches that start nothing new and whose running steps are awaited: a parallel call with a failed
 * branch, or the whole handler.
 *
 * A group has closed when its steps have ended, all their consequences have run, and the groups inside it have
 * closed: an inner call's verdict comes before the outer one's.
 */
import type { Outcomes } from "./Outcomes.ts"
import type { RunningSteps } from "./RunningSteps.ts"
import { type BranchGroup, isWithin } from "./StepScope.ts"

interface Closing {
  readonly group: BranchGroup
  readonly done: () => void
  draining: boolean
}

/** The turn, as far as this class reads it. */
export interface ClosingGroupsOwner {
  readonly outcomes: Pick<Outcomes, "isSettled" | "pump">
  readonly running: Pick<RunningSteps, "has">
  /** Counts the activity of the handler. */
  readonly life: number
  /** Calls `fn` when all consequences of the last outcome have run, unless the turn is over by then. */
  readonly whenDrained: (fn: () => void) => void
}

export class ClosingGroups {
  readonly #owner: ClosingGroupsOwner
  #all: Array<Closing> = []

  constructor(owner: ClosingGroupsOwner) {
    this.#owner = owner
  }

  get size(): number {
    return this.#all.length
  }

  /** Adds a group. `done` is called once, when the group has closed. */
  add(group: BranchGroup, done: () => void): void {
    this.#all.push({ group, done, draining: false })
  }

  /** Starts closing the groups that may close. Called whenever activity has come to rest. */
  check(): void {
    for (const closing of this.#all) {
      if (closing.draining || !this.#mayClose(closing)) continue
      closing.draining = true
      const life = this.#owner.life
      this.#owner.whenDrained(() => this.#drained(closing, life))
    }
  }

  /** Forgets all groups, without calling `done`. */
  clear(): void {
    this.#all = []
  }

  #drained(closing: Closing, life: number): void {
    closing.draining = false
    if (!this.#all.includes(closing)) return
    if (life !== this.#owner.life || !this.#mayClose(closing)) {
      // too early: checked again at the next rest
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
