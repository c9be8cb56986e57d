/** What is not kept for ever: runs that ended long ago, with their steps. The log and entity streams stay. */
import {
  all,
  among,
  apart,
  get,
  statement,
  type Program,
  write,
  acrossEnvironments
} from "../Store/Program.ts"
import { isTerminal } from "../../RunStatus.ts"
import { keptMs, shortestKept } from "../Functions/KeptRuns.ts"
import { statusIn } from "./StatusRows.ts"
import type { DeletedRuns } from "./RunRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** Runs that are looked at in one query. */
const PAGE = 500

const OLD = "SELECT key, function, status, created_at, ended_at, parent FROM runs WHERE"

/** Runs that are looked at in one transaction: others want to write too. */
const MOST_LOOKED_AT = 5000

const DELETE_ENDED_RUNS = statement("RunRetention.deleteEndedRuns", "SELECT max(key) AS key FROM runs")

/**
 * Deletes runs that ended more than `keepMs` ago, or as long ago as their function says, at most `limit` of them, oldest first. A run whose
 * parent is unfinished stays, and so does the newest run, so that its number is not given again. Begins after the run
 * numbered `after`, and says where to go on, if it has not come to the end.
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
    const endedBefore = now - shortestKept(tx, keepMs)
    // nothing is deleted
    if (!Number.isFinite(endedBefore)) return { deleted: 0 }
    const newest = Number((yield* get(DELETE_ENDED_RUNS))?.key ?? 0)
    let deleted = 0
    let last = after
    for (let lookedAt = 0; lookedAt < MOST_LOOKED_AT; lookedAt += PAGE) {
      // runs are numbered as they are created and end after that: the oldest are in front, and the first young one ends it
      const rows = yield* page(tx, last)
      for (const row of rows) {
        if (deleted === limit) return { deleted, after: last }
        const key = Number(row.key)
        // one that was created under a clock that was ahead says nothing about those after it
        const isYoung = Number(row.created_at) >= endedBefore && Number(row.created_at) <= tx.now()
        if (isYoung || key === newest) return { deleted }
        last = key
        if (row.ended_at === null || Number(row.ended_at) >= now - keptFor(tx, row, keepMs)) continue
        if (yield* hasOpenParent(row)) continue
        yield* apart(tx, "run", key, deleteRun(key))
        deleted++
      }
      if (rows.length < PAGE) return { deleted }
    }
    return { deleted, after: last }
  },
  () => "delete old runs"
)

const keptFor = (tx: Transaction, row: Row, keepMs: number): number => {
  const status = statusIn(row)
  const ended = status !== undefined && isTerminal(status) ? status : undefined
  return keptMs(tx, Number(row.function), ended, keepMs)
}

const DELETE_STEPS = statement("RunRetention.deleteSteps", "DELETE FROM steps WHERE run = ?")

const DELETE_SUPERSEDED = statement(
  "RunRetention.deleteSuperseded",
  "DELETE FROM superseded_steps WHERE run = ?"
)

const DELETE_ATTRIBUTES = statement(
  "RunRetention.deleteAttributes",
  "DELETE FROM run_attributes WHERE run = ?"
)
const DELETE_LOGS = statement("RunRetention.deleteLogs", "DELETE FROM run_logs WHERE run = ?")

const DELETE_RUN = statement("RunRetention.deleteRun", "DELETE FROM runs WHERE key = ?")

/** Takes a run away, with its steps, its logs and what it is found by. */
export function* deleteRun(key: number): Program<void> {
  yield* write(DELETE_STEPS, key)
  yield* write(DELETE_SUPERSEDED, key)
  yield* write(DELETE_ATTRIBUTES, key)
  yield* write(DELETE_LOGS, key)
  yield* write(DELETE_RUN, key)
}

const OLD_AFTER = statement("RunRetention.oldAfter", `${OLD} key > ? ORDER BY key LIMIT ${PAGE}`)

const OLD_ONE = statement("RunRetention.oldOne", `${OLD} key = ?`)

/** The `+` makes SQLite read the index of ids, which has all keys, and not the rows. */
const KEYS_AFTER = statement(
  "RunRetention.keysAfter",
  `SELECT key, id FROM runs WHERE +key > ? @sound(run, key) ORDER BY +key LIMIT ${PAGE}`,
  { scans: "for a table that is damaged: the index of ids is read in its place" }
)

/** The runs after `last`, in order; around those that are damaged they are read one by one. */
function* page(tx: Transaction, last: number): Program<ReadonlyArray<Row>> {
  if (tx.damage.except("run", "key") === "")
    return yield* among(tx, "run", [KEYS_AFTER, last], OLD_AFTER, last)
  const rows: Array<Row> = []
  for (const { key } of yield* all(KEYS_AFTER, last)) {
    const row = yield* apart(tx, "run", Number(key), get(OLD_ONE, key!))
    if (row !== undefined) rows.push(row)
  }
  return rows
}

const HAS_OPEN_PARENT = statement(
  "RunRetention.hasOpenParent",
  "SELECT 1 FROM runs WHERE key = ? AND ended_at IS NULL"
)

/** Whether the run in a row of `runs` was invoked by one that goes on. */
export function* hasOpenParent(run: Row): Program<boolean> {
  return run.parent !== null && (yield* get(HAS_OPEN_PARENT, run.parent!)) !== undefined
}
