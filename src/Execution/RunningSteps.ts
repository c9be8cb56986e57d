/**
 * The attempts of steps that run in this process. Starts attempts, asks them to stop, and gives up attempts that do not
 * stop.
 */
import { StepAbortedError, StepTimeoutError } from "../Errors.ts"
import { Attempt, type AttemptOwner } from "./Attempt.ts"
import type { StepTimeout } from "./FunctionPlan.ts"
import type { RunningStep } from "../Protocol/RunningSteps.ts"
import { type BranchGroup, isWithin } from "./StepScope.ts"
import type { StepCall, StepCode } from "./StepCall.ts"
import type { TurnHost } from "./TurnHost.ts"

/**
 * How long code without a timeout is awaited after it was asked to stop, in milliseconds. Code with a timeout is awaited
 * until its timeout.
 */
export const STOP_GRACE_MS = 5000

export interface RunningOwner extends AttemptOwner {
  /**
   * Called when the code of a step was asked to stop and did not end within {@link STOP_GRACE_MS}. The code is no
   * longer awaited.
   */
  readonly onGiveUp: (call: StepCall) => void
}

export class RunningSteps {
  readonly #owner: RunningOwner
  readonly #host: TurnHost
  readonly #attempts = new Set<Attempt>()

  constructor(owner: RunningOwner, host: TurnHost) {
    this.#owner = owner
    this.#host = host
  }

  get size(): number {
    return this.#attempts.size
  }

  /** Names of the running steps. */
  get names(): ReadonlyArray<string> {
    return this.#attempts.size === 0 ? [] : Array.from(this.#attempts, ({ call }) => call.name)
  }

  /** The steps that have run for at least this long, the oldest first. */
  list(atLeastMs: number): ReadonlyArray<RunningStep> {
    if (this.#attempts.size === 0) return []
    const now = this.#host.clock.currentTimeMillisUnsafe()
    const steps: Array<RunningStep> = []
    for (const { call, number, progress, startedAt } of this.#attempts) {
      const forMs = Math.max(0, now - startedAt)
      if (forMs < atLeastMs) continue
      steps.push({
        stepKey: call.key,
        name: call.name,
        kind: call.kind,
        attempt: number,
        forMs,
        ...(progress === undefined ? {} : { progress })
      })
    }
    return steps
  }

  /** Whether an attempt runs in the group. */
  has(group: BranchGroup): boolean {
    for (const attempt of this.#attempts) if (isWithin(attempt.call.scope, group)) return true
    return false
  }

  /** Starts the next attempt of a step as soon as the host's pace allows it. */
  start(call: StepCall, code: StepCode): void {
    const { clock, mayBegin, pace } = this.#host
    const attempt = new Attempt(this.#owner, call, call.failures + 1, clock.currentTimeMillisUnsafe())
    call.attempt = attempt
    this.#attempts.add(attempt)
    if (pace === undefined) return this.#begin(attempt, code)
    pace(() => {
      // the attempt may have ended while it waited
      if (!this.#attempts.has(attempt)) return
      if (attempt.abortReason !== undefined) attempt.fail(attempt.abortReason)
      else if (mayBegin?.() !== false) {
        attempt.startedAt = clock.currentTimeMillisUnsafe()
        this.#begin(attempt, code)
      }
    })
  }

  #begin(attempt: Attempt, code: StepCode): void {
    const { timeout } = code
    // the timeout counts from the start of the code: an attempt that waits to start must not time out
    if (timeout !== undefined) {
      attempt.cancelTimer = this.#host.alarm.at(attempt.startedAt + timeout.ms, () =>
        endAtTimeout(attempt, timeout)
      )
    }
    this.#host.tracing?.attemptBegan(attempt)
    const begin = this.#host.probe?.begin
    if (begin === undefined) code.begin(attempt)
    else begin(attempt, code)
  }

  /** Removes an attempt that has ended. */
  remove(attempt: Attempt): void {
    this.#attempts.delete(attempt)
  }

  /** Asks the running steps of the group to stop. Steps that do not stop are given up after a limited time. */
  stop(group: BranchGroup, cause: string): void {
    const now = this.#host.clock.currentTimeMillisUnsafe()
    for (const attempt of this.#attempts) {
      if (!isWithin(attempt.call.scope, group)) continue
      const reason = new StepAbortedError(attempt.call.name, cause)
      attempt.cancelTimer ??= this.#host.alarm.at(now + STOP_GRACE_MS, () => this.#giveUp(attempt, reason))
      attempt.abort(reason)
    }
  }

  #giveUp(attempt: Attempt, reason: Error): void {
    this.abandon(attempt, reason)
    this.#owner.onGiveUp(attempt.call)
  }

  /** Ends the attempt now, whatever its code does. */
  abandon(attempt: Attempt, reason: Error): void {
    this.#attempts.delete(attempt)
    attempt.abandon(reason)
  }

  abandonAll(reason: () => Error): void {
    for (const attempt of this.#attempts) attempt.abandon(reason())
    this.#attempts.clear()
  }
}

const endAtTimeout = (attempt: Attempt, timeout: StepTimeout): void => {
  const error = new StepTimeoutError(attempt.call.name, timeout.text)
  attempt.end({ _tag: "Failure", error })
  attempt.abandon(error)
}
