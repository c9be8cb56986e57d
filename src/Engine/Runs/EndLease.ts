/** Ends the lease of a run, for any reason. Fired waits then enter the journal, and a requested pause begins. */
import { moves, mustMove } from "./StatusRows.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { TurnEnding } from "./Transitions.ts"
import { type Pause, readPause } from "./Pause.ts"
import { pauseRow } from "./PauseRun.ts"
import { type Program, get, variant, statement } from "../Store/Program.ts"
import { forgetLease } from "./LeaseCache.ts"
import { keepRevokedLease } from "./RevokedLeases.ts"
import { suspectsOf } from "./Suspects.ts"
import { settleFiredWaits, makeReady } from "./Waits.ts"
import { markCapacity } from "../Functions/ReadyFunctions.ts"

// all transitions that end a turn change the status in the same way, so one statement serves all of them
const END_LEASE = `UPDATE runs SET ${moves.suspended.set}, lease = NULL, lease_until = NULL, updated_at = ?
   WHERE key = ? AND ${moves.suspended.where} RETURNING function, pause`

/**
 * Takes a run back from its worker. Fired waits enter the journal, and the run waits. A run that was compensating is still
 * compensating. A pause begins if `pause` is given, or else if one was requested for the run. `jobId` is the job that holds the
 * lease, if known.
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

/**
 * Revokes the lease of a run that a worker executes, and tells the worker. A requested pause begins. `row` is the row of the run.
 */
export function* revokeLease(tx: Transaction, row: Row, jobId: string, reason: string): Program<void> {
  tx.notify(String(row.worker), { _tag: "LeaseLost", jobId, reason })
  yield* endLease(tx, { key: Number(row.key), jobId }, "leaseRevoked")
  yield* keepRevokedLease(tx, row)
}

const END_REVOKED_LEASE = statement(
  "EndLease.endRevokedLease",
  "UPDATE runs SET lease = NULL, lease_until = NULL WHERE key = ? RETURNING function"
)

/** Ends a revoked lease. Called when the worker is known to be done with the run, or when the lease has expired. */
export function* endRevokedLease(tx: Transaction, run: number): Program<void> {
  const row = yield* get(END_REVOKED_LEASE, run)
  markCapacity(tx, Number(row?.function))
  // has no effect when the run has ended or is paused
  yield* makeReady(tx, run)
}
