/** Errors of steps and compensations, and the errors by which a handler decides whether and when it is retried. */
import { type CauseOption, type Facts, IronflowError, type IronflowErrorOptions } from "./Base.ts"
import { TimeoutError } from "./Connection.ts"
import { define } from "./SafeRead.ts"
import { showMs } from "../Show.ts"

/** The options of a `StepError`. */
export interface StepErrorOptions extends CauseOption {
  /** Id of the step, such as `run_1:charge:0`. */
  readonly stepId: string
  /** Name of the step. */
  readonly stepName: string
  /** `true` by default; `false` once the attempts of the step are used up. */
  readonly retryable?: boolean
}

/** A step failed. `cause` is what the callback of the step threw. */
export class StepError extends IronflowError {
  declare readonly _tag: "StepError"
  /** Id of the step, such as `run_1:charge:0`. */
  readonly stepId: string
  /** Name of the step. */
  readonly stepName: string
  constructor(message: string, options: StepErrorOptions) {
    super(message, {
      code: "STEP_FAILED",
      retryable: options.retryable ?? true,
      details: { stepId: options.stepId, stepName: options.stepName },
      cause: options.cause
    })
    this.stepId = options.stepId
    this.stepName = options.stepName
  }
}

/** Throw this error when a retry cannot help: the step or function is not retried, and compensations run. */
export class NonRetryableError extends IronflowError {
  declare readonly _tag: "NonRetryableError"
  constructor(message: string, options: Omit<IronflowErrorOptions, "retryable"> = {}) {
    super(message, { ...options, code: options.code ?? "NON_RETRYABLE", retryable: false })
  }
}

/**
 * Throw this error to set the time of the retry: after a delay (milliseconds, or a string such as `"30s"`),
 * at a `Date`, or as in an HTTP `Retry-After` header. The failure counts as an attempt like any other.
 */
export class RetryAfterError extends IronflowError {
  declare readonly _tag: "RetryAfterError"
  /** When to retry: milliseconds or a duration from now, a `Date`, or the value of a `Retry-After` header. */
  readonly retryAfter: string | number | Date
  constructor(
    message: string,
    retryAfter: string | number | Date,
    options: Omit<IronflowErrorOptions, "retryable"> = {}
  ) {
    super(message, { ...options, code: options.code ?? "RETRY_AFTER", retryable: true })
    this.retryAfter = retryAfter
  }
}

/** `step.waitForEvent` received no matching event in time. The handler may catch this error and continue. */
export class WaitTimeoutError extends TimeoutError {
  /** Name of the step. */
  readonly stepName: string
  /** Name or pattern of the awaited event. */
  readonly event: string
  constructor(stepName: string, event: string, timeoutMs: number) {
    super(
      `Step "${stepName}" timed out after ${showMs(timeoutMs)}: no matching event "${event}" arrived`,
      timeoutMs,
      { code: "WAIT_TIMEOUT", retryable: false }
    )
    this.stepName = stepName
    this.event = event
  }
}

/** The options of an `InvokeError`. */
export interface InvokeErrorOptions<E> extends CauseOption {
  /** The failure of the invoked function, decoded by its error schema; none by default. */
  readonly failure?: E
}

/**
 * A step invoked a function, and the function failed or could not be invoked. `cause` is the error of the function's
 * run, as far as the server provides it; `E` is the failure that the function declares.
 */
export class InvokeError<E = unknown> extends IronflowError {
  declare readonly _tag: "InvokeError"
  /** Id of the function that was invoked. */
  readonly functionId: string
  /** Id of the function's run; absent when none was started. */
  readonly childRunId: string | undefined
  /** The message of the run's error. */
  readonly errorCause: string
  /**
   * The failure of the function. Present when an Effect handler invoked the function, and the failure fits
   * the declared schema.
   */
  declare readonly failure?: E
  constructor(
    functionId: string,
    childRunId: string | undefined,
    errorCause: string,
    options: InvokeErrorOptions<E> = {}
  ) {
    super(
      `Invoked function '${functionId}'${childRunId ? ` (run ${childRunId})` : ""} failed: ${errorCause}`,
      {
        ...options,
        code: "INVOKE_FAILED",
        details: { functionId, childRunId }
      }
    )
    this.functionId = functionId
    this.childRunId = childRunId
    this.errorCause = errorCause
    if (options.failure !== undefined) withFailure(this, options.failure)
  }
}

