/**
 * Serves subscription clients, and counts their subscriptions. Also starts the periodic deletion of old messages, old events and
 * abandoned consumer groups.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { StoreError } from "../../Errors.ts"
import * as Alarm from "../../Execution/Alarm.ts"
import type { Wire } from "../../Protocol/Subscriptions.ts"
import { readEndOfLog } from "../Log/EndOfLog.ts"
import { Counters } from "../Store/Counters.ts"
import { Store } from "../Store/Store.ts"
import { connect, type ConnectionOptions } from "./Connection.ts"
import type { Member } from "./Group.ts"
import * as EventSweep from "../Events/EventSweep.ts"
import * as GroupSweep from "./GroupSweep.ts"
import * as MessageSweep from "./MessageSweep.ts"
import { SubscriptionHub } from "./SubscriptionHub.ts"
import { SystemEvents } from "../SystemEvents/SystemEvents.ts"

export interface SubscriptionsService {
  /**
   * Serves a subscription client until either end closes the wire. Returns a function that checks again whether the client may
   * have its subscriptions. If the client may not have one of them, the function throws the guard's error.
   */
  readonly connect: (environment: string, wire: Wire, options?: ConnectionOptions) => () => void
  /** How many open subscriptions get messages of a topic. */
  readonly consumersOf: (environment: string, topic: string) => number
  /** How many open subscriptions there are. */
  readonly count: () => number
  /** The connected members of a consumer group. */
  readonly membersOf: (group: number) => ReadonlyArray<Member>
}

export class Subscriptions extends Context.Service<Subscriptions, SubscriptionsService>()(
  "@ironflow/node/Engine/Subscriptions"
) {}

/** The layer of {@link Subscriptions}, which follows the log from its current end. */
export const layer: Layer.Layer<Subscriptions, StoreError, Store | SystemEvents | Counters> = Layer.effect(
  Subscriptions,
  Effect.gen(function* () {
    const store = yield* Store
    const counters = yield* Counters
    const hub = new SubscriptionHub({
      store,
      system: yield* SystemEvents,
      clock: yield* Clock.Clock,
      alarm: yield* Alarm.make,
      run: Effect.runForkWith(yield* Effect.context<never>()),
      head: yield* readEndOfLog(store),
      countStaleAck: () => counters.count("staleAcks")
    })
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    // notifications of other engines may be lost, but the database has the end of the log
    const readLogEnd = Effect.matchEffect(readEndOfLog(store), {
      onSuccess: (head) => Effect.sync(() => hub.advanceHead(head)),
      onFailure: (error) =>
        Effect.logWarning(
          "The end of the log could not be read: new events may reach subscribers late",
          error
        )
    })
    const stop = store.onCommit(({ groups, logEnd, stale }) => {
      if (stale.has("groups")) hub.refreshGroups()
      else hub.refreshGroups(groups)
      if (stale.has("log")) runFork(readLogEnd)
      else if (logEnd > 0) hub.advanceHead(logEnd)
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => hub.closeAll()))
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    yield* MessageSweep.make(store)
    yield* EventSweep.make(store, () => hub.deliveredPositions)
    yield* GroupSweep.make(store, () => hub.activeGroups)
    return {
      connect: (environment, wire, options) => connect(hub, environment, wire, options),
      consumersOf: (environment, topic) => hub.consumersOf(environment, topic),
      count: () => hub.subscriptionCount,
      membersOf: (group) => hub.membersOf(group)
    }
  })
)
