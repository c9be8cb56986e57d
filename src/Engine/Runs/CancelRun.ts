/** Cancels runs, and the children that they wait for. */
import type { Transaction, Row } from "../Store/Transaction.ts"
import { type Program, statement, write, get, allIsolatingDamage, isolateRow } from "../Store/Program.ts"
import { environmentOfKey } from "./RunEnvironment.ts"
import { isCompensating } from "./PauseRun.ts"
import { holdingJob, keepRevokedLease } from "./RevokedLeases.ts"
import { endRun } from "./EndRun.ts"

/**
 * Cancels an unfinished run and the child runs that it waits for, and tells the workers that execute them. Children that do not
 * fit into this transaction are cancelled later, by {@link continueCancelling}.
 */
export function* cancelRow(tx: Transaction, row: Row, reason: string): Program<void> {
  yield* cancelAlone(tx, row, reason)
  yield* continueCancelling(tx, Number(row.environment))
}

const DELETE_CHILD_WAITS = statement(
  "CancelRun.deleteChildWaits",
  "DELETE FROM waits WHERE run = ? AND child IS NOT NULL"
)

/** Cancels the child runs that a run waits for, with `reason`, and deletes the waits for them. */
export function* cancelAwaitedChildren(
  tx: Transaction,
  environment: number,
  run: number,
  reason: string
): Program<void> {
  yield* noteChildren(run, reason)
  yield* write(DELETE_CHILD_WAITS, run)
  yield* continueCancelling(tx, environment)
}

const INSERT_CANCELLATIONS_OF_CHILDREN = statement(
  "CancelRun.insertCancellationsOfChildren",
  `INSERT INTO cancellations (run, reason)
     SELECT child, ? FROM waits WHERE run = ? AND +child IS NOT NULL AND +fired IS NULL ON CONFLICT DO NOTHING`
)

/**
 * Notes the child runs that a run waits for in the table `cancellations`. They are cancelled later, because there may be many,
 * and each may have children too.
 */
function* noteChildren(run: number, reason: string): Program<void> {
  yield* write(INSERT_CANCELLATIONS_OF_CHILDREN, reason, run)
}

/** Maximum number of noted runs, of all environments, that one query reads to find the noted runs of one environment. */
const NOTED_AT_ONCE = 512

const NOTED = `SELECT run, reason FROM cancellations WHERE run > ? @sound(run, run) ORDER BY run LIMIT ${NOTED_AT_ONCE}`

const LIST_KEYS_OF_CANCELLATIONS = statement(
  "CancelRun.listKeysOfCancellations",
  "SELECT run AS key FROM cancellations WHERE run > ?"
)

const FIND_NEXT_CANCELLATION = statement(
  "CancelRun.findNextCancellation",
  `SELECT run, reason FROM (${NOTED}) AS noted WHERE ${environmentOfKey("noted.run")} = ? LIMIT 1`,
  { scans: "up to 512 noted runs, until the first one of the environment" }
)

const DELETE_CANCELLATION = statement(
  "CancelRun.deleteCancellation",
  "DELETE FROM cancellations WHERE run = ?"
)

/**
 * Cancels noted runs of an environment, as many as fit into the transaction. Deletes their notes, and returns how many it has
 * deleted.
 */
export function* continueCancelling(tx: Transaction, environment: number): Program<number> {
  let runs = 0
  // the key of a child is above the key of its parent, so runs that are noted in this loop come after `last`
  let last = 0
  // cancels at least one run even when the transaction is full already, so that a busy engine makes progress
  while (runs === 0 || !tx.budget.isFull) {
    const [next] = yield* allIsolatingDamage(
      tx,
      "run",
      [LIST_KEYS_OF_CANCELLATIONS, last],
      FIND_NEXT_CANCELLATION,
      last,
      environment
    )
    if (next === undefined) return runs
    last = Number(next.run)
    yield* write(DELETE_CANCELLATION, last)
    yield* isolateRow(tx, "run", last, cancelChild(tx, environment, last, String(next.reason)))
    tx.budget.noteRow()
    runs++
  }
  if (yield* hasNotedCancellations()) tx.markDue(tx.now())
  return runs
}

const FIND_ANY_CANCELLATION = statement(
  "CancelRun.findAnyCancellation",
  "SELECT 1 FROM cancellations WHERE run > 0 @sound(run, run) LIMIT 1"
)

/** Whether any run is noted to be cancelled. */
export function* hasNotedCancellations(): Program<boolean> {
  return (yield* get(FIND_ANY_CANCELLATION)) !== undefined
}

const LIST_ENVIRONMENTS_OF_CANCELLATIONS = statement(
  "CancelRun.listEnvironmentsOfCancellations",
  `SELECT DISTINCT ${environmentOfKey("noted.run")} AS environment FROM (${NOTED}) AS noted`,
  { scans: "up to 512 noted runs" }
)

/** The environments of the first noted runs. */
export function* environmentsOfCancellations(tx: Transaction): Program<ReadonlyArray<Row>> {
  return yield* allIsolatingDamage(
    tx,
    "run",
    [LIST_KEYS_OF_CANCELLATIONS, 0],
    LIST_ENVIRONMENTS_OF_CANCELLATIONS,
    0
  )
}

const FIND_OPEN_CHILD = statement(
  "CancelRun.findOpenChild",
  `SELECT key, id, environment, function, status, parent, lease, lease_until, lease_ms, worker, pause
     FROM runs WHERE key = ? AND environment = ? AND ended_at IS NULL`
)

/** Cancels a child that has not ended. A child that is rolling back is left alone. */
function* cancelChild(tx: Transaction, environment: number, key: number, reason: string): Program<void> {
  const row = yield* get(FIND_OPEN_CHILD, key, environment)
  if (row !== undefined && !isCompensating(row)) yield* cancelAlone(tx, row, reason)
}

function* cancelAlone(tx: Transaction, row: Row, reason: string): Program<void> {
  const jobId = holdingJob(row)
  if (jobId !== undefined) tx.notify(String(row.worker), { _tag: "Cancelled", jobId, reason })
  yield* noteChildren(Number(row.key), `Parent run ${row.id} was cancelled`)
  yield* endRun(
    tx,
    {
      key: Number(row.key),
      ...(jobId === undefined ? {} : { jobId }),
      id: String(row.id),
      environment: Number(row.environment),
      function: Number(row.function),
      parent: row.parent === null ? null : Number(row.parent)
    },
    {
      _tag: "Cancelled",
      error: {
        name: "RunCancelledError",
        message: reason,
        code: "RUN_CANCELLED",
        retryable: false,
        data: { runId: row.id }
      }
    }
  )
  yield* keepRevokedLease(tx, row)
}
