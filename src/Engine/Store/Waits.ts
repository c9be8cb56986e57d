/**
 * Open steps: what happens when a wait is over.
 *
 * The outcome is stored beside the wait first. A run with a live turn is told, and the worker decides where the entry
 * stands in the journal (`Settle`); without a live turn the entry enters the journal at once and the run becomes ready.
 */
import type { Notice, Outcome } from "../../Protocol/Worker.ts"
import type { RunActivity } from "./Activity.ts"
import { holdingJob } from "./RevokedLeases.ts"
import { moves } from "./StatusRows.ts"
import { RUN_ITSELF, type Transaction, WaitKind } from "./Transaction.ts"
import { parseStored } from "./StoredJson.ts"

/** Reads the outcome columns of a row of `waits` or `steps`. */
export const readOutcome = (row: { readonly failed?: unknown; readonly value?: unknown }): Outcome =>
  Number(row.failed) === 0
    ? { _tag: "Success", value: row.value === null ? undefined : String(row.value) }
    : { _tag: "Failure", error: parseStored(String(row.value)) }

/** The outcome as its two columns. */
export const outcomeColumns = (outcome: Outcome): readonly [failed: number, value: string | null] =>
  outcome._tag === "Success" ? [0, outcome.value ?? null] : [1, JSON.stringify(outcome.error)]

/**
 * Ends a wait. `outcome` is absent for a step between two attempts: the next one may start. Does nothing when the wait is
 * over already.
 */
export const fireWait = (
  tx: Transaction,
  run: number,
  stepKey: string,
  outcome: Outcome | undefined,
  eventPosition: number | null = null
): void => {
  const [failed, value] = outcome === undefined ? [null, null] : outcomeColumns(outcome)
  const changed = tx.run(
    "UPDATE waits SET fired = ?, due_at = NULL, failed = ?, value = coalesce(?, value), event_position = ? WHERE run = ? AND step_key = ? AND fired IS NULL",
    tx.nextSeq(),
    failed,
    value,
    eventPosition,
    run,
    stepKey
  )
  if (changed === 0) return
  const holder = tx.get("SELECT lease, worker FROM runs WHERE key = ?", run)
  const jobId = holder === undefined ? undefined : holdingJob(holder)
  if (jobId !== undefined) {
    const notice: Notice = {
      _tag: "Fired",
      jobId,
      stepKey,
      ...(outcome === undefined ? { failures: failuresOf(tx, run, stepKey) } : { outcome })
    }
    return tx.notify(String(holder?.worker), notice)
  }
  settleWait(tx, run, stepKey)
  makeReady(tx, run)
}

const failuresOf = (tx: Transaction, run: number, stepKey: string): number =>
  Number(tx.get("SELECT failures FROM waits WHERE run = ? AND step_key = ?", run, stepKey)?.failures)

/** Moves a fired wait into the journal; a step between two attempts stays open. */
export const settleWait = (tx: Transaction, run: number, stepKey: string): void => {
  const settled = tx.run(
    `INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at, event, wait)
     SELECT run, step_key, ?, name, step_kind, failed, value, 1, created_at, ?, event_position, wait FROM waits
     WHERE run = ? AND step_key = ? AND fired IS NOT NULL AND kind <> ${WaitKind.retry}
     ON CONFLICT DO NOTHING`,
    tx.nextSeq(),
    tx.now(),
    run,
    stepKey
  )
  tx.run(
    `DELETE FROM waits WHERE run = ? AND step_key = ? AND fired IS NOT NULL AND kind <> ${WaitKind.retry}`,
    run,
    stepKey
  )
  if (settled === 0) return
  if (!tx.suspects.isEmpty) clear(tx, run)
  tx.tell(() => stepEnded(tx, run, stepKey))
}

/** A run has come further: if it was a suspect, it is none any more, and its worker may have others. */
export const clear = (tx: Transaction, run: number): void => {
  if (!tx.suspects.release(run)) return
  tx.run("UPDATE runs SET losses = 0 WHERE key = ?", run)
  tx.changes.ready = true
}

/** A step that has just entered the journal. */
export const stepEnded = (tx: Transaction, run: number, stepKey: string): RunActivity => {
  const row = tx.get(
    `SELECT r.id, r.function, r.environment, s.name, s.kind, s.failed, s.value, s.attempt, s.started_at, s.ended_at
     FROM steps s JOIN runs r ON r.key = s.run WHERE s.run = ? AND s.step_key = ?`,
    run,
    stepKey
  )
  return {
    _tag: "StepEnded",
    runId: String(row?.id),
    functionId: tx.registry.byKey(Number(row?.function))?.registration.id ?? String(row?.function),
    environment: tx.environmentName(Number(row?.environment)),
    name: String(row?.name),
    kind: String(row?.kind),
    outcome: readOutcome(row ?? {}),
    attempt: Number(row?.attempt),
    startedAt: Number(row?.started_at),
    endedAt: Number(row?.ended_at)
  }
}

/** Moves all fired waits of a run into the journal, in the order in which they fired. */
export const settleFiredWaits = (tx: Transaction, run: number): void => {
  const fired = tx.all(
    `SELECT step_key FROM waits WHERE run = ? AND fired IS NOT NULL AND kind <> ${WaitKind.retry} ORDER BY fired`,
    run
  )
  for (const row of fired) settleWait(tx, run, String(row.step_key))
}

/**
 * Lets a suspended run be claimed, unless the run itself waits for its next attempt, is paused or has ended.
 */
export const makeReady = (tx: Transaction, run: number): void => {
  const now = tx.now()
  const changed = tx.run(
    `UPDATE runs SET ready_at = ?, updated_at = ? WHERE key = ? AND ready_at IS NULL AND lease IS NULL
     AND ${moves.claimed.where}
     AND NOT EXISTS (SELECT 1 FROM waits WHERE run = ? AND step_key = '${RUN_ITSELF}')`,
    now,
    now,
    run,
    run
  )
  if (changed > 0) tx.markReady(Number(tx.get("SELECT function FROM runs WHERE key = ?", run)?.function))
}

/** Keeps a run from being claimed until `dueAt`. */
export const delayRun = (tx: Transaction, run: number, dueAt: number): void => {
  tx.run(
    `INSERT OR REPLACE INTO waits (run, step_key, kind, name, step_kind, due_at, created_at)
     VALUES (?, '${RUN_ITSELF}', ${WaitKind.runRetry}, '', 'run', ?, ?)`,
    run,
    dueAt,
    tx.now()
  )
  tx.markDue(dueAt)
}
