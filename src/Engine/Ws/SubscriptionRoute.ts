/** `/ws`: the socket of a subscription client. */
import { sockets } from "../../Protocol/Http/Endpoints.ts"
import { wireOf } from "../../Protocol/WebSocketWire.ts"
import { isIronflowError } from "../../Errors.ts"
import { type Action, overlapsGlob } from "../../Policy.ts"
import { reachOf } from "../Access/SubscriptionReach.ts"
import { mayHaveEvent, mayHaveStream } from "../Access/WorkerAccess.ts"
import type { EngineService } from "../Engine.ts"
import { closeFor, POLICY_VIOLATION, type SocketRoute } from "./Upgrades.ts"

/** How often a client is asked whether it is still there; one that does not answer in this time is gone. */
const PING_MS = 30_000

/** What whoever subscribes to such topics must be allowed to do besides. */
const furtherActions: ReadonlyMap<string, Action> = new Map([
  ["system.run", "run:read"],
  ["system.function", "function:read"],
  ["system.worker", "worker:read"],
  ["system.secret", "secret:read"],
  ["system.projection", "projection:read"],
  ["system.config", "config:read"]
])

/** `every` calls a function in intervals of milliseconds, and returns the way to stop that. */
export const subscriptionRoute = (
  engine: EngineService,
  every: (ms: number, f: () => void) => () => void
): SocketRoute => ({
  path: sockets.subscriptions,
  check: ({ visitor }) => visitor.caller.checkAction("subscription:read"),
  open: (socket, { environment, flow, visitor }) => {
    const wire = wireOf(socket, (bytes) => flow.weigh(bytes))
    const checkAgain = engine.subscribe(environment, wire, {
      check: (pattern) => {
        visitor.caller.checkAlive()
        visitor.caller.check("subscription:read", `subscription:${pattern}`, environment, reachOf(pattern))
        // of what asks for more, nothing would come
        const more = furtherActions.get(pattern.split(".", 2).join("."))
        if (more !== undefined) visitor.caller.checkAction(more)
      },
      may: ({ action, event, resource }) =>
        visitor.caller.may(action, resource, environment) &&
        (event === undefined || mayHaveEvent(visitor.caller, environment, event)),
      mayRead: (entityId) => mayHaveStream(visitor.caller, environment, entityId),
      checkGroup: (pattern) => {
        if (pattern.startsWith("topic:")) return
        visitor.caller.checkNotDenied("stream:read", "stream:*", environment, (resources) =>
          overlapsGlob("stream:*", resources)
        )
      }
    })
    const stopWatching = visitor.caller.watch((ended) => {
      if (ended) return
      try {
        checkAgain()
      } catch (error) {
        if (!isIronflowError(error)) throw error
        // it comes back with what it may still subscribe to
        closeFor(socket, POLICY_VIOLATION, "the API key may not do this any more")
      }
    })
    socket.on("close", stopWatching)
    let alive = true
    socket.on("pong", () => (alive = true))
    const stop = every(PING_MS, () => {
      if (!alive) return socket.terminate()
      alive = false
      socket.ping()
    })
    socket.on("close", stop)
    return (frame) => wire.onText(String(frame))
  }
})
