/** The wire of a subscription over a WebSocket, the same at both of its ends. */
import type { WebSocket } from "ws"
import type { Wire } from "./Subscriptions.ts"

/** Frames are for whoever has the socket to hand to `onText`, and so are its errors: `close` follows them. */
export const wireOf = (socket: WebSocket): Wire => {
  const wire: Wire = {
    send: (text) => socket.send(text, { binary: false }),
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
  socket.on("close", (code, reason) => wire.onClose(code, String(reason)))
  return wire
}
