/** State of one subscription: its position and the events it holds. It survives reconnections. */
import type { AckMode, SubscribeOptions } from "../Protocol/Subscriptions.ts"
import type { EventDelivery } from "./EventDelivery.ts"
import type { SessionCallbacks, SubscriptionEvent } from "./SubscriptionCallbacks.ts"

/** A received event and how it is settled. */
interface Seen {
  readonly eventId: string
  readonly position: string
  settled: boolean
}

/** A request that waits for the server's answer. */
export interface PendingAck {
  readonly done: () => void
  readonly failed: (error: Error) => void
}

export class SubscriptionState {
  readonly pattern: string
  readonly options: SubscribeOptions
  readonly callbacks: SessionCallbacks
  id = ""
  lastEvent: SubscriptionEvent | undefined
  isActive = true
  /** Whether the server reports positions and answers acks. */
  hasPositions = false
  /** The mode that was requested, or that of the group. */
  ackMode: AckMode
  /** Milliseconds within which the server expects a report about held events; absent when it expects none. */
  ackWaitMs: number | undefined
  /** Held events of a group, or of a subscription with acks, by event id. */
  readonly deliveries = new Map<string, EventDelivery>()
  cancelKeeping: (() => void) | undefined
  /** Called when the server has confirmed the subscription on a new connection. */
  onConfirmed: () => void = () => undefined
  /** Whether the subscription is confirmed on this connection. */
  confirmed = false
  /** Every event up to here has arrived and needs no more ack. */
  position: string | undefined
  /** With acks and without a group: the events after `position`. */
  seen: Array<Seen> = []
  /** Events that wait until the caller of `subscribe` has continued; `undefined` afterwards. */
  held: Array<() => void> | undefined = []
  pending: PendingAck | undefined

  constructor(pattern: string, options: SubscribeOptions, callbacks: SessionCallbacks, pending: PendingAck) {
    this.pattern = pattern
    this.options = options
    this.callbacks = callbacks
    this.pending = pending
    this.ackMode = options.ackMode ?? "auto"
  }

  /** Whether each event must be settled. */
  get holds(): boolean {
    return this.hasPositions && (this.options.consumerGroup !== undefined || this.ackMode === "manual")
  }

  /** Whether the client acks an event itself when its body is done. */
  get acksItself(): boolean {
    return this.hasPositions && this.options.consumerGroup !== undefined && this.ackMode !== "manual"
  }

  get remembersSeen(): boolean {
    return this.options.ackMode === "manual" && this.options.consumerGroup === undefined
  }

  /** Marks an event as settled, and moves `position` up to the next unsettled one. */
  settleSeen(eventId: string): void {
    const seen = this.seen.find((one) => one.eventId === eventId)
    if (seen !== undefined) seen.settled = true
    while (this.seen[0]?.settled === true) this.position = this.seen.shift()?.position
  }

  /** Forgets a delivery. */
  release(delivery: EventDelivery): void {
    if (this.deliveries.get(delivery.eventId) === delivery) this.deliveries.delete(delivery.eventId)
  }
}
