/**
 * Outcomes on their way to the handler: each is reported, gets its place in the journal, and is handed over in that order.
 * What the handler has been given is also what its later waits for events look back from, see `EventWaits`.
 */
import type { SerializedError } from "../Errors.ts"
import type { Job, Outcome, TurnOp } from "../Protocol/Worker.ts"
import { EventWaits, type WaitOp } from "./EventWaits.ts"
import type { Progress } from "./Gate.ts"
import type { Recorded } from "./Journal.ts"
import type { Scope } from "./Scope.ts"
import { Settlement } from "./Settlement.ts"
import type { StepCall } from "./StepCall.ts"
import { notAnswered, stepDone } from "./StepReports.ts"
import type { TurnHost } from "./TurnHost.ts"

export interface OutcomesOwner {
  /** Turns of the event loop until all that follows from one outcome has run. */
  readonly turnsToDrain: number
  /** Whether the handler may stop waiting for a call without a word, as whoever holds a promise. */
  readonly losesSilently: boolean
  /** Nothing can be delivered, and what was delivered has been dealt with. */
  readonly idle: () => void
  /** The handler is about to be given an outcome. */
  readonly delivers: () => void
}

export class Outcomes implements Progress {
  readonly #host: TurnHost
  readonly #owner: OutcomesOwner
  readonly #settlement: Settlement
  /** Reports that are not durable yet. */
  #unacknowledged = 0
  /** Outcomes that the handler has been given. */
  #delivered = 0
  /** The wait whose event the handler was given last, until it acts upon it. */
  #shown: StepCall | undefined = undefined
  #closed = false

  constructor(journal: Job["journal"], host: TurnHost, owner: OutcomesOwner) {
    this.#host = host
    this.#owner = owner
    this.#settlement = new Settlement(journal.length, owner.turnsToDrain, () => owner.idle())
    for (const [rank, { kind }] of journal.entries()) {
      // The handler does not ask for compensations.
      if (kind === "compensate") this.#settlement.markSettled(rank)
    }
  }

  // ---------------------------------------------------------------------------
  // How far the handler has come
  // ---------------------------------------------------------------------------

  /** See {@link Settlement.isCaughtUp}. */
  get isCaughtUp(): boolean {
    return this.#settlement.isCaughtUp
  }

  /** Whether nothing is waiting to be delivered, or for its answer. */
  get isEmpty(): boolean {
    return this.#settlement.isEmpty
  }

  /** Whether the handler was given all outcomes, and all that followed from the last one has run. */
  get isSettled(): boolean {
    return this.#settlement.isEmpty && this.#settlement.isDrained
  }

  /** Whether parts of the journal have not been seen by the handler yet. */
  get isReplaying(): boolean {
    return this.#settlement.isReplaying
  }

  get isDurable(): boolean {
    return this.#unacknowledged === 0
  }

  // ---------------------------------------------------------------------------
  // From the journal, from here, from the engine
  // ---------------------------------------------------------------------------

  /** The handler asks for what the journal has. */
  replay(call: StepCall, { entry: { kind, outcome }, rank }: Recorded): void {
    // Branches come to their ends before the verdict on them.
    call.settling = this.#settlement.ask(rank, () => this.#deliver(call, outcome), kind === "parallel")
  }

  /** A step has finished here, having begun at `startedAt` (epoch milliseconds). */
  record(call: StepCall, outcome: Outcome, attempt: number, startedAt: number): void {
    if (this.#closed) return
    // The place in the order comes first: the report may be acknowledged before it returns.
    this.#add(call, outcome)
    const endedAt = this.#host.clock.currentTimeMillisUnsafe()
    this.report(stepDone(call, outcome, { attempt, startedAt, endedAt }))
    this.pump()
  }

  /** A wait is over: its outcome gets its place in the journal. */
  settle(call: StepCall, outcome: Outcome): void {
    this.#add(call, outcome)
    this.report({ _tag: "Settle", stepKey: call.key })
    this.pump()
  }

  #add(call: StepCall, outcome: Outcome): void {
    call.settling = this.#settlement.add(() => this.#deliver(call, outcome), true)
  }

  /**
   * Reports an op whose outcome is in the answer to the report. With `onFailure`, a failure has no place in the journal and is for
   * that instead of for the handler.
   */
  request(call: StepCall, op: TurnOp, onFailure?: (error: SerializedError) => void): void {
    let answer: Outcome = notAnswered
    const settling = this.#settlement.add(() => this.#deliver(call, answer), false)
    call.settling = settling
    this.report(op, (outcome) => {
      settling.ready = true
      if (outcome?._tag !== "Failure" || onFailure === undefined) {
        if (outcome !== undefined) answer = outcome
        return
      }
      this.#settlement.drop(settling)
      call.settling = undefined
      onFailure(outcome.error)
    })
  }

  /** Reports an op that does not end the turn. */
  report(op: TurnOp, onAck?: (outcome: Outcome | undefined) => void): void {
    this.#unacknowledged++
    this.#host.report(
      op,
      onAck === undefined ? this.#acknowledged : (outcome) => this.#acknowledged(outcome, onAck)
    )
  }

  readonly #acknowledged = (
    outcome: Outcome | undefined,
    onAck?: (outcome: Outcome | undefined) => void
  ): void => {
    this.#unacknowledged--
    if (this.#closed) return
    onAck?.(outcome)
    if (this.#unacknowledged === 0 || onAck !== undefined) this.pump()
  }

  // ---------------------------------------------------------------------------
  // To the handler
  // ---------------------------------------------------------------------------

  #deliver(call: StepCall, outcome: Outcome): void {
    if (call.withdrawn || this.#closed) return
    this.#owner.delivers()
    this.#delivered++
    this.#shown = undefined
    this.#host.probe?.delivers?.()
    if (call.kind === "waitForEvent") {
      call.scope.waits?.deliver(call, outcome, this.#owner.losesSilently)
      this.#shown = call
    }
    call.receive(outcome)
  }

  /** The handler acts upon what it was given last. */
  actsUponShown(): void {
    if (this.#shown === undefined) return
    this.#shown.scope.waits?.see(this.#shown)
    this.#shown = undefined
  }

  /** The handler makes a call in this scope. */
  goesOn(scope: Scope): void {
    this.actsUponShown()
    scope.waits?.leaveBehind(this.#delivered)
  }

  /** The call is a wait for an event. */
  awaitEvent(call: StepCall, op: WaitOp): void {
    call.scope.waits ??= new EventWaits()
    call.scope.waits.add(call, op, this.#delivered)
  }

  /** The handler does not want the outcome of the call any more. */
  drop(call: StepCall): void {
    if (call.settling !== undefined) this.#settlement.drop(call.settling)
  }

  /** Delivers nothing while `fn` runs, and then what there is. */
  together(fn: () => void): void {
    this.#settlement.hold(fn)
    this.pump()
  }

  /** Delivers the next outcome if it may be delivered now. */
  pump(): void {
    this.#settlement.pump()
  }

  /** Forgets everything that is waiting to be delivered. */
  clear(): void {
    this.#settlement.clear()
  }

  /** The turn is over: nothing is delivered any more. */
  close(): void {
    this.#closed = true
    this.#settlement.close()
  }
}
