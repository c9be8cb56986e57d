/**
 * Requests that become WebSockets: found in a table like those that do not, refused with an HTTP answer before they are
 * upgraded, and told to go away when the server stops.
 */
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import * as Effect from "effect/Effect"
import { type WebSocket, WebSocketServer } from "ws"
import { isIronflowError, UnsupportedError } from "../../Errors.ts"
import { defectResponse, failureResponse } from "../../Protocol/Http/Failures.ts"
import { accessTo, type Row } from "../../Protocol/Row.ts"
import { checkRule, type Gate, type Visitor } from "../Http/Gate.ts"
import { lastWords } from "../Http/LastWords.ts"
import { matchPath } from "../Http/Route.ts"
import { Flow, type FlowOptions } from "./SocketFlow.ts"

/** A request for a WebSocket that has been accepted. */
export interface SocketCall {
  readonly environment: string
  /**
   * Who asks. What the key may do is asked with `visitor.caller.check(action, resource, environment)`, for the socket and for
   * each message that asks for more; `visitor.caller.watch` tells when that has changed. When the key ends, the socket is closed.
   */
  readonly visitor: Visitor
  /** Variables of the path, decoded. */
  readonly variables: { readonly [name: string]: string }
  readonly query: URLSearchParams
  readonly request: IncomingMessage
  /** What comes and goes on the socket. */
  readonly flow: Flow
}

export interface SocketRoute {
  /** Who may have the socket is what it says. */
  readonly row: Row
  /** Bytes of one frame from the client; a larger one closes the connection with 1009. 1 MiB by default. */
  readonly maxFrameBytes?: number
  /** Bytes that may wait to be read before nothing more is taken from the client; 1 MiB by default. */
  readonly maxUnreadBytes?: number
  /** The route itself closes its sockets when the server stops, and when their key ends. */
  readonly leavesByItself?: boolean
  /**
   * Throws an `IronflowError` to refuse the request before the upgrade for another reason than the row. Both are asked again when
   * what the key may do has changed, and the socket is closed when one throws then.
   */
  readonly check?: (call: Omit<SocketCall, "flow">) => void
  /**
   * Takes the open socket, and returns what takes its frames; without that nobody looks at them. A frame for which it throws
   * is the last one of its connection, which is told why.
   */
  readonly open: (socket: WebSocket, call: SocketCall) => Hear | void
}

/** Frames of text come as one buffer. */
export type Hear = (frame: Buffer, isBinary: boolean) => void

export interface UpgradeOptions {
  /** Says who asks, or refuses by throwing an `IronflowError`. */
  readonly gate: Gate
  readonly routes: ReadonlyArray<SocketRoute>
  /** Takes what was thrown because of a bug; `what` says where, as the start of a sentence. */
  readonly onBug: (what: string, cause: unknown) => void
  readonly flow: FlowOptions
}

/** The code of a close frame that says: the server stops, come back later. */
export const GOING_AWAY = 1001

const MAX_FRAME_BYTES = 1024 * 1024

/** The code of a close frame that says: this may not be, or not any more. */
export const POLICY_VIOLATION = 1008

/** The code of a close frame that says: the engine failed. */
const INTERNAL_ERROR = 1011

/** How long a client may take to close a socket that is over, milliseconds. */
const GRACE_MS = 1000

/** How often clients are asked whether they are still there. */
const PING_MS = 30_000

interface Entrance {
  readonly route: SocketRoute
  readonly segments: ReadonlyArray<string>
  readonly server: WebSocketServer
}

export class Upgrades {
  readonly #gate: Gate
  readonly #onBug: UpgradeOptions["onBug"]
  readonly #flow: FlowOptions
  readonly #entrances: ReadonlyArray<Entrance>
  /** Those that have not answered the last ping. */
  #silent = new Set<WebSocket>()

