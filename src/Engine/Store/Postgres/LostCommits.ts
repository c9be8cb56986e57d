/**
 * Checks whether Postgres still has all commits. A standby that was promoted without everything that its primary had acknowledged
 * goes on from an earlier point: it may give numbers again, and nodes remember rows that it does not have. A promotion starts a
 * new timeline, which is stored. The first node that writes on it skips all numbers that the old primary may have given.
 */
import type { Row } from "../Program.ts"
import type { Numbers } from "./PostgresTransaction.ts"
import type { Prepared } from "./Dialect.ts"
import type { Session } from "./Session.ts"

/** SQL for a text that changes when another server takes over. */
export const timelineSql = {
  /** The timeline that the server writes on: eight hexadecimal digits. */
  timeline: "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)",
  /**
   * When the server was started. Managed ones may refuse to tell of their write-ahead log: each start is a timeline there, because
   * whoever takes over was not started when the server before it was.
   */
  start: `'start ' || CAST(CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS BIGINT) AS TEXT)`
} as const
export type TimelineSource = keyof typeof timelineSql

/** No permission, no such function, or not supported. */
const REFUSALS: ReadonlyArray<unknown> = ["42501", "42883", "0A000"]

/** Which of these texts the server gives. */
export const timelineSourceOf = async (session: Session): Promise<TimelineSource> => {
  try {
    await session.wait(session.send({ name: "", text: `SELECT ${timelineSql.timeline}` }))
  } catch (error) {
    if (REFUSALS.includes(Object(error).code)) return "start"
    // a standby has none yet
    if (Object(error).code !== "55000") throw error
  }
  return "timeline"
}

/** Numbers to skip: more than a server commits in the time that a standby may lag. */
const LEFT_OUT = 1_000_000

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
  /** The timeline of its last transaction; `undefined` before the first. */
  readonly timeline: string | undefined
  /** The last commit that it has seen; -1 before the first. */
  readonly sequence: number
  /** Its own last commit; 0 before the first. */
  readonly batch: number
}

export interface CommitCheck {
  /** The server is not that of the last transaction, or was set back: nothing remembered is certain. */
  readonly isOther: boolean
  /** Commits that this node knows of are gone. */
  readonly hasLostCommits: boolean
}

/**
 * Compares what this node knows with what is stored, under the lock. When another server has taken over, raises `numbers`, so that
 * none is given again, and stores so.
 */
export const checkCommits = (
  known: RememberedCommits,
  now: { readonly timeline: string; readonly sequence: number; readonly stored: Row | undefined },
  numbers: Numbers,
  put: (statement: Prepared, values: ReadonlyArray<string | number>) => void
): CommitCheck & { readonly sequence: number } => {
  const { timeline, stored } = now
  const isBack = now.sequence <= known.sequence
  const before = stored?.timeline == null ? undefined : String(stored.timeline)
  const isNew = isBack || (before !== undefined && before !== timeline)
  let { sequence } = now
  if (isNew) {
    sequence += LEFT_OUT
    numbers.events += LEFT_OUT
    numbers.runs += LEFT_OUT
    numbers.seq += LEFT_OUT
    put(UPDATE_SEQUENCE, [sequence])
  }
  if (before !== timeline) put(STORE_TIMELINE, [timeline])
  return {
    sequence,
    isOther: isBack || (known.timeline !== undefined && known.timeline !== timeline),
    hasLostCommits: isBack || Number(stored?.batch ?? 0) < known.batch
  }
}
