/** `/ws`: the socket of a subscription client. */
import { sockets } from "../../Protocol/Subscriptions.ts"
import { wireOf } from "../../Protocol/WebSocketWire.ts"
import { isIronflowError } from "../../Errors.ts"
import { guardOf } from "../../Engine/Access/SubscriptionGuard.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { closeFor, POLICY_VIOLATION, type SocketRoute } from "./Upgrades.ts"

/**
 * How often a ping is sent, in milliseconds. A client that has not answered before the next ping counts as
 * gone.
 */
const PING_MS = 30_000

/**
 * Makes the route. `callEvery` calls `f` again and again, at intervals of `ms` milliseconds, and returns a function
 * that ends this.
 */
export const subscriptionRoute = (
  engine: EngineService,
  callEvery: (ms: number, f: () => void) => () => void
): SocketRoute => ({
  spec: sockets.subscriptions,
  open: (socket, { environment, flow, visitor }) => {
    const wire = wireOf(socket, (bytes) => flow.weigh(bytes))
    const checkAgain = engine.subscriptions.connect(environment, wire, {
      guard: guardOf(visitor.caller, environment)
    })
    const stopWatching = visitor.caller.watch((keyEnded) => {
      // `Upgrades.ts` closes the socket when the key ends
      if (keyEnded) return
      try {
        checkAgain()
      } catch (error) {
        if (!isIronflowError(error)) throw error
        // the client reconnects, with the subscriptions that it may still have
        closeFor(socket, POLICY_VIOLATION, "the API key may not do this any more")
      }
    })
    socket.on("close", stopWatching)
    let isAlive = true
    socket.on("pong", () => (isAlive = true))
    const stop = callEvery(PING_MS, () => {
      if (!isAlive) return socket.terminate()
      isAlive = false
      socket.ping()
    })
    socket.on("close", stop)
    return (frame) => wire.onText(String(frame))
  }
})
