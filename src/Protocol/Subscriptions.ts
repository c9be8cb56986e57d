/**
 * Subscriptions: their options, the messages of the WebSocket `/ws` (one JSON object in each frame), and the ConnectRPC calls
 * that stream events. Fields marked "ours" are used only between a client and an engine of this package: the client asks for them
 * with `resume`, and an engine that supports them answers with `position`.
 */

import type { Duration } from "../Duration.ts"
import { ConsumerGroupNotFoundError } from "../Errors.ts"
import type { EventEntity } from "../Event.ts"
import {
  oneOfList,
  anyOf,
  type Codec,
  digits,
  fields,
  flag,
  integer,
  json,
  list,
  object,
  oneOf,
  optional,
  struct,
  text
} from "./Codec.ts"
import { SUBSCRIPTIONS } from "./Paths.ts"
import { inBody, callSpec } from "./CallSpec.ts"

export const ackModes = ["auto", "manual"] as const
/** Who settles an event: the client when its handler ends (`auto`), or the user by a call (`manual`). */
export type AckMode = (typeof ackModes)[number]
const ackTypes = ["ack", "nak", "term"] as const
/** How an event is settled. */
export type AckType = (typeof ackTypes)[number]
export const backpressureModes = ["buffer", "drop", "block"] as const
/** What happens to events when the connection of a subscriber is too slow. See `SubscribeOptions.backpressure`. */
export type BackpressureMode = (typeof backpressureModes)[number]

/** How much may wait on the connection of a slow subscriber. */
export interface BufferConfig {
  /** Size in bytes, from 1 KiB to 8 MiB; 1 MiB by default, 64 KiB with `block`. */
  readonly maxBytes?: number
}

/** Settings of a consumer group. */
export interface GroupSettings {
  /** The ack mode of members that request none; `auto` by default. */
  readonly ackMode: AckMode
  /**
   * The backpressure mode of members that request none; `buffer` by default. A group never drops events, so `drop` is not
   * allowed.
   */
  readonly backpressure: BackpressureMode
  /** The buffer of members that request none. */
  readonly buffer: BufferConfig
  /** Maximum number of events that one member holds, from 1 to 1000; 100 by default. */
  readonly maxInflight: number
  /** How often a failed event is redelivered before it becomes a dead letter, from 0 to 1000; 10 by default. */
  readonly maxRedeliveries: number
  /**
   * Delay of a redelivery in milliseconds, up to 24 hours. By default it is 5000 after the first failure, and doubles with each
   * failure up to 5 minutes. A configured delay is constant.
   */
  readonly redeliverDelayMs: number
}

/** Options of a subscription. */
export interface SubscribeOptions {
  /** Number of past events to deliver first, at most 1000; none by default. */
  readonly replay?: number
  /** Whether to include `meta` with each event. */
  readonly includeMetadata?: boolean
  /** CEL expression over `event`, such as `event.data.amount > 100`. */
  readonly filter?: string
  /**
   * Name of the consumer group to join. The members of the group share the events, and the engine stores the position of the
   * group.
   */
  readonly consumerGroup?: string
  /** By default the setting of the group, or `auto` without a group. With `manual`, events that are not acked are redelivered. */
  readonly ackMode?: AckMode
  /**
   * How long a member of a group, or a subscription with `ackMode: "manual"`, may hold an event without reporting progress, from
   * one second to 24 hours; 30 seconds by default. The client reports progress automatically, from the arrival of an event until
   * its handler or loop body has ended.
   */
  readonly ackWait?: Duration
  /**
   * What to do when the connection is too slow. With `buffer` (default) and `block`, delivery stops, and continues at the same
   * event once the connection has caught up; `buffer` also reports the error `SLOW_CONSUMER`. `drop` skips the events in between,
   * and reports their number with `EVENTS_DROPPED`.
   */
  readonly backpressure?: BackpressureMode
  /** Ours: how much may wait on the connection before it counts as too slow. */
  readonly buffer?: BufferConfig
  /** Namespace of the group; `default` by default. */
  readonly namespace?: string
}

