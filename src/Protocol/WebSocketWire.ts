/** A `Wire` over a WebSocket, for both ends. */
import type { WebSocket } from "ws"
import type { Wire } from "./Subscriptions.ts"

/**
 * Makes a `Wire` of a WebSocket. The owner of the socket passes its frames to `onText`, and handles its
 * errors, which `close` follows. `weigh` converts a number of buffered bytes to the size that they count as.
 */
export const wireOf = (socket: WebSocket, weigh = (bytes: number): number => bytes): Wire => {
  let waits = false
  // The underlying socket only emits `drain` after it has exceeded its own high-water mark, which may be
  // higher than that of a subscription.
  const sent = (): void => {
    if (!waits || socket.bufferedAmount > 0) return
    waits = false
    wire.onDrain()
  }
  const wire: Wire = {
    send: (text) => {
      socket.send(text, { binary: false }, sent)
      waits = weigh(socket.bufferedAmount) > 0 || waits
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
