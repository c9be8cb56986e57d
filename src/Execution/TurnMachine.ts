/**
 * One turn of a handler, as a state machine with callbacks. The API (Effect or Promise) tells the machine
 * what the handler does, and the machine decides how the turn ends.
 *
 * The handler's calls go through {@link TurnMachine.steps}. The turn is over when the handler has ended, together with
 * its running steps (`ClosingGroups`) and compensations; when the handler only waits (`Quiescence`); or when the run is
 * paused or taken away.
 */
import {
  FunctionTimeoutError,
  TurnEndedError,
  LimitExceededError,
  type SerializedError,
  serializeError,
  StepAbortedError,
  toError
} from "../Errors.ts"
import { checkSize, stepResultBytes, stepsPerRun } from "../Limits.ts"
import type { Logger } from "../Logger.ts"
import type { Job, Notice, TurnOp } from "../Protocol/Worker.ts"
import type { RunningStep } from "../Protocol/RunningSteps.ts"
import type { JsonText } from "../Json.ts"
import type { StepKind } from "../StepKind.ts"
import { encodeResult } from "../ResultEncoding.ts"
import { type Compensation, compensationCall, Compensations, lostCompensation } from "./Compensation.ts"
import type { FunctionPlan } from "./FunctionPlan.ts"
import type { TurnToken } from "./Nesting.ts"
import { handlerLogger } from "./HandlerLogs.ts"
import { classifyActivity, Quiescence, type QuiescenceOwner } from "./Quiescence.ts"
import { delayBeforeRetry } from "./RetryDelay.ts"
import { BranchGroup, StepScope } from "./StepScope.ts"
import type { StepCall, StepCode } from "./StepCall.ts"
import { withEncoding } from "./StepReports.ts"
import type { TurnEnd, TurnHandle, TurnHost } from "./TurnHost.ts"
import {
  damagedEventPause,
  damagedStepPause,
  newEventPause,
  nondeterminismPause,
  type TurnPause
} from "./TurnPause.ts"
import { TurnSignal } from "./TurnSignal.ts"
import { type StepsOwner, TurnSteps } from "./TurnSteps.ts"
import {
  END_OF_HANDLER,
  lateWarning,
  runningWarning,
  sleepsWarning,
  type RunLabel,
  uncalledWarning
} from "./TurnWarnings.ts"
import { handlerVerdict } from "./Verdict.ts"
import { errorWithoutSecrets } from "./SecretsInText.ts"

type Phase =
  /** The handler runs. */
  | "handler"
  /** The handler has ended, and its running steps are awaited. */
  | "closing"
  | "compensating"
  | "over"

export interface TurnOptions {
  /** How many turns of the event loop it takes until all consequences of one outcome have run. */
  readonly loopTurnsToDrain: number
  /**
   * Whether the handler may stop waiting for a call without telling the turn. A handler with promises may, and one with
   * fibers may not.
   */
  readonly abandonsSilently: boolean
  /** Interrupts the handler. Does nothing when that is not possible. */
  readonly interruptHandler: () => void
  readonly onEnd: (end: TurnEnd) => void
}

export class TurnMachine implements TurnHandle, StepsOwner, QuiescenceOwner {
  readonly job: Job
  readonly host: TurnHost
  readonly plan: FunctionPlan
  readonly token: TurnToken
  readonly steps: TurnSteps
  readonly loopTurnsToDrain: number
  readonly abandonsSilently: boolean
  readonly #options: TurnOptions
  readonly #quiescence: Quiescence
  readonly #signal: TurnSignal
  readonly #compensations = new Compensations()
  readonly #cancelTimeout: () => void
  #phase: Phase = "handler"
  /** Whether `onEnd` has been called. */
  #isEnded = false
  /** Whether the turn ended because it was judged quiet. */
  #isSuspended = false
  #isLateReported = false
  #stepFailures: Set<unknown> | undefined = undefined
  /** The number of sleeps outside of steps that have begun and not ended. */
  #openSleeps = 0

