/** Remembers leased runs, so that a report need not read its run. */
import type { RunStatus } from "../../RunStatus.ts"
import { ShortLivedMap, ShortLivedSet } from "../../ShortLivedMap.ts"
import { defineCache } from "../Store/Cache.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { FirstTurnFacts } from "../Store/EndedRunRecord.ts"

/** A run with a live turn: what its reports need. */
export interface LeasedRun {
  readonly key: number
  readonly id: string
  readonly environment: number
  readonly function: number
  /** `undefined` when the stored status is invalid. */
  readonly status: RunStatus | undefined
  readonly event: number
  readonly parent: number | null
  /** Who holds the lease. */
  readonly worker?: string
  /** When the lease was given, epoch milliseconds; absent when it was not read. */
  readonly since?: number
  /** Epoch milliseconds; absent when it was not read. */
  readonly createdAt?: number
  /** What the ended run will show. Only for a first turn, and only unless its event is large. */
  readonly taken?: FirstTurnFacts
  /** Whether it may have rows in `waits`. */
  mayHaveWaits: boolean
}

interface Lease {
  readonly jobId: string
  readonly run: LeasedRun
}

/** A missing lease is read from the database; a remembered one is exact, and has no requested pause. */
interface LeaseCache {
  readonly byRun: ShortLivedMap<number, Lease>
  readonly byJob: ShortLivedMap<string, LeasedRun>
  readonly byId: ShortLivedMap<string, LeasedRun>
  /** Leases of the current transaction: they count once it is durable. */
  readonly fresh: ShortLivedMap<number, Lease>
  /** The runs that this engine has leased, including those that it has forgotten: no other engine remembers their leases. */
  readonly mine: ShortLivedSet<number>
  /** Those whose lease has ended in the current transaction. */
  readonly ended: ShortLivedSet<number>
}

/** More runs than an engine leases at a time. */
const MOST_MINE = 20_000

const leasesOf = defineCache<LeaseCache>({
  // a forgotten lease is read again, and the end of a lease is told to those who wait for it
  isShared: "unmoved",
  make: () => ({
    byRun: new ShortLivedMap(),
    byJob: new ShortLivedMap(),
    byId: new ShortLivedMap(),
    fresh: new ShortLivedMap(),
    mine: new ShortLivedSet(),
    ended: new ShortLivedSet()
  }),
  begin: ({ ended, fresh }) => {
    fresh.clear()
    ended.clear()
  },
  invalidate: ({ byId, byJob, byRun, mine }, { leases }) => {
    if (!leases) return
    // leases that other engines have ended are still in this set
    if (mine.size > MOST_MINE) mine.clear()
    byRun.clear()
    byJob.clear()
    byId.clear()
  },
  committed: ({ byId, byJob, byRun, fresh, mine }) => {
    for (const [key, lease] of fresh) {
      mine.add(key)
      byRun.set(key, lease)
      byJob.set(lease.jobId, lease.run)
      byId.set(lease.run.id, lease.run)
    }
  }
})

/** Remembers the lease of a run, once the transaction is durable. */
export const rememberLease = (tx: Transaction, jobId: string, run: LeasedRun): void => {
  leasesOf(tx).fresh.set(run.key, { jobId, run })
}

/** The run that a job holds, if it is remembered. */
export const leasedTo = (tx: Transaction, jobId: string): LeasedRun | undefined =>
  leasesOf(tx).byJob.get(jobId)

/** Whether a run is remembered as leased: then it exists and has not ended. */
export const isLeased = (tx: Transaction, environment: number, runId: string): boolean =>
  leasesOf(tx).byId.get(runId)?.environment === environment

/** Forgets the lease of a run when it ends or the run changes. Takes effect at once; a rollback does no harm. */
export const forgetLease = (tx: Transaction, run: number): void => {
  const { byId, byJob, byRun, ended, fresh, mine } = leasesOf(tx)
  const isFresh = fresh.delete(run)
  if (mine.delete(run) || isFresh) ended.add(run)
  // another engine gave the lease, or there is none
  else if (!ended.has(run)) tx.touchedLeases = true
  const lease = byRun.get(run)
  if (lease === undefined) return
  byRun.delete(run)
  byJob.delete(lease.jobId)
  byId.delete(lease.run.id)
}
