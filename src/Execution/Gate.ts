/**
 * When what the handler has called may begin.
 *
 * Nothing new begins before the handler has caught up with the journal. The code of a step also waits until everything that
 * the turn has reported is durable, so that no step depends on a result that could be lost.
 */
import { isCode, type StepCall } from "./StepCall.ts"

/** How far the handler has come with what has happened. */
export interface Progress {
  /** It has seen what it asks of the journal. */
  readonly isCaughtUp: boolean
  /** It has been given every outcome that there is. */
  readonly isEmpty: boolean
  /** All that the turn has reported is durable. */
  readonly isDurable: boolean
}

export class Gate {
  readonly #progress: Progress
  #heldOps: Array<StepCall> = []
  #heldCode: Array<StepCall> = []
  /** Whether the run is to be paused: nothing begins until it is not, or the turn has ended. */
  isPausing = false
  /** Whether no code begins in this turn any more. */
  isWrappingUp = false

  constructor(progress: Progress) {
    this.#progress = progress
  }

  get heldOps(): number {
    return this.#heldOps.length
  }

  get heldCode(): number {
    return this.#heldCode.length
  }

  /** Whether code may begin in this turn, sooner or later. */
  get beginsCode(): boolean {
    return !this.isWrappingUp && !this.isPausing
  }

  /** Whether this call may begin at this moment. */
  mayBegin(call: StepCall): boolean {
    return (
      this.#progress.isCaughtUp && (isCode(call.work) ? this.#isOpen && this.beginsCode : !this.isPausing)
    )
  }

  /** Keeps the call until {@link take} gives it out. */
  hold(call: StepCall): void {
    if (isCode(call.work)) this.#heldCode.push(call)
    else this.#heldOps.push(call)
  }

  /** The calls that may begin now: what the engine does before what is done here, each in the order of the calls. */
  take(): ReadonlyArray<StepCall> {
    if (!this.#progress.isCaughtUp || this.isPausing) return none
    const takesCode = this.#heldCode.length > 0 && this.#isOpen && !this.isWrappingUp
    if (this.#heldOps.length === 0 && !takesCode) return none
    const taken = takesCode ? [...this.#heldOps, ...this.#heldCode] : this.#heldOps
    this.#heldOps = []
    if (takesCode) this.#heldCode = []
    return taken
  }

  /** Forgets what is held. */
  clear(): void {
    this.#heldOps = []
    this.#heldCode = []
  }

  /** Whether everything the handler has seen is durable, and it has seen everything that has happened. */
  get #isOpen(): boolean {
    return this.#progress.isDurable && this.#progress.isEmpty
  }
}

const none: ReadonlyArray<StepCall> = []
