/** Cancels runs, and the children that they wait for. */
import type { Transaction, Row } from "../Store/Transaction.ts"
import { type Program, statement, write, get, allIsolatingDamage, isolateRow } from "../Store/Program.ts"
import { environmentOfKey } from "./RunEnvironment.ts"
import { isCompensating } from "./PauseRun.ts"
import { holdingJob, keepRevoked } from "./RevokedLeases.ts"
import { endRun } from "./EndRun.ts"

/**
 * Cancels an unfinished run and the children that it waits for, and tells their live turns. Children for which this transaction
 * has no room are cancelled in later ones, by {@link continueCancelling}.
 */
export function* cancelRow(tx: Transaction, row: Row, reason: string): Program<void> {
  yield* cancelAlone(tx, row, reason)
  yield* continueCancelling(tx, Number(row.environment))
}

const DELETE_CHILD_WAITS = statement(
  "CancelRun.deleteChildWaits",
  "DELETE FROM waits WHERE run = ? AND child IS NOT NULL"
)

/** Cancels the children that a run waits for, with `reason`, and removes its waits for them. */
export function* cancelAwaited(
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
 * Notes the children that a run waits for, so that they are cancelled later: there may be many, and they may have children too.
 */
function* noteChildren(run: number, reason: string): Program<void> {
  yield* write(INSERT_CANCELLATIONS_OF_CHILDREN, reason, run)
}

/** How many noted runs, of all environments, one query reads to find those of one environment. */
const LOOKS = 512

const NOTED = `SELECT run, reason FROM cancellations WHERE run > ? @sound(run, run) ORDER BY run LIMIT ${LOOKS}`

const LIST_KEYS_OF_CANCELLATIONS = statement(
  "CancelRun.listKeysOfCancellations",
  "SELECT run AS key FROM cancellations WHERE run > ?"
)

const FIND_NEXT_CANCELLATION = statement(
  "CancelRun.findNextCancellation",
  `SELECT run, reason FROM (${NOTED}) AS noted WHERE ${environmentOfKey("noted.run")} = ? LIMIT 1`,
  { scans: "so many of what is noted, up to the first one of the environment" }
)

const DELETE_CANCELLATION = statement(
  "CancelRun.deleteCancellation",
  "DELETE FROM cancellations WHERE run = ?"
)

/** Cancels noted runs of an environment, as many as the transaction has room for. Returns how many were looked at. */
export function* continueCancelling(tx: Transaction, environment: number): Program<number> {
  let runs = 0
  // children are noted after their parents, and their keys are higher: no key is below that of the run being cancelled
  let last = 0
  // cancels at least one run, even when each transaction is full
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
    tx.budget.take()
    runs++
  }
  if (yield* hasCancelled()) tx.markDue(tx.now())
  return runs
}

const FIND_ANY_CANCELLATION = statement(
  "CancelRun.findAnyCancellation",
  "SELECT 1 FROM cancellations WHERE run > 0 @sound(run, run) LIMIT 1"
)

/** Whether any noted run is still to be cancelled. */
export function* hasCancelled(): Program<boolean> {
  return (yield* get(FIND_ANY_CANCELLATION)) !== undefined
}

const LIST_ENVIRONMENTS_OF_CANCELLATIONS = statement(
  "CancelRun.listEnvironmentsOfCancellations",
  `SELECT DISTINCT ${environmentOfKey("noted.run")} AS environment FROM (${NOTED}) AS noted`,
  { scans: "so many of what is noted" }
)

/** The environments of the noted runs that are next. */
export function* environmentsOfCancelled(tx: Transaction): Program<ReadonlyArray<Row>> {
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

/** Cancels a child that has not ended. A child that is rolling back continues its rollback. */
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
  yield* keepRevoked(tx, row)
}
