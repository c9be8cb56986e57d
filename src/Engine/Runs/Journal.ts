/** The journal of a run, which has the ended steps with their outcomes, and the open steps, which have begun and wait. */
import { hasStepObservers } from "./RunObservers.ts"
import { statement, type Program, all, affected, write, get } from "../Store/Program.ts"
import { type Transaction, asMoment } from "../Store/Transaction.ts"
import type { JournalEntry, OpenStep, Outcome } from "../../Protocol/Worker.ts"
import { readKind } from "./StepKinds.ts"
import { notifyStepEnded, outcomeColumns, outcomeIn } from "./Waits.ts"
import { RUN_ITSELF } from "./WaitKinds.ts"
import type { StepKind } from "../../StepKind.ts"
import type { LeasedRun } from "./LeaseCache.ts"
import { clearSuspicion, suspectsOf } from "./Suspects.ts"

const LIST_STEPS = statement("Journal.listSteps", "SELECT * FROM steps WHERE run = ? ORDER BY seq")

export function* readJournal(tx: Transaction, run: number): Program<ReadonlyArray<JournalEntry>> {
  const journal: Array<JournalEntry> = []
  for (const row of yield* all(LIST_STEPS, run)) {
    journal.push({
      stepKey: String(row.step_key),
      name: String(row.name),
      ...readKind(row.kind),
      outcome: yield* outcomeIn(tx, row, row.event),
      attempt: Number(row.attempt)
    })
  }
  return journal
}

const LIST_OPEN_STEPS = statement(
  "Journal.listOpenSteps",
  `SELECT step_key, name, step_kind, failures, fired FROM waits WHERE run = ? AND step_key <> '${RUN_ITSELF}' ORDER BY created_at`
)

export function* readOpenSteps(run: number): Program<ReadonlyArray<OpenStep>> {
  return (yield* all(LIST_OPEN_STEPS, run)).map((row) => ({
    stepKey: String(row.step_key),
    name: String(row.name),
    // only this engine writes the column, and only with values of `StepKind`
    kind: String(row.step_kind) as StepKind,
    failures: Number(row.failures),
    pending: row.fired === null
  }))
}

const INSERT_STEP = statement(
  "Journal.insertStep",
  "INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)

export function* insertStep(
  tx: Transaction,
  run: LeasedRun,
  step: { readonly stepKey: string; readonly name: string; readonly kind: string },
  failed: number,
  value: string | null,
  attempt: number,
  startedAt: number,
  endedAt: number
): Program<void> {
  const values = [
    run.key,
    step.stepKey,
    tx.nextSeq(),
    step.name,
    step.kind,
    failed,
    value,
    attempt,
    asMoment(startedAt),
    asMoment(endedAt)
  ]
  // only suspects (see `Suspects.ts`) and observers need to know whether the step is new or was reported before
  if (suspectsOf(tx).isEmpty && !hasStepObservers(tx)) return yield* write(INSERT_STEP, ...values)
  if ((yield* affected(INSERT_STEP, ...values)) === 0) return
  if (!suspectsOf(tx).isEmpty) yield* clearSuspicion(tx, run.key)
  yield* notifyStepEnded(tx, run.key, step.stepKey)
}

/** Adds to the journal a step that the engine itself has just carried out. */
export function* recordEngineStep(
  tx: Transaction,
  run: LeasedRun,
  stepKey: string,
  name: string,
  kind: string,
  outcome: Outcome
): Program<Outcome> {
  const [failed, value] = outcomeColumns(outcome)
  const now = tx.now()
  yield* insertStep(tx, run, { stepKey, name, kind }, failed, value, 1, now, now)
  return outcome
}

const FIND_STEP_OR_WAIT = statement(
  "Journal.findStepOrWait",
  `SELECT failed, value, event AS position, 1 AS over FROM steps WHERE run = ? AND step_key = ?
     UNION ALL SELECT failed, value, event_position, CASE WHEN fired IS NULL THEN 0 ELSE 1 END FROM waits WHERE run = ? AND step_key = ?`
)

/**
 * Finds a step that is already in the journal, or already open: the step is from an earlier turn, or its report is
 * repeated. The `outcome` is `undefined` while the step is open. Returns `undefined` for a new step.
 */
export function* knownStep(
  tx: Transaction,
  run: LeasedRun,
  stepKey: string
): Program<{ readonly outcome: Outcome | undefined } | undefined> {
  const row = yield* get(FIND_STEP_OR_WAIT, run.key, stepKey, run.key, stepKey)
  if (row === undefined) return undefined
  return { outcome: Number(row.over) === 1 ? yield* outcomeIn(tx, row, row.position) : undefined }
}
