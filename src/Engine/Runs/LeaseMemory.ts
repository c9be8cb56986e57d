/** Leased runs, so that a report need not ask for its run. */
import type { RunStatus } from "../../RunStatus.ts"
import { PassingMap, PassingSet } from "../../Passing.ts"
import { remembered } from "../Store/Memory.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { Taken } from "../Store/RunEnding.ts"

/** A run with a live turn: what a report about it needs. */
export interface LeasedRun {
  readonly key: number
  readonly id: string
  readonly environment: number
  readonly function: number
  /** `undefined` when what is stored is none. */
  readonly status: RunStatus | undefined
  readonly event: number
  readonly parent: number | null
  /** Who holds the lease. */
  readonly worker?: string
  /** When it was given, epoch milliseconds; absent when it was not read. */
  readonly since?: number
  /** Epoch milliseconds; absent when it was not read. */
  readonly createdAt?: number
  /** Of a first turn, unless its event is large: what its run shows when it ends. */
  readonly taken?: Taken
  /** Whether it may have rows in `waits`. */
  mayHaveWaits: boolean
}

interface Lease {
  readonly jobId: string
  readonly run: LeasedRun
}

/** One that is missing is read; one that is here has exactly this lease, and no pause that was asked for. */
interface LeaseMemory {
  readonly byRun: PassingMap<number, Lease>
  readonly byJob: PassingMap<string, LeasedRun>
  readonly byId: PassingMap<string, LeasedRun>
  /** Those of this transaction: they count once they are durable. */
  readonly fresh: PassingMap<number, Lease>
  /** The runs that this engine has leased, those that it had to forget too: no other engine remembers their leases. */
  readonly mine: PassingSet<number>
  /** Those of them whose lease has ended in this transaction. */
  readonly ended: PassingSet<number>
}

/** More runs than an engine leases at a time. */
const MOST_MINE = 20_000

const leasesOf = remembered<LeaseMemory>({
  // one that is forgotten is read, and one that ends is told to those who wait for it
  isShared: "unmoved",
  make: () => ({
    byRun: new PassingMap(),
    byJob: new PassingMap(),
    byId: new PassingMap(),
    fresh: new PassingMap(),
    mine: new PassingSet(),
    ended: new PassingSet()
  }),
  begin: ({ ended, fresh }) => {
    fresh.clear()
    ended.clear()
  },
  moved: ({ byId, byJob, byRun, mine }, { leases }) => {
    if (!leases) return
    // those that others have ended are still among them
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

/** A run was leased: remembered once that is durable. */
export const rememberLease = (tx: Transaction, jobId: string, run: LeasedRun): void => {
  leasesOf(tx).fresh.set(run.key, { jobId, run })
}

/** The run that a job holds, if it is remembered. */
export const leasedTo = (tx: Transaction, jobId: string): LeasedRun | undefined =>
  leasesOf(tx).byJob.get(jobId)

/** Whether a run is remembered to have a lease, and so is there and has not ended. */
export const isLeased = (tx: Transaction, environment: number, runId: string): boolean =>
  leasesOf(tx).byId.get(runId)?.environment === environment

/** The lease of a run ends, or something about the run changes: forgotten at once, which a rollback does not harm. */
export const forgetLease = (tx: Transaction, run: number): void => {
  const { byId, byJob, byRun, ended, fresh, mine } = leasesOf(tx)
  const isFresh = fresh.delete(run)
  if (mine.delete(run) || isFresh) ended.add(run)
  // another engine has given it, or it has none
  else if (!ended.has(run)) tx.touchedLeases = true
  const lease = byRun.get(run)
  if (lease === undefined) return
  byRun.delete(run)
  byJob.delete(lease.jobId)
  byId.delete(lease.run.id)
}
