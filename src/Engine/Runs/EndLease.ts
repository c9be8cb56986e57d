/** The lease of a run ends here, whatever the reason: what fired enters the journal, and what was asked for meanwhile begins. */
import { moves, mustMove } from "./StatusRows.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { TurnEnding } from "./Transitions.ts"
import { type Pause, pauseRow } from "./PauseRun.ts"
import { type Program, get, variant, statement } from "../Store/Program.ts"
import { forgetLease } from "./LeaseMemory.ts"
import { suspectsOf } from "./Suspects.ts"
import { settleFiredWaits, makeReady } from "./Waits.ts"
import { markRoom } from "../Functions/ReadyFunctions.ts"
import { parseStored } from "../Store/StoredJson.ts"

// every ending of a turn does the same to the status
const END_LEASE = `UPDATE runs SET ${moves.suspended.set}, lease = NULL, lease_until = NULL, updated_at = ?
   WHERE key = ? AND ${moves.suspended.where} RETURNING function, pause`

/**
 * Takes a run back from its worker: what fired enters the journal, and the run waits. A run that was compensating goes on
 * compensating, and `pause` begins, or one that was asked for.
 */
export function* endLease(tx: Transaction, run: number, ending: TurnEnding, pause?: Pause): Program<void> {
  forgetLease(tx, run)
  suspectsOf(tx).release(run)
  yield* settleFiredWaits(tx, run)
  const row = yield* get(variant("EndLease.endLease", END_LEASE), tx.now(), run)
  yield* mustMove(run, ending, row)
  // there may be room under a concurrency limit now
  markRoom(tx, Number(row?.function))
  if (pause !== undefined) yield* pauseRow(tx, run, pause)
  // written by `pauseRun`
  else if (row?.pause != null) yield* pauseRow(tx, run, parseStored(String(row.pause)) as Pause)
}

const END_REVOKED_LEASE = statement(
  "EndLease.endRevokedLease",
  "UPDATE runs SET lease = NULL, lease_until = NULL WHERE key = ? RETURNING function"
)

/** The worker whose lease of the run was revoked is done with it, or its time is over. */
export function* endRevokedLease(tx: Transaction, run: number): Program<void> {
  const row = yield* get(END_REVOKED_LEASE, run)
  markRoom(tx, Number(row?.function))
  // unless it has ended, or is paused
  yield* makeReady(tx, run)
}
