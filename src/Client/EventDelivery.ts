/**
 * An event that is delivered to a subscription in a group, or to one with acks. Until the event is settled, the client keeps
 * extending its `ackWait`.
 */
import type * as Effect from "effect/Effect"

/**
 * State of a delivery: `waiting` for a body; `running` in a body; `acking`: the body is done and the ack is on its way. `done`
 * and `left` are for manual acks, after the body: `done` until the server has been told that the event is still in progress, then
 * `left`.
 */
export type Phase = "waiting" | "running" | "acking" | "done" | "left"

export class EventDelivery {
  readonly eventId: string
  phase: Phase = "waiting"
  /** The event is no longer held here: its connection was lost, or its `ackWait` ran out. The server delivers it again. */
  isLost = false
  /** The receiver has settled the event itself, or tried to. */
  isSettled = false
  /** When it became `done` or `left`, or was last reported in progress; epoch milliseconds. */
  leftAt = 0
  /** When the event arrived, or its `ackWait` was last restarted; epoch milliseconds. */
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
  /** Starts handling; `false` when the event is no longer held, in which case it is delivered again. */
  readonly take: () => boolean
  readonly done: () => void
  readonly failed: (error: unknown) => void
  /** The span of the handling, once it has started. */
  readonly span?: DeliverySpan
}

/** A body for events that need no ack. */
export const unackedBody: Body = { take: () => true, done: () => undefined, failed: () => undefined }

/** Marks the deliveries of a subscription as lost when its connection is lost, and forgets those that are not being handled. */
export const loseAll = (deliveries: Map<string, EventDelivery>): void => {
  for (const [eventId, delivery] of deliveries) {
    // keep running bodies, so that a redelivered event is not handled twice, and acks on their way
    const stays = delivery.phase === "running" || (delivery.phase === "acking" && !delivery.isLost)
    delivery.isLost = true
    if (!stays) deliveries.delete(eventId)
  }
}
