/** What an answer that is not the expected one means: the error that the caller gets. */
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
import { isMarkup, isOfServer, readFailure } from "../Protocol/Http/Failures.ts"
import type { Answer } from "./HttpExchange.ts"

/**
 * The error of an answer that is not 2xx. Errors of our engine come back as they were; those of legacy servers are told by
 * their status. `notFound` is what 404 means for the call when the server says it.
 */
export const failureOf = (answer: Answer, what: string, notFound?: () => IronflowError): IronflowError => {
  const { status } = answer
  const error = readFailure(status, answer.text, what, answer.by)
  // what our engine says has its class already, and so have some statuses
  if (!(error instanceof ServerError) || isFromOurEngine(answer)) return error
  switch (status) {
    case 400:
    case 413:
    case 422:
      return withStatus(
        isState(answer) ? new InvalidStateError(error.message) : new ValidationError(error.message),
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

const isState = ({ text }: Answer): boolean => {
  const body = safeJsonParse(text)
  return isObject(body) && (body.code === "failed_precondition" || body.code === "INVALID_STATE")
}

/** The same with a code that tells more, unless the server gave one. */
const withCode = (error: ServerError, code: string): ServerError =>
  error.code !== "UNKNOWN_ERROR"
    ? error
    : new ServerError(error.message, {
        code,
        retryable: error.retryable,
        ...(error.status === undefined ? {} : { status: error.status })
      })

/** Whether the answer says that the server has no such endpoint, rather than no such run or function. */
export const isMissingEndpoint = (answer: Answer): boolean => {
  const { status, text } = answer
  if (status === 501 || status === 405) return !isMarkup(text)
  if (status !== 404) return false
  if (isUnknownPath(answer)) return true
  const body = safeJsonParse(text)
  return isObject(body) && (body.code === "unimplemented" || body.code === "ROUTE_NOT_FOUND")
}

/** Whether the error in the answer was made by an engine of this package. */
export const isFromOurEngine = ({ text }: Answer): boolean => {
  const body = safeJsonParse(text)
  return isObject(body) && isObject(body.details) && isObject(body.details.error)
}

/** Whether the error in the answer was made by an Ironflow server. */
export const isFromServer = ({ status, text }: Answer): boolean => isOfServer(status, text)

/** Whether it is what legacy servers say, in plain text, at a path where they have nothing. */
export const isUnknownPath = ({ status, text }: Answer): boolean =>
  status === 404 && text.trim() === "404 page not found"

/** Whether it is what legacy servers say in plain text of a run or step that they do not have. */
export const isNotFoundInText = ({ status, text }: Answer): boolean =>
  status === 404 && /^[^<{]*\b(run|step)\b[^<]*\bnot found\b/i.test(text)

/**
 * {@link failureOf} for those who go on after an outage: only what an Ironflow server says itself can be final. What
 * something else answers in its place is an outage, whatever the status.
 */
export const serverFailureOf = (answer: Answer, what: string): IronflowError =>
  isFromServer(answer) ? failureOf(answer, what) : notOfServer(answer, what)

/** Something else has answered in place of the server. */
export const notOfServer = ({ status, text }: Answer, what: string): ConnectionError =>
  new ConnectionError(
    `${what} failed with status ${status}: the answer is not one of an Ironflow server but of something else, such as ` +
      `a gateway. It ${text === "" ? "is empty" : `begins with ${JSON.stringify(text.slice(0, 100))}`}`,
    { status }
  )

/** The server cannot do what was asked of it, as it has said with `status`. */
export const unsupported = (url: string, what: string, instead: string, status: number): UnsupportedError =>
  new UnsupportedError(
    `${what} is not possible: the server at ${url} does not have it. It is an older engine than this package, or ` +
      `another Ironflow server. ${instead}`,
    { status }
  )

/** A 2xx answer that makes no sense. */
export const invalidResponse = (
  url: string,
  what: string,
  problem: string,
  text: string
): InvalidResponseError =>
  new InvalidResponseError(
    `${what} got an answer from ${url} that cannot be read: ${problem}. Is it an Ironflow server? ` +
      `The answer begins with ${JSON.stringify(text.slice(0, 100))}`
  )
