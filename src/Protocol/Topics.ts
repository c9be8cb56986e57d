/** Topics and their messages: wire format and calls. */
import {
  digits,
  camelOrSnake,
  fields,
  nonEmptyText,
  integer,
  json,
  lenientList,
  omittedWhen,
  optional,
  orElse,
  struct,
  text
} from "./Codec.ts"
import { each, inBody, operation, callSpec } from "./CallSpec.ts"

/** The result of `publish`. */
export interface PublishResult {
  /** Id of the message. */
  readonly eventId: string
  /** Position of the message in the log of its environment: what `position` is for an event. */
  readonly sequence: number
}

/** A topic that has or had messages. */
export interface TopicInfo {
  /** Name of the topic. */
  readonly name: string
  /** Number of messages that are kept. */
  readonly messageCount: number
  /** Number of active subscriptions to the topic. */
  readonly consumerCount: number
  /** When the first kept message was published, as an ISO string. */
  readonly firstMessageAt?: string
  /** When the last kept message was published, as an ISO string. */
  readonly lastMessageAt?: string
}

/** Size of a topic, and how far its consumer groups lag behind. */
export interface TopicStats {
  /** Name of the topic. */
  readonly name: string
  /** Number of messages that are kept. */
  readonly messageCount: number
  /** Number of active subscriptions. */
  readonly consumerCount: number
  /** Number of messages that the slowest consumer group of the topic has not finished; 0 when the topic has no groups. */
  readonly lag: number
  /** Position of the oldest kept message in the log; 0 when there is none. */
  readonly firstSeq: number
  /** Position of the newest message in the log, even if that message is no longer kept; 0 when there never was one. */
  readonly lastSeq: number
}

const count = orElse(digits, 0)

export const Published = camelOrSnake(fields<PublishResult>({ eventId: orElse(text, ""), sequence: count }))
const Topic = fields<TopicInfo>({
  name: orElse(text, ""),
  messageCount: count,
  consumerCount: orElse(integer, 0),
  firstMessageAt: optional(nonEmptyText),
  lastMessageAt: optional(nonEmptyText)
})
export const Topics = camelOrSnake(
  struct({
    topics: omittedWhen([], lenientList(Topic)),
    nextCursor: optional(text)
  })
)
const Stats = camelOrSnake(
  fields<TopicStats>({
    name: orElse(nonEmptyText, ""),
    messageCount: count,
    consumerCount: orElse(integer, 0),
    lag: count,
    firstSeq: count,
    lastSeq: count
  })
)
const Message = struct({
  topic: text,
  data: optional(json),
  idempotencyKey: optional(text)
})

export const publish = operation("PubSubService/Publish", { answer: Published })
export const listTopics = operation("PubSubService/ListTopics", {
  answer: Topics,
  page: "topics",
  repeats: true
})
export const getTopicStats = operation("PubSubService/GetTopicStats", { answer: Stats, repeats: true })

export const callSpecs = {
  /** Publishes a message to a topic. An `idempotencyKey` prevents duplicates. */
  publish: callSpec(publish, inBody("publish:message", "topic", "topic"), { body: Message }),
  /** Lists the topics that have or had messages, sorted by name. */
  listTopics: callSpec(listTopics, each("topic:read", "topic")),
  /** Returns statistics of a topic: how many messages and active subscriptions it has, how far its groups lag, its first and last position. */
  getTopicStats: callSpec(getTopicStats, inBody("topic:read", "topic", "topic"), {
    body: struct({ topic: text })
  })
}
