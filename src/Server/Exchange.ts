/** One request of HTTP and its answer: how it is read off the connection, and how the answer is seen off. */
import type * as Http from "node:http"
import { constants, type ServerHttp2Stream } from "node:http2"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type { Arrival, Intake } from "../Engine/Intake.ts"
import { CHANNEL_HEADER } from "../Protocol/Http/Channel.ts"
import { channel } from "../Protocol/Server.ts"
import { TRACEPARENT } from "../Trace.ts"
import type { Asked } from "./Answers.ts"
import { readBytes, readJson, type Room } from "./Http/Body.ts"
import type { Reply } from "./Http/Route.ts"
import { type Unread, UNREAD_MS } from "./Http/Unread.ts"
import { cut } from "./NodeServer.ts"

/** A request of HTTP/1.1, or one of HTTP/2 with its stream. */
export type HttpRequest = Http.IncomingMessage & { readonly stream?: ServerHttp2Stream }

export const respond = (
  { body, bytes, headers, isMisled = false, status, text, type = "application/json" }: Reply,
  request: Http.IncomingMessage,
  corsHeaders: { readonly [name: string]: string } | undefined
): HttpServerResponse.HttpServerResponse => {
  const all = {
    ...headers,
    ...corsHeaders,
    [CHANNEL_HEADER]: channel.path,
    // what is left of a body that was not read would be taken for the next request; and a worker that has several connections through a
    // balancer keeps those only that lead where it is registered, or it would register here and there without an end
    ...((request.complete || !hasBody(request)) && !(isMisled && request.httpVersionMajor === 1)
      ? {}
      : { connection: "close" })
  }
  if (body !== undefined) {
    return HttpServerResponse.raw(body, { status, contentType: type, headers: all })
  }
  if (bytes !== undefined) {
    return HttpServerResponse.uint8Array(bytes, { status, contentType: type, headers: all })
  }
  return text === undefined
    ? HttpServerResponse.empty({ status, headers: all })
    : HttpServerResponse.text(text, { status, contentType: type, headers: all })
}

export const overHttp = (request: HttpRequest, response: Http.ServerResponse, intake: Intake): Asked => {
  let arrival: Arrival | undefined
  const release = (): void => arrival?.end()
  const line = request.stream?.session ?? request.socket
  const room: Room = {
    intake,
    line,
    onArrival: (begun) => {
      arrival = begun
      response.once("close", release)
    }
  }
  return {
    method: request.method ?? "GET",
    url: request.url ?? "/",
    request,
    trace: request.headers[TRACEPARENT],
    line,
    readJson: (limits) => readJson(request, limits, room),
    readBytes: (limits) => readBytes(request, limits, room),
    release: () => {
      release()
      // what nobody takes of a stream of HTTP/2 stays in memory until it ends
      if (arrival === undefined && request.stream !== undefined) request.resume()
    }
  }
}

/** What an answer takes until it is read. Characters that are not of Latin-1 take several bytes. */
export const bytesOf = ({ bytes, text = "" }: Reply): number =>
  bytes !== undefined ? bytes.length : text.length > SMALL_ANSWER ? Buffer.byteLength(text) : text.length

/** Sees to it that an answer is read: within a time, and within the memory that there is for all. */
export const whileUnread = (
  unread: Unread,
  { complete, socket, stream }: HttpRequest,
  response: Http.ServerResponse,
  length: number
): void => {
  if (stream === undefined) {
    // Node puts it off as long as something leaves, and sets another limit afterwards
    socket.setTimeout(UNREAD_MS)
    if (length <= SMALL_ANSWER) return
  } else {
    stream.setTimeout(UNREAD_MS, () => cutSession(stream))
    // whatever is left of the body
    if (!complete) response.once("finish", () => stream.close())
  }
  const line = unread.line(() => (stream === undefined ? cut(socket) : cutSession(stream)))
  line.set(length)
  response.once("close", () => line.set(0))
}

/** A connection of HTTP/1.1 has one answer at a time: such a small one is not worth counting. */
const SMALL_ANSWER = 64 * 1024

const cutSession = ({ session }: ServerHttp2Stream): void =>
  session?.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM)

const hasBody = ({ headers }: Http.IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0
