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
import { Http2Flow } from "./Http2Flow.ts"
import type { Pipelines } from "./Pipeline.ts"
import { whenTime } from "../../Engine/LoopTurn.ts"

export interface Http2Options {
  /** Bytes of all headers of a request. */
  readonly maxHeaderBytes: number
  /** Milliseconds in which a connection has to begin. */
  readonly timeoutMs: number
  /** Gets the connections of HTTP/1.1. */
  readonly pipelines: Pipelines
  /** Takes a stream, or leaves it to the server, as a request. */
  readonly take: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean
}

/** Streams of one connection that may be open. */
const MAX_STREAMS = 128

/**
 * Streams that may be open besides one of each connection, over all of them: each may wait for long, and takes some 40 KB then. Who
 * has none is let in all the same.
 */
export const MORE_STREAMS = 4096

/** How long a connection may have no stream, milliseconds: whoever goes on later opens another one. */
const IDLE_MS = 120_000

/** Megabytes that one connection may hold: a run with a long history is large. */
const MAX_SESSION_MEGABYTES = 128

/** Bytes that may come without being taken, of a connection. */
const WINDOW_BYTES = 1024 * 1024

/** The same of a stream: Node keeps them outside of what is counted. */
const STREAM_WINDOW_BYTES = 64 * 1024

/** What ALPN calls the two. */
export const ALPN_PROTOCOLS = ["h2", "http/1.1"]

/** What a client of HTTP/2 begins with, to the end: methods of HTTP/1.1 begin like it. */
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

export class BothVersions {
  readonly #server: Http.Server
  readonly #http2: Http2Server
  readonly #timeoutMs: number
  readonly #sessions = new Set<ServerHttp2Session>()
  readonly #sockets = new WeakSet<Socket>()
  /** Open streams by connection, and all but one of each. */
  readonly #open = new WeakMap<object, number>()
  #more = 0
  /** What ends a connection that has no stream. */
  readonly #idle = new WeakMap<object, NodeJS.Timeout>()

  /** Takes over the connections of `server`, which has to be new. */
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
        clearTimeout(this.#idle.get(session))
      })
      // the connection is gone: its streams say so themselves
      session.on("error", () => session.destroy())
    })
    this.#http2.on("request", (request, response) => {
      const { stream } = request
      // its end, or that of the whole connection, has come along with it
      if (stream.closed || stream.destroyed) return
      // clients send again what was refused like that
      if (!this.#enter(stream)) return stream.close(Http2.constants.NGHTTP2_REFUSED_STREAM)
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
      // whoever has the connection hears of it too; this listener stays when nobody has it
      socket.on("error", () => undefined)
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

  /** Nothing comes by itself on a connection without streams, and it would be held for ever otherwise. */
  #endLater(session: { readonly close: () => void }, ms: number): void {
    this.#idle.set(session, setTimeout(() => session.close(), ms).unref())
  }

  /** Counts a stream until it is closed; says whether there is room for it. */
  #enter(stream: ServerHttp2Stream): boolean {
    const { session } = stream
    if (session === undefined) return false
    const open = this.#open.get(session) ?? 0
    if (open > 0 && this.#more >= MORE_STREAMS) return false
    this.#open.set(session, open + 1)
    if (open > 0) this.#more++
    clearTimeout(this.#idle.get(session))
    stream.once("close", () => {
      const left = (this.#open.get(session) ?? 1) - 1
      this.#open.set(session, left)
      if (left > 0) this.#more--
      else if (!session.closed) this.#endLater(session, IDLE_MS)
    })
    return true
  }

  #asHttp2(socket: Socket): void {
    this.#sockets.add(socket)
    whenTime("little", () => {
      if (!socket.destroyed) this.#http2.emit("connection", new Http2Flow(socket))
    })
  }

  /** Reads the beginning until it tells the two apart, and puts it back for whoever it is meant for. */
  #sniff(socket: Socket, asHttp1: (socket: Socket) => void): void {
    let head = Buffer.alloc(0)
    const stop = (): void => {
      clearTimeout(timer)
      socket.off("readable", decide).off("end", ended).off("close", stop)
    }
    const giveUp = (code: string): void => {
      stop()
      if (head.length === 0) return void socket.destroy()
      const error = Object.assign(new Error("The beginning of the connection is not complete"), { code })
      this.#server.emit("clientError", error, socket)
    }
    const decide = (): void => {
      // what is put back would be readable again at once: it is kept until it is decided
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
    const ended = (): void => giveUp("HPE_INVALID_EOF_STATE")
    // not the time limit of the socket, which every byte would put off
    const timer = setTimeout(() => giveUp("ERR_HTTP_REQUEST_TIMEOUT"), this.#timeoutMs)
    socket.on("readable", decide).on("end", ended).on("close", stop)
    if (!this.#server.listening) socket.destroy()
  }
}
