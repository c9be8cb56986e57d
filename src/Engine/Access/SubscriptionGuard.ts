/** What a caller may subscribe to, by whatever its subscriptions travel: `/ws`, or a stream of ConnectRPC. */
import { type Action, overlapsGlob } from "../../Policy.ts"
import type { Guard } from "../Subscriptions/Connection.ts"
import type { Caller } from "./Access.ts"
import { reachOf } from "./SubscriptionReach.ts"
import { mayHaveEvent, mayHaveStream } from "./WorkerAccess.ts"

/** What whoever subscribes to such topics must be allowed to do besides. */
const furtherActions: ReadonlyMap<string, Action> = new Map([
  ["system.run", "run:read"],
  ["system.function", "function:read"],
  ["system.worker", "worker:read"],
  ["system.secret", "secret:read"],
  ["system.projection", "projection:read"],
  ["system.config", "config:read"]
])

export const guardOf = (caller: Caller, environment: string): Guard => ({
  check: (pattern) => {
    caller.checkAlive()
    caller.check("subscription:read", `subscription:${pattern}`, environment, reachOf(pattern))
    // of what asks for more, nothing would come
    const more = furtherActions.get(pattern.split(".", 2).join("."))
    if (more !== undefined) caller.checkAction(more)
  },
  may: ({ action, event, resource }) =>
    caller.may(action, resource, environment) &&
    (event === undefined || mayHaveEvent(caller, environment, event)),
  mayRead: (entityId) => mayHaveStream(caller, environment, entityId),
  checkGroup: (pattern) => {
    if (pattern.startsWith("topic:")) return
    caller.checkNotDenied("stream:read", "stream:*", environment, (resources) =>
      overlapsGlob("stream:*", resources)
    )
  }
})
