/** What a caller may subscribe to. It is checked for every transport: `/ws`, and ConnectRPC streams. */
import { type Action, overlapsGlob } from "../../Policy.ts"
import type { Guard } from "../PubSub/Connection.ts"
import type { Caller } from "./Access.ts"
import { reachOf, topicsOf } from "./SubscriptionReach.ts"
import { mayHaveEvent, mayHaveStream } from "./WorkerAccess.ts"

/** For a subscription to these topics, a further action must be allowed. */
const furtherActions: ReadonlyMap<string, Action> = new Map([
  ["system.run", "run:read"],
  ["system.function", "function:read"],
  ["system.worker", "worker:read"],
  ["system.secret", "secret:read"],
  ["system.projection", "projection:read"],
  ["system.config", "config:read"]
])

/** Throws `UnauthorizedError` when a policy denies a topic whose messages the pattern may match. */
const checkTopics = (caller: Caller, environment: string, pattern: string): void => {
  const topics = topicsOf(pattern)
  if (topics === undefined || !caller.isDenied("topic:read")) return
  caller.checkNotDenied("topic:read", topics, environment, (resources) => overlapsGlob(topics, resources))
}

/**
 * Throws `UnauthorizedError` when a policy denies a stream whose events a group may get. This is checked before a group gets
 * events: later, when the group delivers an event, nothing checks whether the member may have it.
 */
const checkStreams = (caller: Caller, environment: string, pattern: string): void => {
  if (pattern.startsWith("topic:") || !caller.isDenied("stream:read")) return
  caller.checkNotDenied("stream:read", "stream:*", environment, (resources) =>
    overlapsGlob("stream:*", resources)
  )
}

/** Throws `UnauthorizedError` when a policy denies something that a group counts, names or delivers. */
export const checkGroupNotDenied = (caller: Caller, environment: string, pattern: string): void => {
  caller.checkNotDenied("subscription:read", `subscription:${pattern}`, environment, reachOf(pattern))
  checkTopics(caller, environment, pattern)
  checkStreams(caller, environment, pattern)
}

export const guardOf = (caller: Caller, environment: string): Guard => ({
  check: (pattern) => {
    caller.checkAlive()
    caller.check("subscription:read", `subscription:${pattern}`, environment, reachOf(pattern))
    checkTopics(caller, environment, pattern)
    // without this permission, the subscription would deliver nothing, and the caller would not know why
    const furtherAction = furtherActions.get(pattern.split(".", 2).join("."))
    if (furtherAction !== undefined) caller.checkAction(furtherAction)
  },
  mayReceive: ({ action, event, resource }) =>
    caller.may(action, resource, environment) &&
    (event === undefined || mayHaveEvent(caller, environment, event)),
  mayRead: (entityId) => mayHaveStream(caller, environment, entityId),
  checkGroup: (pattern) => checkStreams(caller, environment, pattern)
})
