/** A `Wire` over a WebSocket, for both ends. */
import type { WebSocket } from "ws"
import type { Wire } from "./Subscriptions.ts"

/**
 * The owner of the socket passes its frames to `onText`, and handles its errors, which are followed by `close`. `weigh` converts
 * a number of buffered bytes to the size they count as.
 */
export const wireOf = (socket: WebSocket, weigh = (bytes: number): number => bytes): Wire => {
  let waits = false
  // The underlying socket emits `drain` only after exceeding its own high-water mark, which may be higher than a subscription's.
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
