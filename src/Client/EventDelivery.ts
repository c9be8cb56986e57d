/**
 * The delivery of an event that has to be settled, since its subscription is in a consumer group or uses acks.
 * The client extends the `ackWait` of the event until the event is settled. A {@link Body} handles the event.
 */
import type * as Effect from "effect/Effect"

/**
 * The phase of a delivery. `waiting`: no body handles the event yet. `running`: a body handles it. `acking`: the
 * body has ended, and the ack is on its way.
 *
 * With manual acks, two phases follow the body. `handled`: the client will report the event as in progress once
 * more. `unattended`: this last report is made, and the `ackWait` runs out unless the receiver settles the event.
 */
export type Phase = "waiting" | "running" | "acking" | "handled" | "unattended"

export class EventDelivery {
  readonly eventId: string
  phase: Phase = "waiting"
  /**
   * Whether the event is no longer held here, since its connection was lost or its `ackWait` ran out. The server
   * delivers the event again.
   */
  isLost = false
  /** Whether the receiver has settled the event itself, or has tried to. */
  isSettled = false
  /**
   * When the delivery became `handled` or `unattended`, or the receiver last reported it as in progress, in epoch
   * milliseconds.
   */
  unattendedSince = 0
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
  /** Ends the span as interrupted, when it is not known how the handling ends. */
  readonly endInterrupted: () => void
}

/** What handles an event: a callback, or the body of a loop over a stream. */
export interface Body {
  /**
   * Starts to handle the event. Returns `false` when the event must not be handled, since it is no longer held
   * here: the server delivers it again.
   */
  readonly take: () => boolean
  /** Called when the event was handled. */
  readonly onDone: () => void
  /** Called when the handling has failed. */
  readonly onFailed: (error: unknown) => void
  /** The span of the handling, once the handling has started. */
  readonly span?: DeliverySpan
}

/** A body for events that need no ack. */
export const unackedBody: Body = { take: () => true, onDone: () => undefined, onFailed: () => undefined }

/**
 * Marks the deliveries of a subscription as lost, since their connection is lost. Forgets those whose event is
 * neither being handled nor being acked.
 */
export const loseDeliveries = (deliveries: Map<string, EventDelivery>): void => {
  for (const [eventId, delivery] of deliveries) {
    // kept, so that the event is not handled twice when the server delivers it again
    const isKept = delivery.phase === "running" || (delivery.phase === "acking" && !delivery.isLost)
    delivery.isLost = true
    if (!isKept) deliveries.delete(eventId)
  }
}
