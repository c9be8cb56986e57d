/** The wire of a subscription over a WebSocket, the same at both of its ends. */
import type { WebSocket } from "ws"
import type { Wire } from "./Subscriptions.ts"

/**
 * Frames are for whoever has the socket to hand to `onText`, and so are its errors: `close` follows them. `weigh` says what so many
 * bytes count as that have not left.
 */
export const wireOf = (socket: WebSocket, weigh = (bytes: number): number => bytes): Wire => {
  let waits = false
  // The socket below emits `drain` only after it was filled up to its own mark, which may be more than a subscription's.
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
