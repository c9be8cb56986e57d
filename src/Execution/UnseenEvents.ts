/**
 * Tracks events that a wait has received and the handler has not seen: the wait has lost a race or was
 * interrupted. Such a wait does not change what a later wait looks back to.
 *
 * A fiber that stops waiting tells the turn. A promise cannot tell whether the handler still looks at it, so
 * an async handler is judged by its calls. It has not seen an event when three things hold: it went on
 * without the wait (with the outcome of another step it made a new call in the same branch), it made no call
 * when the event was delivered, and it has not looked at the promise since.
 */
import type { Outcome } from "../Protocol/Worker.ts"
import { isCode, type StepCall, type StepOp, type StepWork } from "./StepCall.ts"

export type WaitOp = Extract<StepOp, { readonly _tag: "WaitForEvent" }>

export const isWait = (work: StepWork): work is WaitOp => !isCode(work) && work._tag === "WaitForEvent"

interface Wait {
  readonly call: StepCall
  readonly op: WaitOp
  /** How many outcomes the handler had received when it made the call. */
  readonly madeAfter: number
  /** Whether the handler has gone on without this wait. */
  leftBehind: boolean
  delivered: boolean
}

/** The waits of one branch. */
export class UnseenEvents {
  /**
   * Waits whose events the handler has not seen, or that have received none yet; in the order of the calls.
   */
  #unseen: Array<Wait> = []

  add(call: StepCall, op: WaitOp, outcomes: number): void {
    this.#unseen.push({ call, op, madeAfter: outcomes, leftBehind: false, delivered: false })
  }

  /**
   * Called when the handler makes a call in the branch, having received this many outcomes. Waits with a call
   * before the last of these outcomes are left behind.
   */
  leaveBehind(outcomes: number): void {
    for (let i = this.#unseen.length - 1; i >= 0; i--) {
      const wait = this.#unseen[i]
      // the waits before it were left behind too
      if (wait === undefined || wait.leftBehind) return
      if (wait.madeAfter < outcomes) wait.leftBehind = true
    }
  }

  /**
   * Records that the wait receives its outcome. With `silently`, the handler may have stopped waiting without
   * a sign.
   */
  deliver(call: StepCall, outcome: Outcome, silently: boolean): void {
    const wait = this.#find(call)
    if (wait === undefined) return
    wait.delivered = true
    if (outcome._tag === "Failure") this.#unseen = this.#unseen.filter((other) => other !== wait)
    else if (!silently || !wait.leftBehind) this.#forgetUpTo(wait)
  }

  /** Records that the handler has seen the event: it acts on the outcome, or looks at the promise. */
  see(call: StepCall): void {
    const wait = this.#find(call)
    if (wait?.delivered === true) this.#forgetUpTo(wait)
  }

  /**
   * The earlier waits for the same event and match whose events the handler has not seen. Some have received
   * none yet.
   */
  unseenBefore(call: StepCall, { event, match }: WaitOp): ReadonlyArray<StepCall> {
    return this.#unseen
      .filter((wait) => wait.call !== call && wait.op.event === event && wait.op.match === match)
      .map((wait) => wait.call)
  }

  #find(call: StepCall): Wait | undefined {
    return this.#unseen.find((wait) => wait.call === call)
  }

  /**
   * Forgets this wait, and the earlier ones for the same event and match: their events are not later than its
   * event.
   */
  #forgetUpTo(seen: Wait): void {
    const end = this.#unseen.indexOf(seen)
    this.#unseen = this.#unseen.filter(
      ({ op }, i) => i > end || op.event !== seen.op.event || op.match !== seen.op.match
    )
  }
}
