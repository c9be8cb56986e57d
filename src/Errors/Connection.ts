/** Errors of connections, and server errors that do not depend on the request. */
import { type CauseOption, type Facts, IronflowError, type IronflowErrorOptions } from "./Base.ts"

/** The connection to the engine failed or was lost. */
export class ConnectionError extends IronflowError {
  declare readonly _tag: "ConnectionError"
  constructor(message: string, options: Omit<IronflowErrorOptions, "code" | "retryable"> = {}) {
    super(message, { ...options, code: "CONNECTION_LOST", retryable: true })
  }
}

/** A request or an operation took longer than its timeout, `timeoutMs` milliseconds. */
export class TimeoutError extends IronflowError {
  declare readonly _tag: "TimeoutError"
  /** The timeout, in milliseconds. */
  readonly timeoutMs: number
  constructor(message: string, timeoutMs: number, options: IronflowErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? "TIMEOUT", retryable: options.retryable ?? true })
    this.timeoutMs = timeoutMs
  }
}

/** A subscription was refused or broke. */
export class SubscriptionError extends IronflowError {
  declare readonly _tag: "SubscriptionError"
  /** The id of the subscription; absent when the error concerns all subscriptions. */
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
 * The server failed, or its response has a code that this version of the package does not know: a newer engine or
 * another Ironflow server may send such a code. `code` is the code of the response, or `SERVER_ERROR` when the response
 * has none; `status` is the status of the response.
 */
export class ServerError extends IronflowError {
  declare readonly _tag: "ServerError"
  constructor(message: string, options: IronflowErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? "SERVER_ERROR" })
  }
}

/** Why the server cannot accept a call now: it is closing or busy, or the caller sends too many requests. */
export type UnavailableCode = "CLOSING" | "SERVER_BUSY" | "RATE_LIMITED" | "TOO_MANY_CALLS"

/**
 * The server cannot accept the call now: it is stopping (`CLOSING`), is short of memory (`SERVER_BUSY`), or
 * receives too many requests from this client (`RATE_LIMITED`, `TOO_MANY_CALLS`). Try again in a moment.
 */
export class UnavailableError extends IronflowError {
  declare readonly _tag: "UnavailableError"
  /** The codes of this class. */
  declare readonly code: UnavailableCode
  constructor(message: string, options: Facts & { readonly code: UnavailableCode }) {
    super(message, { ...options, retryable: true })
  }
}

/** Why the server cannot carry out a request: it does not support the request, or has no route for it. */
export type UnsupportedCode = "UNIMPLEMENTED" | "ROUTE_NOT_FOUND"

/**
 * The server cannot carry out the request. It is another Ironflow server or an older engine (`UNIMPLEMENTED`), or
 * an engine of this package that has no such route (`ROUTE_NOT_FOUND`).
 */
export class UnsupportedError extends IronflowError {
  declare readonly _tag: "UnsupportedError"
  /** The codes of this class. */
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

/** The response is not from an Ironflow server, or cannot be read. */
export class InvalidResponseError extends IronflowError {
  declare readonly _tag: "InvalidResponseError"
  constructor(message: string, options: Facts<"status"> = {}) {
    super(message, { ...options, code: "INVALID_RESPONSE" })
  }
}

/** The client, engine or worker was closed. `what` says which of them. */
export class ClosedError extends IronflowError {
  declare readonly _tag: "ClosedError"
  /** What was closed. */
  readonly what: string
  constructor(what: string, options: CauseOption = {}) {
    super(`The ${what} has been closed. Create a new one to continue`, { ...options, code: "CLOSED" })
    this.what = what
  }
}
