/**
 * An event that a subscription holds: one of a group, or of a subscription with acks of its own. Until it is settled the client
 * tells the server that somebody works on it.
 */
import type * as Effect from "effect/Effect"

/**
 * What has the event: nobody yet; a body; the ack that follows it; nobody any more, when the acks are the user's, which the server
 * is still to be told (`done`) or was told (`left`).
 */
export type Phase = "waiting" | "running" | "acking" | "done" | "left"

export class Delivery {
  readonly eventId: string
  phase: Phase = "waiting"
  /** It is no longer held here: the connection that it came over is gone, or its time was up. It comes again to somebody. */
  isLost = false
  /** Its receiver has settled it by itself, or tried to. */
  isSettled = false
  /** When it was left or last said to be in progress, epoch milliseconds. */
  leftAt = 0
  /** Since when the server lets it be here for the `ackWait`, if not for longer: epoch milliseconds. */
  heldSince: number

  constructor(eventId: string, heldSince: number) {
    this.eventId = eventId
    this.heldSince = heldSince
  }
}

/** The span in which somebody has an event. */
interface DeliverySpan {
  /** Calls `f` where code that is traced finds the span as the active one. */
  readonly within: <A>(f: () => A) => A
  /** What the effect spans is below the span. */
  readonly provide: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** The event is not worked on any more, and whether it was done is not known. */
  readonly interrupted: () => void
}

/** What takes an event: a handler, or the body of a loop over a stream. */
export interface Body {
  /** Begins; `false` when the event is no longer held, and comes again to somebody. */
  readonly take: () => boolean
  readonly done: () => void
  readonly failed: (error: unknown) => void
  /** What it is traced in, once it has taken the event. */
  readonly span?: DeliverySpan
}

/** Of events that nobody waits for. */
export const free: Body = { take: () => true, done: () => undefined, failed: () => undefined }

/** What becomes of what a subscription holds when its connection is lost. */
export const loseAll = (deliveries: Map<string, Delivery>): void => {
  for (const [eventId, delivery] of deliveries) {
    // a body that runs is not begun again when the event comes back here, and one that is done is only acked then
    const stays = delivery.phase === "running" || (delivery.phase === "acking" && !delivery.isLost)
    delivery.isLost = true
    if (!stays) deliveries.delete(eventId)
  }
}
