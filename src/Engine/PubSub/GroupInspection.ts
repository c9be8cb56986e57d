/** Creates, reads, updates and deletes consumer groups, for the clients that manage them. */
import { yieldToEventLoop } from "../Yielding.ts"
import * as Effect from "effect/Effect"
import {
  all,
  forEach,
  get,
  statement,
  type Program,
  variant,
  write,
  inEnvironment,
  refuse
} from "../Store/Program.ts"
import { ConsumerGroupExistsError, ConsumerGroupNotFoundError, ValidationError } from "../../Errors.ts"
import { evaluateExpression } from "../../Expression.ts"
import { endOfLog } from "../Log/EndOfLog.ts"
import { LogKind, type LogEntryKind } from "../Log/LogRecords.ts"
import { viewOfRow } from "../Log/EventViews.ts"
import { insertGroup, removeGroup, setupOf } from "./GroupRows.ts"
import type {
  GroupChange,
  GroupChoice,
  GroupDefinition,
  GroupInfo,
  GroupSetup,
  ListGroupsQuery
} from "./GroupRecords.ts"
import { countAfter, newestPosition } from "../Log/LogRows.ts"
import type { StoreService } from "../Store/Store.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

const MARK_CONFIGURED = statement(
  "GroupInspection.markConfigured",
  "UPDATE consumer_groups SET configured = 1, settings = ?, metadata = ? WHERE key = ?"
)

/** Creates a group at the end of the log. Fails with `ConsumerGroupExistsError`. */
export const createGroup = inEnvironment(
  "createGroup",
  function* (tx: Transaction, group: GroupDefinition): Program<GroupInfo, ConsumerGroupExistsError> {
    const environment = tx.environment(group.environment)
    const [existing] = yield* rowsOf(environment, group)
    if (existing !== undefined)
      return yield* refuse(new ConsumerGroupExistsError(group.name, group.namespace, group.pattern))
    const key = yield* insertGroup(tx, environment, group, yield* endOfLog())
    yield* write(MARK_CONFIGURED, JSON.stringify(group.settings), group.metadata ?? null, key)
    return yield* infoOf(key)
  },
  (group) => `create consumer group "${group.name}"`
)

export const getGroup = inEnvironment(
  "getGroup",
  function* (
    tx: Transaction,
    group: GroupChoice
  ): Program<GroupInfo, ConsumerGroupNotFoundError | ValidationError> {
    return yield* toInfo(yield* findGroup(tx, group))
  },
  (group) => `read consumer group "${group.name}"`
)

/** The keys of the groups on a page. The groups are then read one by one, since counting the lag of a group takes long. */
const findGroups = inEnvironment(
  "findGroups",
  function* (
    tx: Transaction,
    query: ListGroupsQuery
  ): Program<{ readonly keys: ReadonlyArray<number>; readonly next?: number; readonly totalCount: number }> {
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
    const keys = (yield* all(
      variant(
        "GroupInspection.listGroups",
        `SELECT key FROM consumer_groups WHERE ${where} AND key > ? ORDER BY key LIMIT ?`
      ),
      ...values,
      query.after,
      query.limit
    )).map(({ key }) => Number(key))
    const last = keys.at(-1)
    return {
      keys,
      ...(last === undefined || keys.length < query.limit ? {} : { next: last }),
      totalCount: Number(
        (yield* get(
          variant("GroupInspection.listGroups", `SELECT count(*) AS n FROM consumer_groups WHERE ${where}`),
          ...values
        ))?.n
      )
    }
  },
  () => "list consumer groups"
)

/** The {@link GroupInfo} of a group; `undefined` when the group was deleted in the meantime. */
const findGroupInfo = inEnvironment(
  "findGroupInfo",
  function* (tx: Transaction, environment: string, key: number): Program<GroupInfo | undefined> {
    const row = yield* rowOfKey(tx, environment, key)
    return row === undefined ? undefined : yield* toInfo(row)
  },
  () => "list consumer groups"
)

const UPDATE_SETTINGS = statement(
  "GroupInspection.updateSettings",
  "UPDATE consumer_groups SET configured = 1, filter = ?, metadata = ?, settings = ?, updated_at = ? WHERE key = ?"
)

