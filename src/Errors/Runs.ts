/** Errors of functions and their runs. */
import { type CauseOption, IronflowError, NotFoundError } from "./Base.ts"
import { TimeoutError } from "./Connection.ts"
import { showMs } from "../Show.ts"

/** No function of this id is registered. */
export class FunctionNotFoundError extends NotFoundError {
  declare readonly _tag: "FunctionNotFoundError"
  /** Id of the function. */
  readonly functionId: string
  constructor(functionId: string, options: CauseOption = {}) {
    super(`Function not found: ${functionId}`, {
      ...options,
      code: "FUNCTION_NOT_FOUND",
      details: { functionId }
    })
    this.functionId = functionId
  }
}

/** The environment has no run of this id. */
export class RunNotFoundError extends NotFoundError {
  declare readonly _tag: "RunNotFoundError"
  /** Id of the run. */
  readonly runId: string
  constructor(runId: string, options: CauseOption = {}) {
    super(`Run not found: ${runId}`, { ...options, code: "RUN_NOT_FOUND", details: { runId } })
    this.runId = runId
  }
}

/** No bulk operation has this id, or the caller may not see it. */
export class BulkNotFoundError extends NotFoundError {
  declare readonly _tag: "BulkNotFoundError"
  /** The unknown id. */
  readonly bulkId: string
  constructor(bulkId: string, options: CauseOption = {}) {
    super(`Bulk operation not found: ${bulkId}`, { ...options, code: "BULK_NOT_FOUND", details: { bulkId } })
    this.bulkId = bulkId
  }
}

/** The run has no step of this id. */
export class StepNotFoundError extends NotFoundError {
  declare readonly _tag: "StepNotFoundError"
  /** Id of the run. */
  readonly runId: string
  /** The unknown id or name. */
  readonly stepId: string
  constructor(runId: string, stepId: string, options: CauseOption = {}) {
    super(`Step not found: run ${runId} has no step "${stepId}"`, {
      ...options,
      code: "STEP_NOT_FOUND",
      details: { runId, stepId }
    })
    this.runId = runId
    this.stepId = stepId
  }
}

/**
 * One turn of a function took longer than the function's `timeout`. A turn executes the code from one wait to the next.
 */
export class FunctionTimeoutError extends TimeoutError {
  /** Id of the function. */
  readonly functionId: string
  constructor(functionId: string, timeoutMs: number) {
    super(
      `Function "${functionId}" timed out: one turn of it (its code from one wait to the next) ran longer than ${showMs(timeoutMs)}. ` +
        "Move long work into steps, or raise the function's `timeout`",
      timeoutMs,
      { code: "FUNCTION_TIMEOUT" }
    )
    this.functionId = functionId
  }
}

/** The run that the caller awaits has failed. */
export class RunFailedError extends IronflowError {
  declare readonly _tag: "RunFailedError"
  /** Id of the run. */
  readonly runId: string
  /** The output of the run. Absent unless the server keeps the output of failed runs. */
  readonly output: unknown
  constructor(runId: string, output: unknown, message = `Run failed: ${runId}`) {
    super(message, { code: "RUN_FAILED" })
    this.runId = runId
    this.output = output
  }
}

/** The run that the caller awaits was cancelled. */
export class RunCancelledError extends IronflowError {
  declare readonly _tag: "RunCancelledError"
  /** Id of the run. */
  readonly runId: string
  constructor(runId: string) {
    super(`Run cancelled: ${runId}`, { code: "RUN_CANCELLED" })
    this.runId = runId
  }
}

/** The event of an `emitSync` was stored and started no run: no function has a trigger that matches the event. */
export class NoResultsError extends NotFoundError {
  declare readonly _tag: "NoResultsError"
  /** Name of the event that started no run. */
  readonly event: string
  /** Id of that event, which is stored. */
  readonly eventId: string
  constructor(event: string, eventId: string) {
    super(
      `Event "${event}" ${eventId} is stored and started no run: no function has a trigger that matches it`,
      { code: "NO_RESULTS", details: { eventId } }
    )
    this.event = event
    this.eventId = eventId
  }
}
