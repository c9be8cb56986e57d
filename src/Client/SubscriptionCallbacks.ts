/** What a subscriber is told: events, what goes wrong, and how the connection does. */
import type { EventEntity } from "../Event.ts"
import type { EventMetadata } from "../Protocol/Subscriptions.ts"
import type { Body } from "./Delivery.ts"

export type ConnectionState = "connecting" | "connected" | "disconnected" | "reconnecting"

/** An event as a subscriber gets it. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface SubscriptionEvent<T = any> {
  /** Name of the event or topic; of a system event with `system.`. */
  readonly topic: string
  readonly data: T
  /** With `includeMetadata`. */
  readonly meta?: EventMetadata
  readonly eventId?: string
  /** With an `entity:` pattern: the stream and its version, and what else the event was appended with. */
  readonly entity?: EventEntity
  readonly version?: number
  readonly metadata?: Record<string, unknown>
}

export interface SubscriptionErrorInfo {
  readonly subscriptionId?: string
  readonly code: string
  readonly message: string
  /** Whether the subscription goes on. */
  readonly retrying?: boolean
}

// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface SubscriptionCallbacks<T = any> {
  /**
   * In the order of the events. What it throws or rejects with goes to `onError` and harms nobody else. In a group with `auto` the
   * event comes again then; without a group the next one comes.
   */
  readonly onEvent?: (event: SubscriptionEvent<T>) => unknown
  readonly onError?: (error: SubscriptionErrorInfo) => void
  readonly onStateChange?: (state: ConnectionState) => void
}

/** A stream takes events when it gets to them, and says when the body of its loop is done. */
export interface SessionCallbacks extends SubscriptionCallbacks {
  readonly onBody?: (event: SubscriptionEvent, body: Body) => void
  /** The data as the subscriber gets it. What it throws is reported, and the event has failed. */
  readonly decode?: ((data: unknown) => unknown) | undefined
}
