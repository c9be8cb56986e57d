/**
 * The waits of open steps, and what happens when a wait ends.
 *
 * A wait has fired when its outcome is known, or when the next attempt of its step may start. The outcome is first stored in the
 * row of the wait. If a worker executes the run, the worker is told, and decides when the step with this outcome enters the
 * journal (by the operation `Settle`). Otherwise the step enters the journal at once, and the run becomes ready.
 */
import { clearSuspicion, suspectsOf } from "./Suspects.ts"
import { registryOf } from "../Functions/Registry.ts"
import { markReady } from "../Functions/ReadyFunctions.ts"
import { hasStepObservers, notifyObservers } from "./RunObservers.ts"
import { affected, all, get, statement, type Program, type Value, write } from "../Store/Program.ts"
import type { JsonText } from "../../Json.ts"
import type { Notice, Outcome, Due } from "../../Protocol/Worker.ts"
import { eventText, rememberText } from "../Log/EventViews.ts"
import { holdingJob } from "./RevokedLeases.ts"
import { moves } from "./StatusRows.ts"
import { type Transaction, asMoment } from "../Store/Transaction.ts"
import { RUN_ITSELF, WaitKind } from "./WaitKinds.ts"
import { parseStored } from "../Store/StoredJson.ts"

/** Reads the outcome columns of a row of `waits` or `steps`. */
export const readOutcome = (row: { readonly failed?: unknown; readonly value?: unknown }): Outcome =>
  Number(row.failed) === 0
    ? {
        _tag: "Success",
        value: row.value === null ? undefined : String(row.value)
      }
    : { _tag: "Failure", error: parseStored(String(row.value)) }

/** The two columns in which an outcome is stored. */
export const outcomeColumns = (outcome: Outcome): readonly [failed: number, value: string | null] =>
  outcome._tag === "Success" ? [0, outcome.value ?? null] : [1, JSON.stringify(outcome.error)]

/**
 * The outcome in a row of `waits` or `steps`. For a wait that received an event, the row has only the event's position in the log
 * and not its data. That `position` is in the column `event_position` of `waits` and in the column `event` of `steps`.
 */
export function* outcomeIn(
  tx: Transaction,
  row: { readonly failed?: Value; readonly value?: Value },
  position: Value | undefined
): Program<Outcome> {
  return isReceived(row, position)
    ? { _tag: "Success", value: yield* eventText(tx, Number(position)) }
    : readOutcome(row)
}

// rows that earlier versions of the engine wrote have the data of the event, and not its position
const isReceived = (
  row: { readonly failed?: Value; readonly value?: Value },
  position: Value | undefined
): boolean => position != null && row.value === null && Number(row.failed) === 0

const UPDATE_FIRED = statement(
  "Waits.updateFired",
  "UPDATE waits SET fired = ?, due_at = NULL, failed = ?, value = coalesce(?, value), event_position = ? WHERE run = ? AND step_key = ? AND fired IS NULL"
)

const FIND_LEASE = statement("Waits.findLease", "SELECT lease, worker FROM runs WHERE key = ?")

/**
 * Ends a wait. `outcome` is `undefined` for a step between two attempts: its next attempt may then start. Does nothing when the
 * wait has already ended.
 */
export function* fireWait(
  tx: Transaction,
  run: number,
  stepKey: string,
  outcome: Outcome | undefined
): Program<void> {
  const [failed, value] = outcome === undefined ? [null, null] : outcomeColumns(outcome)
  const changed = yield* affected(UPDATE_FIRED, tx.nextSeq(), failed, value, null, run, stepKey)
  if (changed === 0) return
  const holder = yield* holderOf(run)
  if (holder === undefined) return yield* settleWithoutTurn(tx, run, stepKey)
  notifyFired(tx, holder, {
    stepKey,
    ...(outcome === undefined ? { failures: yield* failuresOf(run, stepKey) } : { outcome })
  })
}

/** An event that a wait accepts. `text` computes its JSON text. */
export interface AcceptedEvent {
  readonly position: number
  readonly text: () => JsonText
}

/** Ends a wait with the event that it waited for. Does nothing when the wait has already ended. */
export function* deliverEvent(
  tx: Transaction,
  run: number,
  stepKey: string,
  { position, text }: AcceptedEvent
): Program<void> {
  const changed = yield* affected(UPDATE_FIRED, tx.nextSeq(), 0, null, position, run, stepKey)
  if (changed === 0) return
  const holder = yield* holderOf(run)
  if (holder === undefined && !hasStepObservers(tx)) return yield* settleWithoutTurn(tx, run, stepKey)
  // all workers that are told of the event get the same string
  const value = rememberText(tx, position, text)
  tx.budget.notePassedOn(value.length)
  if (holder === undefined) return yield* settleWithoutTurn(tx, run, stepKey)
  notifyFired(tx, holder, { stepKey, outcome: { _tag: "Success", value } })
}

interface TurnHolder {
  readonly jobId: string
  readonly workerId: string
}

/** The job and the worker that hold a run; `undefined` when no worker executes the run. */
function* holderOf(run: number): Program<TurnHolder | undefined> {
  const row = yield* get(FIND_LEASE, run)
  const jobId = row === undefined ? undefined : holdingJob(row)
  return jobId === undefined ? undefined : { jobId, workerId: String(row?.worker) }
}

const notifyFired = (
  tx: Transaction,
  { jobId, workerId }: TurnHolder,
  fired: Omit<Extract<Notice, { readonly _tag: "Fired" }>, "_tag" | "jobId">
): void => tx.notify(workerId, { _tag: "Fired", jobId, ...fired })

