/** Looking at consumer groups, and steering them. */
import { ConsumerGroupExistsError, ConsumerGroupNotFoundError, ValidationError } from "../../Errors.ts"
import { evaluateExpression } from "../../Expression.ts"
import { endOfLog, LogKind, viewOfRow } from "./Events.ts"
import { insertGroup, removeGroup, setupOf } from "./GroupRows.ts"
import type {
  GroupChange,
  GroupChoice,
  GroupDefinition,
  GroupInfo,
  GroupSetup,
  ListGroupsQuery
} from "./GroupStore.ts"
import { countAfter, newestOf } from "./LogRows.ts"
import type { LogEntryKind } from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"

export const createGroup = (tx: Transaction, group: GroupDefinition): GroupInfo => {
  const environment = tx.environment(group.environment)
  const [known] = rowsOf(tx, environment, group)
  if (known !== undefined) throw new ConsumerGroupExistsError(group.name, group.namespace, group.pattern)
  const key = insertGroup(tx, environment, group, endOfLog(tx))
  tx.run(
    "UPDATE consumer_groups SET configured = 1, settings = ?, metadata = ? WHERE key = ?",
    JSON.stringify(group.settings),
    group.metadata ?? null,
    key
  )
  return infoOf(tx, key)
}

export const getGroup = (tx: Transaction, group: GroupChoice): GroupInfo => toInfo(tx, findGroup(tx, group))

/** Keys of the groups on a page: each is looked at by itself, which takes as long as its lag is. */
export const listGroups = (
  tx: Transaction,
  query: ListGroupsQuery
): { readonly keys: ReadonlyArray<number>; readonly next?: number; readonly totalCount: number } => {
  const environment = tx.findEnvironment(query.environment)
  if (environment === undefined) return { keys: [], totalCount: 0 }
  const { isPaused, name, namespace } = query
  const where = [
    "environment = ?",
    ...(namespace === undefined ? [] : ["namespace = ?"]),
    ...(name === undefined ? [] : ["name = ?"]),
    ...(isPaused === undefined ? [] : [`paused_at IS ${isPaused ? "NOT NULL" : "NULL"}`])
  ].join(" AND ")
  const values = [
    environment,
    ...(namespace === undefined ? [] : [namespace]),
    ...(name === undefined ? [] : [name])
  ]
  const keys = tx
    .all(
      `SELECT key FROM consumer_groups WHERE ${where} AND key > ? ORDER BY key LIMIT ?`,
      ...values,
      query.after,
      query.limit
    )
    .map(({ key }) => Number(key))
  const last = keys.at(-1)
  return {
    keys,
    ...(last === undefined || keys.length < query.limit ? {} : { next: last }),
    totalCount: Number(tx.get(`SELECT count(*) AS n FROM consumer_groups WHERE ${where}`, ...values)?.n)
  }
}

/** `undefined` when it was deleted meanwhile. */
export const findInfo = (tx: Transaction, key: number): GroupInfo | undefined => {
  const row = tx.get("SELECT * FROM consumer_groups WHERE key = ?", key)
  return row === undefined ? undefined : toInfo(tx, row)
}

export const updateGroup = (tx: Transaction, group: GroupChoice, change: GroupChange): GroupInfo => {
  const row = findGroup(tx, group)
  const key = Number(row.key)
  const { filter, metadata, paused, settings } = change
  if (filter !== undefined || metadata !== undefined || settings !== undefined) {
    const changed = Object.entries({ ...setupOf(row).settings, ...settings }).filter(
      ([, value]) => value !== null
    )
    tx.run(
      "UPDATE consumer_groups SET configured = 1, filter = ?, metadata = ?, settings = ?, updated_at = ? WHERE key = ?",
      filter === undefined ? row.filter! : filter,
      metadata === undefined ? row.metadata! : metadata,
      JSON.stringify(Object.fromEntries(changed)),
      tx.now(),
      key
    )
  }
  if (paused === null) {
    tx.run(
      "UPDATE consumer_groups SET paused_at = NULL, paused_by = NULL, pause_reason = NULL, used_at = ?1, updated_at = ?1 WHERE key = ?2 AND paused_at IS NOT NULL",
      tx.now(),
      key
    )
  } else if (paused !== undefined) {
    tx.run(
      "UPDATE consumer_groups SET paused_at = ?1, paused_by = ?2, pause_reason = ?3, updated_at = ?1 WHERE key = ?4 AND paused_at IS NULL",
      tx.now(),
      paused.by,
      paused.reason ?? null,
      key
    )
  }
  tx.changes.groups.push(key)
  return infoOf(tx, key)
}

