/** Leases that end without a report: they expire, their worker leaves or dies, a turn is lost, or the engine restarts. */
import { registryOf } from "../Functions/Registry.ts"
import {
  statement,
  type Statement,
  type Program,
  allIsolatingDamage,
  acrossEnvironments,
  inEnvironment,
  type Value,
  get,
  isolateRow,
  all,
  write
} from "../Store/Program.ts"
import type { Transaction, Row } from "../Store/Transaction.ts"
import { revokedLease, jobOf, isRevoked } from "../Runs/RevokedLeases.ts"
import { endRevokedLease, endLease } from "../Runs/EndLease.ts"
import { hasLiveEngine, isEndpoint, isEndpointOfGoneEngine, endSession } from "../Runs/EngineWorkers.ts"
import { runMembers, functionIdOf } from "../Runs/RunObservers.ts"
import { markReady } from "../Functions/ReadyFunctions.ts"
import { makeReady, delayRun } from "../Runs/Waits.ts"
import { SUSPECT_FROM, suspectsOf, lastSeq } from "../Runs/Suspects.ts"
import { countRunEvent } from "../Runs/RunStats.ts"
import { statusIn } from "../Runs/StatusRows.ts"
import { pauseRow } from "../Runs/PauseRun.ts"

/**
 * A run whose worker is lost this often without a new journal entry is paused, so that a person looks at it (guarantee G5). The
 * run is not paused if another suspect was lost together with it: see `Suspects.ts`.
 */
const LOSSES_UNTIL_PAUSE = 10

const LIST_KEYS_OF_LEASED = statement(
  "LostLeases.listKeysOfLeased",
  "SELECT key FROM runs WHERE lease IS NOT NULL",
  {
    scans: "the leased runs, which are no more than workers have room for"
  }
)

/**
 * The row of the run that a job holds, also for a worker in the process of an engine. The leases of such workers have no expiry,
 * and are in no index, so `find` reads all leased runs.
 */
export function* findLeasedRow(
  tx: Transaction,
  find: Statement,
  ...values: ReadonlyArray<Value>
): Program<Row | undefined> {
  return (yield* allIsolatingDamage(tx, "run", [LIST_KEYS_OF_LEASED], find, ...values))[0]
}

const FIND_RUN_OF_LEASE = statement(
  "LostLeases.findRunOfLease",
  `SELECT key FROM runs WHERE lease = ? AND environment = ? AND lease_until IS NOT NULL @sound(run, key)`
)

/** Ends the revoked leases of jobs that their workers have dropped. The runs may then be dispatched again. */
export const endRevokedLeases = inEnvironment(
  "endRevokedLeases",
  function* (tx: Transaction, environment: string, jobIds: ReadonlyArray<string>): Program<void> {
    const environmentKey = tx.findEnvironment(environment)
    if (environmentKey === undefined) return
    for (const jobId of jobIds) yield* endRevokedLeaseOf(tx, environmentKey, jobId)
  },
  () => "end revoked leases"
)

/** Ends the revoked lease of a job, if it has one. */
function* endRevokedLeaseOf(tx: Transaction, environment: number, jobId: string): Program<void> {
  const row = yield* get(FIND_RUN_OF_LEASE, revokedLease(jobId), environment)
  if (row !== undefined) yield* isolateRow(tx, "run", Number(row.key), endRevokedLease(tx, Number(row.key)))
}

const LIST_KEYS_OF_WORKER = statement(
  "LostLeases.listKeysOfWorker",
  "SELECT key FROM runs WHERE worker = ? AND lease IS NOT NULL"
)

const LIST_RUNS_OF_WORKER = statement(
  "LostLeases.listRunsOfWorker",
  `SELECT key, function, lease, worker, pause, losses, loss_seq FROM runs WHERE worker = ? AND environment = ? AND lease IS NOT NULL @sound(run, key)`
)

/** The runs of an environment that a worker holds. */
export function* runsHeldBy(
  tx: Transaction,
  environment: string,
  workerId: string
): Program<ReadonlyArray<Row>> {
  const environmentKey = tx.findEnvironment(environment)
  if (environmentKey === undefined) return []
  return yield* allIsolatingDamage(
    tx,
    "run",
    [LIST_KEYS_OF_WORKER, workerId],
    LIST_RUNS_OF_WORKER,
    workerId,
    environmentKey
  )
}