const CLEAR_PAUSE = statement(
  "GroupInspection.clearPause",
  "UPDATE consumer_groups SET paused_at = NULL, paused_by = NULL, pause_reason = NULL, used_at = ?1, updated_at = ?1 WHERE key = ?2 AND paused_at IS NOT NULL"
)

const UPDATE_PAUSE = statement(
  "GroupInspection.updatePause",
  // a group that is already paused gets the newer reason, if one is given, and keeps the time since which it is paused
  `UPDATE consumer_groups SET paused_at = coalesce(paused_at, ?1), paused_by = ?2, pause_reason = ?3, updated_at = ?1
     WHERE key = ?4 AND (paused_at IS NULL OR coalesce(pause_reason, '') <> CAST(?3 AS TEXT))`
)

export const updateGroup = inEnvironment(
  "updateGroup",
  function* (
    tx: Transaction,
    group: GroupChoice,
    change: GroupChange
  ): Program<GroupInfo, ConsumerGroupNotFoundError | ValidationError> {
    const row = yield* findGroup(tx, group)
    const key = Number(row.key)
    const { filter, metadata, paused, settings } = change
    if (filter !== undefined || metadata !== undefined || settings !== undefined) {
      const settingEntries = Object.entries({ ...setupOf(row).settings, ...settings }).filter(
        ([, value]) => value !== null
      )
      yield* write(
        UPDATE_SETTINGS,
        filter === undefined ? row.filter! : filter,
        metadata === undefined ? row.metadata! : metadata,
        JSON.stringify(Object.fromEntries(settingEntries)),
        tx.now(),
        key
      )
    }
    if (paused === null) {
      yield* write(CLEAR_PAUSE, tx.now(), key)
    } else if (paused !== undefined) {
      yield* write(UPDATE_PAUSE, tx.now(), paused.by, paused.reason ?? null, key)
    }
    tx.changes.groups.push(key)
    return yield* infoOf(key)
  },
  (group) => `update consumer group "${group.name}"`
)

/** Deletes a group with its deliveries. The key of the group is never assigned again. */
export const deleteGroup = inEnvironment(
  "deleteGroup",
  function* (
    tx: Transaction,
    group: GroupChoice
  ): Program<void, ConsumerGroupNotFoundError | ValidationError> {
    return yield* removeGroup(tx, Number((yield* findGroup(tx, group)).key))
  },
  (group) => `delete consumer group "${group.name}"`
)

/** The setup of a group; `undefined` when the group was deleted. */
export const getSetup = inEnvironment(
  "getSetup",
  function* (tx: Transaction, environment: string, key: number): Program<GroupSetup | undefined> {
    const row = yield* rowOfKey(tx, environment, key)
    return row === undefined ? undefined : setupOf(row)
  },
  () => "read a consumer group"
)

const FIND_GROUP_IN_ENVIRONMENT = statement(
  "GroupInspection.findGroupInEnvironment",
  "SELECT * FROM consumer_groups WHERE key = ? AND environment = ?"
)

function* rowOfKey(tx: Transaction, environment: string, key: number): Program<Row | undefined> {
  const environmentKey = tx.findEnvironment(environment)
  return environmentKey === undefined ? undefined : yield* get(FIND_GROUP_IN_ENVIRONMENT, key, environmentKey)
}

/** Maximum number of patterns that an error about an ambiguous name lists. */
const MAX_LISTED_PATTERNS = 10

/**
 * The row of the only group with this name and, if it is given, this pattern. Fails with `ConsumerGroupNotFoundError`, or with
 * `ValidationError` if there are several.
 */
