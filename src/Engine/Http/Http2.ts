/**
 * HTTP/2 beside HTTP/1.1 on one port: without TLS by the preface that its clients begin with, with TLS by what the two
 * sides agree on.
 */
import type { IncomingHttpHeaders, Http2Server, ServerHttp2Session, ServerHttp2Stream } from "node:http2"
import * as Http2 from "node:http2"
import type * as Http from "node:http"
import * as Https from "node:https"
import type { Socket } from "node:net"
import { TLSSocket } from "node:tls"

export interface Http2Options {
  /** Bytes of all headers of a request. */
  readonly maxHeaderBytes: number
  /** Milliseconds in which a connection has to begin. */
  readonly timeoutMs: number
  /** Takes a stream, or leaves it to the server, as a request. */
  readonly take: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean
}

/** Streams of one connection that may be open. */
const MAX_STREAMS = 128

/** Megabytes that one connection may hold: a run with a long history is large. */
const MAX_SESSION_MEGABYTES = 128

/** Bytes that may come without being taken, of a stream and of a connection. */
const WINDOW_BYTES = 1024 * 1024

/** What ALPN calls the two. */
export const ALPN_PROTOCOLS = ["h2", "http/1.1"]

/** What a client of HTTP/2 begins with. No method of HTTP/1.1 begins so. */
const PREFACE = Buffer.from("PRI * HTTP/2.0")

export class BothVersions {
  readonly #server: Http.Server
  readonly #http2: Http2Server
  readonly #timeoutMs: number
  readonly #sessions = new Set<ServerHttp2Session>()
  readonly #sockets = new WeakSet<Socket>()

  /** Takes over the connections of `server`, which has to be new. */
  constructor(server: Http.Server, { maxHeaderBytes, take, timeoutMs }: Http2Options) {
    this.#server = server
    this.#timeoutMs = timeoutMs
    this.#http2 = Http2.createServer({
      maxSessionMemory: MAX_SESSION_MEGABYTES,
      settings: {
        maxConcurrentStreams: MAX_STREAMS,
        maxHeaderListSize: maxHeaderBytes,
        initialWindowSize: WINDOW_BYTES,
        enablePush: false
      }
    })
    this.#http2.on("session", (session) => {
      this.#sessions.add(session)
      session.setLocalWindowSize(WINDOW_BYTES)
      session.once("close", () => this.#sessions.delete(session))
      // the connection is gone: its streams say so themselves
      session.on("error", () => session.destroy())
    })
    this.#http2.on("request", (request, response) => {
      if (!take(request.stream, request.headers)) server.emit("request", request, response)
    })

    const event = server instanceof Https.Server ? "secureConnection" : "connection"
    const http1 = server.listeners(event)
    server.removeAllListeners(event)
    const asHttp1 = (socket: Socket): void => {
      for (const listener of http1) Reflect.apply(listener, server, [socket])
    }
    server.on(event, (socket: Socket) => {
      if (!(socket instanceof TLSSocket)) this.#sniff(socket, asHttp1)
      else if (socket.alpnProtocol === "h2") this.#asHttp2(socket)
      else asHttp1(socket)
    })
  }

  /** Whether a connection speaks HTTP/2. */
  has(socket: Socket): boolean {
    return this.#sockets.has(socket)
  }

  /** Connections that speak HTTP/2 now. */
  get size(): number {
    return this.#sessions.size
  }

  /** Tells clients that no further stream is taken; a connection ends with its last one. */
  goAway(): void {
    for (const session of this.#sessions) session.close()
  }

  /** Ends the connections that are still open. */
  close(): void {
    for (const session of this.#sessions) session.destroy()
  }

  #asHttp2(socket: Socket): void {
    this.#sockets.add(socket)
    this.#http2.emit("connection", socket)
  }

  /** Reads the beginning, and puts it back for whoever it is meant for. */
  #sniff(socket: Socket, asHttp1: (socket: Socket) => void): void {
    const giveUp = (): void => void socket.destroy()
    const decide = (): void => {
      const head: Buffer | null = socket.read()
      if (head === null) return
      socket.unshift(head)
      const length = Math.min(head.length, PREFACE.length)
      const isHttp2 = head.compare(PREFACE, 0, length, 0, length) === 0
      // three bytes tell the preface from every method
      if (isHttp2 && length < 3) return
      socket.off("readable", decide).off("error", giveUp).off("end", giveUp)
      socket.setTimeout(0, giveUp).off("timeout", giveUp)
      if (isHttp2) this.#asHttp2(socket)
      else asHttp1(socket)
    }
    socket.setTimeout(this.#timeoutMs, giveUp)
    socket.on("error", giveUp).on("end", giveUp).on("readable", decide)
    if (!this.#server.listening) giveUp()
  }
}
