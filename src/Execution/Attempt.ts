/** One execution of a step's code. */
import type * as Tracer from "effect/Tracer"
import { progressOf, type StepProgress } from "../Protocol/RunningSteps.ts"
import type { StepRunContext } from "../Step.ts"
import type { StepCall } from "./StepCall.ts"
import type { TxCollector } from "./Tx.ts"

/** How an attempt ended. `encoded` is a typed failure as its schema stores it. */
export type AttemptExit =
  | { readonly _tag: "Success"; readonly value: unknown }
  | { readonly _tag: "Failure"; readonly error: unknown; readonly encoded?: unknown }

/** Who hears of the end of an attempt. */
export interface AttemptOwner {
  readonly idempotencyKey: (call: StepCall) => string
  readonly attemptEnded: (attempt: Attempt, exit: AttemptExit) => void
}

export class Attempt {
  readonly call: StepCall
  /** Executions of the step, this one included. */
  readonly number: number
  /** Epoch milliseconds. */
  readonly startedAt: number
  /** Stops the code, where that is possible from outside. */
  interrupt: (() => void) | undefined = undefined
  /** Cancels the timer that ends this attempt. */
  cancelTimer: (() => void) | undefined = undefined
  /** What the code writes, for a `step.tx`. */
  tx: TxCollector | undefined = undefined
  /** Why the code was told to stop. */
  abortReason: Error | undefined = undefined
  /** Where the turn is traced: what the code is part of. */
  span: Tracer.AnySpan | undefined = undefined
  /** What the code said last of how far it has come. */
  progress: StepProgress | undefined = undefined
  readonly #owner: AttemptOwner
  #controller: AbortController | undefined = undefined
  #ended = false

  constructor(owner: AttemptOwner, call: StepCall, number: number, startedAt: number) {
    this.#owner = owner
    this.call = call
    this.number = number
    this.startedAt = startedAt
  }

  /** Made when it is asked for: most code never looks. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.abortReason !== undefined) this.#controller.abort(this.abortReason)
    }
    return this.#controller.signal
  }

  /** What the code is told about its execution. */
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

  /** The first end counts. */
  end(exit: AttemptExit): void {
    if (this.#close()) this.#owner.attemptEnded(this, exit)
  }

  /** Asks the code to stop, and still listens to how it ends. */
  abort(reason: Error): void {
    if (this.abortReason !== undefined) return
    this.abortReason = reason
    this.#controller?.abort(reason)
  }

  /** Ends the attempt here, whatever the code does; an effect is interrupted. */
  abandon(reason: Error): void {
    this.#close()
    this.abort(reason)
    this.interrupt?.()
  }

  #close(): boolean {
    if (this.#ended) return false
    this.#ended = true
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

  // bound: it is handed to what calls back
  readonly progress = (fraction: number, text?: string): void => {
    this.#attempt.progress = progressOf(fraction, text)
  }
}

/** Whether code that was asked to stop failed because of that. */
export const isAbortFailure = (error: unknown, reason: Error): boolean => {
  try {
    for (let at = error, depth = 0; depth < 8; depth++) {
      if (at === reason) return true
      if (typeof at !== "object" || at === null) return false
      const { name, cause }: { readonly name?: unknown; readonly cause?: unknown } = at
      if (name === "AbortError" || name === "StepAbortedError") return true
      at = cause
    }
  } catch {
    // What throws when it is looked at (a proxy, a getter) says nothing of the kind.
  }
  return false
}