  constructor({ flow, gate, onBug, routes }: UpgradeOptions) {
    this.#gate = gate
    this.#flow = flow
    this.#onBug = onBug
    this.#entrances = routes.map((route) => ({
      route,
      segments: route.row.path.split("/"),
      server: new WebSocketServer({
        noServer: true,
        maxPayload: route.maxFrameBytes ?? MAX_FRAME_BYTES,
        perMessageDeflate: false
      })
    }))
  }

  /** The listener for `upgrade` of a Node server. */
  readonly upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    // whoever hangs up in the middle of the handshake has nothing to be told
    socket.on("error", () => socket.destroy())
    try {
      this.#gate.checkOrigin(request)
      const { call, entrance } = this.#find(request)
      const { route, server } = entrance
      checkSocket(route, call)
      server.handleUpgrade(request, socket, head, (webSocket) => {
        // `close` follows
        webSocket.on("error", () => undefined)
        webSocket.on("pong", () => this.#silent.delete(webSocket))
        webSocket.on("close", () => this.#silent.delete(webSocket))
        webSocket.once("close", closeWithKey(webSocket, call, route))
        this.#closeWithSession(webSocket, call)
        const flow = new Flow(webSocket, socket, this.#flow, route.maxUnreadBytes)
        this.#guard(webSocket, route, () => {
          const hear = route.open(webSocket, { ...call, flow })
          if (hear === undefined) return
          webSocket.on("message", (frame, isBinary) =>
            // a socket gives one buffer unless it was told otherwise
            this.#guard(webSocket, route, () => hear(frame as Buffer, isBinary))
          )
        })
      })
    } catch (error) {
      if (isIronflowError(error)) return lastWords(socket, failureResponse(error, "rest"))
      this.#onBug("A request for a WebSocket failed", error)
      lastWords(socket, defectResponse("rest"))
    }
  }

  /** Closes the socket when the session of its browser ends. */
  #closeWithSession(socket: WebSocket, { visitor: { sessionMs } }: Omit<SocketCall, "flow">): void {
    if (sessionMs === undefined) return
    const cancel = this.#flow.after(sessionMs, () =>
      closeFor(socket, POLICY_VIOLATION, "the session has ended")
    )
    socket.once("close", cancel)
  }

  /** Nothing that a client sends gets further than this: at worst it ends its connection. */
  #guard(socket: WebSocket, { row: { path } }: SocketRoute, act: () => void): void {
    try {
      act()
    } catch (error) {
      const isExpected = isIronflowError(error)
      if (!isExpected) this.#onBug(`A frame at ${path} failed`, error)
      const { status, body } = isExpected ? failureResponse(error, "rest") : defectResponse("rest")
      if (socket.readyState === socket.OPEN) socket.send(JSON.stringify({ type: "error", status, ...body }))
      closeFor(
        socket,
        isExpected ? POLICY_VIOLATION : INTERNAL_ERROR,
        isExpected ? error.code : "the engine failed because of a bug"
      )
    }
  }

  /** Ends connections whose other end has gone without a word, as long as it runs. */
  readonly watch: Effect.Effect<never> = Effect.forever(
    Effect.andThen(
      Effect.sleep(PING_MS),
      Effect.sync(() => {
        for (const socket of this.#silent) socket.terminate()
        this.#silent = new Set(this.#entrances.flatMap(({ server }) => [...server.clients]))
        for (const socket of this.#silent) socket.ping()
      })
    )
  )

  /** Tells every client that the server stops. */
  goAway(): void {
    for (const { route, server } of this.#entrances) {
      if (route.leavesByItself === true) continue
      for (const socket of server.clients) socket.close(GOING_AWAY, "the server stops")
    }
  }

  /** Ends the connections that are still open. */
  close(): void {
    for (const { server } of this.#entrances) {
      for (const socket of server.clients) socket.terminate()
      server.close()
    }
  }

  #find(request: IncomingMessage): { readonly entrance: Entrance; readonly call: Omit<SocketCall, "flow"> } {
    const url = request.url ?? "/"
    const mark = url.indexOf("?")
    const path = (mark === -1 ? url : url.slice(0, mark)).replace(/^\/{2,}/, "/")
    const segments = path.split("/")
    for (const entrance of this.#entrances) {
      const variables = matchPath(entrance.segments, segments)
      if (variables === undefined) continue
      const query = new URLSearchParams(mark === -1 ? "" : url.slice(mark + 1))
      // a browser cannot set headers on a WebSocket: the query may hold environment and key
      const visitor = this.#gate.admit(request, query)
      return {
        entrance,
        call: { environment: visitor.environment, visitor, variables, query, request }
      }
    }
    throw new UnsupportedError(`There is no WebSocket at ${path.slice(0, 256)}`, { code: "ROUTE_NOT_FOUND" })
  }
}

/** Throws an `IronflowError` when the caller may not have the socket, or not as it is asked for. */
const checkSocket = ({ check, row }: SocketRoute, call: Omit<SocketCall, "flow">): void => {
  const { environment, variables, visitor } = call
  checkRule({ caller: visitor.caller, environment }, accessTo(row), variables)
  check?.(call)
}

/** Closes the socket as soon as its key ends, or may not have it any more; returns the way to stop that. */
const closeWithKey = (socket: WebSocket, call: Omit<SocketCall, "flow">, route: SocketRoute): (() => void) =>
  call.visitor.caller.watch((ended) => {
    if (ended) {
      return route.leavesByItself === true
        ? undefined
        : closeFor(socket, POLICY_VIOLATION, "the API key does not work any more")
    }
    try {
      checkSocket(route, call)
    } catch (error) {
      if (!isIronflowError(error)) throw error
      closeFor(socket, POLICY_VIOLATION, "the API key may not do this any more")
    }
  })

/** Closes the socket, whether or not the other side does. What comes in from now on is not looked at. */
export const closeFor = (socket: WebSocket, code: number, reason: string): void => {
  socket.removeAllListeners("message")
  socket.close(code, reason)
  setTimeout(() => socket.terminate(), GRACE_MS).unref()
}
