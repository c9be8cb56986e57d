/** Subscriptions over a WebSocket: wraps the socket of a client or of a server as a `Wire`. */
import type { WebSocket } from "ws"
import type { Wire } from "./Subscriptions.ts"

/**
 * Makes a `Wire` of a WebSocket. The caller passes the frames of the socket to `onText`, and handles the errors of the
 * socket; the `close` event follows each error. `weigh` returns the size that a number of buffered bytes counts as.
 */
export const wireOf = (socket: WebSocket, weigh = (bytes: number): number => bytes): Wire => {
  let isDrainExpected = false
  // The `drain` event of the underlying socket is of no use here: the socket emits it only after more bytes than
  // its own limit were buffered, and this limit may be higher than the limit of a subscription.
  const onSent = (): void => {
    if (!isDrainExpected || socket.bufferedAmount > 0) return
    isDrainExpected = false
    wire.onDrain()
  }
  const wire: Wire = {
    send: (text) => {
      socket.send(text, { binary: false }, onSent)
      isDrainExpected = weigh(socket.bufferedAmount) > 0 || isDrainExpected
    },
    close: (code, reason) => socket.close(code, reason),
    get backlog() {
      return weigh(socket.bufferedAmount)
    },
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    onText: () => undefined,
    onClose: () => undefined,
    onDrain: () => undefined
  }
  socket.on("close", (code, reason) => wire.onClose(code, String(reason)))
  return wire
}
