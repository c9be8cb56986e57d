/**
 * Which events the handler has not seen, though a wait of it received them. Such a wait has lost a race, or was interrupted: it does
 * not decide what a later wait looks back to.
 *
 * Of a fiber that waits no longer the turn is told. Nobody can be asked whether it still looks at a promise, so an async handler is
 * judged by what it does. It has not seen an event when it went on without the wait (with the outcome of another step it made a new
 * call in the same branch), made no call when the event was handed to it, and has not looked at the promise since.
 */
import type { Outcome } from "../Protocol/Worker.ts"
import { isCode, type StepCall, type StepOp, type StepWork } from "./StepCall.ts"

export type WaitOp = Extract<StepOp, { readonly _tag: "WaitForEvent" }>

export const isWait = (work: StepWork): work is WaitOp => !isCode(work) && work._tag === "WaitForEvent"

interface Wait {
  readonly call: StepCall
  readonly op: WaitOp
  /** How many outcomes the handler had seen when it made the call. */
  readonly madeAfter: number
  /** Whether the handler has gone on without it. */
  leftBehind: boolean
  delivered: boolean
}

/** The waits of one branch. */
export class EventWaits {
  /** In the order of the calls. */
  #unseen: Array<Wait> = []

  add(call: StepCall, op: WaitOp, outcomes: number): void {
    this.#unseen.push({ call, op, madeAfter: outcomes, leftBehind: false, delivered: false })
  }

  /** The handler makes another call in the branch, having seen this many outcomes. */
  leaveBehind(outcomes: number): void {
    for (let i = this.#unseen.length - 1; i >= 0; i--) {
      const wait = this.#unseen[i]
      // and so are all before it
      if (wait === undefined || wait.leftBehind) return
      if (wait.madeAfter < outcomes) wait.leftBehind = true
    }
  }

  /** The handler is given the outcome; `silently` says that it may have stopped waiting without a word. */
  deliver(call: StepCall, outcome: Outcome, silently: boolean): void {
    const wait = this.#find(call)
    if (wait === undefined) return
    wait.delivered = true
    if (outcome._tag === "Failure") this.#unseen = this.#unseen.filter((other) => other !== wait)
    else if (!silently || !wait.leftBehind) this.#forgetUpTo(wait)
  }

  /** The handler acts upon what it was given, or looks for it. */
  see(call: StepCall): void {
    const wait = this.#find(call)
    if (wait?.delivered === true) this.#forgetUpTo(wait)
  }

  /** The waits before this one for the same whose event the handler has not seen. Some have none yet. */
  unseenBefore(call: StepCall, { event, match }: WaitOp): ReadonlyArray<StepCall> {
    return this.#unseen
      .filter((wait) => wait.call !== call && wait.op.event === event && wait.op.match === match)
      .map((wait) => wait.call)
  }

  #find(call: StepCall): Wait | undefined {
    return this.#unseen.find((wait) => wait.call === call)
  }

  /** What earlier waits for the same have received is no later event than this one. */
  #forgetUpTo(seen: Wait): void {
    const end = this.#unseen.indexOf(seen)
    this.#unseen = this.#unseen.filter(
      ({ op }, i) => i > end || op.event !== seen.op.event || op.match !== seen.op.match
    )
  }
}
