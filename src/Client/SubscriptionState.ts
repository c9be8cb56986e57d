/** One subscription of a client: how far it has come, and what it holds. It outlives the connections that it is brought over to. */
import type { AckMode, SubscribeOptions } from "../Protocol/Subscriptions.ts"
import type { Delivery } from "./Delivery.ts"
import type { SessionCallbacks, SubscriptionEvent } from "./SubscriptionCallbacks.ts"

/** An event that has come, and how it is settled. */
interface Seen {
  readonly eventId: string
  readonly position: string
  settled: boolean
}

/** Who waits for an answer of the server. */
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
  /** Whether the server tells positions and answers acks. */
  hasPositions = false
  /** As asked for, or as the group says. */
  ackMode: AckMode
  /** Milliseconds in which the server wants to hear of what is held; absent when it does not listen. */
  ackWaitMs: number | undefined
  /** What is held of a group, or with acks, by event id. */
  readonly deliveries = new Map<string, Delivery>()
  cancelKeeping: (() => void) | undefined
  /** Called when the server has confirmed it on another connection. */
  onConfirmed: () => void = () => undefined
  /** What was confirmed on this connection. */
  confirmed = false
  /** Everything up to here has come, and needs no ack any more. */
  position: string | undefined
  /** With acks and without a group: what came after `position`. */
  seen: Array<Seen> = []
  /** Until the caller of `subscribe` has gone on. */
  held: Array<() => void> | undefined = []
  pending: PendingAck | undefined

  constructor(pattern: string, options: SubscribeOptions, callbacks: SessionCallbacks, pending: PendingAck) {
    this.pattern = pattern
    this.options = options
    this.callbacks = callbacks
    this.pending = pending
    this.ackMode = options.ackMode ?? "auto"
  }

  /** Whether the server has somebody settle each event. */
  get holds(): boolean {
    return this.hasPositions && (this.options.consumerGroup !== undefined || this.ackMode === "manual")
  }

  /** Whether the client settles an event when its body is done. */
  get acksItself(): boolean {
    return this.hasPositions && this.options.consumerGroup !== undefined && this.ackMode !== "manual"
  }

  get remembersSeen(): boolean {
    return this.options.ackMode === "manual" && this.options.consumerGroup === undefined
  }

  /** It needs no ack any more: what comes before the next one that does is over. */
  settleSeen(eventId: string): void {
    const seen = this.seen.find((one) => one.eventId === eventId)
    if (seen !== undefined) seen.settled = true
    while (this.seen[0]?.settled === true) this.position = this.seen.shift()?.position
  }

  /** Forgets a delivery. */
  release(delivery: Delivery): void {
    if (this.deliveries.get(delivery.eventId) === delivery) this.deliveries.delete(delivery.eventId)
  }
}
