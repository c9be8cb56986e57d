/** Rows of topics: how much they keep, and what is deleted. The messages themselves are rows of the log. */
import { yieldFirst } from "../Yielding.ts"
import type { StoreError } from "../../Errors.ts"
import * as Effect from "effect/Effect"
import {
  all,
  get,
  statement,
  type Program,
  write,
  inEnvironment,
  acrossEnvironments
} from "../Store/Program.ts"
import { matchesPattern } from "../../Pattern.ts"
import { LogKind } from "../Log/LogRecords.ts"
import type { StoreService } from "../Store/Store.ts"
import { ALL, type ListPage } from "../Pages.ts"
import type { MessageLimits, MessagesDeleted, NewMessage, TopicRow, TopicState } from "./TopicRecords.ts"
import type { Transaction } from "../Store/Transaction.ts"

const ADD_MESSAGE_TO_TOPIC = statement(
  "TopicRows.addMessageToTopic",
  `INSERT INTO topics (environment, name, message_count, bytes, last_position) VALUES (?, ?, 1, ?, ?)
     ON CONFLICT (environment, name) DO UPDATE SET message_count = topics.message_count + 1, bytes = topics.bytes + excluded.bytes, last_position = excluded.last_position`
)

/** Counts a message that was stored. */
export function* countMessage(
  environment: number,
  message: Pick<NewMessage, "topic" | "data">,
  position: number
): Program<void> {
  yield* write(ADD_MESSAGE_TO_TOPIC, environment, message.topic, Buffer.byteLength(message.data), position)
}

const LIST_TOPICS = statement(
  "TopicRows.listTopics",
  `SELECT t.name, t.message_count,
         (SELECT timestamp FROM events WHERE environment = t.environment AND kind = 1 AND name = t.name ORDER BY position LIMIT 1) AS first_at,
         (SELECT timestamp FROM events WHERE environment = t.environment AND kind = 1 AND name = t.name ORDER BY position DESC LIMIT 1) AS last_at
       FROM topics t WHERE t.environment = ? AND t.name > ? ORDER BY t.name LIMIT ?`
)

/** A page of the topics of an environment, in the order of their names. */
export const listTopics = inEnvironment(
  "listTopics",
  function* (
    tx: Transaction,
    environment: string,
    { after, limit }: ListPage = ALL
  ): Program<ReadonlyArray<TopicRow>> {
    const key = tx.findEnvironment(environment)
    if (key === undefined) return []
    return (yield* all(LIST_TOPICS, key, after, limit)).map((row) => ({
      name: String(row.name),
      messageCount: Number(row.message_count),
      ...(row.first_at === null ? {} : { firstMessageAt: Number(row.first_at) }),
      ...(row.last_at === null ? {} : { lastMessageAt: Number(row.last_at) })
    }))
  },
  () => "list topics"
)

const FIND_TOPIC = statement(
  "TopicRows.findTopic",
  `SELECT message_count, last_position,
             (SELECT min(position) FROM events WHERE environment = ?1 AND kind = 1 AND name = ?2) AS first_position
           FROM topics WHERE environment = ?1 AND name = ?2`
)

/** A topic without its lag. */
const readTopic = inEnvironment(
  "readTopic",
  function* (tx: Transaction, environment: string, topic: string): Program<Omit<TopicState, "lag">> {
    const key = tx.findEnvironment(environment)
    const row = key === undefined ? undefined : yield* get(FIND_TOPIC, key, topic)
    if (row === undefined) return { messageCount: 0, firstSeq: 0, lastSeq: 0 }
    return {
      messageCount: Number(row.message_count),
      firstSeq: Number(row.first_position ?? 0),
      lastSeq: Number(row.last_position)
    }
  },
  (_, topic) => `read topic "${topic}"`
)

/** How many consumer groups one call of {@link readLagOfTopic} reads at most. */
const GROUPS_PER_CALL = 1000
/** Maximum number of these groups whose lag one call counts. Counting takes a few milliseconds. */
const MAX_COUNTED_PER_CALL = 4

const LIST_GROUPS = statement(
  "TopicRows.listGroups",
  "SELECT key, kind, names, cursor FROM consumer_groups WHERE environment = ? AND key > ? ORDER BY key LIMIT ?"
)

const COUNT_WAITING_MESSAGES = statement(
  "TopicRows.countWaitingMessages",
  `SELECT (SELECT count(*) FROM events WHERE environment = ?1 AND kind = 1 AND name = ?2 AND position > ?3)
         + (SELECT count(*) FROM deliveries d JOIN events e ON e.position = d.position
            WHERE d.consumer_group = ?4 AND e.environment = ?1 AND e.kind = 1 AND e.name = ?2) AS lag`
)

/**
 * The lag of a topic in some of the consumer groups: the largest number of the topic's messages that one of these groups has not
 * finished. The groups are the next ones after the key `after`. `next` is the `after` of the next call; absent when no groups
 * are left. The longer the lags are, the longer a call takes.
 */
const readLagOfTopic = inEnvironment(
  "readLagOfTopic",
  function* (
    tx: Transaction,
    environment: string,
    topic: string,
    after: number
  ): Program<{ readonly lag: number; readonly next?: number }> {
    const key = tx.findEnvironment(environment)
    if (key === undefined) return { lag: 0 }
    const groups = yield* all(LIST_GROUPS, key, after, GROUPS_PER_CALL)
    let lag = 0
    let countedGroups = 0
    for (const group of groups) {
      if (group.kind === LogKind.event || !matchesPattern(String(group.names), topic)) continue
      const row = yield* get(COUNT_WAITING_MESSAGES, key, topic, group.cursor!, group.key!)
      lag = Math.max(lag, Number(row?.lag))
      if (++countedGroups === MAX_COUNTED_PER_CALL) return { lag, next: Number(group.key) }
    }
    return { lag, ...(groups.length < GROUPS_PER_CALL ? {} : { next: Number(groups.at(-1)!.key) }) }
  },
  (_, topic) => `read topic "${topic}"`
)