function* settleWithoutTurn(tx: Transaction, run: number, stepKey: string): Program<void> {
  yield* settleWait(tx, run, stepKey)
  yield* makeReady(tx, run)
}

const FIND_FAILURES = statement(
  "Waits.findFailures",
  "SELECT failures FROM waits WHERE run = ? AND step_key = ?"
)

function* failuresOf(run: number, stepKey: string): Program<number> {
  return Number((yield* get(FIND_FAILURES, run, stepKey))?.failures)
}

const INSERT_STEP_OF_WAIT = statement(
  "Waits.insertStepOfWait",
  `INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at, event, wait)
     SELECT run, step_key, ?, name, step_kind, failed, value, 1, created_at, ?, event_position, wait FROM waits
     WHERE run = ? AND step_key = ? AND fired IS NOT NULL AND kind <> ${WaitKind.retry}
     ON CONFLICT DO NOTHING`
)

const DELETE_FIRED_WAIT = statement(
  "Waits.deleteFiredWait",
  `DELETE FROM waits WHERE run = ? AND step_key = ? AND fired IS NOT NULL AND kind <> ${WaitKind.retry}`
)

/** Moves a fired wait into the journal. A step between two attempts stays open. */
export function* settleWait(tx: Transaction, run: number, stepKey: string): Program<void> {
  const values = [tx.nextSeq(), tx.now(), run, stepKey]
  // whether there was a fired wait is only needed for suspects (see `Suspects.ts`) and for observers
  const mustKnow = !suspectsOf(tx).isEmpty || hasStepObservers(tx)
  const settled = mustKnow
    ? yield* affected(INSERT_STEP_OF_WAIT, ...values)
    : yield* write(INSERT_STEP_OF_WAIT, ...values)
  yield* write(DELETE_FIRED_WAIT, run, stepKey)
  if (settled === undefined || settled === 0) return
  if (!suspectsOf(tx).isEmpty) yield* clearSuspicion(tx, run)
  yield* notifyStepEnded(tx, run, stepKey)
}

const FIND_ENDED_STEP = statement(
  "Waits.findEndedStep",
  `SELECT r.id, r.function, r.environment, s.name, s.kind, s.failed, s.value, s.event, s.attempt, s.started_at, s.ended_at
     FROM steps s JOIN runs r ON r.key = s.run WHERE s.run = ? AND s.step_key = ?`
)

/** Tells the observers about a step that has just entered the journal. */
export function* notifyStepEnded(tx: Transaction, run: number, stepKey: string): Program<void> {
  if (!hasStepObservers(tx)) return
  const row = yield* get(FIND_ENDED_STEP, run, stepKey)
  const outcome = yield* outcomeIn(tx, row ?? {}, row?.event)
  notifyObservers(tx, () => ({
    _tag: "StepEnded",
    runId: String(row?.id),
    functionId: registryOf(tx).byKey(Number(row?.function))?.registration.id ?? String(row?.function),
    environment: tx.environmentName(Number(row?.environment)),
    name: String(row?.name),
    kind: String(row?.kind),
    outcome,
    ...(isReceived(row ?? {}, row?.event) ? { received: Number(row?.event) } : {}),
    attempt: Number(row?.attempt),
    startedAt: Number(row?.started_at),
    endedAt: Number(row?.ended_at)
  }))
}

const LIST_FIRED_WAITS = statement(
  "Waits.listFiredWaits",
  `SELECT step_key FROM waits WHERE run = ? AND fired IS NOT NULL AND kind <> ${WaitKind.retry} ORDER BY fired`
)

/** Moves all fired waits of a run into the journal, in the order in which they fired. */
export function* settleFiredWaits(tx: Transaction, run: number): Program<void> {
  const fired = yield* all(LIST_FIRED_WAITS, run)
  for (const row of fired) yield* settleWait(tx, run, String(row.step_key))
}

const UPDATE_READY_TIME = statement(
  "Waits.updateReadyTime",
  `UPDATE runs SET ready_at = ?, updated_at = ? WHERE key = ? AND ready_at IS NULL AND lease IS NULL
     AND ${moves.claimed.where}
     AND NOT EXISTS (SELECT 1 FROM waits WHERE run = ? AND step_key = '${RUN_ITSELF}')`
)

const FIND_FUNCTION_OF_RUN = statement("Waits.findFunctionOfRun", "SELECT function FROM runs WHERE key = ?")

/**
 * Makes a suspended run ready to be claimed. Does nothing when the run waits for the next attempt of the whole run, is paused,
 * has a lease, or has ended.
 */
export function* makeReady(tx: Transaction, run: number): Program<void> {
  const now = tx.now()
  const changed = yield* affected(UPDATE_READY_TIME, now, now, run, run)
  if (changed > 0) markReady(tx, Number((yield* get(FIND_FUNCTION_OF_RUN, run))?.function))
}

const PUT_RETRY_WAIT_OF_RUN = statement(
  "Waits.putRetryWaitOfRun",
  `INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, created_at)
     VALUES (?, '${RUN_ITSELF}', ${WaitKind.runRetry}, '', 'run', ?, ?)
     ON CONFLICT (run, step_key) DO UPDATE SET due_at = excluded.due_at, fired = NULL, created_at = excluded.created_at`
)

/** Keeps a run from being claimed until `dueAt`, in epoch milliseconds. */
export function* delayRun(tx: Transaction, run: number, dueAt: number): Program<void> {
  yield* write(PUT_RETRY_WAIT_OF_RUN, run, dueAt, tx.now())
  tx.markDue(dueAt)
}

export const dueTime = (due: Due, now: number): number => asMoment("at" in due ? due.at : now + due.afterMs)
