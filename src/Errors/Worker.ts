/** Workers, and the turns that they and push handlers run. */
import { type Facts, IronflowError, NotFoundError } from "./Base.ts"

/** The worker could not register, or one of its functions could not. */
export type RegistrationCode = "REGISTRATION_FAILED" | "FUNCTION_REGISTRATION_FAILED"

/** The worker could not register: `FUNCTION_REGISTRATION_FAILED` when the engine does not accept one of its functions. */
export class RegistrationError extends IronflowError {
  declare readonly _tag: "RegistrationError"
  /** Which of these it is. */
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

/** The worker was stopped in the middle of a turn, which goes on from its last finished step, or before it had been registered. */
export class WorkerStoppedError extends IronflowError {
  declare readonly _tag: "WorkerStoppedError"
  constructor(message: string, options: Facts<"retryable"> = {}) {
    super(message, { ...options, code: "WORKER_STOPPED" })
  }
}

/** A worker reported on a run that is no longer its own; nothing was changed. */
export class LeaseLostError extends IronflowError {
  declare readonly _tag: "LeaseLostError"
  constructor(message: string, options: Facts<"retryable"> = {}) {
    super(message, { ...options, code: "LEASE_LOST" })
  }
}

/** The engine does not know this worker: it was restarted. The worker registers again. */
export class WorkerUnknownError extends IronflowError {
  declare readonly _tag: "WorkerUnknownError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "WORKER_UNKNOWN", retryable: true })
  }
}

/** The engine did not take a report, or did not answer a step of it. */
export type ReportCode = "REPORT_FAILED" | "STEP_NOT_ANSWERED"

/** The worker and the engine do not understand each other: a bug of ours. The run is taken up again. */
export class ReportError extends IronflowError {
  declare readonly _tag: "ReportError"
  /** Which of these it is. */
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

/** The turn has ended: suspended, completed or failed. It is the `reason` of the handler's `signal`. */
export class TurnEndedError extends IronflowError {
  declare readonly _tag: "TurnEndedError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "TURN_ENDED" })
  }
}

/** The turn was given up, or the request that it ran in was. */
export type TurnAbortedCode = "TURN_ABORTED" | "REQUEST_ABORTED"

/** A turn of push mode came to no end: the run was cancelled, or the request was broken off. */
export class TurnAbortedError extends IronflowError {
  declare readonly _tag: "TurnAbortedError"
  /** Which of these it is. */
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

/** There is no webhook of this id in the push handler. */
export class WebhookNotFoundError extends NotFoundError {
  declare readonly _tag: "WebhookNotFoundError"
  /** The id that no webhook has. */
  readonly webhookId: string
  constructor(webhookId: string) {
    super(`There is no webhook "${webhookId.slice(0, 256)}" here`, {
      code: "WEBHOOK_NOT_FOUND",
      details: { webhookId: webhookId.slice(0, 256) }
    })
    this.webhookId = webhookId.slice(0, 256)
  }
}

/** What went wrong with a request to a webhook. */
export type WebhookCode =
  "METHOD_NOT_ALLOWED" | "VERIFY_FAILED" | "TRANSFORM_FAILED" | "EMIT_FAILED" | "WEBHOOK_TIMEOUT"

/** A webhook refuses a request, can make nothing of it, or could not emit its event. */
export class WebhookError extends IronflowError {
  declare readonly _tag: "WebhookError"
  /** Which of these it is. */
  declare readonly code: WebhookCode
  constructor(message: string, options: Facts<"status"> & { readonly code: WebhookCode }) {
    super(message, { ...options, code: options.code })
  }
}