export function* findGroup(
  tx: Transaction,
  group: GroupChoice
): Program<Row, ConsumerGroupNotFoundError | ValidationError> {
  const environment = tx.findEnvironment(group.environment)
  const [row, ...others] = environment === undefined ? [] : yield* rowsOf(environment, group)
  if (row === undefined)
    return yield* refuse(new ConsumerGroupNotFoundError(group.name, group.namespace, group.pattern))
  if (others.length === 0) return row
  const patterns = [row, ...others].map(({ pattern }) => String(pattern))
  return yield* refuse(
    new ValidationError(
      `${patterns.length > MAX_LISTED_PATTERNS ? "Many" : patterns.length} consumer groups are named "${group.name}", each for another pattern: choose one by setting \`pattern\` to one of ${patterns
        .slice(0, MAX_LISTED_PATTERNS)
        .map((pattern) => `"${pattern}"`)
        .join(", ")}${patterns.length > MAX_LISTED_PATTERNS ? " and others" : ""}`,
      { code: "CONSUMER_GROUP_AMBIGUOUS", details: { patterns: patterns.slice(0, MAX_LISTED_PATTERNS) } }
    )
  )
}

const LIST_GROUPS_BY_NAME = statement(
  "GroupInspection.listGroupsByName",
  "SELECT * FROM consumer_groups WHERE environment = ? AND namespace = ? AND name = ? ORDER BY pattern LIMIT ?"
)

const FIND_GROUP_BY_PATTERN = statement(
  "GroupInspection.findGroupByPattern",
  "SELECT * FROM consumer_groups WHERE environment = ? AND namespace = ? AND name = ? AND pattern = ?"
)

function* rowsOf(environment: number, group: GroupChoice): Program<ReadonlyArray<Row>> {
  return group.pattern === undefined
    ? yield* all(LIST_GROUPS_BY_NAME, environment, group.namespace, group.name, MAX_LISTED_PATTERNS + 1)
    : yield* all(FIND_GROUP_BY_PATTERN, environment, group.namespace, group.name, group.pattern)
}

const FIND_GROUP = statement("GroupInspection.findGroup", "SELECT * FROM consumer_groups WHERE key = ?")

function* infoOf(key: number): Program<GroupInfo> {
  return yield* toInfo((yield* get(FIND_GROUP, key))!)
}

const FIND_EVENT = statement(
  "GroupInspection.findEvent",
  "SELECT * FROM events WHERE position = ? AND environment = ?"
)

const COUNT_DELIVERIES = statement(
  "GroupInspection.countDeliveries",
  `SELECT count(holder) AS held, count(*) - count(holder) AS retrying, min(CASE WHEN holder IS NULL THEN due_at END) AS next
     FROM deliveries WHERE consumer_group = ?`
)

const COUNT_DEAD_LETTERS = statement(
  "GroupInspection.countDeadLetters",
  "SELECT count(*) AS n FROM group_dead_letters d JOIN events e ON e.position = d.position AND e.environment = ? WHERE d.consumer_group = ?"
)

function* toInfo(row: Row): Program<GroupInfo> {
  const key = Number(row.key)
  const environment = Number(row.environment)
  const position = Number(row.cursor)
  const names = [String(row.names)]
  const kinds = kindsOf(row)
  let lag = 0
  for (const kind of kinds) lag += yield* countAfter(environment, kind, names, position)
  const newest =
    lag > 0
      ? undefined
      : yield* get(
          FIND_EVENT,
          Math.max(...(yield* forEach(kinds, (kind) => newestPosition(environment, kind, names)))),
          environment
        )
  const deliveries = yield* get(COUNT_DELIVERIES, key)
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
    inFlight: Number(deliveries?.held),
    retrying: Number(deliveries?.retrying),
    ...(deliveries?.next == null ? {} : { nextRetryAt: Number(deliveries.next) }),
    givenUp: Number(row.given_up),
    deadLetters: Number((yield* get(COUNT_DEAD_LETTERS, environment, key))?.n),
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

/** Consumer groups of one environment, in pages. */
export const listGroups = (store: StoreService, query: ListGroupsQuery) =>
  Effect.gen(function* () {
    const { keys, ...page } = yield* store.read(findGroups(query))
    const groups: Array<GroupInfo> = []
    for (const key of keys) {
      if (groups.length > 0) yield* yieldToEventLoop
      const info = yield* store.read(findGroupInfo(query.environment, key))
      if (info !== undefined) groups.push(info)
    }
    return { groups, ...page }
  })
