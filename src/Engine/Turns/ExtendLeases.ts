/** Renews leases: when workers extend them, and when a worker connects again and keeps the runs that it still executes. */
import * as Effect from "effect/Effect"
import type { StoreService } from "../Store/Store.ts"
import type { StoreError } from "../../Errors.ts"
import {
  acrossEnvironments,
  inEnvironment,
  forEach,
  type Program,
  statement,
  get,
  affected,
  write,
  all,
  isolateRow
} from "../Store/Program.ts"
import type { Transaction, Row } from "../Store/Transaction.ts"
import { type LeaseHolder, whyStuck, readLease } from "../Runs/Stuck.ts"
import { findLeasedRow, releaseRun, runsHeldBy, unbindActors } from "./LostLeases.ts"
import { isRevoked, jobOf } from "../Runs/RevokedLeases.ts"
import type { Adoption } from "./TurnRecords.ts"
import type { Notice } from "../../Protocol/Worker.ts"
import { refreshLosses, suspectsOf } from "../Runs/Suspects.ts"
import { WaitKind } from "../Runs/WaitKinds.ts"
import { outcomeIn } from "../Runs/Waits.ts"

/**
 * Extends leases. Returns the jobs whose lease is gone, or whose runs are in other environments. `holder` is the worker that
 * holds the jobs, if it is known. The lease of a run that is stuck on that worker is not extended, so that another worker gets
 * the run.
 */
export const extendLeases = inEnvironment(
  "extendLeases",
  function* (
    tx: Transaction,
    environment: string,
    jobIds: ReadonlyArray<string>,
    leaseMs: number,
    holder?: LeaseHolder
  ): Program<ReadonlyArray<string>> {
    const environmentKey = tx.findEnvironment(environment)
    if (environmentKey === undefined) return jobIds
    const until = tx.now() + leaseMs
    const goneJobIds: Array<string> = []
    for (const jobId of jobIds) {
      try {
        const isGone = yield* extendLease(tx, environmentKey, jobId, until, leaseMs, holder)
        if (isGone) goneJobIds.push(jobId)
      } catch (error) {
        // the run is set aside as damaged: otherwise, because of its error, the other jobs would lose their leases
        tx.blame({
          error,
          kind: "run",
          keys: { statement: FIND_RUN_OF_JOB, values: [jobId] },
          isCertain: true
        })
        throw error
      }
    }
    return goneJobIds
  },
  () => "extend leases"
)

const FIND_RUN_OF_JOB = statement(
  "ExtendLeases.findRunOfJob",
  "SELECT key FROM runs WHERE lease = ? AND lease_until IS NOT NULL"
)

const EXTEND_LEASE = statement(
  "ExtendLeases.extendLease",
  "UPDATE runs SET lease_until = ?, lease_ms = ? WHERE lease = ? AND environment = ? AND lease_until IS NOT NULL @sound(run, key)"
)

const FIND_LEASED_RUN = statement(
  "ExtendLeases.findLeasedRun",
  "SELECT 1 FROM runs WHERE lease = ? AND environment = ? AND lease IS NOT NULL @sound(run, key)",
  { scans: "the leased runs, which are no more than workers have room for" }
)

/** Extends a lease, unless its run is stuck. Returns whether the lease is gone. */
function* extendLease(
  tx: Transaction,
  environment: number,
  jobId: string,
  until: number,
  leaseMs: number,
  holder: LeaseHolder | undefined
): Program<boolean> {
  // `jobId` is the marked id of a revoked lease, which a worker sends only by mistake
  if (isRevoked({ lease: jobId })) return true
  if (holder !== undefined && (yield* isStuck(tx, environment, jobId, holder))) return false
  if ((yield* affected(EXTEND_LEASE, until, leaseMs, jobId, environment)) > 0) return false
  // a lease without an expiry cannot be extended, and is not gone
  return (yield* findLeasedRow(tx, FIND_LEASED_RUN, jobId, environment)) === undefined
}

const FIND_LEASE = statement(
  "ExtendLeases.findLease",
  `SELECT function, status, worker, lease, lease_until, updated_at FROM runs WHERE lease = ? AND environment = ? AND lease_until IS NOT NULL @sound(run, key)`
)

function* isStuck(
  tx: Transaction,
  environment: number,
  jobId: string,
  holder: LeaseHolder
): Program<boolean> {
  const row = yield* get(FIND_LEASE, jobId, environment)
  return row !== undefined && whyStuck(readLease(tx, row), () => holder, tx.now()) !== undefined
}

const UPDATE_LEASE = statement(
  "ExtendLeases.updateLease",
  "UPDATE runs SET lease_until = ?, lease_ms = ? WHERE key = ?"
)

const LIST_FIRED_WAITS = statement(
  "ExtendLeases.listFiredWaits",
  `SELECT step_key, kind, failures, failed, value, event_position FROM waits WHERE run = ? AND fired IS NOT NULL ORDER BY fired`
)

