/** Ends the lease of a run, whatever the reason: fired waits enter the journal, and a requested pause begins. */
import { moves, mustMove } from "./StatusRows.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { TurnEnding } from "./Transitions.ts"
import { type Pause, readPause } from "./Pause.ts"
import { pauseRow } from "./PauseRun.ts"
import { type Program, get, variant, statement } from "../Store/Program.ts"
import { forgetLease } from "./LeaseCache.ts"
import { keepRevoked } from "./RevokedLeases.ts"
import { suspectsOf } from "./Suspects.ts"
import { settleFiredWaits, makeReady } from "./Waits.ts"
import { markCapacity } from "../Functions/ReadyFunctions.ts"

// all transitions that end a turn change the status in the same way, so one statement serves all of them
const END_LEASE = `UPDATE runs SET ${moves.suspended.set}, lease = NULL, lease_until = NULL, updated_at = ?
   WHERE key = ? AND ${moves.suspended.where} RETURNING function, pause`

/**
 * Takes a run back from its worker. Fired waits enter the journal, and the run waits. A run that was compensating stays so. If
 * there is a `pause`, it begins; if not, the pause that was requested, if any. `jobId` is the job that holds the lease, if it is
 * known.
 */
export function* endLease(
  tx: Transaction,
  { jobId, key: run }: { readonly key: number; readonly jobId?: string },
  ending: TurnEnding,
  pause?: Pause
): Program<void> {
  forgetLease(tx, run, jobId)
  suspectsOf(tx).release(run)
  yield* settleFiredWaits(tx, run)
  const row = yield* get(variant("EndLease.endLease", END_LEASE), tx.now(), run)
  yield* mustMove(run, ending, row)
  // there may be room under a concurrency limit now
  markCapacity(tx, Number(row?.function))
  if (pause !== undefined) yield* pauseRow(tx, run, pause)
  else if (row?.pause != null) yield* pauseRow(tx, run, readPause(row))
}

/** Revokes the lease of a live turn, and tells its worker. A requested pause begins. `row` is that of the run. */
export function* revokeLease(tx: Transaction, row: Row, jobId: string, reason: string): Program<void> {
  tx.notify(String(row.worker), { _tag: "LeaseLost", jobId, reason })
  yield* endLease(tx, { key: Number(row.key), jobId }, "leaseRevoked")
  yield* keepRevoked(tx, row)
}

const END_REVOKED_LEASE = statement(
  "EndLease.endRevokedLease",
  "UPDATE runs SET lease = NULL, lease_until = NULL WHERE key = ? RETURNING function"
)

/** Ends a revoked lease. Called when its worker is known to be done with the run, or when the term of the lease is over. */
export function* endRevokedLease(tx: Transaction, run: number): Program<void> {
  const row = yield* get(END_REVOKED_LEASE, run)
  markCapacity(tx, Number(row?.function))
  // has no effect when the run has ended or is paused
  yield* makeReady(tx, run)
}
