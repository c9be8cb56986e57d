/**
 * Converts errors to responses and back.
 *
 * An error keeps its class on the way: the serialized error is sent beside the fields that every client reads, and
 * {@link readFailure} restores it.
 */
import {
  ConnectionError,
  deserializeError,
  EnterpriseRequiredError,
  errorOfCode,
  InvalidStateError,
  IronflowError,
  isIronflowError,
  NotFoundError,
  type SerializedError,
  serializeError,
  ServerError,
  SignatureError,
  StoreError,
  StreamNotFoundError,
  TimeoutError,
  UnauthenticatedError,
  UnauthorizedError,
  ValidationError,
  VersionConflictError,
  withStatus
} from "../../Errors.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import type { Dialect } from "./CallAddress.ts"

export interface FailureResponse {
  readonly status: number
  readonly body: { readonly [key: string]: unknown }
}

/** The Connect code of an error, and its status in each dialect. */
interface Kind {
  readonly code: string
  readonly connect: number
  readonly rest: number
}

const kind = (code: string, connect: number, rest = connect): Kind => ({ code, connect, rest })

const kinds = {
  invalid: kind("invalid_argument", 400),
  tooLarge: kind("resource_exhausted", 413),
  notFound: kind("not_found", 404),
  unimplemented: kind("unimplemented", 404),
  state: kind("failed_precondition", 400, 409),
  conflict: kind("aborted", 409),
  exists: kind("already_exists", 409),
  precondition: kind("failed_precondition", 412),
  gone: kind("out_of_range", 410),
  unavailable: kind("unavailable", 503),
  unreachable: kind("unavailable", 502),
  timeout: kind("deadline_exceeded", 504),
  slow: kind("deadline_exceeded", 408),
  unauthenticated: kind("unauthenticated", 401),
  unauthorized: kind("permission_denied", 403),
  enterprise: kind("permission_denied", 402),
  unsupported: kind("invalid_argument", 415),
  tooMany: kind("resource_exhausted", 429),
  unknown: kind("unknown", 500),
  internal: kind("internal", 500),
  damaged: kind("data_loss", 500)
}

/** The kinds of those errors whose kind depends on their code, and not on their class. */
const kindsByCode: ReadonlyMap<string, Kind> = new Map([
  ["BODY_TOO_LARGE", kinds.tooLarge],
  ["BODY_TIMEOUT", kinds.slow],
  ["BODY_UNSUPPORTED", kinds.unsupported],
  ["ROUTE_NOT_FOUND", kinds.unimplemented],
  ["WORKER_UNKNOWN", kinds.notFound],
  ["ENDPOINT_UNAVAILABLE", kinds.unreachable],
  ["MASTER_KEY_MISSING", kinds.state],
  ["STALE_EXECUTION", kinds.conflict],
  ["RUN_NOT_RUNNING", kinds.conflict],
  ["STALE_BATCH", kinds.conflict],
  ["STALE_REGISTRATION", kinds.conflict],
  ["TOO_MANY_CALLS", kinds.tooMany],
  ["CLOSING", kinds.unavailable],
  ["MESSAGE_DAMAGED", kinds.unavailable],
  ["SERVER_BUSY", kinds.unavailable],
  ["STORE_CORRUPT", kinds.damaged],
  ["CONSUMER_GROUP_DELETED", kinds.notFound],
  ["CONSUMER_GROUP_EXISTS", kinds.exists],
  ["BUCKET_EXISTS", kinds.exists],
  ["REVISION_CONFLICT", kinds.precondition],
  ["REVISION_GONE", kinds.gone],
  ["PROJECTION_SAVE_REFUSED", kinds.conflict]
])

const kindOf = (error: IronflowError): Kind => {
  const kindByCode = kindsByCode.get(error.code)
  if (kindByCode !== undefined) return kindByCode
  if (error instanceof ValidationError) return kinds.invalid
  if (error instanceof NotFoundError) return kinds.notFound
  if (error instanceof VersionConflictError) return kinds.conflict
  if (error instanceof InvalidStateError) return kinds.state
  if (error instanceof StoreError || error instanceof ConnectionError) return kinds.unavailable
  if (error instanceof TimeoutError) return kinds.timeout
  if (error instanceof UnauthenticatedError || error instanceof SignatureError) return kinds.unauthenticated
  if (error instanceof UnauthorizedError) return kinds.unauthorized
  if (error instanceof EnterpriseRequiredError) return kinds.enterprise
  return kinds.unknown
}

/** The response for an Ironflow error. It contains no stack. */
export const failureResponse = (error: IronflowError, dialect: Dialect): FailureResponse => {
  const { code, connect, rest } = kindOf(error)
  const serialized = serializeError(error, { stack: false })
  // legacy clients compare this message literally
  const message = error instanceof StreamNotFoundError ? "stream not found" : error.message
  return dialect === "connect"
    ? {
        status: connect,
        // a ConnectRPC detail: `value` is the bytes of an empty message, `debug` may hold any JSON
        body: { code, message, details: [{ type: DETAIL, value: "", debug: serialized }] }
      }
    : {
        status: rest,
        body: {
          error: message,
          message,
          code: error.code,
          details: { error: serialized }
        }
      }
}

