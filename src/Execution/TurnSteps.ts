/**
 * The steps of one turn, from the call of the handler to the outcome that it receives.
 *
 * Step calls come in through {@link TurnSteps.addCall}. Recorded steps get their outcome from the journal. All other
 * steps begin once the handler has received the journal's outcomes for its calls (see `StepGate`). There is no fiber,
 * promise or timer per step here: the two APIs add what they need. `TurnMachine` decides how the turn ends.
 */
import { deserializeError, StepAbortedError } from "../Errors.ts"
import { errorWithoutSecrets } from "./SecretsInText.ts"
import { stepsPerRun } from "../Limits.ts"
import type { Job, Notice, OpenStep, Outcome, TurnOp, TxWrite } from "../Protocol/Worker.ts"
import type { JsonText } from "../Json.ts"
import type { StepKind } from "../StepKind.ts"
import type { Attempt, AttemptExit } from "./Attempt.ts"
import { ClosingGroups, type ClosingGroupsOwner } from "./ClosingGroups.ts"
import { isWait } from "./UnseenEvents.ts"
import { callSiteOf, type FunctionPlan, rememberCallSite } from "./FunctionPlan.ts"
import { StepGate } from "./StepGate.ts"
import { Journal, type RecordedEntry } from "./Journal.ts"
import { Outcomes, type OutcomesOwner } from "./Outcomes.ts"
import type { Activity } from "./Quiescence.ts"
import { delayBeforeRetry } from "./RetryDelay.ts"
import { type RunningOwner, RunningSteps } from "./RunningSteps.ts"
import { BranchGroup, isStopped, StepScope } from "./StepScope.ts"
import { afterEventLoopTurns } from "./Settlement.ts"
import { isCode, type StepCall } from "./StepCall.ts"
import { stepId } from "../StepId.ts"
import {
  encodeExit,
  type FailedExit,
  waitToReport,
  stepRetryOp,
  storedFailure,
  transactOp
} from "./StepReports.ts"
import { SuspendedCalls } from "./SuspendedCalls.ts"
import type { TurnHost } from "./TurnHost.ts"
import { gaveUpWarning } from "./TurnWarnings.ts"
import { attemptVerdict } from "./Verdict.ts"

/** The turn that the steps belong to. */
export interface StepsOwner extends Pick<OutcomesOwner, "loopTurnsToDrain" | "abandonsSilently"> {
  /** Called when no outcome can be delivered, and all consequences of the last delivered outcome have run. */
  readonly stepsIdle: () => void
  /**
   * Called for a step that was recorded with another kind. `entry` is the function that the user's code
   * called.
   */
  readonly mismatch: (call: StepCall, recordedKind: StepKind, entry: Function) => void
  /** Called when the handler has made more calls than a run may have. */
  readonly tooManySteps: (calls: number) => void
  /** Called when the handler makes a call after the turn has ended. */
  readonly lateStep: (call: StepCall) => void
}

type Phase =
  /** The handler runs, and its calls are answered. */
  | "handler"
  /** Calls stay pending, and compensations run. */
  | "compensating"
  | "over"

export class TurnSteps implements RunningOwner, OutcomesOwner, ClosingGroupsOwner {
  readonly root: StepScope
  readonly rootGroup = new BranchGroup(undefined)
  readonly journal: Journal
  readonly outcomes: Outcomes
  readonly running: RunningSteps
  readonly suspended: SuspendedCalls
  readonly loopTurnsToDrain: number
  readonly abandonsSilently: boolean
  readonly #job: Job
  readonly #plan: FunctionPlan
  readonly #host: TurnHost
  readonly #owner: StepsOwner
  readonly #gate: StepGate
  readonly #closingGroups: ClosingGroups
  #phase: Phase = "handler"
  /** Whether a new step has begun in this turn. From then on the turn no longer only replays. */
  #hasNewStep = false
  /** A count that grows with each activity of the handler. */
  #activityCount = 0
  #callCount = 0
  /** How many calls stay pending for the rest of this turn. */
  #shelvedCount = 0
  /** How many steps have an outcome that becomes known only in a later turn. */
  #deferredCount = 0

