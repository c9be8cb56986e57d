/**
 * Makes the Node.js server of the port: its limits for idle, slow and malformed connections, and its errors.
 */
import type * as Http from "node:http"
import * as Https from "node:https"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { TLSSocket } from "node:tls"
import type { ServeError } from "effect/http/HttpServerError"
import * as NodeHttp from "../NodeHttp.ts"
import { ListenError } from "../Errors.ts"
import { ALPN_PROTOCOLS, type HttpVersions } from "./Http/Http2.ts"
import { endWithResponse } from "./Http/EndWithResponse.ts"
import type { ResolvedOptions } from "./ServerOptions.ts"

/** How long a whole request may take to arrive, in milliseconds: the default of Node.js. A long `bodyTimeoutMs` extends this time. */
const REQUEST_TIMEOUT_MS = 300_000

/** How long the server, when it stops, waits for a request on a connection that has none, in milliseconds. */
const IDLE_GRACE_MS = 100

export interface IdleConnections {
  /** Notes that a connection is a WebSocket now, which closes in its own way. */
  readonly onUpgraded: (socket: Duplex) => void
  /** Closes the idle connections, and makes every other connection close after its response. */
  readonly close: () => void
}

/** Tracks the connections without a request. Node itself would wait for a connection that never had a request. */
export const watchIdle = (server: Http.Server | Https.Server, versions: HttpVersions): IdleConnections => {
  const idle = new Set<Socket>()
  let isClosing = false
  server.on(server instanceof Https.Server ? "secureConnection" : "connection", (socket: Socket) => {
    idle.add(socket)
    socket.once("close", () => idle.delete(socket))
  })
  server.on("request", ({ httpVersionMajor, socket }, response) => {
    if (httpVersionMajor > 1) return
    idle.delete(socket)
    response.once("close", () => {
      if (isClosing) socket.destroySoon()
      else if (!socket.destroyed) idle.add(socket)
    })
  })
  return {
    // an upgraded socket is one of the server's connections, whatever its declared type
    onUpgraded: (socket) => void idle.delete(socket as Socket),
    close: () => {
      isClosing = true
      // a request may be in transit on a connection that is idle here
      setTimeout(() => {
        // HTTP/2 connections are ended by `goAway`
        for (const socket of idle) if (!versions.isHttp2(socket)) socket.destroySoon()
      }, IDLE_GRACE_MS)
    }
  }
}

/**
 * How much longer an idle connection stays open than the server tells the client, in milliseconds. Thus a request that is sent at
 * the last moment does not find the connection closed.
 */
const KEEP_ALIVE_BUFFER_MS = 5000

export const createServer = (options: ResolvedOptions): Http.Server => {
  const limits: Http.ServerOptions = {
    maxHeaderSize: options.maxHeaderBytes,
    headersTimeout: options.bodyTimeoutMs,
    requestTimeout: Math.max(REQUEST_TIMEOUT_MS, 2 * options.bodyTimeoutMs),
    connectionsCheckingInterval: Math.min(5000, options.bodyTimeoutMs)
  }
  const { tls } = options
  const server =
    tls === undefined
      ? NodeHttp.createServer(limits)
      : Https.createServer({
          ...limits,
          handshakeTimeout: options.bodyTimeoutMs,
          cert: Buffer.from(tls.cert),
          key: Buffer.from(tls.key),
          ALPNProtocols: ALPN_PROTOCOLS
        })
  server.maxConnections = options.maxConnections
  server.keepAliveTimeoutBuffer = KEEP_ALIVE_BUFFER_MS
  server.on("clientError", answerMalformed)
  server.on("timeout", cutConnection)
  // the TLS handshake has failed, so no response can be sent
  server.on("tlsClientError", (_error: Error, socket: Socket) => socket.destroy())
  return server
}

/**
 * Ends a connection whose client does not read. A connection without TLS is reset, so that the operating system does
 * not keep the unread data either.
 */
export const cutConnection = (socket: Socket): void => {
  if (socket.writableLength > 0 && !(socket instanceof TLSSocket)) socket.resetAndDestroy()
  else socket.destroy()
}

/** Answers a request that is not HTTP, or whose headers are too large or too slow. */
const answerMalformed = (error: Error & { readonly code?: string }, socket: Socket): void => {
  if (!socket.writable) return void socket.destroy()
  const [status, message] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? ([431, "The headers are too large"] as const)
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? ([408, "The request did not arrive in time"] as const)
        : ([400, "This is not a valid HTTP request"] as const)
  endWithResponse(socket, { status, body: { error: message, message, code: "BAD_REQUEST" } })
}

export const listenError = (error: ServeError, host: string, port: number): ListenError => {
  const { cause } = error
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined
  if (code === "EADDRINUSE") {
    return new ListenError(
      `Port ${port} on ${host} is in use by another program, perhaps another Ironflow engine. ` +
        "Stop that program, or choose another port with `port` (0 takes any free port)",
      { code: "PORT_IN_USE", details: { host, port }, cause: error }
    )
  }
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new ListenError(`The engine cannot listen on ${host}, port ${port}: ${reason}`, {
    code: "LISTEN_FAILED",
    details: { host, port },
    cause: error
  })
}
