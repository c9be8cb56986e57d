/** Errors of the engine: of its store, its process, requests over a network, and push endpoints. */
import { type Facts, IronflowError, NotFoundError } from "./Base.ts"

/** Why the store failed: the database failed, is locked by another engine, is damaged, or is unavailable. */
export type StoreErrorCode = "STORE_ERROR" | "STORE_LOCKED" | "STORE_CORRUPT" | "STORE_UNAVAILABLE"

/** The database cannot be read or written, is locked by another engine, or is damaged. */
export class StoreError extends IronflowError {
  declare readonly _tag: "StoreError"
  /** The codes of this class. */
  declare readonly code: StoreErrorCode
  constructor(
    message: string,
    options: Facts<"retryable"> & {
      /** `STORE_ERROR` by default. */
      readonly code?: StoreErrorCode
    } = {}
  ) {
    super(message, { ...options, code: options.code ?? "STORE_ERROR" })
  }
}

/** Why the server cannot listen: the port is in use, or the operating system refuses for another reason. */
export type ListenCode = "PORT_IN_USE" | "LISTEN_FAILED"

/** The server cannot listen: the port is in use, or the operating system refuses for another reason. */
export class ListenError extends IronflowError {
  declare readonly _tag: "ListenError"
  /** The codes of this class. */
  declare readonly code: ListenCode
  constructor(message: string, options: Facts & { readonly code: ListenCode }) {
    super(message, { ...options, code: options.code })
  }
}

/** Why the engine cannot run here: Node.js is too old, or the runtime is not Node.js. */
export type NodeVersionCode = "NODE_TOO_OLD" | "NODE_NEEDED"

/**
 * This Node.js is too old for the engine, or this runtime is not Node.js, which an engine that listens
 * requires.
 */
export class NodeVersionError extends IronflowError {
  declare readonly _tag: "NodeVersionError"
  /** The codes of this class. */
  declare readonly code: NodeVersionCode
  constructor(message: string, options: Facts & { readonly code: NodeVersionCode }) {
    super(message, { ...options, code: options.code })
  }
}

/** What is wrong with the body of a request. */
export type BodyCode =
  "BODY_TOO_LARGE" | "BODY_TIMEOUT" | "BODY_UNSUPPORTED" | "BODY_CONSUMED" | "BODY_TRUNCATED" | "INVALID_JSON"

/** The body of a request is too large, too slow, compressed, incomplete, not JSON, or was read before. */
export class BodyError extends IronflowError {
  declare readonly _tag: "BodyError"
  /** The codes of this class. */
  declare readonly code: BodyCode
  constructor(
    message: string,
    options: Facts<"retryable" | "status"> & {
      readonly code: BodyCode
    }
  ) {
    super(message, { ...options, code: options.code })
  }
}

/** A message between worker and engine was damaged in transit. It had no effect, and is sent again. */
export class MessageDamagedError extends IronflowError {
  declare readonly _tag: "MessageDamagedError"
  constructor(message: string, options: Facts = {}) {
    super(message, { ...options, code: "MESSAGE_DAMAGED", retryable: true })
  }
}

/** Why the request is a repetition or too late. */
export type StaleRequestCode = "STALE_BATCH" | "STALE_REGISTRATION" | "STALE_EXECUTION" | "RUN_NOT_RUNNING"

/**
 * A request of a worker was a repetition or came too late, and changed nothing. Workers handle this error.
 */
export class StaleRequestError extends IronflowError {
  declare readonly _tag: "StaleRequestError"
  /** The codes of this class. */
  declare readonly code: StaleRequestCode
  constructor(message: string, options: Facts & { readonly code: StaleRequestCode }) {
    super(message, { ...options, code: options.code })
  }
}

/** No push endpoint has this URL or id. */
export class EndpointNotFoundError extends NotFoundError {
  declare readonly _tag: "EndpointNotFoundError"
  /** The unknown URL or id. */
  readonly url: string
  constructor(url: string) {
    super(`There is no push endpoint "${url}" in this environment`, {
      code: "ENDPOINT_NOT_FOUND",
      details: { url }
    })
    this.url = url
  }
}

/** A push endpoint does not answer, or its response is not that of a push endpoint. */
export class EndpointUnavailableError extends IronflowError {
  declare readonly _tag: "EndpointUnavailableError"
  constructor(message: string, options: Facts<"retryable" | "status"> = {}) {
    super(message, { ...options, code: "ENDPOINT_UNAVAILABLE" })
  }
}