/** Starts a subscription. */
export interface WSSubscribeRequest {
  /** Type of the message. */
  readonly type: "subscribe"
  /** The pattern and options. */
  readonly subscription: {
    readonly pattern: string
    readonly options?: SubscribeOptions
    /** Ours: asks for positions in the answers. The subscription starts after the position `after`, if it is given. */
    readonly resume?: { readonly after?: string }
    /** Ours: maximum number of events of the group that the client holds, unless it settles them quickly. */
    readonly capacity?: number
  }
}

/** Ends a subscription. */
export interface WSUnsubscribeRequest {
  /** Type of the message. */
  readonly type: "unsubscribe"
  /** Id of the subscription. */
  readonly subscriptionId: string
}

/** Settles an event. */
export interface WSAckRequest {
  /** Type of the message. */
  readonly type: "ack"
  /** Id of the event. */
  readonly eventId: string
  /** How the event is settled. */
  readonly ackType: AckType
  /** Milliseconds until redelivery, after a `nak`. */
  readonly redeliverDelay?: number
  /** Ours: the subscription of the delivery. */
  readonly subscriptionId?: string
  /** Ours: asks for an `ack_result` with this number. */
  readonly requestId?: number
  /** Ours: the reason of a `nak` or `term`. */
  readonly reason?: string
}

/** Ours, for servers that send an `ackWait`: restarts the `ackWait` of the events that the subscription holds. */
interface WSInProgressRequest {
  /** Type of the message. */
  readonly type: "in_progress"
  /** Id of the subscription. */
  readonly subscriptionId: string
  /** Id of the event; without it, all events that the subscription holds. */
  readonly eventId?: string
  /** Ids of events that are left out; only without `eventId`. */
  readonly except?: ReadonlyArray<string>
  /** Asks for an `ack_result` with this number. */
  readonly requestId?: number
}

/** Messages of a client. */
export type WSClientMessage = WSSubscribeRequest | WSUnsubscribeRequest | WSAckRequest | WSInProgressRequest

/** Answers a `subscribe`. */
export interface WSSubscriptionResult {
  /** Type of the message. */
  readonly type: "subscription_result"
  /** One result for each pattern. */
  readonly results: ReadonlyArray<{
    readonly pattern: string
    readonly status: "ok" | "error"
    readonly subscriptionId?: string
    readonly code?: string
    readonly message?: string
    /** Ours: the subscription delivers events after this position. */
    readonly position?: string
    /** Ours: the group's ack mode, if the request had none. */
    readonly ackMode?: AckMode
    /** Ours: milliseconds within which a delivery must be settled or reported in progress. */
    readonly ackWait?: number
  }>
}

/** Metadata of an event. */
export interface EventMetadata {
  /** When the event was stored, as an ISO string. */
  readonly timestamp: string
  /** Position of the event in the log. */
  readonly sequence?: number
}

/** Delivers an event, or a message of a topic. */
export interface WSEventMessage {
  /** Type of the message. */
  readonly type: "event"
  /** Id of the subscription. */
  readonly subscriptionId: string
  /** Name of the event or the topic. */
  readonly topic: string
  /** Data of the event or message. */
  readonly data: unknown
  /** Time and position of the event, if the subscription has `includeMetadata`. */
  readonly meta?: EventMetadata
  /** Id of the event, for acks. */
  readonly eventId?: string
  /** Ours: the position to resume after. */
  readonly position?: string
  /** Ours: the schema version with which a user's event was emitted. */
  readonly version?: number
  /** Ours: delivery attempt; 2 or more for a redelivery. */
  readonly attempt?: number
  /** Ours: the W3C `traceparent` of what caused the event, such as a step, if that was traced. */
  readonly traceparent?: string
  /** Ours, for an `entity:` pattern. For legacy clients, `data` is then the whole event. */
  readonly entity?: EventEntity
  /** The metadata with which the event was emitted. */
  readonly metadata?: Record<string, unknown>
}

/** Reports a problem of a subscription. */
export interface WSSubscriptionError {
  /** Type of the message. */
  readonly type: "subscription_error"
  /** Id of the subscription. */
  readonly subscriptionId: string
  /** Code of the problem. */
  readonly code: string
  /** The problem as a sentence. */
  readonly message: string
  /** Whether the subscription continues. */
  readonly retrying: boolean
}

/** Reports a problem of the connection. */
export interface WSError {
  /** Type of the message. */
  readonly type: "error"
  /** Code of the problem. */
  readonly code: string
  /** The problem as a sentence. */
  readonly message: string
}

