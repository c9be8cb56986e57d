/** Errors of workers, of the turns that workers and push handlers run, and of webhooks. */
import { type Facts, IronflowError, NotFoundError } from "./Base.ts"

/** Why the worker could not register. `FUNCTION_REGISTRATION_FAILED`: the engine refused one of its functions. */
export type RegistrationCode = "REGISTRATION_FAILED" | "FUNCTION_REGISTRATION_FAILED"

/** The worker could not register. */
export class RegistrationError extends IronflowError {
  declare readonly _tag: "RegistrationError"
  /** The codes of this class. */
  declare readonly code: RegistrationCode
  constructor(
    message: string,
    options: Facts & {
      /** `REGISTRATION_FAILED` by default. */
      readonly code?: RegistrationCode
    } = {}
  ) {
    super(message, { ...options, code: options.code ?? "REGISTRATION_FAILED" })
  }
}

/** The worker was started twice, or after it was stopped. Create another one. */
export class WorkerAlreadyRunningError extends IronflowError {
  declare readonly _tag: "WorkerAlreadyRunningError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "WORKER_ALREADY_RUNNING" })
  }
}

/** The worker was stopped during a turn, or before it was registered. The run continues from its last finished step. */
export class WorkerStoppedError extends IronflowError {
  declare readonly _tag: "WorkerStoppedError"
  constructor(message: string, options: Facts<"retryable"> = {}) {
    super(message, { ...options, code: "WORKER_STOPPED" })
  }
}

/** A worker reported on a run whose lease it has lost; nothing was changed. */
export class LeaseLostError extends IronflowError {
  declare readonly _tag: "LeaseLostError"
  constructor(message: string, options: Facts<"retryable"> = {}) {
    super(message, { ...options, code: "LEASE_LOST" })
  }
}

/** The engine does not know this worker, as after a restart of the engine. The worker registers again. */
export class WorkerUnknownError extends IronflowError {
  declare readonly _tag: "WorkerUnknownError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "WORKER_UNKNOWN", retryable: true })
  }
}

/** What went wrong with a report: the engine refused it, or did not answer a step in it. */
export type ReportCode = "REPORT_FAILED" | "STEP_NOT_ANSWERED"

/** The worker and the engine disagree on the protocol, which is a bug in this package. The run is retried. */
export class ReportError extends IronflowError {
  declare readonly _tag: "ReportError"
  /** The codes of this class. */
  declare readonly code: ReportCode
  constructor(
    message: string,
    options: Facts & {
      /** `REPORT_FAILED` by default. */
      readonly code?: ReportCode
    } = {}
  ) {
    super(message, { ...options, code: options.code ?? "REPORT_FAILED" })
  }
}

/** A turn broke because of a bug in this package; the run is paused. */
export class TurnBrokenError extends IronflowError {
  declare readonly _tag: "TurnBrokenError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "TURN_BROKEN" })
  }
}

/**
 * The turn has ended: it is suspended, completed or failed. This error is the `reason` of the `signal` that the
 * handler received.
 */
export class TurnEndedError extends IronflowError {
  declare readonly _tag: "TurnEndedError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "TURN_ENDED" })
  }
}

/** Why the turn did not end: the turn was aborted, or the HTTP request in which it ran was aborted. */
export type TurnAbortedCode = "TURN_ABORTED" | "REQUEST_ABORTED"

/** A turn of push mode did not end: the run was cancelled, or the request was aborted. */
export class TurnAbortedError extends IronflowError {
  declare readonly _tag: "TurnAbortedError"
  /** The codes of this class. */
  declare readonly code: TurnAbortedCode
  constructor(
    message: string,
    options: Facts<"retryable" | "status"> & {
      readonly code: TurnAbortedCode
    }
  ) {
    super(message, { ...options, code: options.code })
  }
}

/** The push handler has no webhook of this id. */
export class WebhookNotFoundError extends NotFoundError {
  declare readonly _tag: "WebhookNotFoundError"
  /** The unknown id. */
  readonly webhookId: string
  constructor(webhookId: string) {
    super(`This handler has no webhook "${webhookId.slice(0, 256)}"`, {
      code: "WEBHOOK_NOT_FOUND",
      details: { webhookId: webhookId.slice(0, 256) }
    })
    this.webhookId = webhookId.slice(0, 256)
  }
}

/** What is wrong with a request to a webhook. */
export type WebhookCode =
  "METHOD_NOT_ALLOWED" | "VERIFY_FAILED" | "TRANSFORM_FAILED" | "EMIT_FAILED" | "WEBHOOK_TIMEOUT"

/** A webhook refused a request, could not parse it, or could not emit its event. */
export class WebhookError extends IronflowError {
  declare readonly _tag: "WebhookError"
  /** The codes of this class. */
  declare readonly code: WebhookCode
  constructor(message: string, options: Facts<"status"> & { readonly code: WebhookCode }) {
    super(message, { ...options, code: options.code })
  }
}
