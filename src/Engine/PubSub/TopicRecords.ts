/** The arguments and results of the database code of topics. */
import type { JsonText } from "../../Json.ts"

export interface NewMessage {
  readonly environment: string
  readonly topic: string
  readonly data: JsonText
  readonly idempotencyKey?: string
  /** The `traceparent` of the publisher. */
  readonly trace?: string
}

export interface AppendedMessage {
  readonly eventId: string
  readonly sequence: number
  /** Whether the idempotency key was used before, so that nothing was stored now. */
  readonly duplicate: boolean
  /** Whether the idempotency key was used before with other data. */
  readonly conflicting: boolean
}

/** Times are epoch milliseconds. */
export interface TopicRow {
  readonly name: string
  readonly messageCount: number
  readonly firstMessageAt?: number
  readonly lastMessageAt?: number
}

export interface TopicState {
  readonly messageCount: number
  /** The position of the oldest message that is kept; 0 when there is none. */
  readonly firstSeq: number
  /** The position of the newest message that was ever stored; 0 when there was none. */
  readonly lastSeq: number
  /** How many messages the slowest consumer group has not finished; 0 without groups. */
  readonly lag: number
}

export interface MessageLimits {
  /** How long a message is kept, in milliseconds. */
  readonly keepMs: number
  /** How much data one topic keeps, in bytes. */
  readonly topicBytes: number
}

export interface MessagesDeleted {
  readonly deleted: number
  /** The name of the topic after which the next page begins; absent at the end. */
  readonly after?: string
}
