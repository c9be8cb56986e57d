/**
 * Leases that were revoked while their workers may still work on the turn. The runs were cancelled, patched, resumed from an
 * earlier step, or paused at a worker that does not understand pauses.
 *
 * The lease stays in the row of the run, marked as revoked, so it survives restarts of the engine. Reports of its worker are no
 * longer accepted. No other worker gets the run, or its room under a concurrency limit, before this worker is known to be done:
 * the worker has confirmed that it has dropped the run, or has disconnected, or its process has ended, or the lease has expired.
 *
 * A worker in the process of the engine learns of the revocation before the next run is dispatched, so its leases are simply
 * ended. A worker in the process of another engine learns of it from that engine, within a fixed time.
 */
import { statement, type Program, write } from "../Store/Program.ts"
import { isAtOtherEngine } from "./EngineWorkers.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** Prefix of the job id of a revoked lease; no job id begins with it. */
const MARK = "~"

/** The revoked form of a job's lease. */
export const revokedLease = (jobId: string): string => `${MARK}${jobId}`

/** Whether a row of `runs` has a revoked lease. */
export const isRevoked = ({ lease }: Row): boolean => lease != null && String(lease).startsWith(MARK)

/** The job that holds the lease in a row of `runs`, whether the lease is revoked or not. */
export const jobOf = (row: Row): string =>
  isRevoked(row) ? String(row.lease).slice(MARK.length) : String(row.lease)

/** The job that holds a lease that is not revoked; `undefined` when the run has no such lease. */
export const holdingJob = (row: Row): string | undefined =>
  row.lease == null || isRevoked(row) ? undefined : String(row.lease)

/**
 * When the run may be dispatched again even if its worker does not answer, in epoch milliseconds. Until then, the worker may
 * still execute the run. `undefined` when the run may be dispatched at once.
 */
const dispatchableFrom = ({ lease, lease_until }: Row, now: number): number | undefined =>
  lease == null || lease_until == null || Number(lease_until) <= now ? undefined : Number(lease_until)

const UPDATE_LEASE = statement(
  "RevokedLeases.updateLease",
  "UPDATE runs SET lease = ?, lease_until = ? WHERE key = ?"
)

/** Within how many milliseconds a worker in the process of another engine learns that its lease was revoked. */
const MAX_NOTICE_DELAY_MS = 15_000

/**
 * Writes a lease that was just ended back into the row of its run, marked as revoked. `row` is that row before the end of the
 * lease. Does nothing when the worker cannot be executing the run any more.
 */
export function* keepRevokedLease(tx: Transaction, row: Row): Program<void> {
  const isElsewhere =
    row.lease != null &&
    row.lease_until == null &&
    row.worker != null &&
    (yield* isAtOtherEngine(tx, String(row.worker)))
  const until = isElsewhere ? tx.now() + MAX_NOTICE_DELAY_MS : dispatchableFrom(row, tx.now())
  if (until === undefined) return
  const lease = isRevoked(row) ? String(row.lease) : revokedLease(String(row.lease))
  yield* write(UPDATE_LEASE, lease, until, row.key!)
  tx.markDue(until)
}