/**
 * Sets the decoded failure of the function. The decoded form is not stored: the stored error holds the failure in
 * encoded form.
 */
export const withFailure = <E>(error: InvokeError, failure: E): InvokeError<E> => {
  define(error, "failure", failure, false)
  return error as InvokeError<E>
}

/** A step invoked a function, and the run of the function did not end in time. That run continues. */
export class InvokeTimeoutError extends InvokeError<never> {
  /** The timeout, in milliseconds. */
  readonly timeoutMs: number
  constructor(functionId: string, childRunId: string | undefined, timeoutMs: number) {
    super(functionId, childRunId, `timed out after ${showMs(timeoutMs)} (the child run continues)`)
    this.timeoutMs = timeoutMs
  }
}

/** The callback of a step took longer than the step's timeout. */
export class StepTimeoutError extends IronflowError {
  declare readonly _tag: "StepTimeoutError"
  /** Name of the step. */
  readonly stepName: string
  /** The timeout of an attempt, as text: `"30s"`. */
  readonly timeout: string
  constructor(stepName: string, timeout: string) {
    super(`Step "${stepName}" timed out after ${timeout}`, { code: "STEP_TIMEOUT", retryable: true })
    this.stepName = stepName
    this.timeout = timeout
  }
}

/**
 * A running step was told to stop: another branch of a fail-fast parallel call failed, the handler failed, or the
 * handler no longer waits for the step.
 */
export class StepAbortedError extends IronflowError {
  declare readonly _tag: "StepAbortedError"
  /** Name of the step. */
  readonly stepName: string
  /** The reason, for people. */
  readonly reason: string
  constructor(stepName: string, reason: string, options: CauseOption = {}) {
    super(`Step "${stepName}" was aborted: ${reason}`, { ...options, code: "STEP_ABORTED" })
    this.stepName = stepName
    this.reason = reason
  }
}

/** A step was called inside the callback of another step, where its result cannot be recorded. */
export class NestedStepError extends IronflowError {
  declare readonly _tag: "NestedStepError"
  /** Name of the step. */
  readonly stepName: string
  /** Name of the step whose callback called it. */
  readonly outerStepName: string
  constructor(stepName: string, outerStepName: string) {
    super(
      `Step "${stepName}" was called inside the callback of step "${outerStepName}". ` +
        `Move the call of "${stepName}" out of that callback, before or after the outer step`,
      { code: "NESTED_STEP" }
    )
    this.stepName = stepName
    this.outerStepName = outerStepName
  }
}

/** A replay called other steps than the recorded ones. The run is paused, not failed. */
export class NondeterminismError extends IronflowError {
  declare readonly _tag: "NondeterminismError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "NONDETERMINISM" })
  }
}

/**
 * After a crash during compensation, the code no longer registers a compensation that it had registered before the
 * crash: the step of that compensation is not compensated.
 */
export class CompensationLostError extends IronflowError {
  declare readonly _tag: "CompensationLostError"
  constructor(message: string, options: CauseOption = {}) {
    super(message, { ...options, code: "COMPENSATION_LOST" })
  }
}

/** The Effect of a step or handler interrupted itself; `what` names the step or handler. Fail with an error instead. */
export class InterruptedError extends IronflowError {
  declare readonly _tag: "InterruptedError"
  constructor(what: string) {
    super(`${what} interrupted itself: fail with an error instead`, { code: "INTERRUPTED", retryable: true })
  }
}
