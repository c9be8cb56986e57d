/** How far projections and consumer groups are behind the log, how many dead letters they have, and how large the database is. */
import { acrossEnvironments, all, get, type Program, statement } from "./Store/Program.ts"
import type { Transaction } from "./Store/Transaction.ts"

/** How far a projection or a consumer group is behind. */
interface ReaderLag {
  readonly environment: string
  /** The name of the projection or group. */
  readonly name: string
  /**
   * The last position of the log minus the position of the projection or group. At most this many events wait for it: positions
   * of events that it does not receive, and of deleted events, count too.
   */
  readonly positions: number
}

export interface LogLag {
  readonly projections: ReadonlyArray<ReaderLag>
  readonly groups: ReadonlyArray<ReaderLag>
  readonly deadLetters: { readonly projection: number; readonly group: number }
  readonly databaseBytes: number
}

/** Maximum number of projections, and of groups, whose lag is read. Those that are furthest behind are read. */
const MAX_READERS = 200

const FIND_END_OF_LOG = statement("LogLag.findEndOfLog", "SELECT max(position) AS position FROM events")

const LIST_PROJECTIONS = statement(
  "LogLag.listProjections",
  `SELECT environment, name, position FROM projections ORDER BY position LIMIT ${MAX_READERS}`,
  { scans: "the projections, which are few" }
)

const LIST_GROUPS = statement(
  "LogLag.listGroups",
  `SELECT environment, name, cursor FROM consumer_groups ORDER BY cursor LIMIT ${MAX_READERS}`,
  { scans: "the consumer groups, which are few" }
)

const COUNT_DEAD_LETTERS = statement(
  "LogLag.countDeadLetters",
  `SELECT (SELECT count(*) FROM dead_letters) AS projection, (SELECT count(*) FROM group_dead_letters) AS "group"`,
  { scans: "the dead letters, which are few as long as somebody deals with them" }
)

const READ_SIZE = statement(
  "LogLag.readSize",
  "SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size",
  {
    scans: "one row about the file",
    postgres: `SELECT coalesce(sum(pg_total_relation_size(oid)), 0) AS bytes FROM pg_class
      WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'`
  }
)

export const readLogLag = acrossEnvironments(
  "readLogLag",
  function* (tx: Transaction): Program<LogLag> {
    const end = Number((yield* get(FIND_END_OF_LOG))?.position ?? 0)
    const letters = yield* get(COUNT_DEAD_LETTERS)
    const lagOf = (environment: unknown, name: unknown, position: unknown): ReaderLag => ({
      environment: tx.environmentName(Number(environment)),
      name: String(name),
      positions: Math.max(0, end - Number(position))
    })
    return {
      projections: (yield* all(LIST_PROJECTIONS)).map((row) =>
        lagOf(row.environment, row.name, row.position)
      ),
      groups: (yield* all(LIST_GROUPS)).map((row) => lagOf(row.environment, row.name, row.cursor)),
      deadLetters: { projection: Number(letters?.projection), group: Number(letters?.group) },
      databaseBytes: Number((yield* get(READ_SIZE))?.bytes ?? 0)
    }
  },
  () => "read how far projections and consumer groups are behind"
)
