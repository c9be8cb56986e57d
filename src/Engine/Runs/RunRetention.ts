/** Run retention: deletes runs that ended long ago, with their steps, log lines and search attributes. Events are kept. */
import {
  all,
  allIsolatingDamage,
  isolateRow,
  get,
  statement,
  type Program,
  write,
  acrossEnvironments
} from "../Store/Program.ts"
import { isTerminal } from "../../RunStatus.ts"
import { retentionMs, shortestRetentionMs } from "../Functions/FunctionRetention.ts"
import { statusIn } from "./StatusRows.ts"
import type { DeletedRuns } from "./RunRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** How many runs one query reads. */
const PAGE = 500

const SELECT_RUNS = "SELECT key, function, status, created_at, ended_at, parent FROM runs WHERE"

/** How many runs one transaction looks at. The transaction ends then, so that other transactions get their turn. */
const MAX_RUNS_READ = 5000

const FIND_NEWEST_RUN = statement("RunRetention.findNewestRun", "SELECT max(key) AS key FROM runs")

/**
 * Deletes at most `limit` runs that ended more than `keepMs` ago, oldest first. For a function with a retention of its own, that
 * retention counts in place of `keepMs`. A run whose parent is unfinished is kept. The newest run is kept too, so that its key is
 * not assigned again. The search begins after the run with the key `after`. The result has the `after` for the next call, unless
 * all runs were searched.
 */
export const deleteEndedRuns = acrossEnvironments(
  "deleteEndedRuns",
  function* (
    tx: Transaction,
    keepMs: number,
    limit: number,
    after: number | undefined = 0
  ): Program<DeletedRuns> {
    const now = tx.settledNow()
    const endedBefore = now - shortestRetentionMs(tx, keepMs)
    // without a retention, all runs are kept
    if (!Number.isFinite(endedBefore)) return { deleted: 0 }
    const newest = Number((yield* get(FIND_NEWEST_RUN))?.key ?? 0)
    let deleted = 0
    let last = after
    for (let lookedAt = 0; lookedAt < MAX_RUNS_READ; lookedAt += PAGE) {
      // runs are in the order of their creation, and a run ends after its creation: once a run is too young, all runs after it
      // are too
      const rows = yield* readPage(tx, last)
      for (const row of rows) {
        if (deleted === limit) return { deleted, after: last }
        const key = Number(row.key)
        // a run whose creation is in the future was created while the clock was wrong, and says nothing about the runs after it
        const isYoung = Number(row.created_at) >= endedBefore && Number(row.created_at) <= tx.now()
        if (isYoung || key === newest) return { deleted }
        last = key
        if (row.ended_at === null || Number(row.ended_at) >= now - retentionOf(tx, row, keepMs)) continue
        if (yield* hasOpenParent(row)) continue
        yield* isolateRow(tx, "run", key, deleteRun(key))
        deleted++
      }
      if (rows.length < PAGE) return { deleted }
    }
    return { deleted, after: last }
  },
  () => "delete old runs"
)

const retentionOf = (tx: Transaction, row: Row, keepMs: number): number => {
  const status = statusIn(row)
  const endStatus = status !== undefined && isTerminal(status) ? status : undefined
  return retentionMs(tx, Number(row.function), endStatus, keepMs)
}

const DELETE_STEPS = statement("RunRetention.deleteSteps", "DELETE FROM steps WHERE run = ?")

const DELETE_SUPERSEDED_STEPS = statement(
  "RunRetention.deleteSupersededSteps",
  "DELETE FROM superseded_steps WHERE run = ?"
)

const DELETE_ATTRIBUTES = statement(
  "RunRetention.deleteAttributes",
  "DELETE FROM run_attributes WHERE run = ?"
)
const DELETE_LOGS = statement("RunRetention.deleteLogs", "DELETE FROM run_logs WHERE run = ?")

const DELETE_RUN = statement("RunRetention.deleteRun", "DELETE FROM runs WHERE key = ?")

/** Deletes a run, with its steps, log lines and search attributes. */
export function* deleteRun(key: number): Program<void> {
  yield* write(DELETE_STEPS, key)
  yield* write(DELETE_SUPERSEDED_STEPS, key)
  yield* write(DELETE_ATTRIBUTES, key)
  yield* write(DELETE_LOGS, key)
  yield* write(DELETE_RUN, key)
}

const OLD_AFTER = statement("RunRetention.oldAfter", `${SELECT_RUNS} key > ? ORDER BY key LIMIT ${PAGE}`)

const OLD_ONE = statement("RunRetention.oldOne", `${SELECT_RUNS} key = ?`)

/** Lists keys from the index of ids, which has all keys: the `+` makes SQLite read this index, and not the rows. */
const LIST_KEYS_AFTER = statement(
  "RunRetention.listKeysAfter",
  `SELECT key, id FROM runs WHERE +key > ? @sound(run, key) ORDER BY +key LIMIT ${PAGE}`,
  { scans: "all keys, from the index of ids: only when the table is damaged" }
)

/** A page of the runs after `last`, in order. When some runs are damaged, each run is read by a query of its own. */
function* readPage(tx: Transaction, last: number): Program<ReadonlyArray<Row>> {
  if (tx.damage.soundCondition("run", "key") === "")
    return yield* allIsolatingDamage(tx, "run", [LIST_KEYS_AFTER, last], OLD_AFTER, last)
  const rows: Array<Row> = []
  for (const { key } of yield* all(LIST_KEYS_AFTER, last)) {
    const row = yield* isolateRow(tx, "run", Number(key), get(OLD_ONE, key!))
    if (row !== undefined) rows.push(row)
  }
  return rows
}

const FIND_OPEN_PARENT = statement(
  "RunRetention.findOpenParent",
  "SELECT 1 FROM runs WHERE key = ? AND ended_at IS NULL"
)

/** Whether the run in a row of `runs` was invoked by a run that has not ended. */
export function* hasOpenParent(run: Row): Program<boolean> {
  return run.parent !== null && (yield* get(FIND_OPEN_PARENT, run.parent!)) !== undefined
}