  constructor(plan: FunctionPlan, job: Job, host: TurnHost, options: TurnOptions) {
    this.job = job
    this.host = host
    this.plan = plan
    this.token = { runId: job.runId }
    this.#options = options
    this.#signal = new TurnSignal(this)
    this.loopTurnsToDrain = options.loopTurnsToDrain
    this.abandonsSilently = options.abandonsSilently
    this.steps = new TurnSteps(plan, job, host, this)
    this.#quiescence = new Quiescence(this, job.lingerMs, host)
    this.#cancelTimeout = host.alarm.at(host.clock.currentTimeMillisUnsafe() + plan.timeoutMs, () =>
      this.#onTimeout()
    )
  }

  // ---------------------------------------------------------------------------
  // For the handler
  // ---------------------------------------------------------------------------

  /** Whether the turn has ended, so that step calls have no effect. */
  get isOver(): boolean {
    return this.#phase === "over"
  }

  /** The signal that aborts when the turn ends. */
  get signal(): AbortSignal {
    return this.#signal.signal
  }

  /** The handler's logger. */
  get logger(): Logger {
    return handlerLogger(this)
  }

  onTurnEnd(callback: () => void | Promise<void>): void {
    this.#signal.onEnd(callback)
  }

  /** Called when the handler begins (1) or ends (-1) a sleep outside of steps. */
  countSleep(change: 1 | -1): void {
    this.#openSleeps += change
  }

  /** Registers the compensation of a step. */
  compensate(name: string, code: StepCode): void {
    if (this.#phase === "over" || this.#phase === "compensating") return
    this.steps.noteActivity()
    this.#compensations.register(name, code)
    const names = this.job.compensating?.compensations
    // once the handler has registered all compensations of the earlier turn again, the turn does not need the handler
    if (names !== undefined && this.#compensations.rebuild(names).every(({ code }) => code !== undefined)) {
      this.steps.whenDrained(() => this.#beginCompensations())
    }
  }

  // ---------------------------------------------------------------------------
  // Notices of the engine
  // ---------------------------------------------------------------------------

  notice(notice: Notice): void {
    this.steps.notice(notice)
  }

  wrapUp(): void {
    this.steps.wrapUp()
  }

  running(atLeastMs: number): ReadonlyArray<RunningStep> {
    return this.steps.running.list(atLeastMs)
  }

  abort(reason: Error): void {
    if (this.#isEnded) return
    // In phase "over", only the last op of the turn is in flight, and perhaps the engine never answers it. Nothing is
    // left to stop.
    if (this.#phase !== "over") this.#stopAll(() => reason)
    this.#end({ _tag: "Aborted", reason })
  }

  // ---------------------------------------------------------------------------
  // Quiescence
  // ---------------------------------------------------------------------------

  /** Whether the handler runs only to register the compensations of an earlier turn again. */
  get #isRebuilding(): boolean {
    return this.job.compensating !== undefined && this.#phase === "handler"
  }

  get #activityClass(): ReturnType<typeof classifyActivity> {
    return this.#phase === "handler" || this.#phase === "compensating"
      ? classifyActivity(this.steps.activity, this.#isRebuilding)
      : "busy"
  }

  get isQuiet(): boolean {
    return this.#activityClass === "quiet"
  }

  /** A count that grows with each activity of the handler. */
  get activityCount(): number {
    return this.steps.activityCount
  }

  stepsIdle(): void {
    const activity = this.#activityClass
    if (activity === "release") this.#finish({ _tag: "Release" }, { _tag: "Suspended", open: [] })
    else if (activity === "quiet") this.#quiescence.check()
  }

  onQuiet(): void {
    if (this.#isRebuilding) {
      this.#beginCompensations()
      return
    }
    const openKeys = this.steps.suspended.keys
    this.#isSuspended = true
    this.#warn(uncalledWarning(this.#subject, this.steps.journal.uncalled(false), false))
    this.#warn(sleepsWarning(this.#subject, this.#openSleeps))
    this.#finish({ _tag: "Suspend", open: openKeys }, { _tag: "Suspended", open: openKeys })
  }

  // ---------------------------------------------------------------------------
  // The end of the handler
  // ---------------------------------------------------------------------------

  /** The handler returned. */
  handlerSucceeded(value: unknown): void {
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
      this.handlerFailed(error)
      return
    }
    this.#warn(uncalledWarning(this.#subject, this.steps.journal.uncalled(true), true))
    this.#warn(runningWarning(this.#subject, this.steps.running.names))
    this.#finish({ _tag: "Complete", output }, { _tag: "Completed", output })
  }

  /**
   * Remembers the typed failure of a step that the handler receives. If the handler fails with this failure, the run
   * fails, as with a `StepError`.
   */
  stepFailedWith(failure: unknown): void {
    this.#stepFailures ??= new Set()
    this.#stepFailures.add(failure)
  }

  /**
   * The handler threw, its arguments could not be made, or its output could not be encoded. `encoded` is a typed
   * failure, encoded by its schema.
   */
  handlerFailed(error: unknown, encoded?: unknown): void {
    if (!this.#handlerEnds()) return
    const wasRebuilding = this.#isRebuilding
    this.#closeHandler(() => (wasRebuilding ? this.#beginCompensations() : this.#conclude(error, encoded)))
  }

  #handlerEnds(): boolean {
    if (this.#phase === "over") this.#noteHandlerWentOn(END_OF_HANDLER)
    return this.#phase === "handler"
  }

  /**
   * Called when the handler has failed, or has registered the compensations of an earlier turn again. Calls `onClosed`
   * once the running steps of the handler have ended, and the handler has received the journal's outcomes for its
   * calls.
   */
  #closeHandler(onClosed: () => void): void {
    this.#phase = "closing"
    const { isUnderWay, rootGroup } = this.steps
    if (isUnderWay) {
      this.steps.stop(rootGroup, `the handler of function "${this.plan.functionId}" has failed`, onClosed)
      return
    }
    // held calls of branches must not begin while the compensations run
    this.steps.shut(rootGroup)
    onClosed()
  }

  /** Fails the handler without awaiting its running steps. */
  #failNow(error: Error): void {
    this.#abandonHandler(error)
    if (this.job.compensating !== undefined) this.#beginCompensations()
    else this.#conclude(error)
  }

  #abandonHandler(reason: Error): void {
    this.#phase = "closing"
    this.steps.abandon(reason)
    this.#signal.abort(() => reason)
    this.#options.interruptHandler()
  }

  #onTimeout(): void {
    if (this.#phase !== "handler" && this.#phase !== "closing") return
    this.#failNow(new FunctionTimeoutError(this.plan.functionId, this.plan.timeoutMs))
  }

  tooManySteps(calls: number): void {
    const what = `The number of steps of function "${this.plan.functionId}" in one run`
    this.#failNow(new LimitExceededError(what, calls, stepsPerRun, "steps"))
  }

  #conclude(thrownError: unknown, encoded?: unknown): void {
    const error = errorWithoutSecrets(this.job, withEncoding(serializeError(thrownError), encoded))
    const { attempt, runId } = this.job
    const { functionId, retry } = this.plan
    const verdict = handlerVerdict({
      error: thrownError,
      isStepFailure: this.#stepFailures?.has(thrownError) === true,
      attempt,
      maxAttempts: retry.maxAttempts,
      compensations: this.#compensations.size
    })
    if (verdict === "again") {
      const what = () => `Run ${runId} of function "${functionId}": The handler`
      const afterMs = delayBeforeRetry(this.host, { error: thrownError, failures: attempt, retry, what })
      this.#finish({ _tag: "RetryRun", error, due: { afterMs } }, { _tag: "Retrying", error })
    } else if (verdict === "failed") {
      this.#finish({ _tag: "Fail", error }, { _tag: "Failed", error })
    } else {
      // the engine need not resume the waits of the handler
      this.steps.suspended.closeAll()
      this.steps.outcomes.report({ _tag: "Compensate", error, compensations: this.#compensations.names })
      this.#runCompensations(error, this.#compensations.inReverse())
    }
  }

  // ---------------------------------------------------------------------------
  // Compensation
  // ---------------------------------------------------------------------------

  /** Continues the compensations of a run that failed in an earlier turn. */
  #beginCompensations(): void {
    const { compensating } = this.job
    if (compensating === undefined || this.#phase === "compensating") return
    this.#abandonHandler(new StepAbortedError("handler", "the run is compensating"))
    this.#runCompensations(compensating.error, this.#compensations.rebuild(compensating.compensations))
  }

  #runCompensations(error: SerializedError, compensations: ReadonlyArray<Compensation>): void {
    this.#phase = "compensating"
    this.#cancelTimeout()
    this.steps.beginCompensations()
    const { logger } = this.host
    const scope = new StepScope(new BranchGroup(undefined), "")
    const runFrom = (index: number): void => {
      for (let i = index; i < compensations.length; i++) {
        const compensation = compensations[i] as Compensation
        if (this.steps.journal.has(compensation.key)) continue
        const call = compensationCall(compensation, scope, (failure) => {
          if (failure !== undefined) logger.error(`Run ${this.job.runId}: ${failure}`)
          runFrom(i + 1)
        })
        if (call !== undefined) {
          this.steps.startCompensation(call)
          return
        }
        const lost = lostCompensation(compensation, this.host.clock.currentTimeMillisUnsafe())
        logger.error(`Run ${this.job.runId}: ${lost.message}`)
        this.steps.outcomes.report(lost.op)
      }
      this.#finish({ _tag: "Fail", error }, { _tag: "Failed", error })
    }
    runFrom(0)
  }

  // ---------------------------------------------------------------------------
  // The end of the turn
  // ---------------------------------------------------------------------------

  mismatch(call: StepCall, recordedKind: StepKind, entry: Function): void {
    this.#pause(nondeterminismPause(this.plan, this.job.runId, call, recordedKind, entry))
  }

  /** Pauses the run because the record of a step cannot be read. */
  pauseForDamage(call: StepCall, error: unknown): void {
    if (this.#phase !== "over") this.#pause(damagedStepPause(this.plan, this.job, call, error))
  }

  /** Pauses the run because the event that started it cannot be read. */
  pauseForDamagedEvent(error: unknown): void {
    if (this.#phase !== "over") this.#pause(damagedEventPause(this.plan, this.job, error))
  }

  /**
   * Pauses the run because an event is newer than the code: the one that the wait `call` has received, or without
   * `call` the one that started the run.
   */
  pauseForNewEvent(error: Error, call?: StepCall): void {
    if (this.#phase !== "over") this.#pause(newEventPause(this.plan, this.job, error, call))
  }

  #pause(pause: TurnPause): void {
    const { code, message } = pause
    this.#finish({ _tag: "Pause", ...pause }, { _tag: "Paused", code, message })
  }

  #finish(op: TurnOp, end: TurnEnd): void {
    if (this.#phase === "over") return
    this.#stopAll(
      () => new TurnEndedError(`The turn of run ${this.job.runId} has ended: ${end._tag.toLowerCase()}`)
    )
    this.host.report(op, () => this.#end(end))
  }

  #end(end: TurnEnd): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#options.onEnd(end)
  }

  #stopAll(reason: () => Error): void {
    this.#phase = "over"
    this.#cancelTimeout()
    this.#quiescence.stop()
    this.steps.close(reason)
    this.#signal.abort(reason)
    this.#options.interruptHandler()
    this.#signal.end()
  }

  get #subject(): RunLabel {
    return { plan: this.plan, runId: this.job.runId }
  }

  #warn(message: string | undefined): void {
    if (message !== undefined) this.host.logger.warn(message)
  }

  callbackFailed(error: unknown): void {
    this.host.logger.warn(
      `Run ${this.job.runId}: a callback of onTurnEnd failed: ${toError(error).message}`,
      serializeError(error)
    )
  }

  lateStep(call: StepCall): void {
    this.#noteHandlerWentOn(call.name)
  }

  #noteHandlerWentOn(what: string): void {
    if (!this.#isSuspended || this.#isLateReported) return
    this.#isLateReported = true
    this.#warn(lateWarning(this.#subject, what))
    this.host.noteHandlerWentOn(what)
  }
}
