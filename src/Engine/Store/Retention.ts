/** What is not kept for ever: runs that ended long ago, with their steps. The log and entity streams stay. */
import { all, among, apart, forEach, get, statement, type Program, variant, write } from "./Program.ts"
import type { DeletedRuns } from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"

/** Runs that are looked at in one query. */
const PAGE = 500

const OLD = "SELECT key, created_at, ended_at, parent FROM runs WHERE"

/** Runs that are looked at in one transaction: others want to write too. */
const MOST_LOOKED_AT = 5000

const DELETE_ENDED_RUNS = statement("Retention.deleteEndedRuns", "SELECT max(key) AS key FROM runs")

/**
 * Deletes runs that ended before `endedBefore` (epoch milliseconds), at most `limit` of them, oldest first. A run whose
 * parent is unfinished stays, and so does the newest run, so that its number is not given again. Begins after the run
 * numbered `after`, and says where to go on, if it has not come to the end.
 */
export function* deleteEndedRuns(
  tx: Transaction,
  endedBefore: number,
  limit: number,
  after = 0
): Program<DeletedRuns> {
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
      if (row.ended_at === null || Number(row.ended_at) >= endedBefore || (yield* hasOpenParent(row)))
        continue
      yield* apart(tx, "run", key, deleteRun(key))
      deleted++
    }
    if (rows.length < PAGE) return { deleted }
  }
  return { deleted, after: last }
}

const DELETE_RUN = statement("Retention.deleteRun", "DELETE FROM runs WHERE key = ?")

function* deleteRun(key: number): Program<void> {
  for (const table of ["steps", "superseded_steps"])
    yield* write(variant("Retention.deleteRun", `DELETE FROM ${table} WHERE run = ?`), key)
  yield* write(DELETE_RUN, key)
}

const PAGE = statement("Retention.page", `${OLD} key > ? ORDER BY key LIMIT ?`)

const PAGE_2 = statement("Retention.page.2", `${OLD} key = ?`)

/** The runs after `last`, in order; around those that are damaged they are read one by one. */
function* page(tx: Transaction, last: number): Program<Array<Row>> {
  // the `+` makes SQLite read the index of ids, which has all keys, and not the rows
  const keys = `SELECT key, id FROM runs WHERE +key > ?${tx.damage.except("run", "key")} ORDER BY +key LIMIT ${PAGE}`
  if (tx.damage.except("run", "key") === "")
    return yield* among(tx, "run", [variant("Retention.page", keys), last], PAGE, last, PAGE)
  return (yield* forEach(yield* all(variant("Retention.page", keys), last), function* ({ key }) {
    return yield* apart(
      tx,
      "run",
      Number(key),
      (function* () {
        return yield* all(PAGE_2, key!)
      })()
    )
  })).flat()
}

const HAS_OPEN_PARENT = statement(
  "Retention.hasOpenParent",
  "SELECT 1 FROM runs WHERE key = ? AND ended_at IS NULL"
)

function* hasOpenParent(run: Row): Program<boolean> {
  return run.parent !== null && (yield* get(HAS_OPEN_PARENT, run.parent!)) !== undefined
}