/**
 * Takes every run of an environment back from a worker, except those of the jobs in `keptJobs`. `hasDied`: the worker has not
 * left by itself, so its runs count as lost. When several engines use the database, `session` is the worker's session with this
 * engine. Returns how many runs were taken back.
 */
export const releaseWorker = inEnvironment(
  "releaseWorker",
  function* (
    tx: Transaction,
    environment: string,
    workerId: string,
    hasDied: boolean,
    keptJobs: ReadonlySet<string> = new Set(),
    session?: string
  ): Program<number> {
    // the worker has moved to another engine with its turns
    if (session !== undefined && !(yield* endSession(tx, workerId, session))) return 0
    const heldRows = (yield* runsHeldBy(tx, environment, workerId)).filter((row) => !keptJobs.has(jobOf(row)))
    for (const row of heldRows) {
      if (isRevoked(row)) yield* isolateRow(tx, "run", Number(row.key), endRevokedLease(tx, Number(row.key)))
    }
    const rows = heldRows.filter((row) => !isRevoked(row))
    if (hasDied) yield* loseRuns(tx, rows, () => `worker ${workerId} is gone`)
    else
      for (const row of rows) yield* isolateRow(tx, "run", Number(row.key), releaseRun(tx, Number(row.key)))
    yield* unbindActors(tx, environment, workerId)
    return rows.length
  },
  (_, workerId) => `release worker ${workerId}`
)

const LIST_FUNCTIONS_OF_WORKER = statement(
  "LostLeases.listFunctionsOfWorker",
  "SELECT DISTINCT function FROM actors WHERE worker = ?"
)

const DELETE_ACTORS_OF_FUNCTION = statement(
  "LostLeases.deleteActorsOfFunction",
  "DELETE FROM actors WHERE worker = ? AND function = ?"
)

/** Unbinds the actors of a worker. `functionIds` are functions that the worker still has, whose actors stay bound. */
export function* unbindActors(
  tx: Transaction,
  environment: string,
  workerId: string,
  functionIds?: ReadonlySet<string>
): Program<void> {
  for (const row of yield* all(LIST_FUNCTIONS_OF_WORKER, workerId)) {
    const key = Number(row.function)
    if ((registryOf(tx).byKey(key)?.environment ?? environment) !== environment) continue
    if (functionIds?.has(functionIdOf(tx, key)) === true) continue
    yield* write(DELETE_ACTORS_OF_FUNCTION, workerId, key)
    markReady(tx, key)
  }
}

const LIST_KEYS_TO_RECOVER = statement(
  "LostLeases.listKeysToRecover",
  "SELECT key FROM runs WHERE lease IS NOT NULL",
  {
    scans: "the leased runs, once at the start"
  }
)

const LIST_RUNS_TO_RECOVER = statement(
  "LostLeases.listRunsToRecover",
  `SELECT key, function, worker, lease, lease_until, losses FROM runs
     WHERE lease IS NOT NULL AND (lease_until IS NULL OR ${isEndpoint("runs.worker")}) @sound(run, key)`,
  {
    scans: "the leased runs, once at the start",
    postgres: `SELECT key, function, worker, lease, lease_until, losses FROM runs
     WHERE lease IS NOT NULL AND ((lease_until IS NULL AND NOT ${hasLiveEngine("runs.worker")})
       OR ${isEndpointOfGoneEngine("runs.worker")}) @sound(run, key)`
  }
)

const LIST_WORKERS_OF_ACTORS = statement(
  "LostLeases.listWorkersOfActors",
  "SELECT DISTINCT worker FROM actors",
  {
    scans: "the bound actors, once at the start",
    postgres: `SELECT DISTINCT worker FROM actors WHERE NOT ${hasLiveEngine("actors.worker")}`
  }
)

const LIST_LEASED_KEYS_OF_WORKER = statement(
  "LostLeases.listLeasedKeysOfWorker",
  "SELECT key FROM runs WHERE worker = ? AND lease IS NOT NULL"
)

const FIND_LEASED_RUN_OF_WORKER = statement(
  "LostLeases.findLeasedRunOfWorker",
  `SELECT 1 FROM runs WHERE worker = ? AND lease IS NOT NULL @sound(run, key) AND lease_until IS NOT NULL LIMIT 1`
)

const DELETE_ACTORS_OF_WORKER = statement(
  "LostLeases.deleteActorsOfWorker",
  "DELETE FROM actors WHERE worker = ?"
)

