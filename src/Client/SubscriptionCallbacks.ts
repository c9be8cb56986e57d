/** What a subscriber is told: events, what goes wrong, and how the connection does. */
import type { EventEntity } from "../Event.ts"
import type { EventMetadata } from "../Protocol/Subscriptions.ts"
import type { Body } from "./Delivery.ts"

/** How the connection of a subscription client is. */
export type ConnectionState = "connecting" | "connected" | "disconnected" | "reconnecting"

/** An event as a subscriber gets it. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface SubscriptionEvent<T = any> {
  /** Name of the event or topic; of a system event with `system.`. */
  readonly topic: string
  /** The data of the event or message; decoded, where the subscription has a definition. */
  readonly data: T
  /** With `includeMetadata`. */
  readonly meta?: EventMetadata
  /** Id of the event or message; what `ack` takes. */
  readonly eventId?: string
  /** With an `entity:` pattern: the stream and its version, and what else the event was appended with. */
  readonly entity?: EventEntity
  /** The version of the event's data. */
  readonly version?: number
  /** The metadata that it was emitted with. */
  readonly metadata?: Record<string, unknown>
}

/** Something that went wrong with a subscription, or with the connection. */
export interface SubscriptionErrorInfo {
  /** The subscription that it is about; absent when it is about all of them. */
  readonly subscriptionId?: string
  /** What it is, in a word: `SLOW_CONSUMER`, `EVENTS_DROPPED`, `HANDLER_ERROR` and others. */
  readonly code: string
  /** A sentence for a person. */
  readonly message: string
  /** Whether the subscription goes on. */
  readonly retrying?: boolean
}

/** Whom a subscription calls. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface SubscriptionCallbacks<T = any> {
  /**
   * In the order of the events. What it throws or rejects with goes to `onError` and harms nobody else. In a group with `auto` the
   * event comes again then; without a group the next one comes.
   */
  readonly onEvent?: (event: SubscriptionEvent<T>) => unknown
  /** Called with what goes wrong with this subscription. */
  readonly onError?: (error: SubscriptionErrorInfo) => void
  /** Called when the connection changes. */
  readonly onStateChange?: (state: ConnectionState) => void
}

/** A stream takes events when it gets to them, and says when the body of its loop is done. */
export interface SessionCallbacks extends SubscriptionCallbacks {
  readonly onBody?: (event: SubscriptionEvent, body: Body) => void
  /** The data as the subscriber gets it. What it throws is reported, and the event has failed. */
  readonly decode?: ((data: unknown) => unknown) | undefined
}
