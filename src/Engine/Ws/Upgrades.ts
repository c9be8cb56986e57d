/**
 * Requests that become WebSockets: found in a table like those that do not, refused with an HTTP answer before they are
 * upgraded, and told to go away when the server stops.
 */
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import { STATUS_CODES } from "node:http"
import { type WebSocket, WebSocketServer } from "ws"
import { DEFAULT_ENVIRONMENT } from "../../Constants.ts"
import { IronflowError, isIronflowError } from "../../Errors.ts"
import { checkName } from "../../Limits.ts"
import { ENVIRONMENT_HEADER } from "../../Protocol/Http/Endpoints.ts"
import { failureResponse } from "../../Protocol/Http/Failures.ts"
import { matchPath } from "../Http/Route.ts"

/** A request for a WebSocket that has been accepted. */
export interface SocketCall {
  readonly environment: string
  /** Variables of the path, decoded. */
  readonly variables: { readonly [name: string]: string }
  readonly query: URLSearchParams
  readonly request: IncomingMessage
}

export interface SocketRoute {
  /** With `:name` for what varies. */
  readonly path: string
  /** Bytes of one frame from the client, where it may be larger than elsewhere. */
  readonly maxFrameBytes?: number
  /** Throws an `IronflowError` to refuse the request before the upgrade. */
  readonly check?: (call: SocketCall) => void
  /** Takes the open socket. It must listen to `error`, or one bad frame ends the process. */
  readonly open: (socket: WebSocket, call: SocketCall) => void
}

export interface UpgradeOptions {
  /** Bytes of one frame from the client; a larger one closes the connection with 1009. */
  readonly maxFrameBytes: number
  /** Refuses requests that nobody may make, by throwing an `IronflowError`. */
  readonly guard: (request: IncomingMessage) => void
  readonly routes: ReadonlyArray<SocketRoute>
}

/** The code of a close frame that says: the server stops, come back later. */
export const GOING_AWAY = 1001

export class Upgrades {
  readonly #options: UpgradeOptions
  readonly #patterns: ReadonlyArray<{ readonly route: SocketRoute; readonly segments: ReadonlyArray<string> }>
  readonly #server: WebSocketServer
  readonly #large: ReadonlyMap<SocketRoute, WebSocketServer>

  constructor(options: UpgradeOptions) {
    this.#options = options
    this.#patterns = options.routes.map((route) => ({ route, segments: route.path.split("/") }))
    this.#server = makeServer(options.maxFrameBytes)
    this.#large = new Map(
      options.routes.flatMap((route) =>
        route.maxFrameBytes === undefined ? [] : [[route, makeServer(route.maxFrameBytes)]]
      )
    )
  }

  /** The listener for `upgrade` of a Node server. */
  readonly upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    // whoever hangs up in the middle of the handshake has nothing to be told
    socket.on("error", () => socket.destroy())
    try {
      this.#options.guard(request)
      const { route, call } = this.#find(request)
      route.check?.(call)
      const server = this.#large.get(route) ?? this.#server
      server.handleUpgrade(request, socket, head, (webSocket) => route.open(webSocket, call))
    } catch (error) {
      if (!isIronflowError(error)) throw error
      refuse(socket, error)
    }
  }

  /** Open sockets now. */
  get size(): number {
    return this.#clients.length
  }

  /** Tells every client that the server stops. */
  goAway(): void {
    for (const socket of this.#clients) socket.close(GOING_AWAY, "the server stops")
  }

  /** Ends the connections that are still open. */
  close(): void {
    for (const socket of this.#clients) socket.terminate()
    for (const server of this.#servers) server.close()
  }

  get #servers(): ReadonlyArray<WebSocketServer> {
    return [this.#server, ...this.#large.values()]
  }

  get #clients(): ReadonlyArray<WebSocket> {
    return this.#servers.flatMap(({ clients }) => [...clients])
  }

  #find(request: IncomingMessage): { readonly route: SocketRoute; readonly call: SocketCall } {
    const url = request.url ?? "/"
    const mark = url.indexOf("?")
    const path = (mark === -1 ? url : url.slice(0, mark)).replace(/^\/{2,}/, "/")
    const segments = path.split("/")
    for (const { route, segments: pattern } of this.#patterns) {
      const variables = matchPath(pattern, segments)
      if (variables === undefined) continue
      const query = new URLSearchParams(mark === -1 ? "" : url.slice(mark + 1))
      // a browser cannot set headers on a WebSocket
      const environment = query.get("env") || request.headers[ENVIRONMENT_HEADER] || DEFAULT_ENVIRONMENT
      return {
        route,
        call: { environment: checkName("environment", environment), variables, query, request }
      }
    }
    throw new IronflowError(`There is no WebSocket at ${path.slice(0, 256)}`, { code: "ROUTE_NOT_FOUND" })
  }
}

const makeServer = (maxPayload: number): WebSocketServer =>
  new WebSocketServer({ noServer: true, maxPayload, perMessageDeflate: false })

const refuse = (socket: Duplex, error: IronflowError): void => {
  const { status, body } = failureResponse(error, "rest")
  const text = JSON.stringify(body)
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Error"}\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`
  )
}
