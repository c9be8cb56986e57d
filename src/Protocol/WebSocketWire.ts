/** The wire of a subscription over a WebSocket, the same at both of its ends. */
import type { WebSocket } from "ws"
import type { Wire } from "./Subscriptions.ts"

/** Errors of the socket are for whoever opened it: `close` follows them. */
export const wireOf = (socket: WebSocket): Wire => {
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
      waits ||= socket.bufferedAmount > 0
    },
    close: (code, reason) => socket.close(code, reason),
    get backlog() {
      return socket.bufferedAmount
    },
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    onText: () => undefined,
    onClose: () => undefined,
    onDrain: () => undefined
  }
  // a text frame comes as one buffer unless the socket was told otherwise
  socket.on("message", (data) => wire.onText(String(data)))
  socket.on("close", (code, reason) => wire.onClose(code, String(reason)))
  return wire
}