/** The response for a defect. It reveals no details. */
export const defectResponse = (dialect: Dialect): FailureResponse => {
  const message = "The engine failed because of a bug; its log has the details"
  return dialect === "connect"
    ? { status: kinds.internal.connect, body: { code: kinds.internal.code, message } }
    : { status: kinds.internal.rest, body: { error: message, message, code: "INTERNAL_ERROR" } }
}

const DETAIL = "ironflow.v1.ErrorDetail"

/**
 * The error in a response that is not 2xx, from any Ironflow server or from something else, such as a gateway. An error
 * of an engine of this package has its class and fields; any other error gets a class by its status and code. `text` is
 * the body, `what` is the call that failed, such as `emit "order.placed"`, and `sender` is the program that answered.
 * Never throws.
 */
export const readFailure = (status: number, text: string, what: string, sender?: string): IronflowError => {
  const body = safeJsonParse(text)
  const serialized = isObject(body) ? serializedErrorIn(body) : undefined
  if (serialized !== undefined) {
    const error = deserializeError(serialized)
    const { code, message, retryable = false } = serialized
    // `deserializeError` may find no class: older engines send none with some codes, and newer engines have classes
    // that this version does not know
    return isIronflowError(error) && error.constructor !== IronflowError
      ? withStatus(error, status)
      : errorWithCode(status, code, message, retryable, serialized.data?.["details"])
  }
  const summary = `${what} failed with status ${status}`
  const said = isObject(body) ? (textOf(body.message) ?? textOf(body.error) ?? textOf(body.code)) : undefined
  const message = isForeignAnswer(status, text)
    ? foreignAnswerMessage(status, text, what, sender)
    : said !== undefined
      ? said
      : text.trim() === ""
        ? `${summary}, and the answer is empty`
        : isObject(body)
          ? `${summary}: ${text.slice(0, 1000)}`
          : // unchanged, because with this text a legacy server says what the current version of a stream is
            text.slice(0, 1000)
  switch (status) {
    case 401:
      return new UnauthenticatedError(message)
    case 402:
      return new EnterpriseRequiredError(message)
    case 403:
      return new UnauthorizedError(message)
    case 408:
    case 502:
    case 503:
    case 504:
      return new ConnectionError(message.startsWith(summary) ? message : `${summary}: ${message}`, { status })
    default: {
      const code = isObject(body) ? textOf(body.code) : undefined
      // ConnectRPC codes are in lower case; the codes of Ironflow are not
      const ironflowCode = code === code?.toLowerCase() ? undefined : code
      const details = isObject(body) ? body.details : undefined
      return errorWithCode(status, ironflowCode, message, status === 429 || status >= 500, details)
    }
  }
}

/** Makes the error of the class that has the code, or else a `ServerError`. */
const errorWithCode = (
  status: number,
  code = "UNKNOWN_ERROR",
  message: string,
  retryable: boolean,
  details: unknown
): IronflowError => {
  const options = { status, retryable, ...(details === undefined ? {} : { details }) }
  return errorOfCode(code, message, options) ?? new ServerError(message, { ...options, code })
}

/** Whether an Ironflow server has made the error answer: it is JSON, with a text in `code` or `error`. */
export const isServerFailure = (status: number, text: string): boolean => {
  const body = safeJsonParse(text)
  if (!isObject(body) || (typeof body.code !== "string" && typeof body.error !== "string")) return false
  // bodies with these members are typical of web frameworks
  return !("statusCode" in body || "status" in body || (status === 404 && body.error === "Not Found"))
}

/**
 * Whether something else than an Ironflow server has answered: the answer is HTML or XML, or a 404 in a form that no Ironflow
 * server sends.
 */
const isForeignAnswer = (status: number, text: string): boolean =>
  isMarkup(text) || (status === 404 && !isServerFailure(status, text))

/** Whether the text is HTML or XML: no Ironflow server sends that. */
export const isMarkup = (text: string): boolean => text.trimStart().startsWith("<")

/** How many characters of an answer a message quotes, if the answer is not from an Ironflow server. */
const MAX_SHOWN_CHARS = 200

const foreignAnswerMessage = (
  status: number,
  text: string,
  what: string,
  sender: string | undefined
): string => {
  const answer = text.trim()
  return (
    `${what} failed with status ${status}: something else` +
    `${sender === undefined ? ", such as a gateway," : ` (${sender})`} has answered in place of an Ironflow server. ` +
    (answer === ""
      ? "The answer is empty"
      : `The answer ${answer.length > MAX_SHOWN_CHARS ? "begins with" : "is"} ${JSON.stringify(answer.slice(0, MAX_SHOWN_CHARS))}`) +
    ". Check the server URL"
  )
}

const serializedErrorIn = (body: { readonly [key: string]: unknown }): SerializedError | undefined => {
  const { details } = body
  const found: unknown = Array.isArray(details)
    ? details.find((detail) => isObject(detail) && detail.type === DETAIL)?.debug
    : isObject(details)
      ? details.error
      : undefined
  return isObject(found) && typeof found.name === "string" && typeof found.message === "string"
    ? // the two required fields are present; `deserializeError` tolerates the rest
      (found as unknown as SerializedError)
    : undefined
}

const textOf = (value: unknown): string | undefined =>
  typeof value === "string" && value !== "" ? value : undefined