/** How many topics one call of {@link deleteOldMessages} reads at most. */
const TOPICS_PER_SWEEP = 200

const FIND_NEXT_ENVIRONMENT = statement(
  "TopicRows.findNextEnvironment",
  `SELECT environment FROM topics WHERE environment > (SELECT coalesce(max(key), 0) FROM environments WHERE name = ?)
     AND message_count > 0 ORDER BY environment LIMIT 1`
)

/**
 * The environment with messages that comes next after `environment`; without `environment`, the first one. This reads across
 * environments, because the caller deletes in one environment after the other.
 */
const findNextEnvironmentWithMessages = acrossEnvironments(
  "findNextEnvironmentWithMessages",
  function* (tx: Transaction, environment: string | undefined): Program<string | undefined> {
    const row = yield* get(FIND_NEXT_ENVIRONMENT, environment ?? "")
    return row === undefined ? undefined : tx.environmentName(Number(row.environment))
  },
  () => "delete old messages"
)

const LIST_TOPICS_WITH_MESSAGES = statement(
  "TopicRows.listTopicsWithMessages",
  "SELECT name, bytes FROM topics WHERE environment = ? AND name > ? AND message_count > 0 ORDER BY name LIMIT ?"
)

const LIST_OLDEST_MESSAGES = statement(
  "TopicRows.listOldestMessages",
  `SELECT position, timestamp, octet_length(data) AS bytes FROM events
       WHERE environment = ? AND kind = 1 AND name = ? AND position < (SELECT max(position) FROM events)
       ORDER BY position LIMIT ?`
)

const DELETE_MESSAGE = statement(
  "TopicRows.deleteMessage",
  "DELETE FROM events WHERE position = ? AND environment = ?"
)

const SUBTRACT_MESSAGE_FROM_TOPIC = statement(
  "TopicRows.subtractMessageFromTopic",
  "UPDATE topics SET message_count = message_count - 1, bytes = bytes - ? WHERE environment = ? AND name = ?"
)

/**
 * Deletes the messages in an environment that are too old, oldest first. Also deletes the oldest messages of topics beyond their
 * size limit. Deletes at most `limit` messages, from at most {@link TOPICS_PER_SWEEP} topics, which come after the topic
 * `after`. The newest row of the log is always kept, so that its position is not assigned again.
 */
export const deleteOldMessages = inEnvironment(
  "deleteOldMessages",
  function* (
    tx: Transaction,
    environment: string,
    limits: MessageLimits,
    limit: number,
    after: string = ""
  ): Program<MessagesDeleted> {
    const environmentKey = tx.findEnvironment(environment)
    if (environmentKey === undefined) return { deleted: 0 }
    const storedBefore = tx.settledNow() - limits.keepMs
    let remaining = limit
    let lastTopic = after
    const topics = yield* all(LIST_TOPICS_WITH_MESSAGES, environmentKey, after, TOPICS_PER_SWEEP)
    for (const topic of topics) {
      let excess = Number(topic.bytes) - limits.topicBytes
      const oldest = yield* all(LIST_OLDEST_MESSAGES, environmentKey, topic.name!, remaining)
      for (const { position, timestamp, bytes } of oldest) {
        if (Number(timestamp) >= storedBefore && excess <= 0) break
        yield* write(DELETE_MESSAGE, position!, environmentKey)
        yield* write(SUBTRACT_MESSAGE_FROM_TOPIC, bytes!, environmentKey, topic.name!)
        excess -= Number(bytes)
        remaining--
      }
      // the next call deletes the rest of this topic's messages
      if (remaining === 0) return { deleted: limit, after: lastTopic }
      lastTopic = String(topic.name)
    }
    return { deleted: limit - remaining, ...(topics.length < TOPICS_PER_SWEEP ? {} : { after: lastTopic }) }
  },
  () => "delete old messages"
)

/**
 * How far the deletion of old messages has come. The deletion continues after the topic, or in the next environment if there is
 * no topic.
 */
export interface SweepPosition {
  readonly environment: string
  readonly topic?: string
}

/** Deletes old messages of one environment after the other. Each call deletes some of them. */
export const sweepMessages = (
  store: StoreService,
  limits: MessageLimits,
  limit: number,
  after: SweepPosition | undefined
): Effect.Effect<{ readonly after?: SweepPosition }, StoreError> =>
  Effect.gen(function* () {
    const environment =
      after?.topic === undefined
        ? yield* store.read(findNextEnvironmentWithMessages(after?.environment))
        : after.environment
    if (environment === undefined) return {}
    const deleted = yield* store.write(deleteOldMessages(environment, limits, limit, after?.topic))
    return { after: { environment, ...(deleted.after === undefined ? {} : { topic: deleted.after }) } }
  })

/** A topic with its lag. For a topic that never had a message, all numbers are 0. */
export const getTopic = (
  store: StoreService,
  environment: string,
  topic: string
): Effect.Effect<TopicState, StoreError> =>
  Effect.gen(function* () {
    const state = yield* store.read(readTopic(environment, topic))
    let part = yield* store.read(readLagOfTopic(environment, topic, 0))
    let { lag } = part
    while (part.next !== undefined) {
      part = yield* yieldFirst(store.read(readLagOfTopic(environment, topic, part.next)))
      lag = Math.max(lag, part.lag)
    }
    return { ...state, lag }
  })
