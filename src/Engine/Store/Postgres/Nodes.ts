/**
 * How engines that share a schema know which of them are alive. The tables and the code in this folder call an engine a node. Each
 * node renews its row with every commit, and also without commits. A node that does not renew its row for {@link LAPSE_MS} is
 * declared dead by the next node that writes. In one transaction, the writing node marks the row and takes back what the dead node
 * held, so that this happens only once.
 *
 * All times are those of the server. A node declares others dead only after it has itself been seen for as long as {@link
 * LAPSE_MS}. So after an outage of Postgres, in which no node was seen, all nodes have time to come back.
 */

/** SQL: the time of the server, epoch milliseconds. */
export const NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"

/** A node that has not been seen for this long is declared dead. */
export const LAPSE_MS = 15_000
/** A node that cannot renew its row stops its work this long before {@link LAPSE_MS}. */
const MARGIN_MS = 2000
/**
 * A node that was silent for this long and comes back counts as new: it must be seen for a while before it declares others dead.
 */
const UNSTEADY_MS = LAPSE_MS / 2
/** The age at which a node renews its row without a commit. */
const RENEW_MS = 2500
/** A node that is silent for this long may be frozen: its sessions are ended if they block other sessions. */
const SILENT_MS = 4000
/** How long the row of a dead node is kept. A node that comes back reads there whether its last transaction was committed. */
const KEEP_ROW_MS = 7 * 24 * 3_600_000

/** SQL: the changes of the row of a node that is seen now. */
export const SET_LAST_SEEN = `last_seen = ${NOW},
  steady_since = CASE WHEN last_seen < ${NOW} - ${UNSTEADY_MS} THEN ${NOW} ELSE steady_since END`

/** SQL: whether there is a node that node $1 has to declare dead. */
export const HAS_LAPSED = `EXISTS (SELECT 1 FROM nodes, nodes AS me WHERE me.id = $1
  AND me.last_seen > ${NOW} - ${UNSTEADY_MS} AND me.steady_since < ${NOW} - ${LAPSE_MS}
  AND nodes.id <> me.id AND nodes.steady_since IS NOT NULL AND nodes.last_seen < ${NOW} - ${LAPSE_MS})`

/** SQL: 1 when node $1 is live, 0 when it was declared dead, NULL when its row is gone. */
export const NODE_IS_LIVE =
  "(SELECT CASE WHEN steady_since IS NULL THEN 0 ELSE 1 END FROM nodes WHERE id = $1)"

/** Marks as dead the nodes that have not been seen for {@link LAPSE_MS}. Runs while this node holds the lock. */
export const MARK_LAPSED = {
  name: "lapsed",
  text: `UPDATE nodes SET steady_since = NULL
    WHERE id <> $1 AND steady_since IS NOT NULL AND last_seen < ${NOW} - ${LAPSE_MS} RETURNING name`
}
/** Marks node $1 as dead. */
export const MARK_DEAD = { name: "", text: "UPDATE nodes SET steady_since = NULL WHERE id = $1" }
/** Marks node $1 as live again. */
export const MARK_RETURNED = {
  name: "",
  text: `UPDATE nodes SET steady_since = ${NOW}, last_seen = ${NOW} WHERE id = $1`
}
/** Deletes the rows of nodes that are dead and were last seen {@link KEEP_ROW_MS} ago: they will not come back. */
export const DELETE_OLD_NODES = {
  name: "",
  text: `WITH gone AS (DELETE FROM nodes WHERE steady_since IS NULL AND last_seen < ${NOW} - ${KEEP_ROW_MS} RETURNING id)
    DELETE FROM node_workers WHERE node IN (SELECT id FROM gone)`
}

/**
 * Renews the row of node $1 if it is old, and reads the state of the nodes. It does not wait for another session that writes the
 * row at the same time.
 */
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

/** The maximum age of a node's row after {@link RENEW_AND_READ}, which renews an older row. */
export const MAX_ROW_AGE_MS = RENEW_MS

/**
 * Whether a node that was last seen this long ago may start work without asking the server: it has time to finish that work before
 * other nodes take over.
 */
export const mayStartWork = (silentMs: number): boolean => silentMs < LAPSE_MS / 2

/** Whether a node that was last seen this long ago must stop its work: other nodes may begin to take over. */
export const mustStopWork = (silentMs: number): boolean => silentMs > LAPSE_MS - MARGIN_MS
