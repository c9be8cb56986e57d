/**
 * Upgrades requests to WebSockets, whose routes are in a table. A refused request gets an HTTP response
 * before the upgrade. When the server stops, it tells the clients of open WebSockets to go away.
 */
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import * as Effect from "effect/Effect"
import { type WebSocket, WebSocketServer } from "ws"
import { isIronflowError, UnavailableError, UnsupportedError } from "../../Errors.ts"
import { defectResponse, failureResponse } from "../../Protocol/Http/Failures.ts"
import { accessTo, type CallSpec } from "../../Protocol/CallSpec.ts"
import { type AccessCheck, checkRule, type Visitor } from "../Http/AccessCheck.ts"
import { endWithResponse } from "../Http/EndWithResponse.ts"
import { matchPath } from "../Http/Router.ts"
import { Flow, type FlowOptions } from "./SocketFlow.ts"

/** A request for a WebSocket that was accepted. */
export interface SocketCall {
  readonly environment: string
  /**
   * Who makes the call. Permissions are checked with `visitor.caller.check(action, resource, environment)`, for the
   * socket and for each message that needs further permissions; `visitor.caller.watch` reports when permissions change.
   * The socket is closed when the API key ends.
   */
  readonly visitor: Visitor
  /** Variables of the path, decoded. */
  readonly variables: { readonly [name: string]: string }
  readonly query: URLSearchParams
  readonly request: IncomingMessage
  /** The flow of data on the socket. */
  readonly flow: Flow
}

export interface SocketRoute {
  /** The spec of the socket, which says who may open it. */
  readonly spec: CallSpec
  /** The largest frame from the client, in bytes; a larger frame closes the connection with code 1009. 1 MiB by default. */
  readonly maxFrameBytes?: number
  /** At this many unread bytes, nothing more is read from the client; 1 MiB by default. */
  readonly maxUnreadBytes?: number
  /** Whether the route closes its sockets itself, when the server stops and when their key ends. */
  readonly closesItself?: boolean
  /**
   * Throws an `IronflowError` to refuse the request before the upgrade. It is called after the check of what the spec
   * requires. Both checks are made again when the permissions of the key have changed; the socket is closed if one of
   * the checks throws.
   */
  readonly check?: (call: Omit<SocketCall, "flow">) => void
  /**
   * Takes the open socket. Returns a function that handles its frames; without such a function, frames are ignored. If
   * `open` or the function throws, the connection is closed with the error.
   */
  readonly open: (socket: WebSocket, call: SocketCall) => OnFrame | void
}

/** Handles a frame. A text frame comes as one buffer. */
export type OnFrame = (frame: Buffer, isBinary: boolean) => void

export interface UpgradeOptions {
  /** Authenticates callers; throws an `IronflowError` for those who are not allowed. */
  readonly accessCheck: AccessCheck
  readonly routes: ReadonlyArray<SocketRoute>
  readonly run: (effect: Effect.Effect<void>) => void
  /** Called with a defect. `what` says where it occurred, as the start of a sentence. */
  readonly onBug: (what: string, cause: unknown) => void
  /** Called for each connection that has become a WebSocket. From then on the WebSocket closes the connection. */
  readonly onUpgraded: (socket: Duplex) => void
  readonly flow: FlowOptions
}

/** The close code of a server that stops: the client should come back later. */
export const GOING_AWAY = 1001

const MAX_FRAME_BYTES = 1024 * 1024

/** The close code for something that is not allowed, or no longer allowed. */
export const POLICY_VIOLATION = 1008

/** The close code for a failure of the engine. */
const INTERNAL_ERROR = 1011

/** How long a client may take to close a socket that is over, in milliseconds. */
const GRACE_MS = 1000

/** The interval of pings, in milliseconds. */
const PING_MS = 30_000

interface RouteServer {
  readonly route: SocketRoute
  readonly segments: ReadonlyArray<string>
  readonly server: WebSocketServer
}

export class Upgrades {
  readonly #accessCheck: AccessCheck
  readonly #onBug: UpgradeOptions["onBug"]
  readonly #onUpgraded: UpgradeOptions["onUpgraded"]
  readonly #run: UpgradeOptions["run"]
  readonly #flow: FlowOptions
  readonly #routeServers: ReadonlyArray<RouteServer>
  /** Sockets that have not answered the last ping. */
  #silentSockets = new Set<WebSocket>()
  /** Whether the server is stopping. It then opens no more WebSockets, since their clients would not learn of the stop. */
  #isClosing = false

