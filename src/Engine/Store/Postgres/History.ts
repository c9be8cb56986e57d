/**
 * Whether Postgres still has what it had. A standby that was promoted without all that the server before it had acknowledged goes on
 * where it was: numbers come back that were given, and what a node remembers was never there. A promotion begins a new timeline, which
 * is stored, so that the first node that writes on it leaves all numbers behind that the old one may have given.
 */
import type { Row } from "../Program.ts"
import type { Numbers } from "./PostgresTransaction.ts"
import type { Prepared } from "./Dialect.ts"
import type { Session } from "./Session.ts"

/** What says that a server is another one than before: SQL, which gives a text. */
export const histories = {
  /** The timeline that the server writes on: eight hexadecimal digits. */
  timeline: "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)",
  /**
   * When the server was started. Managed ones may refuse to tell of their write-ahead log: each start is a timeline there, because
   * whoever takes over was not started when the server before it was.
   */
  start: `'start ' || CAST(CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS BIGINT) AS TEXT)`
} as const
export type History = keyof typeof histories

/** No permission, no such function, or not supported. */
const REFUSALS: ReadonlyArray<unknown> = ["42501", "42883", "0A000"]

/** What a server tells of itself. */
export const historyOf = async (session: Session): Promise<History> => {
  try {
    await session.wait(session.send({ name: "", text: `SELECT ${histories.timeline}` }))
  } catch (error) {
    if (REFUSALS.includes(Object(error).code)) return "start"
    // a standby has none yet
    if (Object(error).code !== "55000") throw error
  }
  return "timeline"
}

/** More than what a server commits in the time that a standby may be behind. */
const LEFT_OUT = 1_000_000

export const READ_HISTORY = {
  name: "",
  text: `SELECT (SELECT value FROM meta WHERE name = 'timeline') AS timeline,
    (SELECT batch FROM nodes WHERE id = $1) AS batch`
}

const STORE_TIMELINE = {
  name: "",
  text: `INSERT INTO meta (name, value) VALUES ('timeline', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value`
}
const SKIP = { name: "", text: "UPDATE engine SET sequence = $1" }

/** What a node knows of itself. */
export interface Known {
  /** On which timeline its last transaction was; `undefined` before the first. */
  readonly timeline: string | undefined
  /** The last commit that it has seen; -1 before the first. */
  readonly sequence: number
  /** The last commit of its own; 0 before the first. */
  readonly batch: number
}

export interface Found {
  /** The server is another one than that of the last transaction, or was set back: nothing that is remembered is certain. */
  readonly isOther: boolean
  /** Commits that this node knows of are gone. */
  readonly isLost: boolean
}

/** What has become of what was committed, under the lock. `numbers` are changed where they must not be given again. */
export const compare = (
  known: Known,
  now: { readonly timeline: string; readonly sequence: number; readonly stored: Row | undefined },
  numbers: Numbers,
  put: (statement: Prepared, values: ReadonlyArray<string | number>) => void
): Found & { readonly sequence: number } => {
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
    put(SKIP, [sequence])
  }
  if (before !== timeline) put(STORE_TIMELINE, [timeline])
  return {
    sequence,
    isOther: isBack || (known.timeline !== undefined && known.timeline !== timeline),
    isLost: isBack || Number(stored?.batch ?? 0) < known.batch
  }
}
