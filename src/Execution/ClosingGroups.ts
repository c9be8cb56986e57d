/**
 * Groups of branches that are closing: they start nothing new, and their running steps are awaited. Such a group
 * belongs to a parallel call with a failed branch, or to the whole handler.
 *
 * A group has closed when its steps have ended, when the handler has done all that follows from their outcomes, and
 * when the groups inside the group have closed. So the verdict of an inner call is recorded before the verdict of the
 * outer call.
 */
import type { Outcomes } from "./Outcomes.ts"
import type { RunningSteps } from "./RunningSteps.ts"
import { type BranchGroup, isWithin } from "./StepScope.ts"

interface Closing {
  readonly group: BranchGroup
  readonly onClosed: () => void
  draining: boolean
}

/** The part of the turn that this class uses. */
export interface ClosingGroupsOwner {
  readonly outcomes: Pick<Outcomes, "isSettled" | "pump">
  readonly running: Pick<RunningSteps, "has">
  /** A count that grows with each activity of the handler. */
  readonly activityCount: number
  /** Calls `fn` when all consequences of the last outcome have run, unless the turn has ended before that. */
  readonly whenDrained: (fn: () => void) => void
}

export class ClosingGroups {
  readonly #owner: ClosingGroupsOwner
  #closings: Array<Closing> = []

  constructor(owner: ClosingGroupsOwner) {
    this.#owner = owner
  }

  get size(): number {
    return this.#closings.length
  }

  /** Adds a group. `onClosed` is called once, when the group has closed. */
  add(group: BranchGroup, onClosed: () => void): void {
    this.#closings.push({ group, onClosed, draining: false })
  }

  /**
   * Waits until all consequences of the last outcome have run, and then closes the groups that may close. Called
   * whenever the handler and its steps have come to rest.
   */
  check(): void {
    for (const closing of this.#closings) {
      if (closing.draining || !this.#mayClose(closing)) continue
      closing.draining = true
      const activityCount = this.#owner.activityCount
      this.#owner.whenDrained(() => this.#onDrained(closing, activityCount))
    }
  }

  /** Forgets all groups, without calling `onClosed`. */
  clear(): void {
    this.#closings = []
  }

  #onDrained(closing: Closing, activityCount: number): void {
    closing.draining = false
    if (!this.#closings.includes(closing)) return
    if (activityCount !== this.#owner.activityCount || !this.#mayClose(closing)) {
      // the group may not close yet: it is checked again when the handler and its steps come to rest the next time
      this.#owner.outcomes.pump()
      return
    }
    this.#closings = this.#closings.filter((other) => other !== closing)
    closing.onClosed()
  }

  #mayClose({ group }: Closing): boolean {
    return (
      this.#owner.outcomes.isSettled &&
      !this.#owner.running.has(group) &&
      !this.#closings.some(
        ({ group: other }) => other !== group && other.parent !== undefined && isWithin(other.parent, group)
      )
    )
  }
}
