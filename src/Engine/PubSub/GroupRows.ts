/** Rows of consumer groups. A group has a position in the log, up to which everything was delivered or skipped. */
import { endOfLog } from "../Log/EndOfLog.ts"
import { LogKind } from "../Log/LogRecords.ts"
import { get, inEnvironment, insert, type Program, statement, write } from "../Store/Program.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { GroupDefinition, GroupSetup, GroupState, NewGroup } from "./GroupRecords.ts"

/** The entry of `meta` with the highest key of a deleted group. */
const LAST_DELETED = "deleted_group"

/** Opens a consumer group, or creates one that begins after the requested position; by default at the end of the log. */
export const openGroup = inEnvironment(
  "openGroup",
  function* (tx: Transaction, group: NewGroup): Program<GroupState> {
    const existing = yield* reopenGroup.in(tx, group)
    if (existing !== undefined) return existing
    const cursor = group.after ?? (yield* endOfLog())
    const { filter } = group
    return {
      key: yield* insertGroup(tx, tx.environment(group.environment), group, cursor),
      isNew: true,
      cursor,
      ...(filter === undefined ? {} : { filter }),
      settings: {},
      isPaused: false,
      isConfigured: false
    }
  },
  (group) => `open group "${group.name}"`
)

const FIND_GROUP = statement(
  "GroupRows.findGroup",
  "SELECT * FROM consumer_groups WHERE environment = ? AND namespace = ? AND name = ? AND pattern = ?"
)

const UPDATE_FILTER = statement(
  "GroupRows.updateFilter",
  "UPDATE consumer_groups SET used_at = ?, filter = ? WHERE key = ?"
)

/** Opens a group if it exists. The caller's filter replaces the filter of the group, unless the group is configured. */
export const reopenGroup = inEnvironment(
  "reopenGroup",
  function* (tx: Transaction, group: NewGroup): Program<GroupState | undefined> {
    const row = yield* get(
      FIND_GROUP,
      tx.environment(group.environment),
      group.namespace,
      group.name,
      group.pattern
    )
    if (row === undefined) return undefined
    const filter = row.configured === 1 ? row.filter! : (group.filter ?? null)
    yield* write(UPDATE_FILTER, tx.now(), filter, row.key!)
    return {
      key: Number(row.key),
      isNew: false,
      cursor: Number(row.cursor),
      ...setupOf({ ...row, filter })
    }
  },
  (group) => `open group "${group.name}"`
)

const INSERT_GROUP = statement(
  "GroupRows.insertGroup",
  `INSERT INTO consumer_groups (key, environment, namespace, name, pattern, kind, names, filter, cursor, beginning, used_at, created_at)
     VALUES (
       (SELECT 1 + coalesce(max(key), 0) FROM (
         SELECT max(key) AS key FROM consumer_groups
         UNION ALL SELECT CAST(value AS BIGINT) FROM meta WHERE name = '${LAST_DELETED}'
       ) AS taken), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?9
     )`
)

/**
 * Inserts a new group. Returns its key, which no deleted group has had: a former member of a deleted group must not be able to
 * settle deliveries of the new group.
 */
export function* insertGroup(
  tx: Transaction,
  environment: number,
  group: Omit<GroupDefinition, "settings">,
  cursor: number
): Program<number> {
  return yield* insert(
    INSERT_GROUP,
    environment,
    group.namespace,
    group.name,
    group.pattern,
    group.kind === undefined ? null : LogKind[group.kind],
    group.names,
    group.filter ?? null,
    cursor,
    tx.now()
  )
}

const DELETE_DELIVERIES = statement(
  "GroupRows.deleteDeliveries",
  "DELETE FROM deliveries WHERE consumer_group = ?"
)

const DELETE_DEAD_LETTERS = statement(
  "GroupRows.deleteDeadLetters",
  "DELETE FROM group_dead_letters WHERE consumer_group = ?"
)

const DELETE_GROUP = statement("GroupRows.deleteGroup", "DELETE FROM consumer_groups WHERE key = ?")

const RAISE_LAST_DELETED = statement(
  "GroupRows.raiseLastDeleted",
  `INSERT INTO meta (name, value) VALUES ('${LAST_DELETED}', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE CAST(excluded.value AS BIGINT) > CAST(meta.value AS BIGINT)`
)

export function* removeGroup(tx: Transaction, key: number): Program<void> {
  yield* write(DELETE_DELIVERIES, key)
  yield* write(DELETE_DEAD_LETTERS, key)
  yield* write(DELETE_GROUP, key)
  yield* write(RAISE_LAST_DELETED, key)
  tx.changes.groups.push(key)
}

/** The setup of the group in a row. */
export const setupOf = (row: Row): GroupSetup => ({
  ...(row.filter === null ? {} : { filter: String(row.filter) }),
  settings: parseStored(String(row.settings)),
  isPaused: row.paused_at !== null,
  isConfigured: row.configured === 1
})
