/** The way to the server, and what a server answers that says nothing of what it was asked for. */
import { type CauseOption, type Facts, IronflowError, type IronflowErrorOptions } from "./Base.ts"

/** The connection to the engine failed or was lost. */
export class ConnectionError extends IronflowError {
  declare readonly _tag: "ConnectionError"
  constructor(message: string, options: Omit<IronflowErrorOptions, "code" | "retryable"> = {}) {
    super(message, { ...options, code: "CONNECTION_LOST", retryable: true })
  }
}

/** A request or an operation took longer than it was given, `timeoutMs` milliseconds. */
export class TimeoutError extends IronflowError {
  declare readonly _tag: "TimeoutError"
  /** How long was waited, in milliseconds. */
  readonly timeoutMs: number
  constructor(message: string, timeoutMs: number, options: IronflowErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? "TIMEOUT", retryable: options.retryable ?? true })
    this.timeoutMs = timeoutMs
  }
}

/** A subscription was refused or broke. */
export class SubscriptionError extends IronflowError {
  declare readonly _tag: "SubscriptionError"
  /** The subscription that it is about; absent when it is about all of them. */
  readonly subscriptionId: string | undefined
  constructor(message: string, options: IronflowErrorOptions & { readonly subscriptionId?: string } = {}) {
    super(message, {
      ...options,
      code: options.code ?? "SUBSCRIPTION_ERROR",
      retryable: options.retryable ?? true
    })
    this.subscriptionId = options.subscriptionId
  }
}

/** Something was used before it was configured. */
export class NotConfiguredError extends IronflowError {
  declare readonly _tag: "NotConfiguredError"
  constructor(message = "Ironflow is not configured: give a server URL, or set IRONFLOW_SERVER_URL") {
    super(message, { code: "NOT_CONFIGURED" })
  }
}

/**
 * The server failed, or its answer has a code that this version does not know: a newer engine, or another Ironflow server, may
 * have some. `code` is what it said, and `SERVER_ERROR` when it said nothing; `status` is that of the answer.
 */
export class ServerError extends IronflowError {
  declare readonly _tag: "ServerError"
  constructor(message: string, options: IronflowErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? "SERVER_ERROR" })
  }
}

/** The server is closing or busy, or the caller asks too often or too much at once. */
export type UnavailableCode = "CLOSING" | "SERVER_BUSY" | "RATE_LIMITED" | "TOO_MANY_CALLS"

/**
 * The server takes this not now: it is about to stop (`CLOSING`), has no memory to spare (`SERVER_BUSY`), or gets more from
 * this client than it takes at once (`RATE_LIMITED`, `TOO_MANY_CALLS`). Ask again in a moment.
 */
export class UnavailableError extends IronflowError {
  declare readonly _tag: "UnavailableError"
  /** Which of these it is. */
  declare readonly code: UnavailableCode
  constructor(message: string, options: Facts & { readonly code: UnavailableCode }) {
    super(message, { ...options, retryable: true })
  }
}

/** The server does not do it, or does not know its address. */
export type UnsupportedCode = "UNIMPLEMENTED" | "ROUTE_NOT_FOUND"

/**
 * The server cannot do this: it is another Ironflow server or an older engine (`UNIMPLEMENTED`), or one of ours that has nothing
 * at this path (`ROUTE_NOT_FOUND`).
 */
export class UnsupportedError extends IronflowError {
  declare readonly _tag: "UnsupportedError"
  /** Which of these it is. */
  declare readonly code: UnsupportedCode
  constructor(
    message: string,
    options: Facts<"status"> & {
      /** `UNIMPLEMENTED` by default. */
      readonly code?: UnsupportedCode
    } = {}
  ) {
    super(message, { ...options, code: options.code ?? "UNIMPLEMENTED" })
  }
}

/** What came is no answer of an Ironflow server: something else has answered in its place, or it cannot be read. */
export class InvalidResponseError extends IronflowError {
  declare readonly _tag: "InvalidResponseError"
  constructor(message: string, options: Facts<"status"> = {}) {
    super(message, { ...options, code: "INVALID_RESPONSE" })
  }
}

/** The client, engine or worker that was asked has been closed. `what` is which of them. */
export class ClosedError extends IronflowError {
  declare readonly _tag: "ClosedError"
  /** What was closed. */
  readonly what: string
  constructor(what: string, options: CauseOption = {}) {
    super(`The ${what} has been closed. Create a new one to go on`, { ...options, code: "CLOSED" })
    this.what = what
  }
}
