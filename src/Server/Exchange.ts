/** One HTTP request and its response: reads the request from its connection, and sends the response. */
import type * as Http from "node:http"
import { constants, type ServerHttp2Stream } from "node:http2"
import * as Cookies from "effect/http/Cookies"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type { PendingInput, InputBudget } from "../Engine/InputBudget.ts"
import { CHANNEL_HEADER } from "../Protocol/Http/Channel.ts"
import { channel } from "../Protocol/Server.ts"
import { TRACEPARENT } from "../Trace.ts"
import type { IncomingRequest } from "./RequestHandler.ts"
import { type BodyBudget, readBytes, readJson } from "./Http/Body.ts"
import type { Reply } from "./Http/Route.ts"
import { type UnreadMemory, UNREAD_MS } from "./Http/UnreadResponses.ts"
import { cutConnection } from "./NodeServer.ts"

/** An HTTP/1.1 request; or an HTTP/2 request, with its stream. */
export type HttpRequest = Http.IncomingMessage & { readonly stream?: ServerHttp2Stream }

export const respond = (
  reply: Reply,
  request: Http.IncomingMessage,
  corsHeaders: { readonly [name: string]: string } | undefined
): HttpServerResponse.HttpServerResponse => {
  const response = withoutCookies(reply, request, corsHeaders)
  const { cookies } = reply
  return cookies === undefined
    ? response
    : HttpServerResponse.updateCookies(response, () => Cookies.fromSetCookie(cookies))
}

const withoutCookies = (
  { body, bytes, headers, closesConnection = false, status, text, type = "application/json" }: Reply,
  request: Http.IncomingMessage,
  corsHeaders: { readonly [name: string]: string } | undefined
): HttpServerResponse.HttpServerResponse => {
  const allHeaders = {
    ...headers,
    ...corsHeaders,
    [CHANNEL_HEADER]: channel.path,
    // The connection is closed after an unread body, since the rest of the body would be parsed as the next request.
    // It is also closed when this engine does not have the worker that calls: behind a balancer, the worker
    // keeps only connections to the engine where it is registered. Otherwise the worker would register with one
    // engine after the other.
    ...((request.complete || !hasBody(request)) && !(closesConnection && request.httpVersionMajor === 1)
      ? {}
      : { connection: "close" })
  }
  if (body !== undefined) {
    return HttpServerResponse.raw(body, { status, contentType: type, headers: allHeaders })
  }
  if (bytes !== undefined) {
    return HttpServerResponse.uint8Array(bytes, { status, contentType: type, headers: allHeaders })
  }
  return text === undefined
    ? HttpServerResponse.empty({ status, headers: allHeaders })
    : HttpServerResponse.text(text, { status, contentType: type, headers: allHeaders })
}

export const httpRequest = (
  request: HttpRequest,
  response: Http.ServerResponse,
  inputBudget: InputBudget
): IncomingRequest => {
  let input: PendingInput | undefined
  const release = (): void => input?.end()
  const connection = request.stream?.session ?? request.socket
  const budget: BodyBudget = {
    inputBudget,
    connection,
    onInput: (newInput) => {
      input = newInput
      response.once("close", release)
    }
  }
  return {
    method: request.method ?? "GET",
    url: request.url ?? "/",
    request,
    trace: request.headers[TRACEPARENT],
    connection,
    readJson: (limits) => readJson(request, limits, budget),
    readBytes: (limits) => readBytes(request, limits, budget),
    release: () => {
      release()
      // Node would keep unread data of an HTTP/2 stream in memory until the stream ends.
      if (input === undefined && request.stream !== undefined) request.resume()
    }
  }
}

/**
 * How much memory a response takes until it is read, in bytes. For a small text, the number of its characters is
 * enough.
 */
export const bytesOf = ({ bytes, text = "" }: Reply): number =>
  bytes !== undefined
    ? bytes.length
    : text.length > SMALL_ANSWER_BYTES
      ? Buffer.byteLength(text)
      : text.length

/** Limits how long a client may take to read a response, and counts the response against the memory for unread responses. */
export const limitUnread = (
  unread: UnreadMemory,
  { complete, socket, stream }: HttpRequest,
  response: Http.ServerResponse,
  length: number
): void => {
  if (stream === undefined) {
    // Node restarts this timeout whenever data is sent, and replaces it after the response
    socket.setTimeout(UNREAD_MS)
    if (length <= SMALL_ANSWER_BYTES) return
  } else {
    stream.setTimeout(UNREAD_MS, () => cutSession(stream))
    // the rest of the body is not read
    if (!complete) response.once("finish", () => stream.close())
  }
  const buffer = unread.sendBuffer(() => (stream === undefined ? cutConnection(socket) : cutSession(stream)))
  buffer.set(length)
  response.once("close", () => buffer.set(0))
}

/**
 * On HTTP/1.1, a response of at most this many bytes does not count against the shared memory, since a connection has
 * one response at a time.
 */
const SMALL_ANSWER_BYTES = 64 * 1024

const cutSession = ({ session }: ServerHttp2Stream): void =>
  session?.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM)

const hasBody = ({ headers }: Http.IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0
