/**
 * One turn of a handler as a state machine that calls back.
 *
 * Step calls come in through {@link TurnMachine.ask}. What the journal has is settled from there; everything else begins
 * once the handler has caught up with the journal. The code of a step begins only when everything reported so far is
 * durable, so that no step depends on a result that could be lost. There is no fiber, promise or timer per step here: the
 * two faces add what they need.
 */
import * as Context from "effect/Context"
import * as Random from "effect/Random"
import { askedDelayMs, retryDelayMs, type RetryPolicy } from "../Backoff.ts"
import { callSite, withCallSite } from "../CallSite.ts"
import {
  encodedFailure,
  deserializeError,
  FunctionTimeoutError,
  IronflowError,
  isRetryable,
  LimitExceededError,
  retryAfterOf,
  type SerializedError,
  serializeError,
  StepAbortedError,
  StepTimeoutError,
  toError
} from "../Errors.ts"
import { checkSize, stepResultBytes, stepsPerRun } from "../Limits.ts"
import { type Logger, runLogger } from "../Logger.ts"
import type {
  Job,
  JournalEntry,
  JsonText,
  Notice,
  OpenStep,
  Outcome,
  StepKind,
  TurnOp,
  TxWrite
} from "../Protocol/Worker.ts"
import { encodeResult } from "../Result.ts"
import { show } from "../Show.ts"
import { Attempt, type AttemptExit, type AttemptOwner, isAbortFailure } from "./Attempt.ts"
import { type Compensation, Compensations } from "./Compensation.ts"
import {
  type FunctionPlan,
  callSiteOf,
  rememberCallSite,
  type StepTimeout,
  tellOfUnasked
} from "./FunctionPlan.ts"
import { EventWaits, isWait, type WaitOp } from "./EventWaits.ts"
import type { TurnToken } from "./Nesting.ts"
import { BranchGroup, isStopped, isWithin, Scope } from "./Scope.ts"
import { afterEventLoopTurns, Settlement } from "./Settlement.ts"
import { isCode, StepCall, type StepCode } from "./StepCall.ts"
import { isAtRoot, stepId } from "./StepId.ts"
import type { TurnEnd, TurnHandle, TurnHost } from "./TurnHost.ts"

/** How long code that was told to stop is awaited when it has no timeout of its own. */
const stopGraceMs = 5000

type Phase =
  /** The handler runs. */
  | "handler"
  /** The handler has failed, and steps that were running are awaited. */
  | "closing"
  | "compensating"
  | "over"

interface Recorded {
  readonly entry: JournalEntry
  readonly rank: number
}

/** A group that starts nothing new and whose running steps are awaited. */
interface Closing {
  readonly group: BranchGroup
  readonly done: () => void
  draining: boolean
}

export interface TurnOptions {
  /** Turns of the event loop until all that follows from one outcome has run. */
  readonly turnsToDrain: number
  /** Whether the handler may stop waiting for a call without a word, as whoever holds a promise. */
  readonly losesSilently: boolean
  /** Stops the handler, where that is possible from outside. */
  readonly interruptHandler: () => void
  readonly onEnd: (end: TurnEnd) => void
}

export class TurnMachine implements TurnHandle, AttemptOwner {
  readonly job: Job
  readonly host: TurnHost
  readonly plan: FunctionPlan
  readonly token: TurnToken
  readonly root: Scope
  readonly settlement: Settlement
  readonly #options: TurnOptions
  readonly #rootGroup = new BranchGroup(undefined)
  /** Entries that the handler has not asked for yet. */
  readonly #journal = new Map<string, Recorded>()
  readonly #open = new Map<string, OpenStep>()
  /** Those of the open steps that the handler has not come to again. */
  readonly #openAhead = new Set<string>()
  /** Waits that were over before the handler asked for them. */
  readonly #firedEarly = new Map<string, Outcome | undefined>()
  /** Suspended calls. */
  readonly #waiting = new Map<string, StepCall>()
  /** Calls that begin when the handler has caught up, and for code, when everything reported is durable. */
  #heldOps: Array<StepCall> = []
  #heldCode: Array<StepCall> = []
  readonly #attempts = new Set<Attempt>()
  readonly #compensations = new Compensations()
  #closings: Array<Closing> = []
  #turnEndCallbacks: Array<() => void | Promise<void>> = []
  #controller: AbortController | undefined = undefined
  #endReason: (() => Error) | undefined = undefined
  #cancelTimeout: (() => void) | undefined = undefined
  #cancelLinger: (() => void) | undefined = undefined
  #stepFailures: Set<unknown> | undefined = undefined
  #phase: Phase = "handler"
  /** Whether `onEnd` has been called. */
  #ended = false
  /** Whether the turn ended because it was judged quiet. */
  #suspended = false
  #lateReported = false
  /** Whether something new has begun, rather than only replayed. */
  #live = false
  #unacknowledged = 0
  #stepCount = 0
  /** Outcomes that the handler has been given. */
  #outcomes = 0
  /** The wait whose event the handler was given last, until it acts upon it. */
  #shown: StepCall | undefined = undefined
  /** Calls that stay pending for good in this turn. */
  #shelved = 0
  /** Sleeps that are no steps and have not ended. */
  #sleeps = 0
  /** Counts signs of life. */
  #life = 0
  #probing = false
  #probedLife = 0
  /** Whether no code begins in this turn any more. */
  #wrappingUp = false
  /** Whether the run is to be paused: nothing begins until it is not, or the turn has ended. */
  #pausing = false
  /** Steps whose outcomes are for another turn. */
  #deferred = 0

