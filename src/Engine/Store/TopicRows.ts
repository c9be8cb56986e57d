/** Topics: how much they hold, and what of it is deleted. The messages themselves are rows of the log. */
import { matchesPattern } from "../../Pattern.ts"
import type { MessageLimits, NewMessage, TopicRow, TopicState } from "./Store.ts"
import type { Transaction } from "./Transaction.ts"

/** A message was stored. */
export const countMessage = (
  tx: Transaction,
  environment: number,
  message: Pick<NewMessage, "topic" | "data">,
  position: number
): void => {
  tx.run(
    `INSERT INTO topics (environment, name, message_count, bytes, last_position) VALUES (?, ?, 1, ?, ?)
     ON CONFLICT DO UPDATE SET message_count = message_count + 1, bytes = bytes + excluded.bytes, last_position = excluded.last_position`,
    environment,
    message.topic,
    Buffer.byteLength(message.data),
    position
  )
}

export const listTopics = (tx: Transaction, environment: string): ReadonlyArray<TopicRow> => {
  const key = tx.findEnvironment(environment)
  if (key === undefined) return []
  return tx
    .all(
      `SELECT t.name, t.message_count,
         (SELECT timestamp FROM events WHERE environment = t.environment AND kind = 1 AND name = t.name ORDER BY position LIMIT 1) AS first_at,
         (SELECT timestamp FROM events WHERE environment = t.environment AND kind = 1 AND name = t.name ORDER BY position DESC LIMIT 1) AS last_at
       FROM topics t WHERE t.environment = ? ORDER BY t.name`,
      key
    )
    .map((row) => ({
      name: String(row.name),
      messageCount: Number(row.message_count),
      ...(row.first_at === null ? {} : { firstMessageAt: Number(row.first_at) }),
      ...(row.last_at === null ? {} : { lastMessageAt: Number(row.last_at) })
    }))
}

export const getTopic = (tx: Transaction, environment: string, topic: string): TopicState => {
  const key = tx.findEnvironment(environment)
  const row =
    key === undefined
      ? undefined
      : tx.get(
          `SELECT message_count, last_position,
             (SELECT min(position) FROM events WHERE environment = ?1 AND kind = 1 AND name = ?2) AS first_position
           FROM topics WHERE environment = ?1 AND name = ?2`,
          key,
          topic
        )
  if (key === undefined || row === undefined) return { messageCount: 0, firstSeq: 0, lastSeq: 0, lag: 0 }
  return {
    messageCount: Number(row.message_count),
    firstSeq: Number(row.first_position ?? 0),
    lastSeq: Number(row.last_position),
    lag: lagOf(tx, key, topic)
  }
}

/** Counts what the group furthest behind has not finished: as many index entries as the lag is long. */
const lagOf = (tx: Transaction, environment: number, topic: string): number => {
  const groups = tx
    .all(
      "SELECT key, names, cursor FROM consumer_groups WHERE environment = ? AND (kind = 1 OR kind IS NULL)",
      environment
    )
    .filter((group) => matchesPattern(String(group.names), topic))
  return Math.max(
    0,
    ...groups.map((group) =>
      Number(
        tx.get(
          `SELECT (SELECT count(*) FROM events WHERE environment = ?1 AND kind = 1 AND name = ?2 AND position > ?3)
             + (SELECT count(*) FROM deliveries d JOIN events e ON e.position = d.position
                WHERE d.consumer_group = ?4 AND e.environment = ?1 AND e.kind = 1 AND e.name = ?2) AS lag`,
          environment,
          topic,
          group.cursor!,
          group.key!
        )?.lag
      )
    )
  )
}

/**
 * Deletes messages that were stored before a time, oldest first, and the oldest of topics that hold too much; at most
 * `limit` of them. The newest row of the log stays whatever it is, so that its position is not given again.
 */
export const deleteOldMessages = (tx: Transaction, limits: MessageLimits, limit: number): number => {
  let left = limit
  const topics = tx.all("SELECT environment, name, bytes FROM topics WHERE message_count > 0")
  for (const topic of topics) {
    if (left === 0) break
    let excess = Number(topic.bytes) - limits.topicBytes
    const oldest = tx.all(
      `SELECT position, timestamp, octet_length(data) AS bytes FROM events
       WHERE environment = ? AND kind = 1 AND name = ? AND position < (SELECT max(position) FROM events)
       ORDER BY position LIMIT ?`,
      topic.environment!,
      topic.name!,
      left
    )
    for (const { position, timestamp, bytes } of oldest) {
      if (Number(timestamp) >= limits.storedBefore && excess <= 0) break
      tx.run("DELETE FROM events WHERE position = ?", position!)
      tx.run(
        "UPDATE topics SET message_count = message_count - 1, bytes = bytes - ? WHERE environment = ? AND name = ?",
        bytes!,
        topic.environment!,
        topic.name!
      )
      excess -= Number(bytes)
      left--
    }
  }
  return limit - left
}
