/**
 * Tracks events that a wait has received and the handler has not seen, because the wait lost a race or was interrupted.
 * A wait also accepts events that were emitted before it was called: all events after the last one that a previous wait
 * for the same event and `match` has received. Events that the handler has not seen do not count as received, so the
 * next wait can receive them again.
 *
 * A fiber that stops waiting tells the turn. A promise cannot tell whether the handler still waits for it, so an async
 * handler is judged by its calls. The handler has not seen an event when all of this holds:
 *
 * 1. It went on without the wait, that is, it made a new call in the same branch after the outcome of another step.
 * 2. It made no call between the delivery of the event and the next delivery.
 * 3. It has not awaited the promise of the wait since the event was delivered.
 */
import type { Outcome } from "../Protocol/Worker.ts"
import { isCode, type StepCall, type StepOp, type StepWork } from "./StepCall.ts"

export type WaitOp = Extract<StepOp, { readonly _tag: "WaitForEvent" }>

export const isWait = (work: StepWork): work is WaitOp => !isCode(work) && work._tag === "WaitForEvent"

interface Wait {
  readonly call: StepCall
  readonly op: WaitOp
  /** How many outcomes the handler had received when it made the call. */
  readonly outcomesBefore: number
  /** Whether the handler has gone on without this wait. */
  isLeftBehind: boolean
  /** Whether the wait has received its event. */
  isDelivered: boolean
}

/** The waits of one branch. */
export class UnseenEvents {
  /**
   * The waits that have received no event yet, and those whose events the handler has not seen, in the order of the
   * calls.
   */
  #unseenWaits: Array<Wait> = []

  add(call: StepCall, op: WaitOp, outcomes: number): void {
    this.#unseenWaits.push({ call, op, outcomesBefore: outcomes, isLeftBehind: false, isDelivered: false })
  }

  /**
   * Called when the handler makes a call in the branch, having received this many outcomes. The handler has gone on
   * without the waits that it called before the last of these outcomes.
   */
  leaveBehind(outcomes: number): void {
    for (let i = this.#unseenWaits.length - 1; i >= 0; i--) {
      const wait = this.#unseenWaits[i]
      // the waits before this one were left behind too
      if (wait === undefined || wait.isLeftBehind) return
      if (wait.outcomesBefore < outcomes) wait.isLeftBehind = true
    }
  }

  /**
   * Records that the wait receives its outcome. With `abandonsSilently`, the handler may have stopped waiting without
   * telling the turn.
   */
  deliver(call: StepCall, outcome: Outcome, abandonsSilently: boolean): void {
    const wait = this.#find(call)
    if (wait === undefined) return
    wait.isDelivered = true
    if (outcome._tag === "Failure") this.#unseenWaits = this.#unseenWaits.filter((other) => other !== wait)
    else if (!abandonsSilently || !wait.isLeftBehind) this.#forgetUpTo(wait)
  }

  /** Records that the handler has seen the event: it acts on the outcome, or awaits the promise. */
  see(call: StepCall): void {
    const wait = this.#find(call)
    if (wait?.isDelivered === true) this.#forgetUpTo(wait)
  }

  /**
   * The waits for the same event and `match` that were called before `call` and whose events the handler has not seen.
   * Some may have received no event yet. Used while `call` is the newest wait.
   */
  unseenBefore(call: StepCall, { event, match }: WaitOp): ReadonlyArray<StepCall> {
    return this.#unseenWaits
      .filter((wait) => wait.call !== call && wait.op.event === event && wait.op.match === match)
      .map((wait) => wait.call)
  }

  #find(call: StepCall): Wait | undefined {
    return this.#unseenWaits.find((wait) => wait.call === call)
  }

  /**
   * Forgets this wait, and the earlier waits for the same event and `match`: the events of these waits are not later
   * than the event that the handler has seen.
   */
  #forgetUpTo(seen: Wait): void {
    const end = this.#unseenWaits.indexOf(seen)
    this.#unseenWaits = this.#unseenWaits.filter(
      ({ op }, i) => i > end || op.event !== seen.op.event || op.match !== seen.op.match
    )
  }
}
