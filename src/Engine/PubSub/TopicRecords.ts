/** Records of topics. */
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
  readonly duplicate: boolean
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
  /** Position of the oldest kept message; 0 when there is none. */
  readonly firstSeq: number
  /** Position of the newest message ever stored; 0 when there was none. */
  readonly lastSeq: number
  /** Messages that the slowest consumer group has not finished; 0 without groups. */
  readonly lag: number
}

export interface MessageLimits {
  /** How long a message is kept, milliseconds. */
  readonly keepMs: number
  /** Bytes of the data of one topic. */
  readonly topicBytes: number
}

export interface MessagesDeleted {
  readonly deleted: number
  /** Name of the topic after which to go on; absent at the end. */
  readonly after?: string
}