/** Ours: the result of an ack. */
export interface WSAckResult {
  /** Type of the message. */
  readonly type: "ack_result"
  /** Number of the request. */
  readonly requestId: number
  /** Whether the ack succeeded. */
  readonly status: "ok" | "error"
  /** Code of the problem. */
  readonly code?: string
  /** The problem as a sentence. */
  readonly message?: string
}

/** Messages of a server. */
export type WSServerMessage =
  WSSubscriptionResult | WSEventMessage | WSSubscriptionError | WSError | WSAckResult

/** Maximum number of subscriptions on one connection. */
export const MAX_SUBSCRIPTIONS = 1000
/**
 * Maximum total length of the filters on one connection, in characters. In memory a compiled filter takes
 * hundreds of bytes for each character.
 */
export const MAX_FILTERS = 64 * 1024
/** Maximum number of past events to replay. */
export const MAX_REPLAY = 1000
/** Maximum length of a client's frame, in characters. */
export const MAX_FRAME = 64 * 1024
/**
 * Maximum number of events that a subscription with manual acks holds. It is also the default maximum for a member of a group.
 */
export const MAX_IN_FLIGHT = 100
/** How often an event is redelivered after failures before it is given up, in a subscription without a group. */
export const MAX_REDELIVERIES = 3
/** How often an event is redelivered after failures before it is given up, in a group by default. */
export const GROUP_REDELIVERIES = 10
/** In a group, the default delay of a redelivery grows up to this delay, in milliseconds. */
export const MAX_BACKOFF_MS = 300_000
/** Default delay of a redelivery, in milliseconds. In a group it is the default delay of only the first redelivery. */
export const REDELIVER_MS = 5000
/** Maximum delay of a redelivery that a user can set, in milliseconds. */
export const MAX_REDELIVER_MS = 24 * 60 * 60 * 1000
/** Smallest {@link BufferConfig.maxBytes}. */
export const MIN_BUFFER = 1024
/** Largest {@link BufferConfig.maxBytes}. */
export const MAX_BUFFER = 8 * 1024 * 1024
/** Default `ackWait`, in milliseconds. */
export const ACK_WAIT_MS = 30_000
/** Shortest `ackWait`, in milliseconds. */
export const MIN_ACK_WAIT_MS = 1000
/** Longest `ackWait`, in milliseconds. */
export const MAX_ACK_WAIT_MS = 24 * 60 * 60 * 1000
/**
 * Maximum number of events of a group that `stream()` of a client holds, unless they are settled quickly. The loop over a
 * stream handles one event at a time, so the other members of the group can take the other events.
 */
export const STREAM_CAPACITY = 16
/** Maximum length of the reason of a `nak` or `term`, in characters. */
export const MAX_FAILURE = 1024

/** One end of a connection with text frames in both directions. */
export interface Wire {
  send(text: string | Uint8Array): void
  /** Closes the connection; the other end receives the code. */
  close(code: number, reason: string): void
  /** Number of bytes that are sent but still buffered. */
  readonly backlog: number
  /** Stops receiving frames until `resume`. */
  pause(): void
  resume(): void
  /** Called for each frame. The user of the connection sets this callback before the first frame can arrive. */
  onText: (text: string) => void
  onClose: (code: number, reason: string) => void
  /** Called when the buffered bytes have been sent. */
  onDrain: () => void
}

// ---------------------------------------------------------------------------------------------------------------------
// ConnectRPC calls that are answered with a stream of events, as on `/ws`
// ---------------------------------------------------------------------------------------------------------------------

/** Options of a streamed subscription. `ackMode` and `backpressure` are read in any spelling of their enum. */
export interface StreamOptions extends Omit<
  SubscribeOptions,
  "ackMode" | "ackWait" | "backpressure" | "buffer"
> {
  readonly ackMode?: unknown
  readonly backpressure?: unknown
}
const Subscribe = struct({
  pattern: text,
  options: optional(
    fields<StreamOptions>({
      replay: optional(integer),
      includeMetadata: optional(flag),
      filter: optional(text),
      namespace: optional(text),
      consumerGroup: optional(text),
      ackMode: optional(json),
      backpressure: optional(json)
    })
  )
})
const Join = struct({
  groupName: text,
  namespace: optional(text),
  consumerId: optional(text),
  clientId: optional(text)
})
const StreamedEvent = struct({
  subscriptionId: text,
  eventId: text,
  topic: text,
  data: object,
  metadata: optional(
    struct({
      timestamp: text,
      source: optional(text),
      namespace: text,
      custom: optional(object)
    })
  ),
  sequence: digits,
  deliveryAttempt: integer
})