  constructor(plan: FunctionPlan, job: Job, host: TurnHost, options: TurnOptions) {
    this.job = job
    this.host = host
    this.plan = plan
    this.token = { runId: job.runId }
    this.#options = options
    this.root = new Scope(this.#rootGroup, "")
    this.settlement = new Settlement(job.journal.length, options.turnsToDrain, () => this.#idle())
    for (const [rank, entry] of job.journal.entries()) {
      this.#journal.set(entry.stepKey, { entry, rank })
      // The handler does not ask for compensations.
      if (entry.kind === "compensate") this.settlement.markSettled(rank)
    }
    for (const open of job.open) {
      this.#open.set(open.stepKey, open)
      this.#openAhead.add(open.stepKey)
    }
    this.#cancelTimeout = host.alarm.at(host.clock.currentTimeMillisUnsafe() + plan.timeoutMs, () =>
      this.#timedOut()
    )
  }

  // ---------------------------------------------------------------------------
  // What the handler is given
  // ---------------------------------------------------------------------------

  /** Whether step calls are inert because the turn has ended. */
  get isOver(): boolean {
    return this.#phase === "over"
  }

  /** Aborts when the turn ends. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#endReason !== undefined) this.#controller.abort(this.#endReason())
    }
    return this.#controller.signal
  }

  /** The handler's logger. */
  get logger(): Logger {
    return runLogger(this.job.runId, () => !this.#live && this.#isBehind)
  }

  /** Whether an earlier turn came further than this one. */
  get #isBehind(): boolean {
    return this.settlement.isReplaying || this.#openAhead.size > 0
  }

  onTurnEnd(callback: () => void | Promise<void>): void {
    if (this.isOver) this.#runCallback(callback)
    else this.#turnEndCallbacks.push(callback)
  }

  idempotencyKey(call: StepCall): string {
    const { generation, runId } = this.job
    return generation > 0 ? `${stepId(runId, call.key)}@${generation}` : stepId(runId, call.key)
  }

  /** Registers the undoing of a step. */
  compensate(name: string, code: StepCode): void {
    if (this.#phase === "over" || this.#phase === "compensating") return
    this.#life++
    this.#actsUponShown()
    this.#compensations.register(name, code)
    const wanted = this.job.compensating?.compensations
    if (wanted !== undefined && this.#compensations.rebuilt(wanted).every(({ code }) => code !== undefined)) {
      this.#whenDrained(() => this.#beginCompensations())
    }
  }

  // ---------------------------------------------------------------------------
  // Step calls
  // ---------------------------------------------------------------------------

  /** Makes a step call. `entry` is the function that the user's code called, to name the place. */
  ask(call: StepCall, entry: Function): void {
    if (this.#phase === "over") {
      this.#late(call.name)
      return
    }
    this.#life++
    this.goesOn(call.scope)
    if (isWait(call.work)) {
      call.scope.waits ??= new EventWaits()
      call.scope.waits.add(call, call.work, this.#outcomes)
    }
    this.host.probe?.asked?.(call)
    if (this.#phase === "compensating") {
      this.#shelve()
      return
    }
    if (++this.#stepCount > stepsPerRun) {
      this.#failNow(
        new LimitExceededError(
          `The number of steps of function "${this.plan.functionId}" in one run`,
          this.#stepCount,
          stepsPerRun,
          "steps"
        )
      )
      return
    }

    const recorded = this.#takeRecorded(call.key)
    if (recorded !== undefined) {
      const { entry: found, rank } = recorded
      if (found.kind !== call.kind && found.anyKind !== true) this.#pause(call, found.kind, entry)
      else {
        // a step that failed in an earlier turn, perhaps in another process
        if (found.outcome._tag === "Failure") rememberCallSite(this.plan, call.kind, call.name, entry)
        const deliver = () => this.#deliver(call, found.outcome)
        // Branches come to their ends before the verdict on them.
        call.settling = this.settlement.ask(rank, deliver, found.kind === "parallel")
      }
      return
    }

    const open = this.#open.get(call.key)
    this.#openAhead.delete(call.key)
    if (open !== undefined && open.kind !== call.kind) {
      this.#pause(call, open.kind, entry)
      return
    }
    if (isStopped(call.scope) || this.job.compensating !== undefined) {
      this.#shelve()
    } else if (open === undefined || !this.#resume(call, open)) {
      rememberCallSite(this.plan, call.kind, call.name, entry)
      this.#begin(call)
    }
  }

  /** The handler makes a call in this scope. */
  goesOn(scope: Scope): void {
    this.#actsUponShown()
    scope.waits?.leaveBehind(this.#outcomes)
  }

  #actsUponShown(): void {
    if (this.#shown === undefined) return
    this.#shown.scope.waits?.see(this.#shown)
    this.#shown = undefined
  }

  /** The journal's entry, once. */
  #takeRecorded(key: string): Recorded | undefined {
    if (this.#journal.size === 0) return undefined
    const recorded = this.#journal.get(key)
    if (recorded !== undefined) this.#journal.delete(key)
    return recorded
  }

  /** Goes on with a step that was open before this turn; `false` when its next attempt has to begin. */
  #resume(call: StepCall, open: OpenStep): boolean {
    call.failures = open.failures
    const fired = this.#firedEarly.has(call.key)
    if (fired) {
      const outcome = this.#firedEarly.get(call.key)
      if (outcome === undefined) return false
      this.#settle(call, outcome)
      return true
    }
    if (isCode(call.work) && !open.pending) return false
    this.#waiting.set(call.key, call)
    this.settlement.pump()
    return true
  }

  /** The handler does not wait for this call any more. */
  withdraw(call: StepCall): void {
    if (call.withdrawn || this.#phase === "over") return
    call.withdrawn = true
    this.#life++
    if (call.settling !== undefined) this.settlement.drop(call.settling)
    const { attempt } = call
    if (attempt !== undefined) {
      this.#attempts.delete(attempt)
      attempt.abandon(new StepAbortedError(call.name, "the handler does not wait for it any more"))
    }
    const isOpen = this.#waiting.delete(call.key) || call.failures > 0
    // a later turn would take it for one whose time had passed when it was asked for
    const staysKnown = !isCode(call.work) && call.work._tag === "Sleep" && "at" in call.work.due
    if (isOpen && !staysKnown) this.#reportWithdrawn(call)
    this.settlement.pump()
  }

  #reportWithdrawn({ key }: StepCall): void {
    this.#report({ _tag: "Withdraw", stepKey: key })
  }

  #shelve(): void {
    this.#shelved++
    this.settlement.pump()
  }

  /** {@link #shelve} for code of a stopped group: a step between two attempts would be open for good. */
  #shelveStopped(call: StepCall): void {
    this.#shelved++
    // The steps of a failing handler stay open: if the run is tried again, they go on.
    if (call.failures > 0 && this.#rootGroup.stopped === undefined) this.#reportWithdrawn(call)
    this.settlement.pump()
  }

  #begin(call: StepCall): void {
    const caughtUp = this.settlement.isCaughtUp
    // Before it is held back: what the handler sees until it starts, it had not seen at the call.
    if (isWait(call.work)) call.unseen = call.scope.waits?.unseenBefore(call, call.work)
    if (isCode(call.work)) {
      if (caughtUp && this.#gateIsOpen && this.#beginsCode) this.#startCode(call, call.work)
      else this.#heldCode.push(call)
    } else if (caughtUp && !this.#pausing) {
      this.#startOp(call)
    } else {
      this.#heldOps.push(call)
    }
    if (!caughtUp || !this.#beginsCode) this.settlement.pump()
  }

  get #beginsCode(): boolean {
    return !this.#wrappingUp && !this.#pausing
  }

  /** Whether everything the handler has seen is durable, and it has seen everything that has happened. */
  get #gateIsOpen(): boolean {
    return this.#unacknowledged === 0 && this.settlement.isEmpty
  }

