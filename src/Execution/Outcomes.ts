/**
 * The outcomes on their way to the handler. Each is reported, gets its place in the journal, and is delivered in that
 * order. The delivered outcomes also decide what later waits for events look back to, see `EventWaits`.
 */
import type { SerializedError } from "../Errors.ts"
import type { Job, Outcome, TurnOp } from "../Protocol/Worker.ts"
import { UnseenEvents, type WaitOp } from "./UnseenEvents.ts"
import type { Progress } from "./StepGate.ts"
import type { Recorded } from "./Journal.ts"
import type { StepScope } from "./StepScope.ts"
import { Settlement } from "./Settlement.ts"
import type { StepCall } from "./StepCall.ts"
import { notAnswered, stepDone } from "./StepReports.ts"
import type { TurnHost } from "./TurnHost.ts"

export interface OutcomesOwner {
  /** Turns of the event loop until all consequences of one outcome have run. */
  readonly turnsToDrain: number
  /** Whether the handler may stop waiting for a call without telling, as with a promise. */
  readonly losesSilently: boolean
  /** Called when nothing can be delivered, and the last outcome has drained. */
  readonly idle: () => void
  /** Called before an outcome is delivered. */
  readonly delivers: () => void
}

export class Outcomes implements Progress {
  readonly #host: TurnHost
  readonly #owner: OutcomesOwner
  readonly #settlement: Settlement
  /** Reports that are not durable yet. */
  #unacknowledged = 0
  /** Outcomes that were delivered. */
  #delivered = 0
  /** The wait whose event was delivered last, until the handler acts on it. */
  #shown: StepCall | undefined = undefined
  #closed = false

  constructor(journal: Job["journal"], host: TurnHost, owner: OutcomesOwner) {
    this.#host = host
    this.#owner = owner
    this.#settlement = new Settlement(journal.length, owner.turnsToDrain, () => owner.idle())
    for (const [rank, { kind }] of journal.entries()) {
      // The handler does not call compensations.
      if (kind === "compensate") this.#settlement.markSettled(rank)
    }
  }

  // ---------------------------------------------------------------------------
  // Progress
  // ---------------------------------------------------------------------------

  /** See {@link Settlement.isCaughtUp}. */
  get isCaughtUp(): boolean {
    return this.#settlement.isCaughtUp
  }

  /** Whether no outcome waits to be delivered, or for its answer. */
  get isEmpty(): boolean {
    return this.#settlement.isEmpty
  }

  /** Whether all outcomes were delivered, and all consequences of the last one have run. */
  get isSettled(): boolean {
    return this.#settlement.isEmpty && this.#settlement.isDrained
  }

  /** Whether the handler has not received all of the journal yet. */
  get isReplaying(): boolean {
    return this.#settlement.isReplaying
  }

  get isDurable(): boolean {
    return this.#unacknowledged === 0
  }

  // ---------------------------------------------------------------------------
  // New outcomes: from the journal, from this process, from the engine
  // ---------------------------------------------------------------------------

  /** Queues the journal's outcome for a call. */
  replay(call: StepCall, { entry: { kind, outcome }, rank }: Recorded): void {
    // Branches end before the verdict on them.
    call.settling = this.#settlement.request(rank, () => this.#deliver(call, outcome), kind === "parallel")
  }

  /** Records a step that has finished here; `startedAt` is in epoch milliseconds. */
  record(call: StepCall, outcome: Outcome, attempt: number, startedAt: number): void {
    if (this.#closed) return
    // The place in the order comes first: the report may be acknowledged before it returns.
    this.#add(call, outcome)
    const endedAt = this.#host.clock.currentTimeMillisUnsafe()
    this.report(stepDone(call, outcome, { attempt, startedAt, endedAt }))
    this.pump()
  }

  /** Records the outcome of a finished wait in the journal. */
  settle(call: StepCall, outcome: Outcome): void {
    this.#add(call, outcome)
    this.report({ _tag: "Settle", stepKey: call.key })
    this.pump()
  }

  #add(call: StepCall, outcome: Outcome): void {
    call.settling = this.#settlement.add(() => this.#deliver(call, outcome), true)
  }

  /**
   * Reports an op whose outcome is in the answer to the report. With `onFailure`, a failure does not enter the
   * journal, and goes there instead of to the handler.
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
  // Delivery to the handler
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

  /** The handler acts on the last delivered outcome. */
  actsUponShown(): void {
    if (this.#shown === undefined) return
    this.#shown.scope.waits?.see(this.#shown)
    this.#shown = undefined
  }

  /** The handler makes a call in this scope. */
  goesOn(scope: StepScope): void {
    this.actsUponShown()
    scope.waits?.leaveBehind(this.#delivered)
  }

  /** Registers a call that waits for an event. */
  awaitEvent(call: StepCall, op: WaitOp): void {
    call.scope.waits ??= new UnseenEvents()
    call.scope.waits.add(call, op, this.#delivered)
  }

  /** Drops the outcome of a call that the handler no longer wants. */
  drop(call: StepCall): void {
    if (call.settling !== undefined) this.#settlement.drop(call.settling)
  }

  /** Delivers nothing while `fn` runs, and then resumes. */
  together(fn: () => void): void {
    this.#settlement.hold(fn)
    this.pump()
  }

  /** Delivers the next outcome if it may be delivered now. */
  pump(): void {
    this.#settlement.pump()
  }

  /** Forgets all outcomes that wait to be delivered. */
  clear(): void {
    this.#settlement.clear()
  }

  /** Ends delivery: the turn is over. */
  close(): void {
    this.#closed = true
    this.#settlement.close()
  }
}
