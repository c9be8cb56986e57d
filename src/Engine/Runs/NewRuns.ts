/**
 * Runs that the current transaction has created, and that have no row yet. When a worker that can take more runs claims a
 * run in the transaction that stores the event of the run, the row of the run is written only once, with the lease. Runs
 * that no worker claims are written without a lease before the commit.
 */
import { hasOnlyNewRuns, markNewRun, forgetNewRuns } from "../Functions/ReadyFunctions.ts"
import { pinsRuns } from "../Functions/Pins.ts"
import type { RegisteredFunction } from "../Functions/Registry.ts"
import { ShortLivedMap } from "../../ShortLivedMap.ts"
import { defineCache } from "../Store/Cache.ts"
import { insert, type Program, statement, write } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { JobEvent } from "../../Protocol/Worker.ts"
import { Status } from "./StatusRows.ts"
import { initialStatus, nextStatus } from "./Transitions.ts"

export interface NewRun {
  readonly id: string
  readonly environment: number
  readonly function: number
  /** Log position of the event that started the run. */
  readonly event: number
  readonly jobEvent: JobEvent
  readonly createdAt: number
}

/** The runs without a row, by function, oldest first. */
const newRunsOf = defineCache<ShortLivedMap<number, Array<NewRun>>>({
  make: () => new ShortLivedMap(),
  begin: (runs) => runs.clear(),
  rolledBack: (runs) => runs.clear(),
  write: (runs, tx) => (runs.size === 0 ? undefined : writeAll(tx, runs))
})

const INSERT_RUN = statement(
  "NewRuns.insertRun",
  `INSERT INTO runs (id, environment, function, status, event, ready_at, created_at, updated_at)
     VALUES (?, ?, ?, ${Status[initialStatus]}, ?, ?, ?, ?)`
)

function* writeAll(tx: Transaction, runs: ShortLivedMap<number, Array<NewRun>>): Program<void> {
  forgetNewRuns(tx)
  for (const [, runsOfFunction] of runs) {
    for (const { createdAt: at, environment, event, function: fn, id } of runsOfFunction)
      yield* write(INSERT_RUN, id, environment, fn, event, at, at, at)
  }
  runs.clear()
}

/**
 * Holds back the row of a run, so that a worker can claim the run in this transaction. Returns `false` when the row must be
 * written at once.
 */
export const holdBackRow = (tx: Transaction, fn: RegisteredFunction, run: NewRun): boolean => {
  const { actorKey, concurrency, recording, searchBy } = fn.registration
  // no worker may claim the run yet, or the run is to be pinned
  if (fn.paused !== undefined || pinsRuns(tx, fn)) return false
  // such a run needs a row at once: either a claim of the run checks the rows of other runs, or audit records or search
  // attributes refer to the row of the run
  if (actorKey !== undefined || concurrency !== undefined || recording === true || searchBy !== undefined)
    return false
  if (!markNewRun(tx, fn.key)) return false
  const runs = newRunsOf(tx)
  const ofFunction = runs.get(fn.key)
  if (ofFunction === undefined) runs.set(fn.key, [run])
  else ofFunction.push(run)
  return true
}

/** Writes the runs that have no row yet. */
export const writeNewRuns = (tx: Transaction): Program<void> => writeAll(tx, newRunsOf(tx))

/** The runs of a function that have no row yet; `undefined` when there are none, or when runs with a row are ready too. */
export const unwrittenRuns = (tx: Transaction, functionKey: number): Array<NewRun> | undefined => {
  const runs = newRunsOf(tx).get(functionKey)
  return hasOnlyNewRuns(tx, functionKey) ? runs : undefined
}

const INSERT_LEASED_RUN = statement(
  "NewRuns.insertLeasedRun",
  `INSERT INTO runs (id, environment, function, status, event, lease, worker, lease_until, lease_ms, created_at, started_at, updated_at)
     VALUES (?, ?, ?, ${Status[nextStatus(initialStatus, "claimed")!]}, ?, ?, ?, ?, ?, ?, ?, ?)`
)

/** Writes a run with its lease. Returns the key of the run. */
export const insertLeasedRun = (
  { createdAt, environment, event, function: fn, id }: NewRun,
  lease: {
    readonly jobId: string
    readonly workerId: string
    readonly leaseMs?: number
    readonly now: number
  }
): Program<number> =>
  insert(
    INSERT_LEASED_RUN,
    id,
    environment,
    fn,
    event,
    lease.jobId,
    lease.workerId,
    lease.leaseMs === undefined ? null : lease.now + lease.leaseMs,
    lease.leaseMs ?? null,
    createdAt,
    lease.now,
    lease.now
  )