  #startHeld(): void {
    if (!this.settlement.isCaughtUp || this.#pausing) return
    const startsCode = this.#heldCode.length > 0 && this.#gateIsOpen && !this.#wrappingUp
    if (this.#heldOps.length === 0 && !startsCode) return
    const ops = this.#heldOps
    const code = startsCode ? this.#heldCode : []
    this.#heldOps = []
    if (startsCode) this.#heldCode = []
    // Calls that were made before any of them had a result do not depend on each other's results: they begin together.
    this.settlement.hold(() => {
      for (const call of ops) this.#startUnlessStopped(call)
      for (const call of code) this.#startUnlessStopped(call)
    })
    this.settlement.pump()
  }

  #startUnlessStopped(call: StepCall): void {
    if (call.withdrawn || this.#phase === "over") return
    if (isStopped(call.scope)) this.#shelveStopped(call)
    else if (isCode(call.work)) this.#startCode(call, call.work)
    else this.#startOp(call)
  }

  #startOp(call: StepCall): void {
    const { work } = call
    if (isCode(work)) return
    const op = isWait(work) ? lookingBack(call, work) : work
    this.#live = true
    if (this.host.defers?.(op) === true) {
      this.#deferred++
      this.#report(op)
      this.wrapUp()
    } else if (op._tag === "Publish" || op._tag === "InvokeAsync") {
      let answer: Outcome = notAnswered
      const settling = this.settlement.add(() => this.#deliver(call, answer), false)
      call.settling = settling
      this.#report(op, (outcome) => {
        if (outcome !== undefined) answer = outcome
        settling.ready = true
      })
    } else {
      this.#waiting.set(call.key, call)
      this.#report(op, (outcome) => {
        if (outcome !== undefined) this.#fired(call.key, outcome)
      })
    }
  }

  #startCode(call: StepCall, code: StepCode): void {
    if (this.host.mayBegin?.() === false) return
    this.#live = true
    const now = this.host.clock.currentTimeMillisUnsafe()
    const attempt = new Attempt(this, call, call.failures + 1, now)
    call.attempt = attempt
    this.#attempts.add(attempt)
    const { timeout } = code
    if (timeout !== undefined) {
      attempt.cancelTimer = this.host.alarm.at(now + timeout.ms, () =>
        this.#attemptTimedOut(attempt, timeout)
      )
    }
    const { mayBegin, pace } = this.host
    if (pace === undefined) return this.#beginCode(attempt, code)
    pace(() => {
      // it may have ended while it waited
      if (!this.#attempts.has(attempt)) return
      if (attempt.abortReason !== undefined) attempt.fail(attempt.abortReason)
      else if (mayBegin?.() !== false) this.#beginCode(attempt, code)
    })
  }

  #beginCode(attempt: Attempt, code: StepCode): void {
    const begin = this.host.probe?.begin
    if (begin === undefined) code.begin(attempt)
    else begin(attempt, code)
  }

  #attemptTimedOut(attempt: Attempt, timeout: StepTimeout): void {
    const error = new StepTimeoutError(attempt.call.name, timeout.text)
    attempt.end({ _tag: "Failure", error })
    attempt.abandon(error)
  }

  // ---------------------------------------------------------------------------
  // Outcomes
  // ---------------------------------------------------------------------------

  attemptEnded(attempt: Attempt, exit: AttemptExit): void {
    this.#attempts.delete(attempt)
    if (this.#phase === "over") return
    this.#life++
    const { call } = attempt
    call.attempt = undefined
    const writes = attempt.tx?.close()
    if (exit._tag === "Failure") {
      this.#attemptFailed(attempt, exit.error, exit.encoded)
      return
    }
    let value: JsonText | undefined
    try {
      const what = `Result of step "${call.name}"`
      value = checkSize(what, encodeResult(exit.value, what), stepResultBytes)
    } catch (error) {
      this.#attemptFailed(attempt, error, undefined)
      return
    }
    if (writes === undefined) this.#recordStep(attempt, { _tag: "Success", value })
    else this.#transact(attempt, value, writes)
  }

  /** Reports the writes of a `step.tx` with its result. The handler sees it once they are stored. */
  #transact(attempt: Attempt, value: JsonText | undefined, writes: ReadonlyArray<TxWrite>): void {
    const { call } = attempt
    const op: TurnOp = {
      _tag: "Transact",
      stepKey: call.key,
      name: call.name,
      value,
      writes,
      attempt: attempt.number,
      startedAt: attempt.startedAt,
      endedAt: this.host.clock.currentTimeMillisUnsafe()
    }
    if (this.host.defers?.(op) === true) {
      this.#deferred++
      this.#report(op)
      this.wrapUp()
      return
    }
    let answer: Outcome = notAnswered
    const settling = this.settlement.add(() => this.#deliver(call, answer), false)
    call.settling = settling
    this.#report(op, (outcome) => {
      settling.ready = true
      if (outcome?._tag !== "Failure") {
        if (outcome !== undefined) answer = outcome
        return
      }
      // Nothing was stored, so the attempt has no place in the journal: it has failed.
      this.settlement.drop(settling)
      call.settling = undefined
      this.#life++
      if (call.withdrawn || this.#phase === "compensating") return
      this.#attemptFailed(attempt, deserializeError(outcome.error), undefined)
    })
    this.settlement.pump()
  }

  #attemptFailed(attempt: Attempt, error: unknown, encoded: unknown): void {
    const { abortReason, call } = attempt
    const { work } = call
    if (!isCode(work)) return
    if (abortReason !== undefined && isAbortFailure(error, abortReason)) {
      this.#shelveStopped(call)
      return
    }
    const stored = serializeFailure(error, encoded, callSiteOf(this.plan, call.kind, call.name))
    const failures = attempt.number
    if (!isRetryable(error) || failures >= work.retry.maxAttempts) {
      this.#recordStep(attempt, { _tag: "Failure", error: stored })
    } else if (isStopped(call.scope)) {
      // What is not finished here starts again in another turn, if it is wanted at all.
      this.#shelveStopped(call)
    } else {
      call.failures = failures
      this.#waiting.set(call.key, call)
      this.#report({
        _tag: "StepRetry",
        stepKey: call.key,
        name: call.name,
        kind: call.kind,
        failures,
        error: stored,
        due: { afterMs: this.#retryDelayMs(work.retry, failures, error, `Step "${call.name}"`) }
      })
      this.settlement.pump()
    }
  }

  /** `what` has failed and is tried again: when the error says, or else by its policy. */
  #retryDelayMs(retry: RetryPolicy, failures: number, error: unknown, what: string): number {
    const asked = askedDelayMs(error, this.host.clock.currentTimeMillisUnsafe())
    if (asked !== undefined && !Number.isNaN(asked)) return asked
    const { context, logger } = this.host
    const delayMs = retryDelayMs(
      retry,
      failures,
      retry.jitter === undefined ? 0 : Context.get(context, Random.Random).nextDoubleUnsafe()
    )
    if (asked !== undefined) {
      logger.warn(
        `Run ${this.job.runId} of function "${this.plan.functionId}": ${what} failed with an error whose \`retryAfter\` is ` +
          `neither a delay nor a date, ${show(retryAfterOf(error))}. It is tried again in ${delayMs}ms, as its retry policy says`
      )
    }
    return delayMs
  }

  #recordStep(attempt: Attempt, outcome: Outcome): void {
    this.record(attempt.call, outcome, attempt.number, attempt.startedAt)
  }

  /** Reports a finished step and hands its outcome to the handler. */
  record(call: StepCall, outcome: Outcome, attempt: number, startedAt: number): void {
    if (this.#phase === "over") return
    // The place in the order comes first: the report may be acknowledged before it returns.
    call.settling = this.settlement.add(() => this.#deliver(call, outcome), true)
    this.#report({
      _tag: "StepDone",
      stepKey: call.key,
      name: call.name,
      kind: call.kind,
      outcome,
      attempt,
      startedAt,
      endedAt: this.host.clock.currentTimeMillisUnsafe()
    })
    this.settlement.pump()
  }

  notice(notice: Notice): void {
    if (this.#phase === "over") return
    if (notice._tag === "Paused" || notice._tag === "Resumed") {
      this.#pausing = notice._tag === "Paused"
      this.settlement.pump()
      return
    }
    if (notice._tag !== "Fired") return
    const { failures, outcome, stepKey } = notice
    if (outcome === undefined && failures !== undefined) {
      // of an attempt that has begun long since
      const waiting = this.#waiting.get(stepKey) ?? this.#open.get(stepKey)
      if (waiting !== undefined && waiting.failures !== failures) return
    }
    this.#fired(stepKey, outcome)
  }

  #fired(key: string, outcome: Outcome | undefined): void {
    const call = this.#waiting.get(key)
    if (call === undefined) {
      if (this.#open.has(key)) this.#firedEarly.set(key, outcome)
      return
    }
    this.#waiting.delete(key)
    this.#life++
    if (outcome !== undefined) {
      this.#settle(call, outcome)
    } else if (isStopped(call.scope)) {
      this.#shelveStopped(call)
    } else {
      this.#heldCode.push(call)
      this.settlement.pump()
    }
  }

  /** Gives the outcome of a wait its place in the journal and hands it to the handler. */
  #settle(call: StepCall, outcome: Outcome): void {
    call.settling = this.settlement.add(() => this.#deliver(call, outcome), true)
    this.#report({ _tag: "Settle", stepKey: call.key })
    this.settlement.pump()
  }

  #deliver(call: StepCall, outcome: Outcome): void {
    if (call.withdrawn || this.#phase === "over") return
    this.#life++
    this.#outcomes++
    this.#shown = undefined
    this.host.probe?.delivers?.()
    if (call.kind === "waitForEvent") {
      call.scope.waits?.deliver(call, outcome, this.#options.losesSilently)
      this.#shown = call
    }
    call.receive(outcome)
  }

  #report(op: TurnOp, onAck?: (outcome: Outcome | undefined) => void): void {
    this.#unacknowledged++
    this.host.report(
      op,
      onAck === undefined ? this.#acknowledged : (outcome) => this.#acknowledged(outcome, onAck)
    )
  }

  readonly #acknowledged = (
    outcome: Outcome | undefined,
    onAck?: (outcome: Outcome | undefined) => void
  ): void => {
    this.#unacknowledged--
    if (this.#phase === "over") return
    onAck?.(outcome)
    if (this.#unacknowledged === 0 || onAck !== undefined) this.settlement.pump()
  }

  // ---------------------------------------------------------------------------
  // Parallel calls
  // ---------------------------------------------------------------------------

  /** Whether the step has begun in an earlier turn. */
  knows(key: string): boolean {
    return this.#journal.has(key) || this.#open.has(key)
  }

  /** Makes the call only if the journal has it, and says whether it has. */
  askRecorded(call: StepCall, entry: Function): boolean {
    if (this.#phase === "over" || !this.#journal.has(call.key)) return false
    this.ask(call, entry)
    return true
  }

  /** Lets nothing new begin in the group; what is recorded still answers. */
  shut(group: BranchGroup, why: string): void {
    group.stopped = new StepAbortedError("parallel", why)
  }

  /**
   * Shuts the group. Running steps are told to stop and awaited; `done` is called when they have
   * ended and all that follows from that has run.
   */
  stop(group: BranchGroup, why: string, done: () => void): void {
    if (this.#phase === "over") return
    this.shut(group, why)
    this.#life++
    const now = this.host.clock.currentTimeMillisUnsafe()
    for (const attempt of this.#attempts) {
      if (!isWithin(attempt.call.scope, group)) continue
      const reason = new StepAbortedError(attempt.call.name, why)
      attempt.cancelTimer ??= this.host.alarm.at(now + stopGraceMs, () => this.#giveUp(attempt, reason))
      attempt.abort(reason)
    }
    // As above: the steps of a failing handler stay open.
    if (group !== this.#rootGroup) {
      for (const call of this.#waiting.values()) {
        if (isWithin(call.scope, group)) this.#withdrawWaiting(call)
      }
    }
    this.#closings.push({ group, done, draining: false })
    this.settlement.pump()
  }

  #withdrawWaiting(call: StepCall): void {
    this.#waiting.delete(call.key)
    this.#reportWithdrawn(call)
  }

  #giveUp(attempt: Attempt, reason: Error): void {
    this.#attempts.delete(attempt)
    attempt.abandon(reason)
    this.#life++
    this.host.logger.warn(
      `Run ${this.job.runId}: step "${attempt.call.name}" did not stop within ${stopGraceMs / 1000} s of being aborted; ` +
        "its result is ignored. Make it listen to its `signal`"
    )
    this.#shelveStopped(attempt.call)
  }

  #hasRunning(group: BranchGroup): boolean {
    for (const attempt of this.#attempts) if (isWithin(attempt.call.scope, group)) return true
    return false
  }

  #checkClosings(): void {
    for (const closing of this.#closings) {
      if (closing.draining || !this.#mayClose(closing)) continue
      closing.draining = true
      const life = this.#life
      this.#whenDrained(() => {
        closing.draining = false
        if (!this.#closings.includes(closing)) return
        if (life !== this.#life || !this.#mayClose(closing)) {
          this.settlement.pump()
          return
        }
        this.#closings = this.#closings.filter((other) => other !== closing)
        closing.done()
      })
    }
  }

  #mayClose({ group }: Closing): boolean {
    return (
      this.settlement.isEmpty &&
      this.settlement.isDrained &&
      !this.#hasRunning(group) &&
      // An inner call's verdict comes before the outer one's.
      !this.#closings.some(
        ({ group: other }) => other !== group && other.parent !== undefined && isWithin(other.parent, group)
      )
    )
  }

  #whenDrained(fn: () => void): void {
    afterEventLoopTurns(this.#options.turnsToDrain, () => {
      if (this.#phase !== "over") fn()
    })
  }

  // ---------------------------------------------------------------------------
  // Quiet
  // ---------------------------------------------------------------------------

  #idle(): void {
    if (this.#phase === "over") return
    this.#startHeld()
    if (this.#closings.length > 0) this.#checkClosings()
    const wantsMore = this.#heldCode.length > 0 || this.#heldOps.length > 0 || this.#deferred > 0
    if (wantsMore && !this.#beginsCode && this.#isStill) {
      this.#finish({ _tag: "Release" }, { _tag: "Suspended", open: [] })
      return
    }
    this.#checkQuiet()
  }

  get #isQuiet(): boolean {
    return (
      (this.#waiting.size > 0 || (this.#shelved > 0 && this.#isRebuilding)) &&
      this.#heldCode.length === 0 &&
      this.#isStill
    )
  }

  /** Whether nothing runs, and everything that has happened is durable and has been seen. */
  get #isStill(): boolean {
    return (
      (this.#phase === "handler" || this.#phase === "compensating") &&
      this.#attempts.size === 0 &&
      this.#unacknowledged === 0 &&
      this.#closings.length === 0 &&
      (this.#heldOps.length === 0 || this.#pausing) &&
      this.settlement.isEmpty &&
      this.settlement.isDrained
    )
  }

  wrapUp(): void {
    if (this.#wrappingUp || this.#phase === "over") return
    this.#wrappingUp = true
    this.settlement.pump()
  }

  /** Whether the handler runs only to register the compensations of an earlier turn again. */
  get #isRebuilding(): boolean {
    return this.job.compensating !== undefined && this.#phase === "handler"
  }

  #checkQuiet(): void {
    if (!this.#isQuiet) return
    if (this.#probing) {
      // A sign of life starts the linger anew. The probe before it is over in no time and looks for itself.
      if (this.#cancelLinger === undefined || this.#probedLife === this.#life) return
      this.#endLinger()
    }
    this.#probing = true
    const life = this.#life
    this.#probedLife = life
    afterEventLoopTurns(2, () => this.#stillQuiet(life, () => this.#linger(life)))
  }

  #linger(life: number): void {
    const { lingerMs } = this.job
    if (lingerMs <= 0) {
      this.#fallQuiet()
      return
    }
    this.#probing = true
    this.#cancelLinger = this.host.alarm.at(this.host.clock.currentTimeMillisUnsafe() + lingerMs, () => {
      this.#cancelLinger = undefined
      this.#stillQuiet(life, () => this.#fallQuiet())
    })
  }

  #endLinger(): void {
    this.#cancelLinger?.()
    this.#cancelLinger = undefined
  }

  #stillQuiet(life: number, then: () => void): void {
    this.#probing = false
    if (this.#phase === "over") return
    if (life === this.#life && this.#isQuiet) then()
    else this.#checkQuiet()
  }

  #fallQuiet(): void {
    if (this.#isRebuilding) {
      this.#beginCompensations()
      return
    }
    const open = [...this.#waiting.keys()]
    this.#suspended = true
    this.#warnOfUnasked(false)
    this.#warnOfSleeps()
    this.#finish({ _tag: "Suspend", open }, { _tag: "Suspended", open })
  }

  // ---------------------------------------------------------------------------
  // The end of the handler
  // ---------------------------------------------------------------------------

  /** The handler returned. */
  succeeded(value: unknown): void {
    if (!this.#handlerEnds()) return
    if (this.#isRebuilding) {
      this.#closeHandler(() => this.#beginCompensations())
      return
    }
    let output: JsonText | undefined
    try {
      const what = `Output of function "${this.plan.functionId}"`
      output = checkSize(what, encodeResult(value, what), stepResultBytes)
    } catch (error) {
      this.failed(error)
      return
    }
    this.#warnOfUnasked(true)
    this.#warnOfRunning()
    this.#finish({ _tag: "Complete", output }, { _tag: "Completed", output })
  }

  /** The handler sees this typed failure of a step. To let it through ends the run, as a `StepError` does. */
  stepFailedWith(failure: unknown): void {
    this.#stepFailures ??= new Set()
    this.#stepFailures.add(failure)
  }

  /** The handler threw, or what it is given could not be made. `encoded` is a typed failure as its schema stores it. */
  failed(error: unknown, encoded?: unknown): void {
    if (!this.#handlerEnds()) return
    const rebuilding = this.#isRebuilding
    this.#closeHandler(() => (rebuilding ? this.#beginCompensations() : this.#conclude(error, encoded)))
  }

  #handlerEnds(): boolean {
    if (this.#phase === "over") this.#late("the end of the handler")
    return this.#phase === "handler"
  }

  /** Awaits what runs beside a handler that has ended, and what the journal still has for it. */
  #closeHandler(then: () => void): void {
    this.#phase = "closing"
    const why = `the handler of function "${this.plan.functionId}" has failed`
    if (this.#attempts.size > 0 || !this.settlement.isEmpty || this.settlement.isReplaying) {
      this.stop(this.#rootGroup, why, then)
      return
    }
    // what other branches have asked for is still held back, and does not begin beside the compensations
    this.shut(this.#rootGroup, why)
    then()
  }

  /** The handler cannot go on, and nothing beside it is awaited. */
  #failNow(error: Error): void {
    this.#abandonHandler(error)
    if (this.job.compensating !== undefined) this.#beginCompensations()
    else this.#conclude(error)
  }

  #abandonHandler(reason: Error): void {
    this.#phase = "closing"
    this.#rootGroup.stopped ??= new StepAbortedError("handler", reason.message, { cause: reason })
    this.#closings = []
    this.#heldOps = []
    this.#heldCode = []
    this.settlement.clear()
    for (const attempt of this.#attempts) attempt.abandon(reason)
    this.#attempts.clear()
    this.#abortSignal(() => reason)
    this.#options.interruptHandler()
  }

  #timedOut(): void {
    if (this.#phase !== "handler" && this.#phase !== "closing") return
    this.#failNow(new FunctionTimeoutError(this.plan.functionId, this.plan.timeoutMs))
  }

  #conclude(thrown: unknown, encoded?: unknown): void {
    const error = withEncoding(serializeError(thrown), encoded)
    const { attempt } = this.job
    const { retry } = this.plan
    const isFinal = !isRetryable(thrown) || this.#stepFailures?.has(thrown) === true
    if (!isFinal && attempt < retry.maxAttempts) {
      const due = { afterMs: this.#retryDelayMs(retry, attempt, thrown, "The handler") }
      this.#finish({ _tag: "RetryRun", error, due }, { _tag: "Retrying", error })
    } else if (this.#compensations.size === 0) {
      this.#finish({ _tag: "Fail", error }, { _tag: "Failed", error })
    } else {
      for (const call of this.#waiting.values()) this.#withdrawWaiting(call)
      this.#report({ _tag: "Compensate", error, compensations: this.#compensations.names })
      this.#runCompensations(error, this.#compensations.inReverse())
    }
  }

  /** Names what earlier turns have recorded and this one has not asked for, once a run in this process. */
  #warnOfUnasked(completed: boolean): void {
    if (this.#journal.size === 0 && this.#openAhead.size === 0) return
    const steps = [...Array.from(this.#journal.values(), ({ entry }) => entry), ...this.#unaskedOpen].filter(
      // the handler may come to the steps of a branch when others have made room for it
      ({ kind, stepKey }) => kind !== "compensate" && (completed || isAtRoot(stepKey))
    )
    const { runId } = this.job
    const names = steps.map(({ name }) => `"${name}"`)
    const shown = `${names.slice(0, 20).join(", ")}${names.length > 20 ? ", ..." : ""}`
    const isNew = names.length > 0 && tellOfUnasked(this.plan, runId, shown, completed)
    if (!isNew) return
    this.host.logger.warn(
      `Run ${runId} of function "${this.plan.functionId}" ${completed ? "completed" : "waits"} without having asked for recorded steps: ` +
        `${shown}. Steps were renamed, removed or swapped since they were recorded` +
        `${completed ? "" : ", or the handler waits for something outside of steps"}; \`ironflow verify\` compares code and runs`
    )
  }

  /** The handler begins or ends a sleep that is no step. */
  sleepsOutsideOfSteps(change: 1 | -1): void {
    this.#sleeps += change
  }

  #warnOfSleeps(): void {
    if (this.#sleeps === 0 || this.plan.toldOfSleeps) return
    this.plan.toldOfSleeps = true
    this.host.logger.warn(
      `Run ${this.job.runId} of function "${this.plan.functionId}" waits for steps while its handler sleeps outside of steps ` +
        "(`Effect.sleep`, `Effect.timeout`, `Effect.delay` and their like). Such a sleep is not durable: it ends with the turn, and " +
        "begins anew in the next one. Use the `timeout` of the wait, race it with `Step.sleep`, or put what takes time into a step"
    )
  }

  get #unaskedOpen(): ReadonlyArray<OpenStep> {
    return Array.from(this.#openAhead, (key) => this.#open.get(key)).filter((open) => open !== undefined)
  }

  #warnOfRunning(): void {
    const running = [...this.#attempts].map(({ call }) => `"${call.name}"`)
    if (running.length > 0) {
      this.host.logger.warn(
        `Run ${this.job.runId} of function "${this.plan.functionId}" returned while steps were running: ` +
          `${running.slice(0, 20).join(", ")}. They are aborted and not recorded; await them`
      )
    }
  }

  // ---------------------------------------------------------------------------
  // Compensation
  // ---------------------------------------------------------------------------

  /** Goes on with the compensations of a run that failed in an earlier turn. */
  #beginCompensations(): void {
    const { compensating } = this.job
    if (compensating === undefined || this.#phase === "compensating") return
    this.#abandonHandler(new StepAbortedError("handler", "the run is compensating"))
    this.#runCompensations(compensating.error, this.#compensations.rebuilt(compensating.compensations))
  }

  #runCompensations(error: SerializedError, planned: ReadonlyArray<Compensation>): void {
    this.#phase = "compensating"
    this.#cancelTimeout?.()
    this.#waiting.clear()
    const scope = new Scope(new BranchGroup(undefined), "")
    const runFrom = (index: number): void => {
      for (let i = index; i < planned.length; i++) {
        const { code, key, name } = planned[i] as Compensation
        if (this.#journal.has(key)) continue
        if (code === undefined) {
          this.#recordLost(key, name)
          continue
        }
        const call = new StepCall(key, `compensate:${name}`, "compensate", scope, code, (outcome) => {
          if (outcome._tag === "Failure") {
            this.host.logger.error(
              `Run ${this.job.runId}: the compensation of step "${name}" failed: ${outcome.error.message}. ` +
                "What the step did has not been undone; the remaining compensations run"
            )
          }
          runFrom(i + 1)
        })
        const open = this.#open.get(key)
        if (open === undefined || !this.#resume(call, open)) this.#begin(call)
        return
      }
      this.#finish({ _tag: "Fail", error }, { _tag: "Failed", error })
    }
    runFrom(0)
  }

  /** A compensation that this turn did not register again cannot run. */
  #recordLost(key: string, name: string): void {
    const error = new IronflowError(
      `The compensation of step "${name}" could not be rebuilt: the handler did not register it in this turn. ` +
        "Undo the step by hand, or deploy code that registers it",
      { code: "COMPENSATION_LOST" }
    )
    const now = this.host.clock.currentTimeMillisUnsafe()
    this.host.logger.error(`Run ${this.job.runId}: ${error.message}`)
    this.#report({
      _tag: "StepDone",
      stepKey: key,
      name: `compensate:${name}`,
      kind: "compensate",
      outcome: { _tag: "Failure", error: serializeError(error, { stack: false }) },
      attempt: 0,
      startedAt: now,
      endedAt: now
    })
  }

  // ---------------------------------------------------------------------------
  // The end of the turn
  // ---------------------------------------------------------------------------

  #pause(call: StepCall, recorded: StepKind, entry: Function): void {
    const site = callSite(entry)
    const recordedSite = callSiteOf(this.plan, recorded, call.name)
    const at = (place: string) => (place === "" ? "" : ` (${place})`)
    const code = "NONDETERMINISM"
    const message =
      `Function "${this.plan.functionId}", run ${this.job.runId}: step "${call.name}" (${call.key}) was recorded as ` +
      `"${recorded}"${at(recordedSite)} and is now called as "${call.kind}"${at(site)}. The handler must call the same ` +
      "steps in every turn. Roll the code back and resume the run, give the changed step a new name and patch or fork " +
      "the run, or keep what depends on time, chance or the outside world inside steps"
    this.#finish(
      {
        _tag: "Pause",
        code,
        message,
        details: {
          stepKey: call.key,
          stepName: call.name,
          recordedKind: recorded,
          calledKind: call.kind,
          ...(recordedSite === "" ? {} : { recordedSite }),
          ...(site === "" ? {} : { callSite: site })
        }
      },
      { _tag: "Paused", code, message }
    )
  }

  /**
   * What was recorded of a step cannot be read: the turn ends and the run is paused. To fail it would undo what has been done
   * right, because of a disk.
   */
  pauseForDamage(call: StepCall, error: unknown): void {
    this.#pauseForDamage(
      `the recorded value of step "${call.name}" (${call.key})`,
      "Restore the database from a backup, or patch the step, and resume the run",
      error,
      { stepKey: call.key, stepName: call.name }
    )
  }

  /** The same of the event that has started the run. */
  pauseForDamagedEvent(error: unknown): void {
    this.#pauseForDamage(
      `what is stored of event "${this.job.event.name}" (${this.job.event.id})`,
      "Restore the database from a backup, and resume the run",
      error
    )
  }

  #pauseForDamage(what: string, remedy: string, error: unknown, details?: object): void {
    if (this.#phase === "over") return
    const code = "STORE_CORRUPT"
    const message =
      `Function "${this.plan.functionId}", run ${this.job.runId}: ${what} is damaged ` +
      `in the database: ${toError(error).message}. ${remedy}`
    this.#finish(
      { _tag: "Pause", code, message, ...(details === undefined ? {} : { details }) },
      { _tag: "Paused", code, message }
    )
  }

  abort(reason: Error): void {
    if (this.#ended) return
    // A turn whose last op is on its way is over already, and nobody may answer that op any more.
    if (this.#phase !== "over") this.#stopAll(() => reason)
    this.#end({ _tag: "Aborted", reason })
  }

  #end(end: TurnEnd): void {
    if (this.#ended) return
    this.#ended = true
    this.#options.onEnd(end)
  }

  #finish(op: TurnOp, end: TurnEnd): void {
    if (this.#phase === "over") return
    this.#stopAll(
      () =>
        new IronflowError(`The turn of run ${this.job.runId} has ended: ${end._tag.toLowerCase()}`, {
          code: "TURN_ENDED"
        })
    )
    this.host.report(op, () => this.#end(end))
  }

  #stopAll(reason: () => Error): void {
    this.#phase = "over"
    this.#cancelTimeout?.()
    this.#endLinger()
    this.settlement.close()
    this.#closings = []
    this.#heldOps = []
    this.#heldCode = []
    this.#waiting.clear()
    for (const attempt of this.#attempts) attempt.abandon(reason())
    this.#attempts.clear()
    this.#abortSignal(reason)
    this.#options.interruptHandler()
    const callbacks = this.#turnEndCallbacks
    this.#turnEndCallbacks = []
    for (const callback of callbacks) this.#runCallback(callback)
  }

  /** The first reason stays. Made when it is asked for: most handlers never look. */
  #abortSignal(reason: () => Error): void {
    if (this.#endReason !== undefined) return
    this.#endReason = reason
    this.#controller?.abort(reason())
  }

  #runCallback(callback: () => void | Promise<void>): void {
    const failed = (error: unknown) =>
      this.host.logger.warn(
        `Run ${this.job.runId}: a callback of onTurnEnd failed: ${toError(error).message}`,
        serializeError(error)
      )
    try {
      const result = callback()
      if (result instanceof Promise) result.catch(failed)
    } catch (error) {
      failed(error)
    }
  }

  #late(what: string): void {
    if (!this.#suspended || this.#lateReported) return
    this.#lateReported = true
    this.host.logger.warn(
      `Run ${this.job.runId} of function "${this.plan.functionId}": "${what}" came after the turn had been suspended, so ` +
        "it was ignored, and the run will be resumed with more patience. Put what the handler awaited into a step"
    )
    this.host.late(what)
  }
}

const notAnswered: Outcome = {
  _tag: "Failure",
  error: {
    name: "IronflowError",
    message: "The engine accepted the step and did not say what came of it",
    code: "STEP_NOT_ANSWERED",
    retryable: false
  }
}

/** The wait as it is reported: it leaves out of its look-back what by now is in the journal, and was not seen at the call. */
const lookingBack = (call: StepCall, op: WaitOp): WaitOp => {
  const unseen = call.unseen?.filter(({ settling }) => settling !== undefined).map(({ key }) => key)
  call.unseen = undefined
  return unseen === undefined || unseen.length === 0 ? op : { ...op, unseen }
}

const serializeFailure = (error: unknown, encoded: unknown, site: string): SerializedError => {
  const thrown = serializeError(error)
  const stack = withCallSite(thrown.stack ?? `${thrown.name}: ${thrown.message}`, site)
  // a value that is no error has no place of its own, and no stack without the line of its step
  const stored = thrown.stack === undefined && site === "" ? thrown : { ...thrown, stack }
  return withEncoding(stored, encoded)
}

const withEncoding = (stored: SerializedError, encoded: unknown): SerializedError =>
  encoded === undefined ? stored : { ...stored, data: { ...stored.data, [encodedFailure]: encoded } }
