/**
 * What all calls over HTTP have in common: the answer is read, and a call that fails is repeated if it is safe to
 * repeat, or if the server has certainly not received it.
 */
import * as Effect from "effect/Effect"
import { validated } from "../CheckAsEffect.ts"
import { calculateBackoff } from "../Backoff.ts"
import { ConnectionError, type IronflowError, type TimeoutError } from "../Errors.ts"
import { safeJsonParse } from "../Json.ts"
import { checkWellFormed } from "../Limits.ts"
import { type CallAddress, pathOf } from "../Protocol/Http/CallAddress.ts"
import { show } from "../Show.ts"
import type { Connection } from "./HttpConnection.ts"
import type { Answer, Request } from "./HttpExchange.ts"
import {
  failureOf,
  invalidResponseError,
  isFromEngine,
  isFromServer,
  isCallMissing,
  isNotFoundInText,
  unsupportedError
} from "./HttpFailures.ts"
import { isSurelyNotReceived } from "./NotReceived.ts"
import type { RetryEvent } from "./Retry.ts"

/** A call: what to send, and how to read the answer. */
export interface Call<A> {
  readonly address: CallAddress
  readonly variables?: { readonly [name: string]: string }
  readonly query?: string
  /** JSON, or data of the type in `contentType`. */
  readonly body?: string | Uint8Array
  readonly contentType?: string
  readonly headers?: { readonly [name: string]: string }
  /** The call as the user wrote it, for messages. */
  readonly what: string
  /** Whether the call is safe to repeat. */
  readonly repeatable: boolean
  /** Whether the call is never repeated, even if it is certain that the server did not receive it. */
  readonly isNeverRepeated?: boolean
  /** Makes the error for a 404, for servers that do not send an error of their own. */
  readonly notFound?: () => IronflowError
  /** Makes the error for a 412 from the text of the answer, for servers that do not send an error of their own. */
  readonly preconditionFailed?: (text: string) => IronflowError
  /** Makes the error for a 409, for servers that do not send an error of their own. */
  readonly conflict?: () => IronflowError
  /** What to do when the server does not have the call. `status` is the status of its answer. */
  readonly whenUnsupported?: (status: number) => Effect.Effect<A, IronflowError>
  /**
   * Whether only our engine has the call. Then a 404 of another Ironflow server means that this server lacks the
   * call.
   */
  readonly onlyOurEngine?: boolean
  /** Whether legacy servers say "not found" in plain text. */
  readonly notFoundIsText?: boolean
  readonly timeoutMs?: number
  /**
   * Reads the answer; `undefined` when it cannot be read. If the answer is not JSON, the argument is
   * {@link notJson}.
   */
  readonly read: (answer: unknown) => A | undefined
}

export interface Calls {
  /** Makes a call. */
  readonly call: <A>(call: Call<A>) => Effect.Effect<A, IronflowError>
  /** Makes a `whenUnsupported` that fails. `advice` tells the user what to do with a server that lacks the call. */
  readonly failUnsupported: (
    what: string,
    advice: string
  ) => (status: number) => Effect.Effect<never, IronflowError>
}

/** Makes the calls, over a connection. */
export const makeCalls = (connection: Connection): Calls => {
  const { url } = connection.server

  const makeCall = <A>(call: Call<A>): Effect.Effect<A, IronflowError> =>
    Effect.flatMap(
      validated(() => {
        for (const [name, text] of Object.entries(call.variables ?? {})) checkWellFormed(`The ${name}`, text)
        return pathOf(call.address, call.variables)
      }),
      (path) => callAt(path, call)
    )

  const callAt = <A>(path: string, call: Call<A>): Effect.Effect<A, IronflowError> => {
    const request: Request = {
      method: call.address.method,
      path: path + (call.query ?? ""),
      what: call.what,
      ...(call.body === undefined ? {} : { body: call.body }),
      ...(call.contentType === undefined ? {} : { contentType: call.contentType }),
      ...(call.headers === undefined ? {} : { headers: call.headers }),
      ...(call.timeoutMs === undefined ? {} : { timeoutMs: call.timeoutMs })
    }
    return Effect.flatMap(
      call.isNeverRepeated === true
        ? connection.send(request)
        : sendWithRetries(connection, request, call.repeatable, 1),
      (answer): Effect.Effect<A, IronflowError> => {
        const { status, text } = answer
        if (status >= 200 && status < 300) {
          const body = text === "" ? undefined : safeJsonParse(text, notJson)
          const value = call.read(body)
          return value === undefined
            ? Effect.fail(
                invalidResponseError(
                  url,
                  call.what,
                  body === notJson ? "it is not JSON" : "it lacks required fields",
                  text
                )
              )
            : Effect.succeed(value)
        }
        const isFromLegacy = isFromServer(answer) && !isFromEngine(answer)
        const isMissing =
          isCallMissing(answer) || (call.onlyOurEngine === true && status === 404 && isFromLegacy)
        if (isMissing && call.whenUnsupported !== undefined) return call.whenUnsupported(status)
        if (isFromLegacy) {
          if (status === 412 && call.preconditionFailed !== undefined)
            return Effect.fail(call.preconditionFailed(text))
          if (status === 409 && call.conflict !== undefined) return Effect.fail(call.conflict())
        }
        if (call.notFoundIsText === true && call.notFound !== undefined && isNotFoundInText(answer)) {
          return Effect.fail(call.notFound())
        }
        return Effect.fail(failureOf(answer, call.what, call.notFound))
      }
    )
  }

  return {
    call: makeCall,
    failUnsupported: (what, advice) => (status) => Effect.fail(unsupportedError(url, what, advice, status))
  }
}

/** The argument of {@link Call.read} for an answer that is not JSON. */
const notJson = Symbol("not JSON")

/** What {@link Call.read} returns when it does not matter what the answer holds. */
export const ignoredAnswer = Symbol("done")

const isBusy = (status: number): boolean => status === 429 || status === 502 || status === 503

const sendWithRetries = (
  connection: Connection,
  request: Request,
  repeatable: boolean,
  attempt: number
): Effect.Effect<Answer, ConnectionError | TimeoutError> => {
  const { backoffFactor, connectionDelayMs, initialDelayMs, maxAttempts, maxDelayMs, onRetry } =
    connection.server.retry
  if (attempt >= maxAttempts) return connection.send(request)
  const tryAgain = (delayMs: number, reason: Pick<RetryEvent, "status" | "error">) =>
    Effect.suspend(() => {
      onRetry?.({ call: request.what, attempt, maxAttempts, delayMs, ...reason })
      return Effect.delay(sendWithRetries(connection, request, repeatable, attempt + 1), delayMs)
    })
  return Effect.matchEffect(connection.send(request), {
    onSuccess: (answer) =>
      repeatable && isBusy(answer.status)
        ? tryAgain(calculateBackoff(attempt, initialDelayMs, maxDelayMs, backoffFactor), {
            status: answer.status
          })
        : Effect.succeed(answer),
    onFailure: (error) =>
      error instanceof ConnectionError && (repeatable || isSurelyNotReceived(error))
        ? tryAgain(connectionDelayMs, { error })
        : Effect.fail(error)
  })
}

/** The JSON of an object whose members are already JSON. Absent members are left out. */
export const jsonObject = (members: { readonly [name: string]: string | undefined }): string => {
  const parts: Array<string> = []
  for (const [name, text] of Object.entries(members)) {
    if (text !== undefined) parts.push(`${JSON.stringify(name)}:${text}`)
  }
  return `{${parts.join(",")}}`
}

export const quote = (text: unknown): string => show(text, 256)
