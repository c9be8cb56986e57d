/** One execution of a step's code. */
import type * as Tracer from "effect/Tracer"
import { progressOf, type StepProgress } from "../Protocol/RunningSteps.ts"
import type { StepRunContext } from "../Step.ts"
import type { StepCall } from "./StepCall.ts"
import type { TxCollector } from "./Tx.ts"

/** How the code of an attempt ended. `encoded` is a typed failure, encoded by its schema. */
export type AttemptExit =
  | { readonly _tag: "Success"; readonly value: unknown }
  | { readonly _tag: "Failure"; readonly error: unknown; readonly encoded?: unknown }

/** The part of the turn that an attempt uses. */
export interface AttemptOwner {
  readonly idempotencyKey: (call: StepCall) => string
  readonly attemptEnded: (attempt: Attempt, exit: AttemptExit) => void
}

export class Attempt {
  readonly call: StepCall
  /** The number of this attempt, from 1. */
  readonly number: number
  /** When the code started, in epoch milliseconds. While the attempt waits to start: when the wait began. */
  startedAt: number
  /** Interrupts the code; `undefined` when the code cannot be interrupted. */
  interrupt: (() => void) | undefined = undefined
  /**
   * Cancels the timer that ends this attempt. This is the timer of the attempt's timeout; or, if the attempt has no
   * timeout, a timer that is set when the code is asked to stop.
   */
  cancelTimer: (() => void) | undefined = undefined
  /** Collects the writes, if the step is a `step.tx`. */
  tx: TxCollector | undefined = undefined
  /** Why the code was asked to stop; `undefined` when it was not. */
  abortReason: Error | undefined = undefined
  /** The span of the attempt, when the turn is traced. */
  span: Tracer.AnySpan | undefined = undefined
  /** The last progress that the code reported. */
  progress: StepProgress | undefined = undefined
  readonly #owner: AttemptOwner
  #controller: AbortController | undefined = undefined
  #isEnded = false

  constructor(owner: AttemptOwner, call: StepCall, number: number, startedAt: number) {
    this.#owner = owner
    this.call = call
    this.number = number
    this.startedAt = startedAt
  }

  /** The signal that the code may watch. It is made on first use, since most code does not use it. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.abortReason !== undefined) this.#controller.abort(this.abortReason)
    }
    return this.#controller.signal
  }

  /** The context object that the code receives. */
  get context(): StepRunContext {
    return new RunContext(this)
  }

  get idempotencyKey(): string {
    return this.#owner.idempotencyKey(this.call)
  }

  succeed(value: unknown): void {
    this.end({ _tag: "Success", value })
  }

  fail(error: unknown): void {
    this.end({ _tag: "Failure", error })
  }

  /** Ends the attempt with this exit. Only the first call counts. */
  end(exit: AttemptExit): void {
    if (this.#close()) this.#owner.attemptEnded(this, exit)
  }

  /** Asks the code to stop. The attempt lasts until the code has ended, or the attempt is abandoned. */
  abort(reason: Error): void {
    if (this.abortReason !== undefined) return
    this.abortReason = reason
    this.#controller?.abort(reason)
  }

  /** Ends the attempt now, whatever the code does. Code that is an effect is interrupted. */
  abandon(reason: Error): void {
    this.#close()
    this.abort(reason)
    this.interrupt?.()
  }

  #close(): boolean {
    if (this.#isEnded) return false
    this.#isEnded = true
    this.cancelTimer?.()
    return true
  }
}

class RunContext implements StepRunContext {
  readonly #attempt: Attempt

  constructor(attempt: Attempt) {
    this.#attempt = attempt
  }

  get signal(): AbortSignal {
    return this.#attempt.signal
  }

  get attempt(): number {
    return this.#attempt.number
  }

  get idempotencyKey(): string {
    return this.#attempt.idempotencyKey
  }

  // an arrow function, since user code may pass it on as a callback
  readonly progress = (fraction: number, text?: string): void => {
    this.#attempt.progress = progressOf(fraction, text)
  }
}

/** Whether the code failed because it was asked to stop. */
export const isAbortFailure = (error: unknown, reason: Error): boolean => {
  try {
    for (let current = error, depth = 0; depth < 8; depth++) {
      if (current === reason) return true
      if (typeof current !== "object" || current === null) return false
      const { name, cause }: { readonly name?: unknown; readonly cause?: unknown } = current
      if (name === "AbortError" || name === "StepAbortedError") return true
      current = cause
    }
  } catch {
    // a value that throws when it is inspected (a proxy, a getter) is not an abort failure
  }
  return false
}
