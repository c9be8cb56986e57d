/**
 * The state of one subscription: its position, and the events that it holds. It outlasts the loss of a
 * connection.
 */
import type { AckMode, SubscribeOptions } from "../Protocol/Subscriptions.ts"
import type { EventDelivery } from "./EventDelivery.ts"
import type { SessionCallbacks, SubscriptionEvent } from "./SubscriptionCallbacks.ts"

/** An event that was received, and whether it is settled. */
interface SeenEvent {
  readonly eventId: string
  readonly position: string
  settled: boolean
}

/** A request that waits for the server's answer. */
export interface PendingRequest {
  readonly onAnswered: () => void
  readonly onFailed: (error: Error) => void
}

export class SubscriptionState {
  readonly pattern: string
  readonly options: SubscribeOptions
  readonly callbacks: SessionCallbacks
  id = ""
  lastEvent: SubscriptionEvent | undefined
  isActive = true
  /** Whether the server sends positions, and answers acks. */
  hasPositions = false
  /** The requested ack mode. If none was requested: the ack mode of the group, or `auto` without a group. */
  ackMode: AckMode
  /** Within this many milliseconds the server expects a report about held events; absent when it expects none. */
  ackWaitMs: number | undefined
  /** The deliveries of the events that are held, by event id. Without a group and without acks, no event is held. */
  readonly deliveries = new Map<string, EventDelivery>()
  /** Stops the timer that extends the `ackWait` of held events. */
  cancelExtending: (() => void) | undefined
  /** Called when the server has confirmed the subscription on a new connection. */
  onConfirmed: () => void = () => undefined

  /** The position up to which every event has arrived, and needs no further ack. */
  position: string | undefined
  /** For a subscription with acks and without a group: the events after `position`. */
  seenEvents: Array<SeenEvent> = []
  /**
   * Functions that deliver the events which arrived before the caller of `subscribe` has continued. `undefined` once
   * the caller has continued.
   */
  postponedDeliveries: Array<() => void> | undefined = []
  pending: PendingRequest | undefined

  constructor(
    pattern: string,
    options: SubscribeOptions,
    callbacks: SessionCallbacks,
    pending: PendingRequest
  ) {
    this.pattern = pattern
    this.options = options
    this.callbacks = callbacks
    this.pending = pending
    this.ackMode = options.ackMode ?? "auto"
  }

  /** Whether each event must be settled. */
  get mustSettle(): boolean {
    return this.hasPositions && (this.options.consumerGroup !== undefined || this.ackMode === "manual")
  }

  /** Whether the client itself acks an event when its body is done. */
  get acksAutomatically(): boolean {
    return this.hasPositions && this.options.consumerGroup !== undefined && this.ackMode !== "manual"
  }

  /** Whether `seenEvents` is used. */
  get remembersSeenEvents(): boolean {
    return this.options.ackMode === "manual" && this.options.consumerGroup === undefined
  }

  /** Marks an event as settled. Moves `position` to the last event before the first one that is not settled. */
  settleSeenEvent(eventId: string): void {
    const event = this.seenEvents.find((one) => one.eventId === eventId)
    if (event !== undefined) event.settled = true
    while (this.seenEvents[0]?.settled === true) this.position = this.seenEvents.shift()?.position
  }

  /** Forgets a delivery. */
  release(delivery: EventDelivery): void {
    if (this.deliveries.get(delivery.eventId) === delivery) this.deliveries.delete(delivery.eventId)
  }
}
