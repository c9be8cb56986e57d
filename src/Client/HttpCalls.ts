/** What every call over HTTP has in common: repeating it where that does no harm, and what its answer means. */
import * as Effect from "effect/Effect"
import { validated } from "../Checked.ts"
import { calculateBackoff } from "../Backoff.ts"
import { ConnectionError, type IronflowError, type TimeoutError } from "../Errors.ts"
import { safeJsonParse } from "../Json.ts"
import { checkWhole } from "../Limits.ts"
import { type Endpoint, pathOf } from "../Protocol/Http/Endpoints.ts"
import { show } from "../Show.ts"
import type { Connection } from "./HttpConnection.ts"
import type { Answer, Request } from "./HttpExchange.ts"
import {
  failureOf,
  invalidResponse,
  isFromOurEngine,
  isFromServer,
  isMissingEndpoint,
  isNotFoundInText,
  unsupported
} from "./HttpFailures.ts"
import { isSurelyNotReceived } from "./NotReceived.ts"
import type { RetryEvent } from "./Retry.ts"

/** A call: what to send, and what the answer means. */
export interface Call<A> {
  readonly endpoint: Endpoint
  readonly variables?: { readonly [name: string]: string }
  readonly query?: string
  /** JSON text, or what `contentType` names. */
  readonly body?: string | Uint8Array
  readonly contentType?: string
  readonly headers?: { readonly [name: string]: string }
  /** The call as the user wrote it. */
  readonly what: string
  /** Whether making it twice does no harm. */
  readonly repeatable: boolean
  /** Whether it is not even made again when the server surely did not receive it. */
  readonly once?: boolean
  /** What 404 means, on servers that do not say. */
  readonly notFound?: () => IronflowError
  /** What 412 means, on servers that do not say; it is given what they do say. */
  readonly refused?: (text: string) => IronflowError
  /** What 409 means, on servers that do not say. */
  readonly conflict?: () => IronflowError
  /** What to do on servers without the endpoint, which say so with `status`. */
  readonly orElse?: (status: number) => Effect.Effect<A, IronflowError>
  /** Whether a 404 of another Ironflow server says that the endpoint is missing: only our engine has it. */
  readonly ours?: boolean
  /** Whether legacy servers say in plain text that something is not found. */
  readonly saysText?: boolean
  readonly timeoutMs?: number
  /** What the answer holds, `undefined` when it cannot be read. Text that is not JSON comes as {@link notJson}. */
  readonly read: (answer: unknown) => A | undefined
}

export interface Calls {
  /** Makes a call. */
  readonly call: <A>(call: Call<A>) => Effect.Effect<A, IronflowError>
  /** For `orElse`: the server has no such endpoint; `instead` says what it has. */
  readonly withoutEndpoint: (
    what: string,
    instead: string
  ) => (status: number) => Effect.Effect<never, IronflowError>
}

/** Calls over a connection. */
export const makeCalls = (connection: Connection): Calls => {
  const { url } = connection.server

  const call = <A>(it: Call<A>): Effect.Effect<A, IronflowError> =>
    Effect.flatMap(
      validated(() => {
        for (const [name, text] of Object.entries(it.variables ?? {})) checkWhole(`The ${name}`, text)
        return pathOf(it.endpoint, it.variables)
      }),
      (path) => callAt(path, it)
    )

  const callAt = <A>(path: string, it: Call<A>): Effect.Effect<A, IronflowError> => {
    const request: Request = {
      method: it.endpoint.method,
      path: path + (it.query ?? ""),
      what: it.what,
      ...(it.body === undefined ? {} : { body: it.body }),
      ...(it.contentType === undefined ? {} : { contentType: it.contentType }),
      ...(it.headers === undefined ? {} : { headers: it.headers }),
      ...(it.timeoutMs === undefined ? {} : { timeoutMs: it.timeoutMs })
    }
    return Effect.flatMap(
      it.once === true ? connection.send(request) : sendAgain(connection, request, it.repeatable, 1),
      (answer): Effect.Effect<A, IronflowError> => {
        const { status, text } = answer
        if (status >= 200 && status < 300) {
          const body = text === "" ? undefined : safeJsonParse(text, notJson)
          const value = it.read(body)
          return value === undefined
            ? Effect.fail(
                invalidResponse(
                  url,
                  it.what,
                  body === notJson ? "it is not JSON" : "what it should hold is not in it",
                  text
                )
              )
            : Effect.succeed(value)
        }
        const isOther = isFromServer(answer) && !isFromOurEngine(answer)
        const missing = isMissingEndpoint(answer) || (it.ours === true && status === 404 && isOther)
        if (missing && it.orElse !== undefined) return it.orElse(status)
        if (isOther) {
          if (status === 412 && it.refused !== undefined) return Effect.fail(it.refused(text))
          if (status === 409 && it.conflict !== undefined) return Effect.fail(it.conflict())
        }
        if (it.saysText === true && it.notFound !== undefined && isNotFoundInText(answer)) {
          return Effect.fail(it.notFound())
        }
        return Effect.fail(failureOf(answer, it.what, it.notFound))
      }
    )
  }

  return {
    call,
    withoutEndpoint: (what, instead) => (status) => Effect.fail(unsupported(url, what, instead, status))
  }
}

/** What {@link Call.read} gets for an answer that is not JSON. */
const notJson = Symbol("not JSON")

/** What {@link Call.read} returns when nothing of the answer matters. */
export const done = Symbol("done")

const isBusy = (status: number): boolean => status === 429 || status === 502 || status === 503

const sendAgain = (
  connection: Connection,
  request: Request,
  repeatable: boolean,
  attempt: number
): Effect.Effect<Answer, ConnectionError | TimeoutError> => {
  const { backoffFactor, connectionDelayMs, initialDelayMs, maxAttempts, maxDelayMs, onRetry } =
    connection.server.retry
  if (attempt >= maxAttempts) return connection.send(request)
  const next = (delayMs: number, why: Pick<RetryEvent, "status" | "error">) =>
    Effect.suspend(() => {
      onRetry?.({ call: request.what, attempt, maxAttempts, delayMs, ...why })
      return Effect.delay(sendAgain(connection, request, repeatable, attempt + 1), delayMs)
    })
  return Effect.matchEffect(connection.send(request), {
    onSuccess: (answer) =>
      repeatable && isBusy(answer.status)
        ? next(calculateBackoff(attempt, initialDelayMs, maxDelayMs, backoffFactor), {
            status: answer.status
          })
        : Effect.succeed(answer),
    onFailure: (error) =>
      error instanceof ConnectionError && (repeatable || isSurelyNotReceived(error))
        ? next(connectionDelayMs, { error })
        : Effect.fail(error)
  })
}

/** JSON text of an object whose members are JSON text; those that are absent are left out. */
export const object = (members: { readonly [name: string]: string | undefined }): string => {
  const parts: Array<string> = []
  for (const [name, text] of Object.entries(members)) {
    if (text !== undefined) parts.push(`${JSON.stringify(name)}:${text}`)
  }
  return `{${parts.join(",")}}`
}

export const quote = (text: unknown): string => show(text, 256)