  constructor(plan: FunctionPlan, job: Job, host: TurnHost, owner: StepsOwner) {
    this.#plan = plan
    this.#job = job
    this.#host = host
    this.#owner = owner
    this.root = new StepScope(this.rootGroup, "")
    this.journal = new Journal(job)
    this.loopTurnsToDrain = owner.loopTurnsToDrain
    this.abandonsSilently = owner.abandonsSilently
    this.outcomes = new Outcomes(job.journal, host, this)
    this.suspended = new SuspendedCalls(this.outcomes)
    this.#gate = new StepGate(this.outcomes)
    this.running = new RunningSteps(this, host)
    this.#closingGroups = new ClosingGroups(this)
  }

  // ---------------------------------------------------------------------------
  // State for the turn
  // ---------------------------------------------------------------------------

  /**
   * Whether this turn still repeats what earlier turns have done: the handler has not reached the point where the
   * previous turn ended, and no new step has begun.
   */
  get isReplaying(): boolean {
    return !this.#hasNewStep && (this.outcomes.isReplaying || this.journal.hasUnreachedSteps)
  }

  /** A count that grows with each activity of the handler. */
  get activityCount(): number {
    return this.#activityCount
  }

  /** Whether steps run, or outcomes are on their way to the handler. */
  get isUnderWay(): boolean {
    return this.running.size > 0 || !this.outcomes.isEmpty || this.outcomes.isReplaying
  }

  /**
   * The activity for {@link classifyActivity}. `undefined` while code runs or a report is in flight, as
   * during most of a turn: then the turn is busy.
   */
  get activity(): Activity | undefined {
    if (this.running.size > 0 || !this.outcomes.isDurable) return undefined
    return {
      closings: this.#closingGroups.size,
      heldOps: this.#gate.heldOps,
      heldCode: this.#gate.heldCode,
      deferred: this.#deferredCount,
      suspended: this.suspended.size,
      shelved: this.#shelvedCount,
      isSettled: this.outcomes.isSettled,
      isPausing: this.#gate.isPausing,
      isWrappingUp: this.#gate.isWrappingUp
    }
  }

  onDeliver(): void {
    this.#activityCount++
  }

