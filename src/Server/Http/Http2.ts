/**
 * HTTP/2 beside HTTP/1.1 on one port. Without TLS the protocol is recognized by the HTTP/2 preface, with TLS it is
 * negotiated by ALPN.
 */
import type { IncomingHttpHeaders, Http2Server, ServerHttp2Session, ServerHttp2Stream } from "node:http2"
import * as Http2 from "node:http2"
import type * as Http from "node:http"
import * as Https from "node:https"
import type { Socket } from "node:net"
import { TLSSocket } from "node:tls"
import { Http2Flow } from "./Http2Flow.ts"
import type { Pipelines } from "./Pipeline.ts"
import { callWhenTime } from "../../Engine/EventLoop.ts"

export interface Http2Options {
  /** The largest headers of a request, in bytes. */
  readonly maxHeaderBytes: number
  /** How long a connection may take to send its first bytes, in milliseconds. */
  readonly timeoutMs: number
  /** Takes the HTTP/1.1 connections. */
  readonly pipelines: Pipelines
  /** Takes a stream and returns true, or returns false and leaves it to the server as a request. */
  readonly take: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean
}

/** Maximum number of open streams of one connection. */
const MAX_STREAMS = 128

/**
 * Maximum number of open streams of all connections, not counting one stream of each connection. A stream may wait for
 * long, and takes some 40 KB meanwhile. A connection without a stream may always open one.
 */
export const MAX_EXTRA_STREAMS = 4096

/**
 * How long a connection may be without a stream before it is closed, in milliseconds. Its client can open
 * another one.
 */
const IDLE_MS = 120_000

/** How much memory one connection may take, in megabytes: the history of a run may be large. */
const MAX_SESSION_MEGABYTES = 128

/** How many bytes of one connection may arrive before they are read. */
const WINDOW_BYTES = 1024 * 1024

/**
 * How many bytes of one stream may arrive before they are read. The number is small, since Node does not count these
 * bytes against the memory of the connection.
 */
const STREAM_WINDOW_BYTES = 64 * 1024

/** The ALPN names of the two protocols. */
export const ALPN_PROTOCOLS = ["h2", "http/1.1"]

/**
 * The preface, with which an HTTP/2 connection begins. All of it is compared, since its start looks like an HTTP/1.1
 * method.
 */
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

export class HttpVersions {
  readonly #server: Http.Server
  readonly #http2: Http2Server
  readonly #timeoutMs: number
  readonly #sessions = new Set<ServerHttp2Session>()
  readonly #http2Sockets = new WeakSet<Socket>()
  /** How many streams each connection has open. */
  readonly #openStreams = new WeakMap<object, number>()
  /** How many streams are open on all connections, not counting one stream of each connection. */
  #extraStreams = 0
  /** Timers that end connections without streams. */
  readonly #idleTimers = new WeakMap<object, NodeJS.Timeout>()

