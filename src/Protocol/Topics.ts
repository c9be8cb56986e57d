/** Topics and their messages: how they travel, and the calls about them. */
import {
  digits,
  eitherCase,
  fields,
  filled,
  integer,
  json,
  optional,
  orElse,
  some,
  struct,
  text,
  unless
} from "./Codec.ts"
import { each, inBody, operation, row } from "./Row.ts"

/** What `publish` answers. */
export interface PublishResult {
  /** Id of the message. */
  readonly eventId: string
  /** Position of the message in the log of its environment. */
  readonly sequence: number
}

/** A topic that holds messages or has subscribers. Times are ISO strings. */
export interface TopicInfo {
  /** Name of the topic. */
  readonly name: string
  /** How many messages are kept. */
  readonly messageCount: number
  /** Subscriptions that get its messages now. */
  readonly consumerCount: number
  /** When the first of them was published. ISO string. */
  readonly firstMessageAt?: string
  /** When the last of them was published. ISO string. */
  readonly lastMessageAt?: string
}

/** What a topic holds, and how far its consumers are. */
export interface TopicStats {
  /** Name of the topic. */
  readonly name: string
  /** Messages that are kept. */
  readonly messageCount: number
  /** Subscriptions that get its messages now. */
  readonly consumerCount: number
  /** Messages that the consumer group furthest behind has not finished; 0 without groups. */
  readonly lag: number
  /** Position of the oldest message that is kept; 0 when there is none. */
  readonly firstSeq: number
  /** Position of the newest message; 0 when there has been none. */
  readonly lastSeq: number
}

const count = orElse(digits, 0)

export const Published = eitherCase(fields<PublishResult>({ eventId: orElse(text, ""), sequence: count }))
const Topic = fields<TopicInfo>({
  name: orElse(text, ""),
  messageCount: count,
  consumerCount: orElse(integer, 0),
  firstMessageAt: optional(filled),
  lastMessageAt: optional(filled)
})
export const Topics = eitherCase(
  struct({
    topics: unless([], some(Topic)),
    nextCursor: optional(text)
  })
)
const Stats = eitherCase(
  fields<TopicStats>({
    name: orElse(filled, ""),
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

export const rows = {
  /** Publishes a message on a topic. The same `idempotencyKey` publishes once. */
  publish: row(publish, inBody("publish:message", "topic", "topic"), { body: Message }),
  /** Topics that hold messages or have subscribers, by name. */
  listTopics: row(listTopics, each("topic:read", "topic")),
  /** How many messages a topic holds, and who gets them. */
  getTopicStats: row(getTopicStats, inBody("topic:read", "topic", "topic"), {
    body: struct({ topic: text })
  })
}
