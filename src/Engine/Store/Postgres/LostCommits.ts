/**
 * Checks whether Postgres still has all commits. A standby may be promoted without some commits that its primary had acknowledged.
 * Then the database goes on from an earlier point: numbers could be assigned a second time, and nodes may have cached rows that the
 * new primary does not have. A promotion starts a new timeline. The nodes store the timeline in the database, so the first node
 * that writes on a new timeline notices this, and skips all numbers that the old primary may have assigned.
 */
import type { Row } from "../Program.ts"
import type { Numbers } from "./PostgresTransaction.ts"
import type { Prepared } from "./Dialect.ts"
import type { Session } from "./Session.ts"

/** SQL: a text that changes when another server takes over. */
export const timelineSql = {
  /** The timeline on which the server writes: eight hexadecimal digits. */
  timeline: "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)",
  /**
   * When the server was started. It is used on managed servers that do not let users read the position of the write-ahead log. On
   * such a server, each start counts as a new timeline, because a promoted server was started at another time than the server
   * before it.
   */
  start: `'start ' || CAST(CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS BIGINT) AS TEXT)`
} as const
export type TimelineSource = keyof typeof timelineSql

/** The error codes of Postgres for: no permission, no such function, not supported. */
const REFUSALS: ReadonlyArray<unknown> = ["42501", "42883", "0A000"]

/** Returns the member of {@link timelineSql} that this user may read on this server. */
export const timelineSourceOf = async (session: Session): Promise<TimelineSource> => {
  try {
    await session.wait(session.send({ name: "", text: `SELECT ${timelineSql.timeline}` }))
  } catch (error) {
    if (REFUSALS.includes(Object(error).code)) return "start"
    // 55000: a standby, which has no timeline of its own yet
    if (Object(error).code !== "55000") throw error
  }
  return "timeline"
}

/** How many numbers to skip. While a standby is behind its primary, the primary assigns fewer numbers than this. */
const SKIPPED_NUMBERS = 1_000_000

export const READ_TIMELINE = {
  name: "",
  text: `SELECT (SELECT value FROM meta WHERE name = 'timeline') AS timeline,
    (SELECT batch FROM nodes WHERE id = $1) AS batch`
}

const STORE_TIMELINE = {
  name: "",
  text: `INSERT INTO meta (name, value) VALUES ('timeline', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value`
}
const UPDATE_SEQUENCE = { name: "", text: "UPDATE engine SET sequence = $1" }

/** What a node remembers of its commits. */
export interface RememberedCommits {
  /** The timeline of the last transaction; `undefined` before the first. */
  readonly timeline: string | undefined
  /** The last commit of any node that this node has seen; -1 before the first. */
  readonly sequence: number
  /** The last commit of the node itself; 0 before the first. */
  readonly batch: number
}

export interface CommitCheck {
  /**
   * Whether another server has taken over since the last transaction, or the server was set back. Then everything in memory may be
   * wrong.
   */
  readonly isOther: boolean
  /** Whether commits that this node knows of are gone. */
  readonly hasLostCommits: boolean
}

/**
 * Compares the commits that this node remembers with what is stored. Call it while this node holds the lock. When the server was set
 * back, or when this node is the first to write after another server has taken over, raises `numbers`, so that no number is
 * assigned again. Stores a new timeline with `put`.
 */
export const checkCommits = (
  remembered: RememberedCommits,
  current: { readonly timeline: string; readonly sequence: number; readonly stored: Row | undefined },
  numbers: Numbers,
  put: (statement: Prepared, values: ReadonlyArray<string | number>) => void
): CommitCheck & { readonly sequence: number } => {
  const { timeline, stored } = current
  const wasSetBack = current.sequence <= remembered.sequence
  const storedTimeline = stored?.timeline == null ? undefined : String(stored.timeline)
  const mustSkip = wasSetBack || (storedTimeline !== undefined && storedTimeline !== timeline)
  let { sequence } = current
  if (mustSkip) {
    sequence += SKIPPED_NUMBERS
    numbers.events += SKIPPED_NUMBERS
    numbers.runs += SKIPPED_NUMBERS
    numbers.seq += SKIPPED_NUMBERS
    put(UPDATE_SEQUENCE, [sequence])
  }
  if (storedTimeline !== timeline) put(STORE_TIMELINE, [timeline])
  return {
    sequence,
    isOther: wasSetBack || (remembered.timeline !== undefined && remembered.timeline !== timeline),
    hasLostCommits: wasSetBack || Number(stored?.batch ?? 0) < remembered.batch
  }
}
