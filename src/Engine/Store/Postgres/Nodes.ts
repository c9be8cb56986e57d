/**
 * How engines that share a schema know that others are alive. The tables call an engine a node; so does the code in this folder.
 * Each node renews its row with its commits, and between them. When a node does not renew its row, the next writer declares it
 * dead: it marks the node in the transaction that takes back what the node held, so that this happens once.
 *
 * All times are those of the server. A node judges others only when it has itself been seen for as long as they have not. After
 * an outage of Postgres no node has been seen, so all get time to come back.
 */

/** SQL: the time of the server, epoch milliseconds. */
export const NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"

/** A node that has not been seen for this long is declared dead, milliseconds. */
export const LAPSE_MS = 15_000
/** How long before {@link LAPSE_MS} a node stops its work, if it cannot renew its row, milliseconds. */
const MARGIN_MS = 2000
/**
 * A node that comes back after a silence of this length counts as new, milliseconds: it must be seen for a while before it judges
 * others.
 */
const GAP_MS = LAPSE_MS / 2
/** The age at which a node renews its row without a commit, milliseconds. */
const RENEW_MS = 2500
/** A node that is silent for this long may be frozen, milliseconds: sessions of it that block others are ended. */
const SILENT_MS = 4000
/**
 * How long the row of a dead node is kept, milliseconds. A node that comes back reads there whether its last transaction was
 * committed.
 */
const KEEP_MS = 7 * 24 * 3_600_000

/** SQL: what is set in the row of a node that is seen now. */
export const SET_LAST_SEEN = `last_seen = ${NOW},
  steady_since = CASE WHEN last_seen < ${NOW} - ${GAP_MS} THEN ${NOW} ELSE steady_since END`

/** SQL: whether node $1 finds a node to declare dead. */
export const HAS_LAPSED = `EXISTS (SELECT 1 FROM nodes, nodes AS me WHERE me.id = $1
  AND me.last_seen > ${NOW} - ${GAP_MS} AND me.steady_since < ${NOW} - ${LAPSE_MS}
  AND nodes.id <> me.id AND nodes.steady_since IS NOT NULL AND nodes.last_seen < ${NOW} - ${LAPSE_MS})`

/** SQL: 1 when node $1 is live, 0 when it was declared dead, NULL when its row is gone. */
export const NODE_IS_LIVE =
  "(SELECT CASE WHEN steady_since IS NULL THEN 0 ELSE 1 END FROM nodes WHERE id = $1)"

/** Marks lapsed nodes as dead. Runs under the lock. */
export const MARK_LAPSED = {
  name: "lapsed",
  text: `UPDATE nodes SET steady_since = NULL
    WHERE id <> $1 AND steady_since IS NOT NULL AND last_seen < ${NOW} - ${LAPSE_MS} RETURNING name`
}
export const MARK_DEAD = { name: "", text: "UPDATE nodes SET steady_since = NULL WHERE id = $1" }
/** Marks the node as live again. */
export const MARK_RETURNED = {
  name: "",
  text: `UPDATE nodes SET steady_since = ${NOW}, last_seen = ${NOW} WHERE id = $1`
}
/** Deletes the rows of nodes that were declared dead too long ago to come back. */
export const DELETE_OLD_NODES = {
  name: "",
  text: `WITH gone AS (DELETE FROM nodes WHERE steady_since IS NULL AND last_seen < ${NOW} - ${KEEP_MS} RETURNING id)
    DELETE FROM node_workers WHERE node IN (SELECT id FROM gone)`
}

/** Renews the row of node $1 if it is old, and reads the state of the nodes. It does not wait for a row that is being written. */
export const RENEW_AND_READ = {
  name: "around",
  text: `WITH old AS (SELECT id FROM nodes WHERE id = $1 AND steady_since IS NOT NULL AND last_seen < ${NOW} - ${RENEW_MS}
      FOR UPDATE SKIP LOCKED),
    renewed AS (UPDATE nodes SET ${SET_LAST_SEEN} WHERE id IN (SELECT id FROM old))
    SELECT (SELECT sequence FROM engine) AS sequence, ${NOW} AS now, ${HAS_LAPSED} AS "hasLapsed",
      ${NODE_IS_LIVE} AS "isThere"`
}

/** Ends the sessions that block session $1, if their nodes are silent: a frozen node keeps its locks. */
export const END_SILENT = {
  name: "",
  text: `SELECT pg_terminate_backend(CAST(pid AS INTEGER)) FROM nodes
    WHERE pid = ANY (pg_blocking_pids($1)) AND last_seen < ${NOW} - ${SILENT_MS}`
}

/** The highest age of a node's row after {@link RENEW_AND_READ}, which renews an older row, milliseconds. */
export const OLDEST_ROW_MS = RENEW_MS

/**
 * Whether a node that was last seen this long ago may start something without asking the server: it has time to finish before
 * others take over.
 */
export const isSeen = (silentMs: number): boolean => silentMs < LAPSE_MS / 2

/** Whether a node that was last seen this long ago must stop its work: others may begin to take it over. */
export const isAwayFor = (silentMs: number): boolean => silentMs > LAPSE_MS - MARGIN_MS
