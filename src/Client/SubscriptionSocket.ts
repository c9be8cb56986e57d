/** The connection of a subscription client over a WebSocket. */
import type { IncomingMessage } from "node:http"
import type { WebSocket } from "ws"
import {
  ConnectionError,
  EnterpriseRequiredError,
  type IronflowError,
  isIronflowError,
  toError,
  UnauthenticatedError,
  UnauthorizedError
} from "../Errors.ts"
import { readFailure } from "../Protocol/Http/Failures.ts"
import { getWebSocketUrl } from "../Protocol/Paths.ts"
import { wireOf } from "../Protocol/WebSocketWire.ts"
import type { ResolvedServer } from "./HttpOptions.ts"
import type { Connect } from "./Reconnecting.ts"
import { tlsProblem } from "./TlsMismatch.ts"

/** Opens connections to a server. */
export const dialSocket =
  (server: ResolvedServer): Connect =>
  (onOpened, onFailed) => {
    const { apiKey, environment, timeoutMs, url } = server
    let isAborted = false
    let abort = (): void => {
      isAborted = true
    }
    const query = new URLSearchParams({
      env: environment,
      ...(apiKey === undefined ? {} : { token: apiKey })
    })
    const fail = (error: unknown): void =>
      onFailed(
        new ConnectionError(
          `The Ironflow server at ${url} accepts no subscriptions: ${reasonOf(url, error)}`,
          { cause: error }
        )
      )
    // loaded with the first connection, since most programs do not subscribe
    import("ws").then(({ WebSocket }) => {
      if (isAborted) return
      const socket = new WebSocket(`${getWebSocketUrl(url)}?${query}`, {
        perMessageDeflate: false,
        handshakeTimeout: timeoutMs
      })
      abort = () => socket.terminate()
      const wire = wireOf(socket)
      // `ws` passes one buffer, unless it is configured otherwise
      socket.on("message", (frame) => wire.onText(String(frame)))
      socket.on("open", () => {
        watchForDeath(socket)
        onOpened(wire)
      })
      socket.on("unexpected-response", (_, response) => {
        void readRefusal(response).then((error) => (isAccessRefused(error) ? onFailed(error) : fail(error)))
      })
      // before the socket is open, the error says why opening failed; a later error is ignored, and `close` follows
      socket.on("error", fail)
    }, fail)
    return () => abort()
  }

const reasonOf = (url: string, error: unknown): string => {
  const tlsReason = tlsProblem(url, error)
  if (tlsReason !== undefined) return `it ${tlsReason}`
  // what has answered is running, and its message says what to do
  if (isIronflowError(error)) return error.message
  return (
    `${toError(error).message || "the connection was refused"}. ` +
    "Start the server there, or set `serverUrl` to where it is"
  )
}

/** Closes the connection when it is dead: otherwise a subscription would wait on it forever. */
const watchForDeath = (socket: WebSocket): void => {
  let hasHeard = true
  const markHeard = (): void => {
    hasHeard = true
  }
  const timer = setInterval(() => {
    // a paused socket receives nothing, so its silence does not mean that the connection is dead
    if (!hasHeard && !socket.isPaused) return socket.terminate()
    hasHeard = false
    socket.ping()
  }, PING_MS)
  timer.unref()
  socket.on("pong", markHeard)
  socket.on("message", markHeard)
  socket.once("close", () => clearInterval(timer))
}

/**
 * The interval between pings, in milliseconds. If nothing arrives within one interval, the connection counts as dead.
 * The timer uses real time.
 */
const PING_MS = 15_000

const MAX_REFUSAL_BYTES = 64 * 1024

/** The error when the server did not accept the WebSocket. */
const readRefusal = async (response: IncomingMessage): Promise<IronflowError> => {
  let text = ""
  try {
    for await (const chunk of response.setEncoding("utf8")) {
      text += chunk
      if (text.length > MAX_REFUSAL_BYTES) break
    }
  } catch {
    // the body cannot be read to its end: the error is made from the status and what was read
  }
  response.destroy()
  return readFailure(response.statusCode ?? 0, text, "Connecting")
}

const isAccessRefused = (error: IronflowError): boolean =>
  error instanceof UnauthenticatedError ||
  error instanceof UnauthorizedError ||
  error instanceof EnterpriseRequiredError
