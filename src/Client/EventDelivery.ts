/**
 * An event that was delivered to a subscription in a group, or to one with acks. The client extends its
 * `ackWait` until the event is settled.
 */
import type * as Effect from "effect/Effect"

/**
 * Where a delivery is. `waiting`: it waits for a body. `running`: it is in a body. `acking`: the body is done
 * and the ack is on its way. `done` and `left` are for manual acks, and come after the body. `done`: the
 * client has not reported the event as in progress since the body ended. `left`: it has, for the last time.
 */
export type Phase = "waiting" | "running" | "acking" | "done" | "left"

export class EventDelivery {
  readonly eventId: string
  phase: Phase = "waiting"
  /**
   * Whether the event is no longer held here: its connection was lost, or its `ackWait` ran out. The server
   * delivers it again.
   */
  isLost = false
  /** Whether the receiver has settled the event itself, or has tried to. */
  isSettled = false
  /**
   * When the delivery became `done` or `left`, or was last reported as in progress, in epoch milliseconds.
   */
  leftAt = 0
  /** When the event arrived, or its `ackWait` was last restarted, in epoch milliseconds. */
  heldSince: number

  constructor(eventId: string, heldSince: number) {
    this.eventId = eventId
    this.heldSince = heldSince
  }
}

/** The span in which an event is handled. */
interface DeliverySpan {
  /** Calls `f` with the span as the active one. */
  readonly within: <A>(f: () => A) => A
  /** Makes the span the parent of the spans of an effect. */
  readonly provide: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Ends the span with an unknown outcome. */
  readonly interrupted: () => void
}

/** What handles an event: a callback, or the body of a loop over a stream. */
export interface Body {
  /**
   * Starts to handle the event. Returns `false` when the event is no longer held here: it will be delivered
   * again.
   */
  readonly take: () => boolean
  readonly done: () => void
  readonly failed: (error: unknown) => void
  /** The span of the handling, once the handling has started. */
  readonly span?: DeliverySpan
}

/** A body for events that need no ack. */
export const unackedBody: Body = { take: () => true, done: () => undefined, failed: () => undefined }

/**
 * Marks the deliveries of a subscription as lost, since their connection is lost. Forgets those that are not
 * being handled.
 */
export const loseAll = (deliveries: Map<string, EventDelivery>): void => {
  for (const [eventId, delivery] of deliveries) {
    // a running body stays known, so that its event is not handled twice when it comes again; an ack on its
    // way too
    const stays = delivery.phase === "running" || (delivery.phase === "acking" && !delivery.isLost)
    delivery.isLost = true
    if (!stays) deliveries.delete(eventId)
  }
}
