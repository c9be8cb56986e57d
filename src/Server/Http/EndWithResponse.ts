/** Answers on a raw connection, where Node has made no response object for the request, and ends the connection. */
import type { Duplex } from "node:stream"
import { STATUS_CODES } from "../../NodeHttp.ts"
import type { FailureResponse } from "../../Protocol/Http/Failures.ts"

/** How long the client may take to close the connection too, in milliseconds. */
const GRACE_MS = 1000

export const endWithResponse = (socket: Duplex, { body, status }: FailureResponse): void => {
  const text = JSON.stringify(body)
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Error"}\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`
  )
  const timer = setTimeout(() => socket.destroy(), GRACE_MS)
  timer.unref()
  socket.once("close", () => clearTimeout(timer))
}
