/**
 * Sends one request to an Ironflow server over Effect's `HttpClient`, with the address of the server, headers and
 * a timeout. Errors of the transport become errors of this package. The caller reads the answer.
 */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import { ENV_VARS } from "../Constants.ts"
import { ConnectionError, TimeoutError } from "../Errors.ts"
import { CHANNEL_HEADER } from "../Protocol/Http/Channel.ts"
import { Channels } from "./Channel.ts"
import { environmentHeader, type ResolvedServer } from "./HttpOptions.ts"
import { timeoutOrElse, readPendingInput } from "./PatientTimeout.ts"
import { NOT_RECEIVED } from "./NotReceived.ts"
import { TRACEPARENT, withTrace } from "../Trace.ts"
import type { Answer, Request } from "./HttpExchange.ts"
import { causesOf, mayNeedTls, tlsProblem } from "./TlsMismatch.ts"
import { showMs } from "../Show.ts"

export interface Connection {
  readonly server: ResolvedServer
  /** Sends a request once. */
  readonly send: (request: Request) => Effect.Effect<Answer, ConnectionError | TimeoutError>
  /** Sends later requests with this API key, or without a key if it is `undefined`. */
  readonly useApiKey: (apiKey: string | undefined) => void
}

/**
 * When no answer has arrived for this long, in milliseconds, idle connections count as stale: the server may have
 * closed them. Then pending input is read before the next request is sent, to notice a closed connection. A
 * request that is sent on a closed connection fails, and it is not known whether the server received the request.
 */
const STALE_MS = 50

export const make = (server: ResolvedServer): Effect.Effect<Connection, never, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const http = yield* HttpClient.HttpClient
    const channel = (yield* Channels)?.(server)
    let answeredAt = Number.POSITIVE_INFINITY
    const makeHeaders = (): Record<string, string> => ({
      ...environmentHeader(server),
      accept: "application/json",
      ...(server.apiKey === undefined ? {} : { authorization: `Bearer ${server.apiKey}` })
    })
    let headers = makeHeaders()
    return {
      server,
      useApiKey: (apiKey) => {
        server.apiKey = apiKey
        headers = makeHeaders()
        channel?.leave()
      },
      send: (untracedRequest) =>
        withTrace((trace) => {
          const request = trace.trace === undefined ? untracedRequest : { ...untracedRequest, ...trace }
          const { body, contentType = "application/json", method, path, what } = request
          const { timeoutMs = server.timeoutMs } = request
          const makeTimeoutError = () =>
            new TimeoutError(
              `${what} got no answer from ${server.url} within ${showMs(timeoutMs)}. The request may have been carried out`,
              timeoutMs
            )
          const channelCall = channel?.send(request, timeoutMs, makeTimeoutError)
          if (channelCall !== undefined) return channelCall
          const withoutBody = HttpClientRequest.make(method)(server.url + path, {
            headers:
              request.headers === undefined && request.trace === undefined
                ? headers
                : {
                    ...headers,
                    ...(request.trace === undefined ? {} : { [TRACEPARENT]: request.trace }),
                    ...request.headers
                  }
          })
          // Effect's client would make a span of its own; the server gets the caller's span instead
          const sendOnce = Effect.flatMap(
            withoutTracing(
              http.execute(
                body === undefined
                  ? withoutBody
                  : typeof body === "string"
                    ? HttpClientRequest.bodyText(withoutBody, body, contentType)
                    : HttpClientRequest.bodyUint8Array(withoutBody, body, contentType)
              )
            ),
            (response) => {
              answeredAt = performance.now()
              channel?.onHttpAnswer(response.headers[CHANNEL_HEADER])
              return Effect.map(response.text, (text) =>
                answerOf(response.status, text, response.headers["server"])
              )
            }
          )
          // real time, since sockets use it, even in a test with another clock
          const isStale = performance.now() - answeredAt >= STALE_MS
          const answer = isStale ? Effect.andThen(readPendingInput, sendOnce) : sendOnce
          return timeoutOrElse(
            Effect.mapError(answer, (error) =>
              connectionError(server, what, error, answeredAt !== Number.POSITIVE_INFINITY)
            ),
            timeoutMs,
            () => Effect.fail(makeTimeoutError())
          )
        })
    }
  })

const withoutTracing = Effect.provideService(HttpClient.TracerDisabledWhen, () => true)

const answerOf = (status: number, text: string, serverHeader: string | undefined): Answer =>
  status < 400 || serverHeader === undefined
    ? { status, text }
    : { status, text, serverHeader: serverHeader.slice(0, 100) }

const connectionError = (
  server: ResolvedServer,
  what: string,
  error: HttpClientError,
  hasAnswered: boolean
): ConnectionError =>
  new ConnectionError(
    `${what} failed: the Ironflow server at ${server.url} ${reasonOf(server, error, hasAnswered)}`,
    {
      // not the error itself, which contains the request and its API key
      cause: error.cause,
      ...(isBeforeSending(error) ? { details: NOT_RECEIVED } : {})
    }
  )

/** Whether the request failed before there was a connection. A connection that broke later may have carried the request. */
const isBeforeSending = (error: HttpClientError): boolean => {
  for (const cause of causesOf(error)) {
    if ("syscall" in cause && (cause.syscall === "connect" || cause.syscall === "getaddrinfo")) return true
    if ("code" in cause && cause.code === "UND_ERR_CONNECT_TIMEOUT") return true
  }
  return false
}

const reasonOf = (server: ResolvedServer, error: HttpClientError, hasAnswered: boolean): string => {
  const code = codeOf(error)
  const tlsReason = tlsProblem(server.url, error)
  if (tlsReason !== undefined) return tlsReason
  if (code?.startsWith("HPE_") === true) {
    return `gives an answer that is not HTTP (${code})${mayNeedTls(server.url)}`
  }
  switch (code) {
    case "ECONNREFUSED":
      return `refuses connections. Start it there, or set \`serverUrl\` or ${ENV_VARS.SERVER_URL} to where it is`
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return (
        `cannot be found: the host name ${URL.parse(server.url)?.hostname ?? server.url} does not resolve (${code}). ` +
        `Check \`serverUrl\` or ${ENV_VARS.SERVER_URL}`
      )
    case "ECONNRESET":
    case "EPIPE":
    case "UND_ERR_SOCKET":
      return (
        "closed the connection before it answered. It may have been stopped; the request may have been carried out" +
        (hasAnswered ? "" : mayNeedTls(server.url))
      )
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "UND_ERR_CONNECT_TIMEOUT":
      return `cannot be reached over the network (${code})`
    default:
      return `could not be reached: ${rootCause(error).message}${code === undefined ? "" : ` (${code})`}`
  }
}

const codeOf = (error: Error): string | undefined => {
  for (const cause of causesOf(error)) {
    if ("code" in cause && typeof cause.code === "string") return cause.code
  }
  return undefined
}

const rootCause = (error: Error): Error => [...causesOf(error)].at(-1) ?? error