  constructor({ flow, accessCheck, onBug, onUpgraded, routes, run }: UpgradeOptions) {
    this.#run = run
    this.#onUpgraded = onUpgraded
    this.#accessCheck = accessCheck
    this.#flow = flow
    this.#onBug = onBug
    this.#routeServers = routes.map((route) => ({
      route,
      segments: route.spec.path.split("/"),
      server: new WebSocketServer({
        noServer: true,
        maxPayload: route.maxFrameBytes ?? MAX_FRAME_BYTES,
        perMessageDeflate: false
      })
    }))
  }

  /** The listener for the event `upgrade` of a Node server. */
  readonly upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    // a client may hang up during the handshake: it gets no response
    socket.on("error", () => socket.destroy())
    if (this.#isClosing) return endWithResponse(socket, failureResponse(closingError(), "rest"))
    const url = request.url ?? "/"
    const refresh = this.#accessCheck.requiredRefresh(
      request,
      false,
      new URLSearchParams(url.slice(url.indexOf("?") + 1))
    )
    if (refresh === undefined) return this.#admit(request, socket, head)
    const admitted = Effect.match(refresh, {
      onSuccess: () => this.#admit(request, socket, head),
      onFailure: (error) => endWithResponse(socket, failureResponse(error, "rest"))
    })
    // a server that stops meanwhile would wait for the socket, so the socket is destroyed
    this.#run(Effect.onInterrupt(admitted, () => Effect.sync(() => socket.destroy())))
  }

  #admit(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    try {
      this.#accessCheck.checkOrigin(request)
      const { call, entrance } = this.#find(request)
      const { route, server } = entrance
      checkSocket(route, call)
      server.handleUpgrade(request, socket, head, (webSocket) => {
        this.#onUpgraded(socket)
        // `close` follows, and is handled below
        webSocket.on("error", () => undefined)
        webSocket.on("pong", () => this.#silentSockets.delete(webSocket))
        webSocket.on("close", () => this.#silentSockets.delete(webSocket))
        webSocket.once("close", closeWithKey(webSocket, call, route))
        this.#closeWithSession(webSocket, call)
        const flow = new Flow(webSocket, socket, this.#flow, route.maxUnreadBytes)
        this.#guard(webSocket, route, () => {
          const onFrame = route.open(webSocket, { ...call, flow })
          if (onFrame === undefined) return
          webSocket.on("message", (frame, isBinary) =>
            // `ws` delivers one buffer, unless it is configured otherwise
            this.#guard(webSocket, route, () => onFrame(frame as Buffer, isBinary))
          )
        })
      })
    } catch (error) {
      if (isIronflowError(error)) return endWithResponse(socket, failureResponse(error, "rest"))
      this.#onBug("A request for a WebSocket failed", error)
      endWithResponse(socket, defectResponse("rest"))
    }
  }

  /** Closes the socket when the session of its browser ends. */
  #closeWithSession(socket: WebSocket, { visitor: { sessionMs } }: Omit<SocketCall, "flow">): void {
    if (sessionMs === undefined) return
    const cancel = this.#flow.scheduleTimeout(sessionMs, () =>
      closeFor(socket, POLICY_VIOLATION, "the session has ended")
    )
    socket.once("close", cancel)
  }

  /** Runs `act`, and catches every error. An error in a client's message can only end the connection of that client. */
  #guard(socket: WebSocket, { spec: { path } }: SocketRoute, act: () => void): void {
    try {
      act()
    } catch (error) {
      const isExpected = isIronflowError(error)
      if (!isExpected) this.#onBug(`The WebSocket at ${path} failed`, error)
      const { status, body } = isExpected ? failureResponse(error, "rest") : defectResponse("rest")
      if (socket.readyState === socket.OPEN) socket.send(JSON.stringify({ type: "error", status, ...body }))
      closeFor(
        socket,
        isExpected ? POLICY_VIOLATION : INTERNAL_ERROR,
        isExpected ? error.code : "the engine failed because of a bug"
      )
    }
  }

  /** Ends connections whose client is silently gone, as long as this runs. */
  readonly endDeadSockets: Effect.Effect<never> = Effect.forever(
    Effect.andThen(
      Effect.sleep(PING_MS),
      Effect.sync(() => {
        for (const socket of this.#silentSockets) socket.terminate()
        this.#silentSockets = new Set(this.#routeServers.flatMap(({ server }) => [...server.clients]))
        for (const socket of this.#silentSockets) socket.ping()
      })
    )
  )

  /** Tells every client that the server stops. */
  goAway(): void {
    this.#isClosing = true
    for (const { route, server } of this.#routeServers) {
      if (route.closesItself === true) continue
      for (const socket of server.clients) socket.close(GOING_AWAY, "the server stops")
    }
  }

  /** Ends all open connections. */
  close(): void {
    for (const { server } of this.#routeServers) {
      for (const socket of server.clients) socket.terminate()
      server.close()
    }
  }

  #find(request: IncomingMessage): {
    readonly entrance: RouteServer
    readonly call: Omit<SocketCall, "flow">
  } {
    const url = request.url ?? "/"
    const queryMark = url.indexOf("?")
    const path = (queryMark === -1 ? url : url.slice(0, queryMark)).replace(/^\/{2,}/, "/")
    const segments = path.split("/")
    for (const entrance of this.#routeServers) {
      const variables = matchPath(entrance.segments, segments)
      if (variables === undefined) continue
      const query = new URLSearchParams(queryMark === -1 ? "" : url.slice(queryMark + 1))
      // a browser cannot set headers for a WebSocket: so the query may hold the environment and the key
      const visitor = this.#accessCheck.admit(request, query)
      return {
        entrance,
        call: { environment: visitor.environment, visitor, variables, query, request }
      }
    }
    throw new UnsupportedError(`There is no WebSocket at ${path.slice(0, 256)}`, { code: "ROUTE_NOT_FOUND" })
  }
}

const closingError = (): UnavailableError =>
  new UnavailableError("The engine is about to stop: connect again when it is back", { code: "CLOSING" })

/** Throws an `IronflowError` when the caller may not have the socket, or not with these options. */
const checkSocket = ({ check, spec }: SocketRoute, call: Omit<SocketCall, "flow">): void => {
  const { environment, variables, visitor } = call
  checkRule({ caller: visitor.caller, environment }, accessTo(spec), variables)
  check?.(call)
}

/**
 * Closes the socket when its key loses the permission, and, unless the route does so itself, when the key ends. Returns
 * a function that stops watching.
 */
const closeWithKey = (socket: WebSocket, call: Omit<SocketCall, "flow">, route: SocketRoute): (() => void) =>
  call.visitor.caller.watch((ended) => {
    if (ended) {
      return route.closesItself === true
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

/** Closes the socket, whether or not the other side does so too. Further data is ignored. */
export const closeFor = (socket: WebSocket, code: number, reason: string): void => {
  socket.removeAllListeners("message")
  socket.close(code, reason)
  setTimeout(() => socket.terminate(), GRACE_MS).unref()
}
