/**
 * Leases that were taken from workers that may still be at the turn: of runs that were cancelled, patched, or resumed from an
 * earlier step.
 *
 * Such a lease goes on as a revoked one. Its worker can do nothing with it any more, and nobody else gets the run, nor its room
 * under a concurrency limit, before the worker is known to be done with it: it says so, it has left, its process has ended, or the
 * term of the lease is over. It is in the row of the run, so this holds over restarts of the engine.
 *
 * A worker in the process of the engine has been told before the next run is handed out: its leases are revoked by ending them. One
 * in the process of another engine hears of it by way of that one, and has a term for that.
 */
import { statement, type Program, write } from "../Store/Program.ts"
import { isAtOther } from "./NodeWorkers.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** Before the job id of a lease that is revoked; no job id begins with it. */
const MARK = "~"

/** What the lease of a job becomes when it is revoked. */
export const revoked = (jobId: string): string => `${MARK}${jobId}`

/** Whether the lease in a row of `runs` is a revoked one. */
export const isRevoked = ({ lease }: Row): boolean => lease != null && String(lease).startsWith(MARK)

/** The job of the lease in a row of `runs`, revoked or not. */
export const jobOf = (row: Row): string =>
  isRevoked(row) ? String(row.lease).slice(MARK.length) : String(row.lease)

/** The job that holds a run; `undefined` when none does. */
export const holdingJob = (row: Row): string | undefined =>
  row.lease == null || isRevoked(row) ? undefined : String(row.lease)

/**
 * When a run whose lease is taken away may be handed out again if nothing is heard of its worker, epoch milliseconds: when the term
 * is over for which the worker may go on. `undefined` when it may be at once.
 */
const handOutFrom = ({ lease, lease_until }: Row, now: number): number | undefined =>
  lease == null || lease_until == null || Number(lease_until) <= now ? undefined : Number(lease_until)

const KEEP_REVOKED = statement(
  "RevokedLeases.keepRevoked",
  "UPDATE runs SET lease = ?, lease_until = ? WHERE key = ?"
)

/** How long a worker in the process of another engine may take to hear that its lease was revoked, milliseconds. */
const HEARS_WITHIN_MS = 15_000

/** Keeps what was the lease of a run, as `row` has it, as a revoked one. The run itself has none any more. */
export function* keepRevoked(tx: Transaction, row: Row): Program<void> {
  const isElsewhere =
    row.lease != null &&
    row.lease_until == null &&
    row.worker != null &&
    (yield* isAtOther(tx, String(row.worker)))
  const until = isElsewhere ? tx.now() + HEARS_WITHIN_MS : handOutFrom(row, tx.now())
  if (until === undefined) return
  const lease = isRevoked(row) ? String(row.lease) : revoked(String(row.lease))
  yield* write(KEEP_REVOKED, lease, until, row.key!)
  tx.markDue(until)
}
