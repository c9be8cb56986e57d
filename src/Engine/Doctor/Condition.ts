/** Reads from the tables of an engine what the checks need, in the same way on SQLite and on Postgres. */
import { MAX_COUNTED_DEAD_LETTERS, MAX_COUNTED_RUNS, MAX_EXPLAINED_RUNS } from "./Limits.ts"
import { findRunning, type RunningBulk } from "../Bulk/BulkRows.ts"
import { registryOf } from "../Functions/Registry.ts"
import { Status } from "../Runs/StatusRows.ts"
import { readLastBackup, type LastBackup } from "../Store/LastBackup.ts"
import { readClock } from "../Store/ClockRows.ts"
import { acrossEnvironments, all, get, type Program, type Row, statement } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

/** The environment and the id of a run. */
export interface NamedRun {
  readonly environment: string
  readonly runId: string
}

/** Dead letters of a projection or a consumer group. */
interface DeadLetters {
  readonly of: "projection" | "group"
  readonly environment: string
  readonly name: string
  /**
   * How many dead letters there are. They are counted only up to {@link MAX_COUNTED_DEAD_LETTERS}: there may be more than this
   * number.
   */
  readonly count: number
}

export interface Condition {
  /** The time of the reading by the clock of Postgres, epoch milliseconds. Absent on SQLite. */
  readonly databaseNow?: number
  /** The time that an engine last stored, by its own clock, epoch milliseconds. */
  readonly storedAt?: number
  readonly apiKeys: number
  readonly secrets: number
  readonly deadLetters: ReadonlyArray<DeadLetters>
  /** The bulk operations and erasures that have not ended. */
  readonly operations: ReadonlyArray<RunningBulk>
  /** The number of unfinished runs. They are counted only up to {@link MAX_COUNTED_RUNS}: there may be more than this number. */
  readonly unfinishedCount: number
  /** Unfinished runs to explain: the oldest runs, some paused runs, and for each function the run that has been ready longest. */
  readonly runsToExplain: ReadonlyArray<NamedRun>
  readonly lastBackup?: LastBackup
}

const READ_DATABASE_TIME = statement("Condition.readDatabaseTime", "SELECT NULL AS at", {
  postgres: "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS at"
})

const COUNT_API_KEYS = statement("Condition.countApiKeys", "SELECT count(*) AS n FROM api_keys", {
  scans: "the keys, of which there are as many as people make"
})

const COUNT_SECRETS = statement("Condition.countSecrets", "SELECT count(*) AS n FROM secrets", {
  scans: "the secrets, of which there are as many as people make"
})

const LIST_PROJECTIONS = statement(
  "Condition.listProjections",
  `SELECT p.environment, p.name,
     (SELECT count(*) FROM (SELECT 1 FROM dead_letters d WHERE d.projection = p.key LIMIT ${MAX_COUNTED_DEAD_LETTERS}) AS part) AS n
   FROM projections p`,
  { scans: "the projections, of which there are as many as people write" }
)

const LIST_GROUPS = statement(
  "Condition.listGroups",
  `SELECT g.environment, g.name,
     (SELECT count(*) FROM (SELECT 1 FROM group_dead_letters d WHERE d.consumer_group = g.key LIMIT ${MAX_COUNTED_DEAD_LETTERS}) AS part) AS n
   FROM consumer_groups g WHERE g.given_up > 0`,
  { scans: "the consumer groups, of which there are as many as people write" }
)

const COUNT_UNFINISHED_RUNS = statement(
  "Condition.countUnfinishedRuns",
  `SELECT count(*) AS n FROM (SELECT 1 FROM runs WHERE ended_at IS NULL LIMIT ${MAX_COUNTED_RUNS}) AS part`,
  { scans: "the beginning of the index of unfinished runs" }
)

const LIST_OLDEST_RUNS = statement(
  "Condition.listOldestRuns",
  `SELECT id, environment FROM runs WHERE ended_at IS NULL ORDER BY key LIMIT ${MAX_EXPLAINED_RUNS}`,
  { scans: "the beginning of the index of unfinished runs" }
)

const LIST_PAUSED_RUNS = statement(
  "Condition.listPausedRuns",
  `SELECT id, environment FROM (SELECT id, environment, status FROM runs WHERE ended_at IS NULL ORDER BY key DESC LIMIT ${MAX_COUNTED_RUNS}) AS newest
   WHERE status = ${Status.paused} LIMIT ${MAX_EXPLAINED_RUNS}`,
  { scans: "the end of the index of unfinished runs" }
)

const FIND_READY_RUN = statement(
  "Condition.findReadyRun",
  `SELECT id, environment FROM runs WHERE function = ? AND ready_at IS NOT NULL ORDER BY ready_at LIMIT 1`
)

/** For this many functions at most, the run that has been ready longest is read. */
const MAX_FUNCTIONS = 200

export const readCondition = acrossEnvironments(
  "readCondition",
  function* (tx: Transaction): Program<Condition> {
    const databaseNow = (yield* get(READ_DATABASE_TIME))?.at
    const clock = yield* readClock()
    const lastBackup = yield* readLastBackup()
    const runs = new Map<string, NamedRun>()
    const add = (rows: ReadonlyArray<Row>): void => {
      for (const { environment, id } of rows) {
        runs.set(String(id), { environment: tx.environmentName(Number(environment)), runId: String(id) })
      }
    }
    add(yield* all(LIST_OLDEST_RUNS))
    add(yield* all(LIST_PAUSED_RUNS))
    for (const { key } of registryOf(tx).all().slice(0, MAX_FUNCTIONS)) add(yield* all(FIND_READY_RUN, key))
    return {
      ...(databaseNow == null ? {} : { databaseNow: Number(databaseNow) }),
      ...(clock === undefined ? {} : { storedAt: clock.at }),
      ...(lastBackup === undefined ? {} : { lastBackup }),
      apiKeys: Number((yield* get(COUNT_API_KEYS))?.n),
      secrets: Number((yield* get(COUNT_SECRETS))?.n),
      deadLetters: [
        ...deadLettersOf(tx, "projection", yield* all(LIST_PROJECTIONS)),
        ...deadLettersOf(tx, "group", yield* all(LIST_GROUPS))
      ],
      operations: yield* findRunning(tx),
      unfinishedCount: Number((yield* get(COUNT_UNFINISHED_RUNS))?.n),
      runsToExplain: [...runs.values()]
    }
  },
  () => "check the condition of the engine"
)

const deadLettersOf = (
  tx: Transaction,
  of: DeadLetters["of"],
  rows: ReadonlyArray<Row>
): ReadonlyArray<DeadLetters> =>
  rows
    .filter(({ n }) => Number(n) > 0)
    .map(({ environment, n, name }) => ({
      of,
      environment: tx.environmentName(Number(environment)),
      name: String(name),
      count: Number(n)
    }))
