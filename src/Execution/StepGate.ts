/**
 * Decides when a call of the handler may begin.
 *
 * Nothing new begins before the handler has received the journal's outcomes for its calls. The code of a step
 * also waits until everything that the turn has reported is durable, so that no step depends on a result that
 * could be lost.
 */
import { isCode, type StepCall } from "./StepCall.ts"

/** How far the handler and the reports of its turn have come. */
export interface Progress {
  /** The handler has received the journal's outcomes for its calls. */
  readonly isCaughtUp: boolean
  /** No outcome waits: neither to be delivered, nor for the answer to its report. */
  readonly isEmpty: boolean
  /** All reports of the turn are durable. */
  readonly isDurable: boolean
}

export class StepGate {
  readonly #progress: Progress
  #heldOps: Array<StepCall> = []
  #heldCode: Array<StepCall> = []
  /** Whether the run is to be paused. Then nothing begins until the run is resumed or the turn has ended. */
  isPausing = false
  /** Whether no more code begins in this turn. */
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

  /** Whether code may still begin in this turn. */
  get beginsCode(): boolean {
    return !this.isWrappingUp && !this.isPausing
  }

  /** Whether this call may begin now. */
  mayBegin(call: StepCall): boolean {
    return (
      this.#progress.isCaughtUp && (isCode(call.work) ? this.#isOpen && this.beginsCode : !this.isPausing)
    )
  }

  /** Keeps the call until {@link take} returns it. */
  keep(call: StepCall): void {
    if (isCode(call.work)) this.#heldCode.push(call)
    else this.#heldOps.push(call)
  }

  /**
   * Takes the held calls that may begin now: first the calls that the engine performs, and then the calls with code.
   * Each of the two groups is in the order in which the calls were made.
   */
  take(): ReadonlyArray<StepCall> {
    if (!this.#progress.isCaughtUp || this.isPausing) return noCalls
    const takesCode = this.#heldCode.length > 0 && this.#isOpen && !this.isWrappingUp
    if (this.#heldOps.length === 0 && !takesCode) return noCalls
    const takenCalls = takesCode ? [...this.#heldOps, ...this.#heldCode] : this.#heldOps
    this.#heldOps = []
    if (takesCode) this.#heldCode = []
    return takenCalls
  }

  /** Forgets the held calls. */
  clear(): void {
    this.#heldOps = []
    this.#heldCode = []
  }

  /** Whether no outcome is on its way to the handler, and all reports are durable. */
  get #isOpen(): boolean {
    return this.#progress.isDurable && this.#progress.isEmpty
  }
}

const noCalls: ReadonlyArray<StepCall> = []
