/** Caches the leases of runs, so that the report of a worker can be processed without reading the run. */
import type { RunStatus } from "../../RunStatus.ts"
import { ShortLivedMap, ShortLivedSet } from "../../ShortLivedMap.ts"
import { defineCache } from "../Store/Cache.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { FirstTurnFacts } from "../Store/EndedRunRecord.ts"

/** A run that a worker executes: the fields that are needed to process the worker's reports. */
export interface LeasedRun {
  readonly key: number
  /** The job that holds the lease. */
  readonly jobId: string
  readonly id: string
  readonly environment: number
  readonly function: number
  /** `undefined` when the stored status is invalid. */
  readonly status: RunStatus | undefined
  readonly event: number
  readonly parent: number | null
  /** The worker that holds the lease. */
  readonly worker?: string
  /** When the lease was given, in epoch milliseconds; absent when it was not read. */
  readonly since?: number
  /** When the run was created, in epoch milliseconds; absent when it was not read. */
  readonly createdAt?: number
  /**
   * The facts about the first turn for the record that is kept in memory when the run ends. Absent in later turns, and if the
   * event of the run is large.
   */
  readonly firstTurn?: FirstTurnFacts
  /** Whether the run may have rows in `waits`. */
  mayHaveWaits: boolean
}

/**
 * The cached leases. A lease that is not in the cache is read from the database. A lease that is in the cache equals the stored
 * one, and no pause is requested for its run.
 */
interface LeaseCache {
  readonly byRun: ShortLivedMap<number, LeasedRun>
  readonly byJob: ShortLivedMap<string, LeasedRun>
  readonly byId: ShortLivedMap<string, LeasedRun>
  /** Leases that the current transaction gives. They enter the cache once it is durable. */
  readonly newLeases: ShortLivedMap<number, LeasedRun>
  /**
   * The job to which this engine last leased a run, by the key of the run. No other engine caches the lease of such a job.
   * Includes jobs whose lease is no longer cached, and some whose lease another engine has ended.
   */
  readonly ownJobs: ShortLivedMap<number, string>
  /** Runs of this engine whose lease has ended in the current transaction. */
  readonly ended: ShortLivedSet<number>
}

/** The size at which `ownJobs` is cleared: more runs than an engine leases at a time. */
const MAX_OWN_JOBS = 20_000

const leasesOf = defineCache<LeaseCache>({
  // readers may see an older state of this cache. A lease that is missing in that state is read from the database. A lease that
  // is still in that state may have ended, but whoever waits for the end of its run is woken when the run ends
  isShared: "whenUpToDate",
  make: () => ({
    byRun: new ShortLivedMap(),
    byJob: new ShortLivedMap(),
    byId: new ShortLivedMap(),
    newLeases: new ShortLivedMap(),
    ownJobs: new ShortLivedMap(),
    ended: new ShortLivedSet()
  }),
  begin: ({ ended, newLeases }) => {
    newLeases.clear()
    ended.clear()
  },
  invalidate: ({ byId, byJob, byRun, ownJobs }, { leases }) => {
    if (!leases) return
    // `ownJobs` may grow, because leases that other engines have ended stay in it
    if (ownJobs.size > MAX_OWN_JOBS) ownJobs.clear()
    byRun.clear()
    byJob.clear()
    byId.clear()
  },
  committed: ({ byId, byJob, byRun, newLeases, ownJobs }) => {
    for (const [key, run] of newLeases) {
      ownJobs.set(key, run.jobId)
      byRun.set(key, run)
      byJob.set(run.jobId, run)
      byId.set(run.id, run)
    }
  }
})

/** Caches the lease of a run, once the transaction is durable. */
export const rememberLease = (tx: Transaction, run: LeasedRun): void => {
  leasesOf(tx).newLeases.set(run.key, run)
}

/** The run that a job holds, if it is cached. */
export const cachedRunOf = (tx: Transaction, jobId: string): LeasedRun | undefined =>
  leasesOf(tx).byJob.get(jobId)

/** Whether the lease of a run is in the cache. If so, the run exists and has not ended. */
export const isLeased = (tx: Transaction, environment: number, runId: string): boolean =>
  leasesOf(tx).byId.get(runId)?.environment === environment

/**
 * Removes the lease of a run from the cache, when the lease ends or the run changes. This takes effect at once: if the
 * transaction is rolled back, the lease is read again. `jobId` is the job that holds the lease. Without it, the other engines
 * clear their caches of leases, unless this engine gave or ended the lease in this transaction.
 */
export const forgetLease = (tx: Transaction, run: number, jobId?: string): void => {
  const { byId, byJob, byRun, ended, newLeases, ownJobs } = leasesOf(tx)
  const isNewLease = newLeases.delete(run)
  const isOwnJob = jobId !== undefined && ownJobs.get(run) === jobId
  ownJobs.delete(run)
  if (isOwnJob || isNewLease) ended.add(run)
  // another engine gave the lease and may have cached it, or there is no lease
  else if (!ended.has(run)) tx.hasChangedLeases = true
  const lease = byRun.get(run)
  if (lease === undefined) return
  byRun.delete(run)
  byJob.delete(lease.jobId)
  byId.delete(lease.id)
}