export const deleteGroup = (tx: Transaction, group: GroupChoice): void =>
  removeGroup(tx, Number(findGroup(tx, group).key))

export const getSetup = (tx: Transaction, key: number): GroupSetup | undefined => {
  const row = tx.get("SELECT * FROM consumer_groups WHERE key = ?", key)
  return row === undefined ? undefined : setupOf(row)
}

/** Patterns that an error about a name names. */
const NAMED = 10

/** The one group that is meant. Throws `ConsumerGroupNotFoundError` or `ValidationError`. */
export const findGroup = (tx: Transaction, group: GroupChoice): Row => {
  const environment = tx.findEnvironment(group.environment)
  const [row, ...more] = environment === undefined ? [] : rowsOf(tx, environment, group)
  if (row === undefined) throw new ConsumerGroupNotFoundError(group.name, group.namespace, group.pattern)
  if (more.length === 0) return row
  const patterns = [row, ...more].map(({ pattern }) => String(pattern))
  throw new ValidationError(
    `Consumer group "${group.name}" stands for ${patterns.length > NAMED ? "many" : patterns.length} patterns: say which by \`pattern\`, one of ${patterns
      .slice(0, NAMED)
      .map((pattern) => `"${pattern}"`)
      .join(", ")}${patterns.length > NAMED ? " and others" : ""}`,
    { code: "CONSUMER_GROUP_AMBIGUOUS", details: { patterns: patterns.slice(0, NAMED) } }
  )
}

const rowsOf = (tx: Transaction, environment: number, group: GroupChoice): Array<Row> =>
  group.pattern === undefined
    ? tx.all(
        "SELECT * FROM consumer_groups WHERE environment = ? AND namespace = ? AND name = ? ORDER BY pattern LIMIT ?",
        environment,
        group.namespace,
        group.name,
        NAMED + 1
      )
    : tx.all(
        "SELECT * FROM consumer_groups WHERE environment = ? AND namespace = ? AND name = ? AND pattern = ?",
        environment,
        group.namespace,
        group.name,
        group.pattern
      )

const infoOf = (tx: Transaction, key: number): GroupInfo =>
  // it was written by the same command
  toInfo(tx, tx.get("SELECT * FROM consumer_groups WHERE key = ?", key)!)

const toInfo = (tx: Transaction, row: Row): GroupInfo => {
  const key = Number(row.key)
  const environment = Number(row.environment)
  const position = Number(row.cursor)
  const names = [String(row.names)]
  const kinds = kindsOf(row)
  const lag = kinds.reduce((sum, kind) => sum + countAfter(tx, environment, kind, names, position), 0)
  const newest =
    lag > 0
      ? undefined
      : tx.get(
          "SELECT * FROM events WHERE position = ?",
          Math.max(...kinds.map((kind) => newestOf(tx, environment, kind, names)))
        )
  const out = tx.get(
    `SELECT count(holder) AS held, count(*) - count(holder) AS retrying, min(CASE WHEN holder IS NULL THEN due_at END) AS next
     FROM deliveries WHERE consumer_group = ?`,
    key
  )
  return {
    ...setupOf(row),
    key,
    namespace: String(row.namespace),
    name: String(row.name),
    pattern: String(row.pattern),
    ...(row.metadata === null ? {} : { metadata: String(row.metadata) }),
    position,
    ...(row.beginning === null ? {} : { beginning: Number(row.beginning) }),
    lag,
    ...(newest === undefined
      ? {}
      : {
          newest: {
            position: Number(newest.position),
            name: String(newest.name),
            at: Number(newest.timestamp),
            passes:
              row.filter === null ||
              evaluateExpression(String(row.filter), { event: viewOfRow(newest) }).matched
          }
        }),
    inFlight: Number(out?.held),
    retrying: Number(out?.retrying),
    ...(out?.next == null ? {} : { nextRetryAt: Number(out.next) }),
    givenUp: Number(row.given_up),
    deadLetters: Number(
      tx.get(
        "SELECT count(*) AS n FROM group_dead_letters d JOIN events e ON e.position = d.position WHERE d.consumer_group = ?",
        key
      )?.n
    ),
    ...(row.paused_at === null
      ? {}
      : {
          paused: {
            by: String(row.paused_by),
            at: Number(row.paused_at),
            ...(row.pause_reason === null ? {} : { reason: String(row.pause_reason) })
          }
        }),
    createdAt: Number(row.created_at),
    updatedAt: Number(row.updated_at ?? row.created_at),
    usedAt: Number(row.used_at)
  }
}

const kindsOf = ({ kind }: Row): ReadonlyArray<LogEntryKind> => {
  if (kind === null) return ["event", "message"]
  return [kind === LogKind.event ? "event" : "message"]
}