  onIdle(): void {
    if (this.#phase === "over") return
    this.#startHeld()
    if (this.#closingGroups.size > 0) this.#closingGroups.check()
    this.#owner.stepsIdle()
  }

  /** Calls `fn` when all consequences of the last outcome have run, unless the turn has ended before that. */
  whenDrained(fn: () => void): void {
    afterEventLoopTurns(this.loopTurnsToDrain, () => {
      if (this.#phase !== "over") fn()
    })
  }

  idempotencyKey(call: StepCall): string {
    const { generation, runId } = this.#job
    return generation > 0 ? `${stepId(runId, call.key)}@${generation}` : stepId(runId, call.key)
  }

  // ---------------------------------------------------------------------------
  // Calls
  // ---------------------------------------------------------------------------

  /**
   * Adds a step call of the handler. `entry` is the function that the user's code called: it marks the place of the
   * call in the stack.
   */
  addCall(call: StepCall, entry: Function): void {
    if (this.#phase === "over") {
      this.#owner.lateStep(call)
      return
    }
    this.#activityCount++
    this.outcomes.noteCallIn(call.scope)
    if (isWait(call.work)) this.outcomes.awaitEvent(call, call.work)
    this.#host.probe?.called?.(call)
    if (this.#phase === "compensating") {
      this.#shelve()
      return
    }
    if (++this.#callCount > stepsPerRun) {
      this.#owner.tooManySteps(this.#callCount)
      return
    }

    const recordedEntry = this.journal.take(call.key)
    if (recordedEntry !== undefined) {
      this.#replay(call, recordedEntry, entry)
      return
    }
    const openStep = this.journal.reach(call.key)
    if (openStep !== undefined && openStep.kind !== call.kind) {
      this.#owner.mismatch(call, openStep.kind, entry)
    } else if (isStopped(call.scope) || this.#job.compensating !== undefined) {
      this.#shelve()
    } else if (openStep === undefined || !this.#resume(call, openStep)) {
      rememberCallSite(this.#plan, call.kind, call.name, entry)
      this.#begin(call)
    }
  }

  /** Adds the call only if the journal has its outcome. Returns whether the call was added. */
  addRecordedCall(call: StepCall, entry: Function): boolean {
    if (this.#phase === "over" || !this.journal.has(call.key)) return false
    this.addCall(call, entry)
    return true
  }

  /** Begins or resumes a compensation. Compensations are called by the turn, and not by the handler. */
  startCompensation(call: StepCall): void {
    const openStep = this.journal.openStep(call.key)
    if (openStep === undefined || !this.#resume(call, openStep)) this.#begin(call)
  }

  /** Notes an activity of the handler that is not a step call. */
  noteActivity(): void {
    this.#activityCount++
    this.outcomes.noteHandlerActs()
  }

  #replay(call: StepCall, recordedEntry: RecordedEntry, entry: Function): void {
    const { anyKind, kind, outcome } = recordedEntry.entry
    if (kind !== call.kind && anyKind !== true) {
      this.#owner.mismatch(call, kind, entry)
      return
    }
    // the error of a failed step may get the place of the step's call, even when the step failed in another process
    if (outcome._tag === "Failure") rememberCallSite(this.#plan, call.kind, call.name, entry)
    this.outcomes.replay(call, recordedEntry)
  }

  /** Resumes a step that was open before this turn. Returns `false` when its next attempt is to begin now. */
  #resume(call: StepCall, openStep: OpenStep): boolean {
    call.failures = openStep.failures
    const firing = this.journal.earlyFiring(call.key)
    if (firing !== undefined) {
      if (firing.outcome === undefined) return false
      this.outcomes.settle(call, firing.outcome)
      return true
    }
    if (isCode(call.work) && !openStep.pending) return false
    this.suspended.add(call)
    this.outcomes.pump()
    return true
  }

  /** Withdraws a call that the handler no longer waits for. */
  withdraw(call: StepCall): void {
    if (call.isWithdrawn || this.#phase === "over") return
    call.isWithdrawn = true
    this.#activityCount++
    this.outcomes.drop(call)
    const { attempt } = call
    if (attempt !== undefined) {
      const reason = new StepAbortedError(call.name, "the handler does not wait for it any more")
      this.running.abandon(attempt, reason)
    }
    const isOpen = this.suspended.delete(call.key) || call.failures > 0
    // a `sleepUntil` stays open in the engine: once its time has passed, a later turn makes the step call only if it
    // finds the step open
    const mustStayOpen = !isCode(call.work) && call.work._tag === "Sleep" && "at" in call.work.due
    if (isOpen && !mustStayOpen) this.suspended.closeInEngine(call)
    this.outcomes.pump()
  }

  /** Leaves a call pending for the rest of this turn. */
  #shelve(): void {
    this.#shelvedCount++
    this.outcomes.pump()
  }

  /**
   * Leaves a call in a stopped group pending, as {@link #shelve} does. A step between two attempts is also closed in
   * the engine: otherwise it would stay open there forever.
   */
  #shelveStopped(call: StepCall): void {
    this.#shelvedCount++
    // When the whole handler fails, its steps stay open in the engine: if the run is retried, they continue.
    if (call.failures > 0 && !this.rootGroup.isStopped) this.suspended.closeInEngine(call)
    this.outcomes.pump()
  }

  // ---------------------------------------------------------------------------
  // Starting calls
  // ---------------------------------------------------------------------------

  #begin(call: StepCall): void {
    const wasCaughtUp = this.outcomes.isCaughtUp
    // `unseenWaits` is computed now, and not when the call begins: the call may be held, and the handler may see events
    // meanwhile.
    if (isWait(call.work)) call.unseenWaits = call.scope.eventWaits?.unseenBefore(call, call.work)
    if (this.#gate.mayBegin(call)) this.#start(call)
    else this.#gate.keep(call)
    if (!wasCaughtUp || !this.#gate.beginsCode) this.outcomes.pump()
  }

  #startHeld(): void {
    const calls = this.#gate.take()
    if (calls.length === 0) return
    // These calls were made before any of them had a result. So they do not depend on each other's results,
    // and begin together.
    this.outcomes.pauseWhile(() => {
      for (const call of calls) {
        if (call.isWithdrawn || this.#phase === "over") continue
        if (isStopped(call.scope)) this.#shelveStopped(call)
        else this.#start(call)
      }
    })
  }

  #start(call: StepCall): void {
    const { work } = call
    if (!isCode(work)) {
      this.#startOp(call, isWait(work) ? waitToReport(call, work) : work)
    } else if (this.#host.mayBegin?.() !== false) {
      this.#hasNewStep = true
      this.running.start(call, work)
    }
  }

  #startOp(call: StepCall, op: TurnOp): void {
    this.#hasNewStep = true
    if (this.#defers(op)) return
    if (op._tag === "Publish" || op._tag === "InvokeAsync") {
      this.outcomes.request(call, op)
    } else {
      this.suspended.add(call)
      this.outcomes.report(op, (outcome) => {
        if (outcome !== undefined) this.#fired(call.key, outcome)
      })
    }
  }

  /** If only a later turn will know the outcome of the op, reports the op, wraps up, and returns true. */
  #defers(op: TurnOp): boolean {
    if (this.#host.defers?.(op) !== true) return false
    this.#deferredCount++
    this.outcomes.report(op)
    this.wrapUp()
    return true
  }

  // ---------------------------------------------------------------------------
  // Ends of attempts
  // ---------------------------------------------------------------------------

  attemptEnded(attempt: Attempt, exit: AttemptExit): void {
    this.running.remove(attempt)
    if (this.#phase === "over") return
    this.#activityCount++
    const { call } = attempt
    call.attempt = undefined
    const writes = attempt.tx?.close()
    const result = encodeExit(exit, call.name)
    if (result._tag === "Failure") this.#attemptFailed(attempt, result)
    else if (writes === undefined) this.#recordAttempt(attempt, result)
    else this.#transact(attempt, result.value, writes)
  }

  onGiveUp(call: StepCall): void {
    this.#activityCount++
    this.#host.logger.warn(gaveUpWarning(this.#job.runId, call.name))
    this.#shelveStopped(call)
  }

  /**
   * Reports the writes of a `step.tx`, with its result. The handler receives the result once the writes are
   * stored.
   */
  #transact(attempt: Attempt, value: JsonText | undefined, writes: ReadonlyArray<TxWrite>): void {
    const { call } = attempt
    const op = transactOp(attempt, value, writes, this.#host.clock.currentTimeMillisUnsafe())
    if (this.#defers(op)) return
    // a failure means that nothing was stored: the attempt has failed, and the failure does not enter the journal
    this.outcomes.request(call, op, (error) => {
      this.#activityCount++
      if (call.isWithdrawn || this.#phase === "compensating") return
      this.#attemptFailed(attempt, { _tag: "Failure", error: deserializeError(error) })
    })
    this.outcomes.pump()
  }

  #attemptFailed(attempt: Attempt, failed: FailedExit): void {
    const { error } = failed
    const { abortReason, call, number: failures } = attempt
    const { scope, work } = call
    if (!isCode(work)) return
    const { retry } = work
    const { maxAttempts } = retry
    const verdict = attemptVerdict({ error, abortReason, failures, maxAttempts, isStopped: isStopped(scope) })
    if (verdict === "stopped") {
      this.#shelveStopped(call)
      return
    }
    const storedError = errorWithoutSecrets(
      this.#job,
      storedFailure(failed, callSiteOf(this.#plan, call.kind, call.name))
    )
    if (verdict === "failed") {
      this.#recordAttempt(attempt, { _tag: "Failure", error: storedError })
      return
    }
    call.failures = failures
    this.suspended.add(call)
    const what = () => `Run ${this.#job.runId} of function "${this.#plan.functionId}": Step "${call.name}"`
    this.outcomes.report(
      stepRetryOp(call, storedError, delayBeforeRetry(this.#host, { error, failures, retry, what }))
    )
    this.outcomes.pump()
  }

  #recordAttempt({ call, number, startedAt }: Attempt, outcome: Outcome): void {
    this.outcomes.record(call, outcome, number, startedAt)
  }

  // ---------------------------------------------------------------------------
  // Outcomes
  // ---------------------------------------------------------------------------

  notice(notice: Notice): void {
    if (this.#phase === "over") return
    if (notice._tag === "Paused" || notice._tag === "Resumed") {
      this.#gate.isPausing = notice._tag === "Paused"
      this.outcomes.pump()
      return
    }
    if (notice._tag !== "Fired") return
    const { failures, outcome, stepKey } = notice
    if (outcome === undefined && failures !== undefined) {
      // the attempt that the notice announces may have begun already
      const step = this.suspended.get(stepKey) ?? this.journal.openStep(stepKey)
      if (step !== undefined && step.failures !== failures) return
    }
    this.#fired(stepKey, outcome)
  }

  #fired(key: string, outcome: Outcome | undefined): void {
    const call = this.suspended.get(key)
    if (call === undefined) {
      this.journal.fireEarly(key, outcome)
      return
    }
    this.suspended.delete(key)
    this.#activityCount++
    if (outcome !== undefined) {
      this.outcomes.settle(call, outcome)
    } else if (isStopped(call.scope)) {
      this.#shelveStopped(call)
    } else {
      this.#gate.keep(call)
      this.outcomes.pump()
    }
  }

  // ---------------------------------------------------------------------------
  // Stopping
  // ---------------------------------------------------------------------------

  /** Lets no more code begin in this turn. */
  wrapUp(): void {
    if (this.#gate.isWrappingUp || this.#phase === "over") return
    this.#gate.isWrappingUp = true
    this.outcomes.pump()
  }

  /** Lets nothing new begin in the group. Recorded steps still get their outcomes. */
  shut(group: BranchGroup): void {
    group.isStopped = true
  }

  /**
   * Shuts the group, asks its running steps to stop, and awaits them. `onStopped` is called when they have ended and
   * all consequences have run.
   */
  stop(group: BranchGroup, cause: string, onStopped: () => void): void {
    if (this.#phase === "over") return
    this.shut(group)
    this.#activityCount++
    this.running.stop(group, cause)
    // When the whole handler fails, its steps stay open in the engine, as in `#shelveStopped`.
    if (group !== this.rootGroup) this.suspended.closeWithin(group)
    this.#closingGroups.add(group, onStopped)
    this.outcomes.pump()
  }

  /** Gives up the steps of the handler: none of them begins, is awaited or gets its outcome any more. */
  abandon(reason: Error): void {
    this.rootGroup.isStopped = true
    this.#closingGroups.clear()
    this.#gate.clear()
    this.outcomes.clear()
    this.running.abandonAll(() => reason)
  }

  /** Lets compensations begin. From here on the calls of the handler stay pending. */
  beginCompensations(): void {
    this.#phase = "compensating"
    this.suspended.clear()
  }

  /**
   * Ends the steps, since the turn is over: calls have no effect, and running code is aborted with the
   * reason.
   */
  close(reason: () => Error): void {
    this.#phase = "over"
    this.outcomes.close()
    this.#closingGroups.clear()
    this.#gate.clear()
    this.suspended.clear()
    this.running.abandonAll(reason)
  }
}
