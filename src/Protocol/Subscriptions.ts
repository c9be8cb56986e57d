/**
 * What goes over `/ws`: one JSON object a frame. What only our client and server know of each other is marked "ours": a client
 * asks for it with `resume`, and a server that has it says so with `position`.
 */

import type { Duration } from "../Duration.ts"
import { ConsumerGroupNotFoundError } from "../Errors.ts"
import type { EventEntity } from "../Event.ts"
import {
  among,
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
import { inBody, row } from "./Row.ts"

export const ackModes = ["auto", "manual"] as const
/** Whether an event is settled when its handler has ended (`auto`), or by a call (`manual`). */
export type AckMode = (typeof ackModes)[number]
const ackTypes = ["ack", "nak", "term"] as const
/** How an event is settled. */
export type AckType = (typeof ackTypes)[number]
/** What happens to events that a connection cannot take at once. */
export const backpressureModes = ["buffer", "drop", "block"] as const
/** What happens when a subscriber does not keep up. */
export type BackpressureMode = (typeof backpressureModes)[number]

/** How much may wait in the connection of a subscriber that does not keep up. */
export interface BufferConfig {
  /** Bytes, from 1 KiB to 8 MiB; 1 MiB by default, and 64 KiB with `block`. */
  readonly maxBytes?: number
}

/** What the members of a consumer group go by. */
export interface GroupSettings {
  /** For members that do not say; `auto` by default. */
  readonly ackMode: AckMode
  /** For members that do not say; `buffer` by default. A group never drops an event, so `drop` is none of its modes. */
  readonly backpressure: BackpressureMode
  /** For members that do not say. */
  readonly buffer: BufferConfig
  /** Events that one member holds at once, from 1 to 1000; 100 by default. */
  readonly maxInflight: number
  /** How often an event that has failed comes again before it is given up, from 0 to 1000; 10 by default. */
  readonly maxRedeliveries: number
  /**
   * Milliseconds after which an event that has failed comes again, up to 24 hours. By default it is 5000 after the first failure,
   * and doubles with each up to 5 minutes; one that is set stays the same.
   */
  readonly redeliverDelayMs: number
}

/** What is subscribed to, and how. */
export interface SubscribeOptions {
  /** Deliver so many past events first, 1000 at most; none by default. */
  readonly replay?: number
  /** Give each event its `meta`. */
  readonly includeMetadata?: boolean
  /** A CEL expression over `event`, such as `event.data.amount > 100`. */
  readonly filter?: string
  /** Share the events with the other members of this group, which the engine remembers. */
  readonly consumerGroup?: string
  /** `auto` by default, or what the group says. With `manual` an event that is not acked comes again. */
  readonly ackMode?: AckMode
  /**
   * How long a member of a group, or a subscription with `ackMode: "manual"`, may hold an event without a sign of life, from a
   * second to 24 hours; 30 seconds by default. The client gives one by itself while a handler or the body of a loop has the
   * event, or nobody has taken it yet.
   */
  readonly ackWait?: Duration
  /**
   * For a connection that does not keep up. `buffer` (default) and `block` go on where they were once it does, and `buffer` says
   * so with the error `SLOW_CONSUMER`; `drop` leaves out what happened meanwhile, and says how much with `EVENTS_DROPPED`.
   */
  readonly backpressure?: BackpressureMode
  /** Ours: how much may wait in the connection before that. */
  readonly buffer?: BufferConfig
  /** Groups of one name in different namespaces are different; `default` by default. */
  readonly namespace?: string
}

/** A client subscribes. */
export interface WSSubscribeRequest {
  /** What kind of message it is. */
  readonly type: "subscribe"
  /** What to, and from where on. */
  readonly subscription: {
    readonly pattern: string
    readonly options?: SubscribeOptions
    /** Ours: tell me positions, and begin after this one. */
    readonly resume?: { readonly after?: string }
    /** Ours: hold no more events of the group than this for me at once, unless I settle them quickly. */
    readonly capacity?: number
  }
}

/** A client ends a subscription. */
export interface WSUnsubscribeRequest {
  /** What kind of message it is. */
  readonly type: "unsubscribe"
  /** Id of the subscription. */
  readonly subscriptionId: string
}

/** A client settles an event. */
export interface WSAckRequest {
  /** What kind of message it is. */
  readonly type: "ack"
  /** Id of the event. */
  readonly eventId: string
  /** How it is settled. */
  readonly ackType: AckType
  /** Milliseconds until it comes again, after a `nak`. */
  readonly redeliverDelay?: number
  /** Ours: whose delivery it is. */
  readonly subscriptionId?: string
  /** Ours: answer with an `ack_result` of this number. */
  readonly requestId?: number
  /** Ours: why, with `nak` and `term`. */
  readonly reason?: string
}

/** Ours, for servers that tell an `ackWait`: what the subscription holds is being worked on, and begins its `ackWait` anew. */
interface WSInProgressRequest {
  /** What kind of message it is. */
  readonly type: "in_progress"
  /** Id of the subscription. */
  readonly subscriptionId: string
  /** Only this event; else all that it holds. */
  readonly eventId?: string
  /** All but these. */
  readonly except?: ReadonlyArray<string>
  /** Answer with an `ack_result` of this number. */
  readonly requestId?: number
}

/** What a client may say. */
export type WSClientMessage = WSSubscribeRequest | WSUnsubscribeRequest | WSAckRequest | WSInProgressRequest

/** The answer to a subscription. */
export interface WSSubscriptionResult {
  /** What kind of message it is. */
  readonly type: "subscription_result"
  /** One for each pattern. */
  readonly results: ReadonlyArray<{
    readonly pattern: string
    readonly status: "ok" | "error"
    readonly subscriptionId?: string
    readonly code?: string
    readonly message?: string
    /** Ours: the subscription delivers what comes after this. */
    readonly position?: string
    /** Ours: what a group has made of a request that did not say. */
    readonly ackMode?: AckMode
    /** Ours: milliseconds in which a delivery has to be settled, unless it is said to be in progress. */
    readonly ackWait?: number
  }>
}

/** What is known of an event besides its data. */
export interface EventMetadata {
  /** ISO string. */
  readonly timestamp: string
  /** Its position in the log. */
  readonly sequence?: number
}

/** An event, or a message of a topic. */
export interface WSEventMessage {
  /** What kind of message it is. */
  readonly type: "event"
  /** Id of the subscription. */
  readonly subscriptionId: string
  /** Name of the event or the topic. */
  readonly topic: string
  /** Its data. */
  readonly data: unknown
  /** What else is known of it, if that was asked for. */
  readonly meta?: EventMetadata
  /** Its id; what an ack takes. */
  readonly eventId?: string
  /** Ours: resume after this. */
  readonly position?: string
  /** Ours: the version that a user event was emitted with. */
  readonly version?: number
  /** Ours: 2 and more for a redelivery. */
  readonly attempt?: number
  /** Ours: the W3C `traceparent` of what has caused it, if that was traced. */
  readonly traceparent?: string
  /** Ours, with an `entity:` pattern. For legacy clients `data` is the whole event then. */
  readonly entity?: EventEntity
  /** The metadata that it was emitted with. */
  readonly metadata?: Record<string, unknown>
}

/** Something is wrong with a subscription. */
export interface WSSubscriptionError {
  /** What kind of message it is. */
  readonly type: "subscription_error"
  /** Id of the subscription. */
  readonly subscriptionId: string
  /** What it is, in a word. */
  readonly code: string
  /** A sentence for a person. */
  readonly message: string
  /** Whether the subscription goes on. */
  readonly retrying: boolean
}

/** Concerns the connection. */
export interface WSError {
  /** What kind of message it is. */
  readonly type: "error"
  /** What it is, in a word. */
  readonly code: string
  /** A sentence for a person. */
  readonly message: string
}

/** Ours: what became of an ack. */
export interface WSAckResult {
  /** What kind of message it is. */
  readonly type: "ack_result"
  /** The request that it answers. */
  readonly requestId: number
  /** Whether it was done. */
  readonly status: "ok" | "error"
  /** What it is, in a word. */
  readonly code?: string
  /** A sentence for a person. */
  readonly message?: string
}

/** What a server may say. */
export type WSServerMessage =
  WSSubscriptionResult | WSEventMessage | WSSubscriptionError | WSError | WSAckResult

/** Subscriptions of one connection. */
export const MAX_SUBSCRIPTIONS = 1000
/** Characters of all filters of one connection: what they are compiled to takes hundreds of times as many bytes. */
export const MAX_FILTERS = 64 * 1024
/** Most past events that a subscription begins with. */
export const MAX_REPLAY = 1000
/** Characters of one frame of a client. */
export const MAX_FRAME = 64 * 1024
/** Deliveries that one member of a group, or one subscription with manual acks, holds at once. */
export const MAX_IN_FLIGHT = 100
/** Redeliveries after a failure, after which an event is given up: without a group, and in one. */
export const MAX_REDELIVERIES = 3
export const GROUP_REDELIVERIES = 10
/** To how long the delay of a redelivery in a group doubles unless it is set, milliseconds. */
export const MAX_BACKOFF_MS = 300_000
/** How long after a nak without a delay an event comes again, milliseconds. */
export const REDELIVER_MS = 5000
/** Longest delay of a redelivery, milliseconds. */
export const MAX_REDELIVER_MS = 24 * 60 * 60 * 1000
/** Bounds of {@link BufferConfig}. */
export const MIN_BUFFER = 1024
export const MAX_BUFFER = 8 * 1024 * 1024
/** How long an event may go without an ack or a sign of life unless its subscriber says, milliseconds; and the bounds of that. */
export const ACK_WAIT_MS = 30_000
export const MIN_ACK_WAIT_MS = 1000
export const MAX_ACK_WAIT_MS = 24 * 60 * 60 * 1000
/** Events of a group that a stream of ours holds at once, unless it is quick: it takes one after the other, and others may have the rest. */
export const STREAM_CAPACITY = 16
/** Characters of why an event has failed. */
export const MAX_FAILURE = 1024

/** One end of a connection: frames of text both ways. */
export interface Wire {
  send(text: string | Uint8Array): void
  /** Closes it; the other end hears the code. */
  close(code: number, reason: string): void
  /** Bytes that were sent and have not left. */
  readonly backlog: number
  /** Takes no more frames from the other end until `resume`. */
  pause(): void
  resume(): void
  /** Set by whoever holds this end, before the first frame can come. */
  onText: (text: string) => void
  onClose: (code: number, reason: string) => void
  /** What was sent has left. */
  onDrain: () => void
}

// ---------------------------------------------------------------------------------------------------------------------
// The calls of ConnectRPC that are answered with a stream of events, as `/ws` brings them
// ---------------------------------------------------------------------------------------------------------------------

/** `ackMode` and `backpressure` in any spelling of an enum. */
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

const ackMode = optional(among(ackModes))
const Buffer = fields<BufferConfig>({ maxBytes: optional(integer) })

/** What a client says on `/ws`: the engine reads it in its own words (`Engine/PubSub/SubscribeRequest.ts`). */
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
          backpressure: optional(among(backpressureModes)),
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
    ackType: among(ackTypes),
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
/** What a server says there. */
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

// what a connection subscribes to is asked about each time
export const sockets = {
  /** Subscriptions: what is said on it is JSON, one object a frame. */
  subscriptions: row(SUBSCRIPTIONS, inBody("subscription:read", "subscription", "pattern"), {
    body: ClientMessage,
    answer: ServerMessage
  })
}

export const rows = {
  /** The events that fit a pattern, as they come. What the pattern reaches is asked besides, as on `/ws`. */
  subscribe: row("PubSubService/Subscribe", inBody("subscription:read", "subscription", "pattern"), {
    body: Subscribe,
    answer: StreamedEvent,
    streams: true
  }),
  /** The same for a member of a group that is there. */
  joinConsumerGroup: row(
    "PubSubService/JoinConsumerGroup",
    inBody("subscription:read", "group", "groupName", "group_name"),
    { body: Join, answer: StreamedEvent, errors: { 404: ConsumerGroupNotFoundError }, streams: true }
  )
}
