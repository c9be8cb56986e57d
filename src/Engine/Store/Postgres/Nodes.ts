/**
 * How nodes know of each other that they are there. Each renews its row, with what it commits and in between. One whose row is not renewed
 * is taken for dead by whoever writes next: it is marked in the transaction that takes back what it held, so that this is done once.
 *
 * All times are those of the server. A node judges others only when it has been seen itself all that time: after Postgres was away
 * nobody has been seen, and all are given time to come back.
 */

/** The time of the server, epoch milliseconds. */
export const NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"

/** A node that is not seen for so long is taken for dead, milliseconds. */
export const LAPSE_MS = 15_000
/** How much earlier it stops what it does, if it cannot renew its row. */
const MARGIN_MS = 2000
/** After a silence of so long a node is new to the others. */
const GAP_MS = LAPSE_MS / 2
/** How old a row becomes before it is renewed without a commit. */
const RENEW_MS = 2500
/** A node that is silent for so long may be frozen: what it holds up goes on. */
const SILENT_MS = 4000
/** How long a node that was taken for dead may come back, milliseconds: whether its last transaction was committed is in its row. */
const KEEP_MS = 7 * 24 * 3_600_000

/** What is set in the row of a node that is seen. */
export const SEEN = `last_seen = ${NOW},
  steady_since = CASE WHEN last_seen < ${NOW} - ${GAP_MS} THEN ${NOW} ELSE steady_since END`

/** Whether there is a node to be taken for dead, by node $1. */
export const HAS_LAPSED = `EXISTS (SELECT 1 FROM nodes, nodes AS me WHERE me.id = $1
  AND me.last_seen > ${NOW} - ${GAP_MS} AND me.steady_since < ${NOW} - ${LAPSE_MS}
  AND nodes.id <> me.id AND nodes.steady_since IS NOT NULL AND nodes.last_seen < ${NOW} - ${LAPSE_MS})`

/** 1 when node $1 is there, 0 when it was taken for dead, and nothing when nobody remembers it. */
export const IS_THERE = "(SELECT CASE WHEN steady_since IS NULL THEN 0 ELSE 1 END FROM nodes WHERE id = $1)"

/** Marks those that have lapsed, under the lock. */
export const MARK_LAPSED = {
  name: "lapsed",
  text: `UPDATE nodes SET steady_since = NULL
    WHERE id <> $1 AND steady_since IS NOT NULL AND last_seen < ${NOW} - ${LAPSE_MS} RETURNING name`
}
export const MARK_AWAY = { name: "", text: "UPDATE nodes SET steady_since = NULL WHERE id = $1" }
/** The node is there again. */
export const RETURN = {
  name: "",
  text: `UPDATE nodes SET steady_since = ${NOW}, last_seen = ${NOW} WHERE id = $1`
}
/** Forgets nodes that will not come back. */
export const FORGET = {
  name: "",
  text: `WITH gone AS (DELETE FROM nodes WHERE steady_since IS NULL AND last_seen < ${NOW} - ${KEEP_MS} RETURNING id)
    DELETE FROM node_workers WHERE node IN (SELECT id FROM gone)`
}

/** Renews the row of node $1 if it is old, and looks how things are. A row that is just being written waits for nobody. */
export const LOOK_AROUND = {
  name: "around",
  text: `WITH old AS (SELECT id FROM nodes WHERE id = $1 AND steady_since IS NOT NULL AND last_seen < ${NOW} - ${RENEW_MS}
      FOR UPDATE SKIP LOCKED),
    renewed AS (UPDATE nodes SET ${SEEN} WHERE id IN (SELECT id FROM old))
    SELECT (SELECT sequence FROM engine) AS sequence, ${NOW} AS now, ${HAS_LAPSED} AS "hasLapsed",
      ${IS_THERE} AS "isThere"`
}

/** Ends the sessions that keep session $1 waiting if their nodes are silent: frozen ones hold what they have locked. */
export const END_SILENT = {
  name: "",
  text: `SELECT pg_terminate_backend(CAST(pid AS INTEGER)) FROM nodes
    WHERE pid = ANY (pg_blocking_pids($1)) AND last_seen < ${NOW} - ${SILENT_MS}`
}

/** How long after it was asked for a row may still have been older, milliseconds. */
export const OLDEST_ROW_MS = RENEW_MS

/** Whether a node that was not seen since may go on to the next thing without asking: what it begins has time to end. */
export const isSeen = (silentMs: number): boolean => silentMs < LAPSE_MS / 2

/** Whether a node that has not been seen since must stop what it does: others may begin to take it back. */
export const isAwayFor = (silentMs: number): boolean => silentMs > LAPSE_MS - MARGIN_MS
