/** What happens inside of a handler: steps fail, wait in vain, are stopped, or were called where they must not be. */
import { type CauseOption, type Facts, IronflowError, type IronflowErrorOptions } from "./Base.ts"
import { TimeoutError } from "./Connection.ts"
import { define } from "./Reading.ts"
import { showMs } from "../Show.ts"

/** What a `StepError` is made with. */
export interface StepErrorOptions extends CauseOption {
  /** Id of the step, `<run id>:<name>:<n>`. */
  readonly stepId: string
  /** Name of the step. */
  readonly stepName: string
  /** `true` by default; `false` once the attempts of the step are used up. */
  readonly retryable?: boolean
}

/** A step failed. `cause` is what its callback threw. */
export class StepError extends IronflowError {
  declare readonly _tag: "StepError"
  /** Id of the step, `<run id>:<name>:<n>`. */
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

/** Throw it to say that trying again cannot help: no retry, and compensations run. */
export class NonRetryableError extends IronflowError {
  declare readonly _tag: "NonRetryableError"
  constructor(message: string, options: Omit<IronflowErrorOptions, "retryable"> = {}) {
    super(message, { ...options, code: options.code ?? "NON_RETRYABLE", retryable: false })
  }
}

/**
 * Throw it to say when to try again: after a delay (milliseconds, or text such as `"30s"`), at a `Date`, or as the text of an HTTP
 * `Retry-After` header says. It counts as an attempt like any failure.
 */
export class RetryAfterError extends IronflowError {
  declare readonly _tag: "RetryAfterError"
  /** When to try again: milliseconds or a duration from now, a point in time, or the text of a `Retry-After` header. */
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

/** `step.waitForEvent` saw no matching event in time. The handler may catch it and go on. */
export class WaitTimeoutError extends TimeoutError {
  /** Name of the step. */
  readonly stepName: string
  /** Name of the event that did not come. */
  readonly event: string
  constructor(stepName: string, event: string, timeoutMs: number) {
    super(
      `Step "${stepName}" timed out after ${showMs(timeoutMs)}: no event "${event}" that it accepts arrived`,
      timeoutMs,
      { code: "WAIT_TIMEOUT", retryable: false }
    )
    this.stepName = stepName
    this.event = event
  }
}

/** What an `InvokeError` may be given. */
export interface InvokeErrorOptions<E> extends CauseOption {
  /** What the other function failed with, decoded by its error schema; none by default. */
  readonly failure?: E
}

/**
 * A function that a step invoked failed, or could not be invoked. `cause` is the error of the function's run, as far as the server
 * tells it; `E` is what the function declares to fail with.
 */
export class InvokeError<E = unknown> extends IronflowError {
  declare readonly _tag: "InvokeError"
  /** Id of the function that was invoked. */
  readonly functionId: string
  /** Its run; absent when none was started. */
  readonly childRunId: string | undefined
  /** The message of what it failed with. */
  readonly errorCause: string
  /** What the function failed with, when an Effect handler has invoked it and the failure fits the declared schema. */
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

/** Says what the function failed with, in the words of its schema. It is not stored with the error, which has it encoded. */
export const withFailure = <E>(error: InvokeError, failure: E): InvokeError<E> => {
  define(error, "failure", failure, false)
  return error as InvokeError<E>
}

/** A function that a step invoked did not end in time. The child run goes on. */
export class InvokeTimeoutError extends InvokeError<never> {
  /** How long was waited, in milliseconds. */
  readonly timeoutMs: number
  constructor(functionId: string, childRunId: string | undefined, timeoutMs: number) {
    super(functionId, childRunId, `timed out after ${showMs(timeoutMs)} (the child run goes on)`)
    this.timeoutMs = timeoutMs
  }
}

/** The callback of a step took longer than its timeout, a duration as the user wrote it. */
export class StepTimeoutError extends IronflowError {
  declare readonly _tag: "StepTimeoutError"
  /** Name of the step. */
  readonly stepName: string
  /** How long an attempt might take, as it was given: `"30s"`. */
  readonly timeout: string
  constructor(stepName: string, timeout: string) {
    super(`Step "${stepName}" timed out after ${timeout}`, { code: "STEP_TIMEOUT", retryable: true })
    this.stepName = stepName
    this.timeout = timeout
  }
}

/** A running step was told to stop: a sibling failed, the run was cancelled, the lease was lost. */
export class StepAbortedError extends IronflowError {
  declare readonly _tag: "StepAbortedError"
  /** Name of the step. */
  readonly stepName: string
  /** Why, in words. */
  readonly reason: string
  constructor(stepName: string, reason: string, options: CauseOption = {}) {
    super(`Step "${stepName}" was aborted: ${reason}`, { ...options, code: "STEP_ABORTED" })
    this.stepName = stepName
    this.reason = reason
  }
}

/** A step was called inside the callback of another step, where it could never be remembered. */
export class NestedStepError extends IronflowError {
  declare readonly _tag: "NestedStepError"
  /** Name of the step. */
  readonly stepName: string
  /** Name of the step in whose code it was called. */
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

/** A replay asked for something else than what was recorded. The run is paused, not failed. */
export class NondeterminismError extends IronflowError {
  declare readonly _tag: "NondeterminismError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "NONDETERMINISM" })
  }
}

/** After a crash in the middle of compensating, the code no longer registers this compensation: the step is not taken back. */
export class CompensationLostError extends IronflowError {
  declare readonly _tag: "CompensationLostError"
  constructor(message: string, options: CauseOption = {}) {
    super(message, { ...options, code: "COMPENSATION_LOST" })
  }
}

/** An effect interrupted itself in a step or handler `what`. Fail with an error of yours instead. */
export class InterruptedError extends IronflowError {
  declare readonly _tag: "InterruptedError"
  constructor(what: string) {
    super(`${what} was interrupted from within`, { code: "INTERRUPTED", retryable: true })
  }
}