const ackMode = optional(oneOfList(ackModes))
const Buffer = fields<BufferConfig>({ maxBytes: optional(integer) })

/** Messages of a client on `/ws`; the engine's own reader is in `Engine/PubSub/SubscribeRequest.ts`. */
const ClientMessage = anyOf(
  fields<WSSubscribeRequest>({
    type: oneOf("subscribe"),
    subscription: fields<WSSubscribeRequest["subscription"]>({
      pattern: text,
      options: optional(
        fields<SubscribeOptions>({
          replay: optional(integer),
          includeMetadata: optional(flag),
          filter: optional(text),
          consumerGroup: optional(text),
          ackMode,
          ackWait: optional(anyOf(text, integer) as Codec<Duration>),
          backpressure: optional(oneOfList(backpressureModes)),
          buffer: optional(Buffer),
          namespace: optional(text)
        })
      ),
      resume: optional(struct({ after: optional(text) })),
      capacity: optional(integer)
    })
  }),
  fields<WSUnsubscribeRequest>({ type: oneOf("unsubscribe"), subscriptionId: text }),
  fields<WSAckRequest>({
    type: oneOf("ack"),
    eventId: text,
    ackType: oneOfList(ackTypes),
    redeliverDelay: optional(integer),
    subscriptionId: optional(text),
    requestId: optional(integer),
    reason: optional(text)
  }),
  fields<WSInProgressRequest>({
    type: oneOf("in_progress"),
    subscriptionId: text,
    eventId: optional(text),
    except: optional(list(text)),
    requestId: optional(integer)
  })
)
/** Messages of a server on `/ws`. */
const ServerMessage = anyOf(
  fields<WSSubscriptionResult>({
    type: oneOf("subscription_result"),
    results: list(
      fields<WSSubscriptionResult["results"][number]>({
        pattern: text,
        status: oneOf("ok", "error"),
        subscriptionId: optional(text),
        code: optional(text),
        message: optional(text),
        position: optional(text),
        ackMode,
        ackWait: optional(integer)
      })
    )
  }),
  fields<WSEventMessage>({
    type: oneOf("event"),
    subscriptionId: text,
    topic: text,
    data: json,
    meta: optional(fields<EventMetadata>({ timestamp: text, sequence: optional(integer) })),
    eventId: optional(text),
    position: optional(text),
    version: optional(integer),
    attempt: optional(integer),
    traceparent: optional(text),
    entity: optional(fields<EventEntity>({ id: text, type: text, version: integer })),
    metadata: optional(object)
  }),
  fields<WSSubscriptionError>({
    type: oneOf("subscription_error"),
    subscriptionId: text,
    code: text,
    message: text,
    retrying: flag
  }),
  fields<WSError>({ type: oneOf("error"), code: text, message: text }),
  fields<WSAckResult>({
    type: oneOf("ack_result"),
    requestId: integer,
    status: oneOf("ok", "error"),
    code: optional(text),
    message: optional(text)
  })
)

// each subscription on the connection is authorized separately
export const sockets = {
  /** Opens a connection for subscriptions: one JSON object in each frame. */
  subscriptions: callSpec(SUBSCRIPTIONS, inBody("subscription:read", "subscription", "pattern"), {
    body: ClientMessage,
    answer: ServerMessage
  })
}

export const callSpecs = {
  /** Streams the events that match a pattern. As on `/ws`, the key also needs the right to read what the pattern matches. */
  subscribe: callSpec("PubSubService/Subscribe", inBody("subscription:read", "subscription", "pattern"), {
    body: Subscribe,
    answer: StreamedEvent,
    streams: true
  }),
  /** Streams the events of an existing group to one of its members. */
  joinConsumerGroup: callSpec(
    "PubSubService/JoinConsumerGroup",
    inBody("subscription:read", "group", "groupName", "group_name"),
    { body: Join, answer: StreamedEvent, errors: { 404: ConsumerGroupNotFoundError }, streams: true }
  )
}
