/** What is due: sleeps, retries, timeouts of waits, expired leases, expired keys. */
import { InvokeTimeoutError, serializeError, WaitTimeoutError } from "../../Errors.ts"
import type { Outcome } from "../../Protocol/Worker.ts"
import { nextSweepAt, sweep } from "./KvSweep.ts"
import { expireLeases } from "./Leases.ts"
import { fireSchedules } from "./Schedules.ts"
import type { Fired } from "./Store.ts"
import { type Row, RUN_ITSELF, type Transaction, WaitKind } from "./Transaction.ts"
import { fireWait, makeReady } from "./Waits.ts"

/** Most timers and leases in one transaction. */
const BATCH = 512

export const fireDue = (tx: Transaction): Fired => {
  const now = tx.now()
  const rows = tx.all("SELECT * FROM waits WHERE due_at <= ? ORDER BY due_at LIMIT ?", now, BATCH)
  for (const row of rows) fire(tx, row)
  const expired = expireLeases(tx, BATCH)
  const fires = fireSchedules(tx, BATCH)
  const swept = sweep(tx, BATCH)
  if (tx.suspects.hasOver(now)) tx.changes.ready = true
  return { count: rows.length + expired + fires + swept, nextDueAt: nextDueAt(tx) }
}

/** When something is due next, epoch milliseconds. */
export const nextDueAt = (tx: Transaction): number => {
  const row = tx.get(
    "SELECT (SELECT min(due_at) FROM waits WHERE due_at IS NOT NULL) AS wait, (SELECT min(lease_until) FROM runs WHERE lease_until IS NOT NULL) AS lease, (SELECT min(next_at) FROM schedules) AS schedule"
  )
  return Math.min(
    nextSweepAt(tx),
    tx.suspects.nextOverAt(tx.now()),
    row?.schedule == null ? Number.POSITIVE_INFINITY : Number(row.schedule),
    row?.wait == null ? Number.POSITIVE_INFINITY : Number(row.wait),
    row?.lease == null ? Number.POSITIVE_INFINITY : Number(row.lease)
  )
}

const fire = (tx: Transaction, row: Row): void => {
  const run = Number(row.run)
  const stepKey = String(row.step_key)
  switch (Number(row.kind)) {
    case WaitKind.sleep:
      return fireWait(tx, run, stepKey, { _tag: "Success", value: undefined })
    case WaitKind.retry:
      return fireWait(tx, run, stepKey, undefined)
    case WaitKind.event:
      return fireWait(
        tx,
        run,
        stepKey,
        failure(
          new WaitTimeoutError(String(row.name), String(row.pattern ?? row.event), Number(row.timeout_ms))
        )
      )
    case WaitKind.child: {
      const child = tx.get("SELECT id FROM runs WHERE key = ?", row.child!)
      return fireWait(
        tx,
        run,
        stepKey,
        failure(new InvokeTimeoutError(String(row.event), String(child?.id ?? ""), Number(row.timeout_ms)))
      )
    }
    case WaitKind.runRetry:
      tx.run("DELETE FROM waits WHERE run = ? AND step_key = ?", run, RUN_ITSELF)
      return makeReady(tx, run)
  }
}

const failure = (error: Error): Outcome => ({ _tag: "Failure", error: serializeError(error) })