  /** Takes over the connections of `server`, which must not have any yet. */
  constructor(server: Http.Server, { maxHeaderBytes, pipelines, take, timeoutMs }: Http2Options) {
    this.#server = server
    this.#timeoutMs = timeoutMs
    this.#http2 = Http2.createServer({
      maxSessionMemory: MAX_SESSION_MEGABYTES,
      settings: {
        maxConcurrentStreams: MAX_STREAMS,
        maxHeaderListSize: maxHeaderBytes,
        initialWindowSize: STREAM_WINDOW_BYTES,
        enablePush: false
      }
    })
    this.#http2.on("session", (session) => {
      this.#sessions.add(session)
      session.setLocalWindowSize(WINDOW_BYTES)
      this.#endLater(session, this.#timeoutMs)
      session.once("close", () => {
        this.#sessions.delete(session)
        clearTimeout(this.#idleTimers.get(session))
      })
      // the connection is gone, and its streams report their own errors
      session.on("error", () => session.destroy())
    })
    this.#http2.on("request", (request, response) => {
      const { stream } = request
      // the end of the stream or of the connection has already arrived
      if (stream.closed || stream.destroyed) return
      // after this code clients open the stream again
      if (!this.#countStream(stream)) return stream.close(Http2.constants.NGHTTP2_REFUSED_STREAM)
      if (!take(stream, request.headers)) server.emit("request", request, response)
    })

    const event = server instanceof Https.Server ? "secureConnection" : "connection"
    const http1 = server.listeners(event)
    server.removeAllListeners(event)
    const asHttp1 = (socket: Socket): void => {
      for (const listener of http1) Reflect.apply(listener, server, [socket])
      pipelines.take(socket)
    }
    server.on(event, (socket: Socket) => {
      // the user of the connection gets the error too; this listener is for the time when the connection has no user
      socket.on("error", () => undefined)
      if (!(socket instanceof TLSSocket)) this.#sniff(socket, asHttp1)
      else if (socket.alpnProtocol === "h2") this.#asHttp2(socket)
      else asHttp1(socket)
    })
  }

  /** Whether a connection speaks HTTP/2. */
  isHttp2(socket: Socket): boolean {
    return this.#http2Sockets.has(socket)
  }

  /** The number of open HTTP/2 connections. */
  get size(): number {
    return this.#sessions.size
  }

  /** Tells clients that no more streams are accepted; a connection ends with its last stream. */
  goAway(): void {
    for (const session of this.#sessions) session.close()
  }

  /** Ends all HTTP/2 connections at once. */
  close(): void {
    for (const session of this.#sessions) session.destroy()
  }

  /** Ends a connection `ms` milliseconds from now if it has no stream by then. */
  #endLater(session: { readonly close: () => void }, ms: number): void {
    this.#idleTimers.set(session, setTimeout(() => session.close(), ms).unref())
  }

  /** Counts a stream until it is closed. Returns whether there is room for it. */
  #countStream(stream: ServerHttp2Stream): boolean {
    const { session } = stream
    if (session === undefined) return false
    const openStreams = this.#openStreams.get(session) ?? 0
    if (openStreams > 0 && this.#extraStreams >= MAX_EXTRA_STREAMS) return false
    this.#openStreams.set(session, openStreams + 1)
    if (openStreams > 0) this.#extraStreams++
    clearTimeout(this.#idleTimers.get(session))
    stream.once("close", () => {
      const streamsLeft = (this.#openStreams.get(session) ?? 1) - 1
      this.#openStreams.set(session, streamsLeft)
      if (streamsLeft > 0) this.#extraStreams--
      else if (!session.closed) this.#endLater(session, IDLE_MS)
    })
    return true
  }

  #asHttp2(socket: Socket): void {
    this.#http2Sockets.add(socket)
    callWhenTime("little", () => {
      if (!socket.destroyed) this.#http2.emit("connection", new Http2Flow(socket))
    })
  }

  /**
   * Reads the first bytes until they tell the protocol, and puts them back for the server of that protocol.
   */
  #sniff(socket: Socket, asHttp1: (socket: Socket) => void): void {
    let head = Buffer.alloc(0)
    const stop = (): void => {
      clearTimeout(timer)
      socket.off("readable", decide).off("end", onEnd).off("close", stop)
    }
    const giveUp = (code: string): void => {
      stop()
      if (head.length === 0) return void socket.destroy()
      const error = Object.assign(new Error("The HTTP/2 preface of the connection is not complete"), { code })
      this.#server.emit("clientError", error, socket)
    }
    const decide = (): void => {
      // bytes that are put back make the socket readable again at once: so they are kept until the preface is
      // complete
      const chunk: Buffer | null = socket.read()
      if (chunk === null) return
      head = Buffer.concat([head, chunk])
      const length = Math.min(head.length, PREFACE.length)
      const isHttp2 = head.compare(PREFACE, 0, length, 0, length) === 0
      if (isHttp2 && length < PREFACE.length) return
      stop()
      socket.unshift(head)
      if (isHttp2) this.#asHttp2(socket)
      else asHttp1(socket)
    }
    const onEnd = (): void => giveUp("HPE_INVALID_EOF_STATE")
    // a timer of its own, since every byte would restart the timeout of the socket
    const timer = setTimeout(() => giveUp("ERR_HTTP_REQUEST_TIMEOUT"), this.#timeoutMs)
    socket.on("readable", decide).on("end", onEnd).on("close", stop)
    if (!this.#server.listening) socket.destroy()
  }
}
