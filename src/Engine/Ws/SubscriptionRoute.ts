/** `/ws`: the socket of a subscription client. */
import { wireOf } from "../../Protocol/WebSocketWire.ts"
import type { Action } from "../../Policy.ts"
import { reachOf } from "../Access/SubscriptionReach.ts"
import type { EngineService } from "../Engine.ts"
import { POLICY_VIOLATION, type SocketRoute } from "./Upgrades.ts"

/** How often a client is asked whether it is still there; one that does not answer in this time is gone. */
const PING_MS = 30_000

/** What whoever subscribes to such topics must be allowed to do besides. */
const furtherActions: ReadonlyMap<string, Action> = new Map([
  ["system.projection", "projection:read"],
  ["system.config", "config:read"]
])

/** `every` calls a function in intervals of milliseconds, and returns the way to stop that. */
export const subscriptionRoute = (
  engine: EngineService,
  every: (ms: number, f: () => void) => () => void
): SocketRoute => ({
  path: "/ws",
  check: ({ visitor }) => visitor.caller.checkAction("subscription:read"),
  open: (socket, { environment, visitor }) => {
    const wire = wireOf(socket)
    const patterns = new Set<string>()
    const check = (pattern: string): void => {
      visitor.caller.checkAlive()
      visitor.caller.check("subscription:read", `subscription:${pattern}`, environment, reachOf(pattern))
      // of what asks for more, nothing would come
      const more = furtherActions.get(pattern.split(".", 2).join("."))
      if (more !== undefined) visitor.caller.checkAction(more)
      patterns.add(pattern)
    }
    engine.subscribe(environment, wire, {
      check,
      may: ({ action, resource }) => visitor.caller.may(action, resource, environment)
    })
    const stopWatching = visitor.caller.watch((ended) => {
      const may = (pattern: string) =>
        visitor.caller.may("subscription:read", `subscription:${pattern}`, environment, reachOf(pattern))
      // it comes back with what it may still subscribe to
      if (!ended && ![...patterns].every(may))
        socket.close(POLICY_VIOLATION, "the API key may not do this any more")
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