/**
 * Takes back the runs of workers that were in the process of an engine which is gone, and the runs of the push endpoints that the
 * gone engine called: the requests to these endpoints were closed with the engine, so no answer can come. Also unbinds the actors
 * of such workers. Called when an engine opens the database, and when another engine on the database is gone. Returns how many
 * runs were taken back.
 *
 * A handler may still be at work on such a turn, for instance when a proxy keeps the request open. The reports of this turn are
 * refused, since its job holds no lease any more.
 */
export const recoverLeases = acrossEnvironments(
  "recoverLeases",
  function* (tx: Transaction): Program<number> {
    const held = yield* allIsolatingDamage(tx, "run", [LIST_KEYS_TO_RECOVER], LIST_RUNS_TO_RECOVER)
    for (const row of held) {
      if (isRevoked(row)) yield* isolateRow(tx, "run", Number(row.key), endRevokedLease(tx, Number(row.key)))
    }
    const rows = held.filter((row) => !isRevoked(row))
    yield* loseRuns(tx, rows, (row) =>
      row.lease_until === null
        ? "the process that ran it ended"
        : "the engine that waited for the answer of its push endpoint ended"
    )
    for (const row of yield* all(LIST_WORKERS_OF_ACTORS)) {
      const [heldRun] = yield* allIsolatingDamage(
        tx,
        "run",
        [LIST_LEASED_KEYS_OF_WORKER, row.worker!],
        FIND_LEASED_RUN_OF_WORKER,
        row.worker!
      )
      // a worker that holds a lease with an expiry keeps its actors: it may still live in a process of its own
      if (heldRun === undefined) yield* write(DELETE_ACTORS_OF_WORKER, row.worker!)
    }
    return rows.length
  },
  () => "take back leases"
)

const LIST_KEYS_OF_EXPIRED = statement(
  "LostLeases.listKeysOfExpired",
  "SELECT key FROM runs WHERE lease_until <= ? ORDER BY lease_until"
)

const EXPIRED = `SELECT key, environment, function, lease, worker, losses FROM runs WHERE lease_until <= ? @sound(run, key)
  ORDER BY lease_until, key LIMIT ?`

const LIST_EXPIRED_IN_ENVIRONMENT = statement(
  "LostLeases.listExpiredInEnvironment",
  `SELECT * FROM (${EXPIRED}) AS expired WHERE environment = ?`,
  { scans: "a batch of expired leases" }
)

const LIST_ENVIRONMENTS_OF_EXPIRED = statement(
  "LostLeases.listEnvironmentsOfExpired",
  `SELECT DISTINCT environment FROM (${EXPIRED}) AS expired`,
  { scans: "a batch of expired leases" }
)

/** The environments of the first `limit` expired leases. */
export function* environmentsOfExpired(tx: Transaction, limit: number): Program<ReadonlyArray<Row>> {
  const now = tx.now()
  return yield* allIsolatingDamage(
    tx,
    "run",
    [LIST_KEYS_OF_EXPIRED, now],
    LIST_ENVIRONMENTS_OF_EXPIRED,
    now,
    limit
  )
}

/** Takes back the runs of one environment that are among the first `limit` expired leases of all environments. */
export function* expireLeases(tx: Transaction, environment: number, limit: number): Program<number> {
  const now = tx.now()
  const dueRows = yield* allIsolatingDamage(
    tx,
    "run",
    [LIST_KEYS_OF_EXPIRED, now],
    LIST_EXPIRED_IN_ENVIRONMENT,
    now,
    limit,
    environment
  )
  for (const row of dueRows) {
    if (isRevoked(row)) yield* isolateRow(tx, "run", Number(row.key), endRevokedLease(tx, Number(row.key)))
  }
  const rows = dueRows.filter((row) => !isRevoked(row))
  for (const row of rows) {
    tx.notify(String(row.worker), {
      _tag: "LeaseLost",
      jobId: String(row.lease),
      reason: "the lease ran out"
    })
  }
  yield* loseRuns(tx, rows, ({ worker }) => `worker ${worker} let its lease run out`)
  for (const worker of new Set(rows.map((row) => String(row.worker)))) {
    yield* unbindActors(tx, tx.environmentName(environment), worker)
  }
  return dueRows.length
}

const FIND_LEASED_RUN = statement(
  "LostLeases.findLeasedRun",
  "SELECT key, function, worker, losses FROM runs WHERE lease = ? AND environment = ? AND lease IS NOT NULL @sound(run, key)",
  { scans: "the leased runs, which are no more than workers have room for" }
)

