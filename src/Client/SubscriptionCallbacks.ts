/** Callbacks of a subscriber: events, errors and connection changes. */
import type { EventEntity } from "../Event.ts"
import type { EventMetadata } from "../Protocol/Subscriptions.ts"
import type { Body } from "./EventDelivery.ts"
import type { SubscribedDecoder } from "./TypedSubscription.ts"

/** State of a subscription client's connection. */
export type ConnectionState = "connecting" | "connected" | "disconnected" | "reconnecting"

/** An event as a subscriber receives it. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface SubscriptionEvent<T = any> {
  /** Name of the event or topic; system events begin with `system.`. */
  readonly topic: string
  /** Data of the event or message; decoded if the subscription has a definition. */
  readonly data: T
  /** Present with `includeMetadata`. */
  readonly meta?: EventMetadata
  /** Id of the event or message; `ack` takes it. */
  readonly eventId?: string
  /** For an `entity:` pattern: the entity, its version and the other fields of the append. */
  readonly entity?: EventEntity
  /** For an `entity:` pattern: the schema version with which the event was appended. */
  readonly version?: number
  /** The metadata of the event. */
  readonly metadata?: Record<string, unknown>
}

/** A problem of a subscription or of the connection. */
export interface SubscriptionErrorInfo {
  /** Id of the subscription; absent when all subscriptions are affected. */
  readonly subscriptionId?: string
  /** Code of the problem: `SLOW_CONSUMER`, `EVENTS_DROPPED`, `HANDLER_ERROR` and others. */
  readonly code: string
  /** The problem as a sentence. */
  readonly message: string
  /** Whether the subscription continues. */
  readonly retrying?: boolean
}

/** Callbacks of a subscription. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface SubscriptionCallbacks<T = any> {
  /**
   * Called for each event, in order. If it throws or rejects, `onError` is called; other subscriptions are not
   * affected. In a consumer group with `ackMode: "auto"` the event is then delivered again, or becomes a dead letter:
   * at once if the error is not retryable, or else when the redeliveries are used up. Without a group the next event
   * follows.
   */
  readonly onEvent?: (event: SubscriptionEvent<T>) => unknown
  /** Called for each problem of this subscription. */
  readonly onError?: (error: SubscriptionErrorInfo) => void
  /** Called when the state of the connection changes. */
  readonly onStateChange?: (state: ConnectionState) => void
}

/**
 * The callbacks that the client gives to a session. For a stream, which takes events at its own pace, `onBody`
 * replaces `onEvent`: the stream tells the {@link Body} when the event has been handled.
 */
export interface SessionCallbacks extends SubscriptionCallbacks {
  readonly onBody?: (event: SubscriptionEvent, body: Body) => void
  /** Decodes the data. If it throws, the error is reported, and the event has failed. */
  readonly decode?: SubscribedDecoder | undefined
}
