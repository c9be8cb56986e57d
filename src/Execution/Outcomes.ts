/**
 * Brings outcomes to the handler. A new outcome is reported, and so gets its place in the journal. All outcomes are
 * delivered in the order of the journal. The events that waits have received also limit which past events the next wait
 * accepts: see `UnseenEvents.ts`.
 */
import type { SerializedError } from "../Errors.ts"
import type { Job, Outcome, TurnOp } from "../Protocol/Worker.ts"
import { UnseenEvents, type WaitOp } from "./UnseenEvents.ts"
import type { Progress } from "./StepGate.ts"
import type { RecordedEntry } from "./Journal.ts"
import type { StepScope } from "./StepScope.ts"
import { Settlement } from "./Settlement.ts"
import type { StepCall } from "./StepCall.ts"
import { unansweredOutcome, stepDoneOp } from "./StepReports.ts"
import type { TurnHost } from "./TurnHost.ts"

export interface OutcomesOwner {
  /** How many turns of the event loop it takes until all consequences of one outcome have run. */
  readonly loopTurnsToDrain: number
  /**
   * Whether the handler may stop waiting for a call without telling the turn. A handler with promises may, and one with
   * fibers may not.
   */
  readonly abandonsSilently: boolean
  /** Called when no outcome can be delivered, and all consequences of the last delivered outcome have run. */
  readonly onIdle: () => void
  /** Called before an outcome is delivered. */
  readonly onDeliver: () => void
}

export class Outcomes implements Progress {
  readonly #host: TurnHost
  readonly #owner: OutcomesOwner
  readonly #settlement: Settlement
  /** The number of reports that are not durable yet. */
  #unacknowledgedCount = 0
  /** The number of outcomes that were delivered. */
  #deliveredCount = 0
  /** The wait that received the last delivered outcome; `undefined` once the handler has acted on the outcome. */
  #lastWait: StepCall | undefined = undefined
  #isClosed = false

  constructor(journal: Job["journal"], host: TurnHost, owner: OutcomesOwner) {
    this.#host = host
    this.#owner = owner
    this.#settlement = new Settlement(journal.length, owner.loopTurnsToDrain, () => owner.onIdle())
    for (const [rank, { kind }] of journal.entries()) {
      // The handler does not call compensations, so their entries count as delivered.
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

  /** Whether no outcome waits: neither to be delivered, nor for the answer to its report. */
  get isEmpty(): boolean {
    return this.#settlement.isEmpty
  }

  /** Whether all outcomes were delivered, and all consequences of the last one have run. */
  get isSettled(): boolean {
    return this.#settlement.isEmpty && this.#settlement.isDrained
  }

  /** Whether the handler has not yet received all outcomes in the journal. */
  get isReplaying(): boolean {
    return this.#settlement.isReplaying
  }

  /** Whether all reports are durable. */
  get isDurable(): boolean {
    return this.#unacknowledgedCount === 0
  }

  // ---------------------------------------------------------------------------
  // Outcomes from the journal, from this process and from the engine
  // ---------------------------------------------------------------------------

  /** Queues the outcome that the journal has for a call. */
  replay(call: StepCall, { entry: { kind, outcome }, index }: RecordedEntry): void {
    // The verdict on branches waits until all activity has come to rest, since the branches must end before the
    // verdict.
    call.pendingOutcome = this.#settlement.request(
      index,
      () => this.#deliver(call, outcome),
      kind === "parallel"
    )
  }

  /**
   * Records the outcome of a step that has finished in this process; `startedAt` is in epoch milliseconds.
   */
  record(call: StepCall, outcome: Outcome, attempt: number, startedAt: number): void {
    if (this.#isClosed) return
    // The outcome is added before it is reported, since the report may be acknowledged before `report` returns.
    this.#add(call, outcome)
    const endedAt = this.#host.clock.currentTimeMillisUnsafe()
    this.report(stepDoneOp(call, outcome, { attempt, startedAt, endedAt }))
    this.pump()
  }

  /** Records the outcome of a step that the engine has performed: a sleep, a wait or an invocation. */
  settle(call: StepCall, outcome: Outcome): void {
    this.#add(call, outcome)
    this.report({ _tag: "Settle", stepKey: call.key })
    this.pump()
  }

  #add(call: StepCall, outcome: Outcome): void {
    call.pendingOutcome = this.#settlement.add(() => this.#deliver(call, outcome), true)
  }

  /**
   * Reports an op whose outcome is in the answer to the report. If `onFailure` is given, a failure goes only to
   * `onFailure`, and neither into the journal nor to the handler.
   */
  request(call: StepCall, op: TurnOp, onFailure?: (error: SerializedError) => void): void {
    let answer: Outcome = unansweredOutcome
    const pendingOutcome = this.#settlement.add(() => this.#deliver(call, answer), false)
    call.pendingOutcome = pendingOutcome
    this.report(op, (outcome) => {
      pendingOutcome.isReady = true
      if (outcome?._tag !== "Failure" || onFailure === undefined) {
        if (outcome !== undefined) answer = outcome
        return
      }
      this.#settlement.drop(pendingOutcome)
      call.pendingOutcome = undefined
      onFailure(outcome.error)
    })
  }

  /** Reports an op after which the turn continues. */
  report(op: TurnOp, onAck?: (outcome: Outcome | undefined) => void): void {
    this.#unacknowledgedCount++
    this.#host.report(
      op,
      onAck === undefined ? this.#acknowledged : (outcome) => this.#acknowledged(outcome, onAck)
    )
  }

  readonly #acknowledged = (
    outcome: Outcome | undefined,
    onAck?: (outcome: Outcome | undefined) => void
  ): void => {
    this.#unacknowledgedCount--
    if (this.#isClosed) return
    onAck?.(outcome)
    if (this.#unacknowledgedCount === 0 || onAck !== undefined) this.pump()
  }

  // ---------------------------------------------------------------------------
  // Delivery to the handler
  // ---------------------------------------------------------------------------

  #deliver(call: StepCall, outcome: Outcome): void {
    if (call.isWithdrawn || this.#isClosed) return
    this.#owner.onDeliver()
    this.#deliveredCount++
    this.#lastWait = undefined
    this.#host.probe?.delivers?.()
    if (call.kind === "waitForEvent") {
      call.scope.eventWaits?.deliver(call, outcome, this.#owner.abandonsSilently)
      this.#lastWait = call
    }
    call.receive(outcome)
  }

  /** Notes that the handler acts on the outcome that was delivered last. */
  noteHandlerActs(): void {
    if (this.#lastWait === undefined) return
    this.#lastWait.scope.eventWaits?.see(this.#lastWait)
    this.#lastWait = undefined
  }

  /** Notes that the handler makes a step call in this scope. */
  noteCallIn(scope: StepScope): void {
    this.noteHandlerActs()
    scope.eventWaits?.leaveBehind(this.#deliveredCount)
  }

  /** Registers a call that waits for an event. */
  awaitEvent(call: StepCall, op: WaitOp): void {
    call.scope.eventWaits ??= new UnseenEvents()
    call.scope.eventWaits.add(call, op, this.#deliveredCount)
  }

  /** Drops the outcome of a call that the handler no longer wants. */
  drop(call: StepCall): void {
    if (call.pendingOutcome !== undefined) this.#settlement.drop(call.pendingOutcome)
  }

  /** Delivers nothing while `fn` runs, and then continues. */
  pauseWhile(fn: () => void): void {
    this.#settlement.pauseWhile(fn)
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
    this.#isClosed = true
    this.#settlement.close()
  }
}
