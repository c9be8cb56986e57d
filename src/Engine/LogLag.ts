/** How far projections and consumer groups are behind the log, how many dead letters they have, and how large the database is. */
import { acrossEnvironments, all, get, type Program, statement } from "./Store/Program.ts"
import type { Transaction } from "./Store/Transaction.ts"

export interface Behind {
  readonly environment: string
  readonly name: string
  /**
   * How far the position is behind the end of the log. Between the two are rows of every environment and name, and the places of
   * rows that were deleted.
   */
  readonly rows: number
}

export interface LogLag {
  readonly projections: ReadonlyArray<Behind>
  readonly groups: ReadonlyArray<Behind>
  readonly deadLetters: { readonly projection: number; readonly group: number }
  readonly databaseBytes: number
}

/** Maximum number of projections, and of groups, whose lag is read: those that are furthest behind. */
const MAX_FOLLOWERS = 200

const FIND_END_OF_LOG = statement("LogLag.findEndOfLog", "SELECT max(position) AS position FROM events")

const LIST_PROJECTIONS = statement(
  "LogLag.listProjections",
  `SELECT environment, name, position FROM projections ORDER BY position LIMIT ${MAX_FOLLOWERS}`,
  { scans: "the projections, which are few" }
)

const LIST_GROUPS = statement(
  "LogLag.listGroups",
  `SELECT environment, name, cursor FROM consumer_groups ORDER BY cursor LIMIT ${MAX_FOLLOWERS}`,
  { scans: "the consumer groups, which are few" }
)

const COUNT_DEAD_LETTERS = statement(
  "LogLag.countDeadLetters",
  `SELECT (SELECT count(*) FROM dead_letters) AS projection, (SELECT count(*) FROM group_dead_letters) AS "group"`,
  { scans: "what was given up, which somebody is to look at" }
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
    const behind = (environment: unknown, name: unknown, position: unknown): Behind => ({
      environment: tx.environmentName(Number(environment)),
      name: String(name),
      rows: Math.max(0, end - Number(position))
    })
    return {
      projections: (yield* all(LIST_PROJECTIONS)).map((row) =>
        behind(row.environment, row.name, row.position)
      ),
      groups: (yield* all(LIST_GROUPS)).map((row) => behind(row.environment, row.name, row.cursor)),
      deadLetters: { projection: Number(letters?.projection), group: Number(letters?.group) },
      databaseBytes: Number((yield* get(READ_SIZE))?.bytes ?? 0)
    }
  },
  () => "read how far projections and consumer groups are behind"
)