/**
 * Takes back a run whose turn was lost although its worker lives. If the lease was revoked before, only the revoked lease is
 * ended, because the worker is done with the run. Returns whether the job held a lease that was not revoked. `why` is the reason,
 * as the end of a sentence.
 */
export const loseLease = inEnvironment(
  "loseLease",
  function* (tx: Transaction, environment: string, jobId: string, why: string): Program<boolean> {
    const environmentKey = tx.findEnvironment(environment)
    if (environmentKey === undefined) return false
    const row = yield* findLeasedRow(tx, FIND_LEASED_RUN, jobId, environmentKey)
    if (row === undefined) {
      yield* endRevokedLeaseOf(tx, environmentKey, jobId)
      return false
    }
    yield* loseRuns(tx, [row], () => why)
    return true
  },
  (_, jobId) => `take back job ${jobId}`
)

/** The delay, in milliseconds, before a run that lost its worker is dispatched again; 0 after the first loss. */
const lossDelayMs = (losses: number): number => (losses <= 1 ? 0 : Math.min(1000 * 2 ** (losses - 2), 60_000))

export function* releaseRun(tx: Transaction, run: number): Program<void> {
  yield* endLease(tx, { key: run }, "released")
  yield* makeReady(tx, run)
}

/** Takes back runs that were lost together. It cannot be known which of the runs of one worker is to blame. */
function* loseRuns(tx: Transaction, rows: ReadonlyArray<Row>, why: (row: Row) => string): Program<void> {
  const now = tx.now()
  const possibleCauses = rows.filter(
    ({ key, losses }) => Number(losses) >= SUSPECT_FROM && !suspectsOf(tx).isPastTrial(Number(key), now)
  )
  for (const row of rows) {
    const isWith = (other: Row): boolean => other !== row && other.worker === row.worker
    const companions = { isOnlySuspect: !possibleCauses.some(isWith), isWithOthers: rows.some(isWith) }
    yield* isolateRow(tx, "run", Number(row.key), loseRun(tx, row, why(row), companions))
  }
}

const FIND_LOSSES = statement(
  "LostLeases.findLosses",
  "SELECT id, environment, status, losses, loss_seq FROM runs WHERE key = ?"
)

const UPDATE_LOSSES = statement(
  "LostLeases.updateLosses",
  "UPDATE runs SET losses = ?, loss_seq = ? WHERE key = ?"
)

/**
 * Takes back one lost run. `isOnlySuspect`: no other suspect that may be the cause was lost together with the run.
 * `isWithOthers`: other runs were lost together with the run, so all of them get different delays.
 */
function* loseRun(
  tx: Transaction,
  { function: fn, key, worker }: Row,
  why: string,
  { isOnlySuspect, isWithOthers }: { readonly isOnlySuspect: boolean; readonly isWithOthers: boolean }
): Program<void> {
  const run = Number(key)
  yield* endLease(tx, { key: run }, "leaseLost")
  const row = yield* get(FIND_LOSSES, run)
  const last = yield* lastSeq(run)
  const losses = last > Number(row?.loss_seq) ? 1 : Number(row?.losses) + 1
  yield* write(UPDATE_LOSSES, losses, last, run)
  countRunEvent(tx, "lost", Number(fn))
  tx.changes.runFailures.push({
    ...runMembers(tx, {
      id: String(row?.id),
      function: Number(fn),
      environment: Number(row?.environment),
      worker: String(worker)
    }),
    _tag: "LeaseLost",
    why,
    losses
  })
  // a requested pause has begun with the end of the lease
  if (statusIn(row) === "paused") return
  if (losses >= LOSSES_UNTIL_PAUSE && isOnlySuspect) {
    return yield* pauseRow(tx, run, {
      code: "LOST_REPEATEDLY",
      message:
        `Its worker was lost ${losses} times without a step being completed in between (last: ${why}). ` +
        `Look for a crash in the step that comes next, then resume the run.`,
      details: { losses, last: why }
    })
  }
  const delay = Math.round(lossDelayMs(losses) * (isWithOthers ? 1 + tx.random() / 2 : 1))
  if (delay === 0) return yield* makeReady(tx, run)
  yield* delayRun(tx, run, tx.now() + delay)
  markReady(tx, Number(fn))
}