/**
 * Called when a worker connects. `jobIds` are the jobs that the worker still executes. The worker keeps those of them whose lease
 * it still holds. Its other runs are taken back without counting a loss. The worker knows only the jobs that were created after
 * its first registration: their ids sort after the id `since`. Older jobs are left alone, because another worker with the same id may still execute them. A worker
 * without `since` is new. Returns the notices for the kept jobs once more, because an engine that died may not have delivered
 * them: which waits have fired, and which runs are to be paused. Unbinds the worker's actors of functions that are not in
 * `functionIds`.
 */
export const adoptLeases = inEnvironment(
  "adoptLeases",
  function* (
    tx: Transaction,
    environment: string,
    workerId: string,
    jobIds: ReadonlyArray<string>,
    leaseMs: number,
    functionIds: ReadonlySet<string>,
    since: string = tx.ids.job()
  ): Program<Adoption> {
    const lostJobIds = new Set(jobIds)
    const leftAlone: Array<string> = []
    const notices: Array<Notice> = []
    const until = tx.now() + leaseMs
    function* adopt(row: Row): Program<void> {
      const jobId = jobOf(row)
      const key = Number(row.key)
      const isNamed = !isRevoked(row) && lostJobIds.delete(jobId)
      if (!isNamed) {
        if (jobId < since) leftAlone.push(jobId)
        else if (!isRevoked(row)) yield* releaseRun(tx, key)
        return
      }
      const losses = yield* refreshLosses(row)
      if (losses > 0) tx.markDue(suspectsOf(tx).hold(key, workerId, losses, tx.now()))
      yield* write(UPDATE_LEASE, until, leaseMs, key)
      if (row.pause !== null) notices.push({ _tag: "Paused", jobId })
      for (const wait of yield* all(LIST_FIRED_WAITS, key)) {
        notices.push({
          _tag: "Fired",
          jobId,
          stepKey: String(wait.step_key),
          ...(Number(wait.kind) === WaitKind.retry
            ? { failures: Number(wait.failures) }
            : { outcome: yield* outcomeIn(tx, wait, wait.event_position) })
        })
      }
    }
    for (const row of yield* runsHeldBy(tx, environment, workerId))
      yield* isolateRow(tx, "run", Number(row.key), adopt(row))
    if (lostJobIds.size < jobIds.length) tx.markDue(until)
    yield* unbindActors(tx, environment, workerId, functionIds)
    return { lost: [...lostJobIds], leftAlone, notices, since }
  },
  (_, workerId) => `keep the turns of worker ${workerId}`
)

const FIND_ENVIRONMENT_OF_JOB = statement(
  "ExtendLeases.findEnvironmentOfJob",
  "SELECT environment FROM runs WHERE lease = ? AND lease_until IS NOT NULL @sound(run, key)"
)

const FIND_ENVIRONMENT_OF_LEASED = statement(
  "ExtendLeases.findEnvironmentOfLeased",
  "SELECT environment FROM runs WHERE lease = ? AND lease IS NOT NULL @sound(run, key)",
  { scans: "the leased runs, which are no more than workers have room for" }
)

/**
 * The environments of the runs that jobs hold; `undefined` for a job that holds no run. For callers that know only the jobs, and
 * need the environment for the other programs.
 */
export const environmentsOfJobs = acrossEnvironments(
  "environmentsOfJobs",
  function* (tx: Transaction, jobIds: ReadonlyArray<string>): Program<ReadonlyArray<string | undefined>> {
    return yield* forEach(jobIds, function* (jobId): Program<string | undefined> {
      const row =
        (yield* get(FIND_ENVIRONMENT_OF_JOB, jobId)) ??
        (yield* findLeasedRow(tx, FIND_ENVIRONMENT_OF_LEASED, jobId))
      return row === undefined ? undefined : tx.environmentName(Number(row.environment))
    })
  },
  () => "extend leases"
)

/** Extends leases for a caller that knows only the jobs. Returns the jobs whose lease is gone. */
export const extendInAnyEnvironment = (
  store: StoreService,
  jobIds: ReadonlyArray<string>,
  leaseMs: number
): Effect.Effect<ReadonlyArray<string>, StoreError> =>
  Effect.gen(function* () {
    const environments = yield* store.read(environmentsOfJobs(jobIds))
    const goneJobIds = yield* Effect.forEach(
      new Set(environments),
      (environment) => {
        const jobIdsOfEnvironment = jobIds.filter((_, i) => environments[i] === environment)
        return environment === undefined
          ? Effect.succeed(jobIdsOfEnvironment)
          : store.write(extendLeases(environment, jobIdsOfEnvironment, leaseMs))
      },
      { concurrency: "unbounded" }
    )
    return goneJobIds.flat()
  })
