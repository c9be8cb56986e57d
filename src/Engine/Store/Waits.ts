/**
 * Open steps: what happens when a wait is over.
 *
 * The outcome is stored beside the wait first. A run with a live turn is told, and the worker decides where the entry
 * stands in the journal (`Settle`); without a live turn the entry enters the journal at once and the run becomes ready.
 */
import { affected, all, get, statement, type Program, write } from "./Program.ts"
import type { Notice, Outcome } from "../../Protocol/Worker.ts"
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

const FIRE_WAIT = statement(
  "Waits.fireWait",
  "UPDATE waits SET fired = ?, due_at = NULL, failed = ?, value = coalesce(?, value), event_position = ? WHERE run = ? AND step_key = ? AND fired IS NULL"
)

const FIRE_WAIT_2 = statement("Waits.fireWait.2", "SELECT lease, worker FROM runs WHERE key = ?")

/**
 * Ends a wait. `outcome` is absent for a step between two attempts: the next one may start. Does nothing when the wait is
 * over already.
 */
export function* fireWait(
  tx: Transaction,
  run: number,
  stepKey: string,
  outcome: Outcome | undefined,
  eventPosition: number | null = null
): Program<void> {
  const [failed, value] = outcome === undefined ? [null, null] : outcomeColumns(outcome)
  const changed = yield* affected(FIRE_WAIT, tx.nextSeq(), failed, value, eventPosition, run, stepKey)
  if (changed === 0) return
  const holder = yield* get(FIRE_WAIT_2, run)
  const jobId = holder === undefined ? undefined : holdingJob(holder)
  if (jobId !== undefined) {
    const notice: Notice = {
      _tag: "Fired",
      jobId,
      stepKey,
      ...(outcome === undefined ? { failures: yield* failuresOf(run, stepKey) } : { outcome })
    }
    return tx.notify(String(holder?.worker), notice)
  }
  yield* settleWait(tx, run, stepKey)
  yield* makeReady(tx, run)
}

const FAILURES_OF = statement("Waits.failuresOf", "SELECT failures FROM waits WHERE run = ? AND step_key = ?")

function* failuresOf(run: number, stepKey: string): Program<number> {
  return Number((yield* get(FAILURES_OF, run, stepKey))?.failures)
}

const SETTLE_WAIT = statement(
  "Waits.settleWait",
  `INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at, event, wait)
     SELECT run, step_key, ?, name, step_kind, failed, value, 1, created_at, ?, event_position, wait FROM waits
     WHERE run = ? AND step_key = ? AND fired IS NOT NULL AND kind <> ${WaitKind.retry}
     ON CONFLICT DO NOTHING`
)

const SETTLE_WAIT_2 = statement(
  "Waits.settleWait.2",
  `DELETE FROM waits WHERE run = ? AND step_key = ? AND fired IS NOT NULL AND kind <> ${WaitKind.retry}`
)

/** Moves a fired wait into the journal; a step between two attempts stays open. */
export function* settleWait(tx: Transaction, run: number, stepKey: string): Program<void> {
  const settled = yield* affected(SETTLE_WAIT, tx.nextSeq(), tx.now(), run, stepKey)
  yield* write(SETTLE_WAIT_2, run, stepKey)
  if (settled === 0) return
  if (!tx.suspects.isEmpty) yield* clear(tx, run)
  yield* tellStepEnded(tx, run, stepKey)
}

const CLEAR = statement("Waits.clear", "UPDATE runs SET losses = 0 WHERE key = ?")

/** A run has come further: if it was a suspect, it is none any more, and its worker may have others. */
export function* clear(tx: Transaction, run: number): Program<void> {
  if (!tx.suspects.release(run)) return
  yield* write(CLEAR, run)
  tx.changes.ready = true
}

const STEP_ENDED = statement(
  "Waits.stepEnded",
  `SELECT r.id, r.function, r.environment, s.name, s.kind, s.failed, s.value, s.attempt, s.started_at, s.ended_at
     FROM steps s JOIN runs r ON r.key = s.run WHERE s.run = ? AND s.step_key = ?`
)

/** Tells of a step that has just entered the journal. */
export function* tellStepEnded(tx: Transaction, run: number, stepKey: string): Program<void> {
  if (!tx.isToldOfSteps) return
  const row = yield* get(STEP_ENDED, run, stepKey)
  tx.tell(() => ({
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
  }))
}

const SETTLE_FIRED_WAITS = statement(
  "Waits.settleFiredWaits",
  `SELECT step_key FROM waits WHERE run = ? AND fired IS NOT NULL AND kind <> ${WaitKind.retry} ORDER BY fired`
)

/** Moves all fired waits of a run into the journal, in the order in which they fired. */
export function* settleFiredWaits(tx: Transaction, run: number): Program<void> {
  const fired = yield* all(SETTLE_FIRED_WAITS, run)
  for (const row of fired) yield* settleWait(tx, run, String(row.step_key))
}

const MAKE_READY = statement(
  "Waits.makeReady",
  `UPDATE runs SET ready_at = ?, updated_at = ? WHERE key = ? AND ready_at IS NULL AND lease IS NULL
     AND ${moves.claimed.where}
     AND NOT EXISTS (SELECT 1 FROM waits WHERE run = ? AND step_key = '${RUN_ITSELF}')`
)

const MAKE_READY_2 = statement("Waits.makeReady.2", "SELECT function FROM runs WHERE key = ?")

/**
 * Lets a suspended run be claimed, unless the run itself waits for its next attempt, is paused or has ended.
 */
export function* makeReady(tx: Transaction, run: number): Program<void> {
  const now = tx.now()
  const changed = yield* affected(MAKE_READY, now, now, run, run)
  if (changed > 0) tx.markReady(Number((yield* get(MAKE_READY_2, run))?.function))
}

const DELAY_RUN = statement(
  "Waits.delayRun",
  `INSERT OR REPLACE INTO waits (run, step_key, kind, name, step_kind, due_at, created_at)
     VALUES (?, '${RUN_ITSELF}', ${WaitKind.runRetry}, '', 'run', ?, ?)`
)

/** Keeps a run from being claimed until `dueAt`. */
export function* delayRun(tx: Transaction, run: number, dueAt: number): Program<void> {
  yield* write(DELAY_RUN, run, dueAt, tx.now())
  tx.markDue(dueAt)
}
