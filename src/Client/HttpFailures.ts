/** Makes errors from answers that are not 2xx, or that cannot be read. */
import {
  ConnectionError,
  InvalidResponseError,
  InvalidStateError,
  type IronflowError,
  ServerError,
  UnavailableError,
  UnsupportedError,
  ValidationError,
  withStatus
} from "../Errors.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { isMarkup, isServerFailure, readFailure } from "../Protocol/Http/Failures.ts"
import type { Answer } from "./HttpExchange.ts"

/**
 * The error of an answer that is not 2xx. An error of our engine keeps its class; an error of a legacy server gets
 * a class by its status. `notFound` makes the error for a 404 of a legacy server.
 */
export const failureOf = (answer: Answer, what: string, notFound?: () => IronflowError): IronflowError => {
  const { status } = answer
  const error = readFailure(status, answer.text, what, answer.serverHeader)
  // errors of our engine, and of some statuses, already have their class
  if (!(error instanceof ServerError) || isFromEngine(answer)) return error
  switch (status) {
    case 400:
    case 413:
    case 422:
      return withStatus(
        isStateError(answer) ? new InvalidStateError(error.message) : new ValidationError(error.message),
        status
      )
    case 404:
      return isFromServer(answer)
        ? withStatus(notFound?.() ?? withCode(error, "NOT_FOUND"), status)
        : new InvalidResponseError(error.message, { status })
    case 409:
      return withCode(error, "CONFLICT")
    case 412:
      return withCode(error, "PRECONDITION_FAILED")
    case 429:
      return error.code === "UNKNOWN_ERROR"
        ? withStatus(new UnavailableError(error.message, { code: "RATE_LIMITED" }), status)
        : error
    default:
      return withCode(error, status >= 500 ? "SERVER_ERROR" : `HTTP_${status}`)
  }
}

const isStateError = ({ text }: Answer): boolean => {
  const body = safeJsonParse(text)
  return isObject(body) && (body.code === "failed_precondition" || body.code === "INVALID_STATE")
}

/** The error with a more specific code, if the server has not sent one itself. */
const withCode = (error: ServerError, code: string): ServerError =>
  error.code !== "UNKNOWN_ERROR"
    ? error
    : new ServerError(error.message, {
        code,
        retryable: error.retryable,
        ...(error.status === undefined ? {} : { status: error.status })
      })

/**
 * Whether the answer says that the server lacks the call, and not that a run or function does not exist.
 */
export const isCallMissing = (answer: Answer): boolean => {
  const { status, text } = answer
  if (status === 501 || status === 405) return !isMarkup(text)
  if (status !== 404) return false
  if (isUnknownPath(answer)) return true
  const body = safeJsonParse(text)
  return isObject(body) && (body.code === "unimplemented" || body.code === "ROUTE_NOT_FOUND")
}

/** Whether the error comes from an engine of this package. */
export const isFromEngine = ({ text }: Answer): boolean => {
  const body = safeJsonParse(text)
  return isObject(body) && isObject(body.details) && isObject(body.details.error)
}

/** Whether the error comes from an Ironflow server. */
export const isFromServer = ({ status, text }: Answer): boolean => isServerFailure(status, text)

/** Whether the answer is the plain-text 404 of legacy servers for an unknown path. */
export const isUnknownPath = ({ status, text }: Answer): boolean =>
  status === 404 && text.trim() === "404 page not found"

/** Whether the answer is the plain-text 404 of legacy servers for an unknown run or step. */
export const isNotFoundInText = ({ status, text }: Answer): boolean =>
  status === 404 && /^[^<{]*\b(run|step)\b[^<]*\bnot found\b/i.test(text)

/**
 * Does what {@link failureOf} does, for callers that outlast outages: only the error of an Ironflow server is
 * final. Any other answer counts as an outage, whatever its status.
 */
export const serverFailureOf = (answer: Answer, what: string): IronflowError =>
  isFromServer(answer) ? failureOf(answer, what) : notAnIronflowServerError(answer, what)

/** The error for an answer that does not come from an Ironflow server. */
export const notAnIronflowServerError = ({ status, text }: Answer, what: string): ConnectionError =>
  new ConnectionError(
    `${what} failed with status ${status}: something else, such as a gateway, has answered in place of an Ironflow server. ` +
      `The answer ${text === "" ? "is empty" : `begins with ${JSON.stringify(text.slice(0, 100))}`}`,
    { status }
  )

/** The error for a feature that the server lacks. `status` is the status of its answer, `advice` what the user can do. */
export const unsupportedError = (
  url: string,
  what: string,
  advice: string,
  status: number
): UnsupportedError =>
  new UnsupportedError(
    `${what} is not possible: the server at ${url} does not support this. The server is an Ironflow engine that is older than this package, or a ` +
      `legacy server. ${advice}`,
    { status }
  )

/** The error for a 2xx answer that cannot be read. */
export const invalidResponseError = (
  url: string,
  what: string,
  problem: string,
  text: string
): InvalidResponseError =>
  new InvalidResponseError(
    `${what} got an answer from ${url} that cannot be read: ${problem}. Is this the address of an Ironflow server? ` +
      `The answer begins with ${JSON.stringify(text.slice(0, 100))}`
  )
