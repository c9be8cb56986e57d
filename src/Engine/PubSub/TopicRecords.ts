/** What topics take and give. */
import type { JsonText } from "../../Json.ts"

export interface NewMessage {
  readonly environment: string
  readonly topic: string
  readonly data: JsonText
  readonly idempotencyKey?: string
  /** The `traceparent` of what has published it. */
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
  /** Position of the oldest message that is kept; 0 when there is none. */
  readonly firstSeq: number
  /** Position of the newest message there has been; 0 when there has been none. */
  readonly lastSeq: number
  /** Messages that the consumer group furthest behind has not finished; 0 without groups. */
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
  /** Name of the topic to go on after; absent at the end. */
  readonly after?: string
}
