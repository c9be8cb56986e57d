/** Steering runs from the outside: cancel, pause, resume, retry, patch. Every refusal comes before the first write. */
import { InvalidStateError, type SerializedError, StepNotFoundError, ValidationError } from "../../Errors.ts"
import type { JsonText } from "../../Protocol/Worker.ts"
import type { Run } from "../../Client/Client.ts"
import { compensationKey } from "../../Execution/StepId.ts"
import { holdingJob, keepRevoked } from "./RevokedLeases.ts"
import { cancelAwaited, cancelRow, findRun, isCompensating, type Pause, readRun } from "./RunRows.ts"
import { patchedKind } from "./StepKinds.ts"
import { type Happening, nextStatus } from "../Runs/Transitions.ts"
import { moves, mustMove, statusIn } from "./StatusRows.ts"
import { type Row, RUN_ITSELF, type Transaction } from "./Transaction.ts"
import { endLease, pauseRow } from "./Turns.ts"
import { makeReady } from "./Waits.ts"
import { parseStored } from "./StoredJson.ts"

const ASK_FOR_PAUSE = `UPDATE runs SET pause = ? WHERE key = ? AND ${moves.pauseAsked.where}`
const WITHDRAW_PAUSE = `UPDATE runs SET pause = NULL WHERE key = ? AND ${moves.pauseWithdrawn.where}`
const resume = (happening: "resumed" | "rollbackResumed"): string =>
  `UPDATE runs SET ${moves[happening].set}, pause = NULL, losses = 0, updated_at = ? WHERE key = ? AND ${moves[happening].where}`
const RESUMES = { resumed: resume("resumed"), rollbackResumed: resume("rollbackResumed") }
const RETRY = `UPDATE runs SET ${moves.retried.set}, attempt = 1, generation = generation + ?, error = NULL, output = NULL,
     compensations = NULL, losses = 0, ended_at = NULL, updated_at = ? WHERE key = ? AND ${moves.retried.where}`

/** Whether this can happen to the run as it is. */
const may = (row: Row, happening: Happening): boolean => {
  const status = statusIn(row)
  return status !== undefined && nextStatus(status, happening) !== undefined
}

export const cancelRun = (tx: Transaction, environment: string, runId: string, reason: string): Run => {
  const row = findRun(tx, environment, runId)
  if (isCompensating(row)) {
    throw new InvalidStateError(
      `Run ${runId} is rolling back and cannot be cancelled: its compensations would be left half done. Wait until it has failed.`
    )
  }
  if (may(row, "cancelled")) cancelRow(tx, row, reason)
  return reread(tx, environment, runId)
}

export const pauseRun = (tx: Transaction, environment: string, runId: string, reason: string): Run => {
  const row = findRun(tx, environment, runId)
  if (row.ended_at !== null) throw ended(row, "paused")
  if (row.pause === null) {
    const pause: Pause = { code: "PAUSED", message: reason === "" ? "Paused by a client" : reason }
    // a live turn keeps its lease until it has ended, so that the results of the steps that run are kept
    const jobId = holdingJob(row)
    if (jobId !== undefined) {
      tx.forgetLease(Number(row.key))
      mustMove(tx, Number(row.key), "pauseAsked", tx.run(ASK_FOR_PAUSE, JSON.stringify(pause), row.key!))
      tx.notify(String(row.worker), { _tag: "Paused", jobId })
    } else pauseRow(tx, Number(row.key), pause)
  }
  return reread(tx, environment, runId)
}

export const resumeRun = (tx: Transaction, environment: string, runId: string, fromStep?: string): Run => {
  const row = findRun(tx, environment, runId)
  const key = Number(row.key)
  if (may(row, "retried")) return retryRun(tx, environment, runId, fromStep)
  if (fromStep !== undefined && row.pause !== null && isCompensating(row)) {
    throw new InvalidStateError(
      `Run ${runId} is rolling back and cannot be resumed from a step: its compensations would be left half done. ` +
        `Resume it without a step; once it has failed, retry it from step "${fromStep}".`
    )
  }
  const jobId = holdingJob(row)
  if (jobId !== undefined && row.pause !== null) {
    if (fromStep === undefined) {
      // a turn that has gone too far to hear of it ends, and another one goes on
      mustMove(tx, key, "pauseWithdrawn", tx.run(WITHDRAW_PAUSE, key))
      tx.notify(String(row.worker), { _tag: "Resumed", jobId })
      return reread(tx, environment, runId)
    }
    // the live turn has gone past the step: it is called back, and with that the pause begins
    findStep(tx, row, fromStep)
    callBack(tx, row, jobId, "the run goes on from an earlier step")
    return resumeRun(tx, environment, runId, fromStep)
  }
  if (!may(row, "resumed")) {
    throw new InvalidStateError(
      `Run ${runId} is ${statusIn(row)} and cannot be resumed: only a paused or a failed run can.`
    )
  }
  const from = fromStep === undefined ? undefined : findStep(tx, row, fromStep)
  if (from !== undefined) beginAnew(tx, row, from, "resumed from a step")
  // written by `pauseRow`
  const pause = parseStored(String(row.pause)) as Pause
  const happening = pause.wasCompensating === true ? "rollbackResumed" : "resumed"
  mustMove(tx, key, happening, tx.run(RESUMES[happening], tx.now(), key))
  tx.tellOfRun(() => ({
    _tag: "RunResumed",
    ...about(tx, row),
    ...(fromStep === undefined ? {} : { fromStep })
  }))
  makeReady(tx, key)
  return reread(tx, environment, runId)
}

export const retryRun = (tx: Transaction, environment: string, runId: string, fromStep?: string): Run => {
  const row = findRun(tx, environment, runId)
  const key = Number(row.key)
  if (!may(row, "retried")) {
    const status = statusIn(row)
    throw new InvalidStateError(
      `Run ${runId} is ${status} and cannot be retried: only a failed or cancelled run can. ` +
        (status === "paused" ? "Resume it instead." : "Emit its event again for a new run.")
    )
  }
  const from = fromStep === undefined ? undefined : findStep(tx, row, fromStep)
  const wasUndone = tx.get(
    "SELECT 1 FROM steps WHERE run = ? AND kind = 'compensate' AND failed = 0 LIMIT 1",
    key
  )
  const undone = undoneSteps(tx, row)
  if (row.compensations !== null) supersedeRollback(tx, key, undone)
  supersedeFailure(tx, row)
  if (from !== undefined) beginAnew(tx, row, from, "retried from a step")
  mustMove(tx, key, "retried", tx.run(RETRY, wasUndone === undefined ? 0 : 1, tx.now(), key))
  tx.tellOfRun(() => ({
    _tag: "RunRetried",
    ...about(tx, row),
    ...(fromStep === undefined ? {} : { fromStep })
  }))
  makeReady(tx, key)
  return reread(tx, environment, runId)
}

export const patchStep = (
  tx: Transaction,
  environment: string,
  stepId: string,
  output: JsonText,
  reason: string
): void => {
  const colon = stepId.indexOf(":")
  if (colon <= 0) {
    throw new ValidationError(
      `"${stepId}" is not a step id: a step id is "<run id>:<name>:<n>", as getRunSteps returns it`
    )
  }
  const runId = stepId.slice(0, colon)
  const stepKey = stepId.slice(colon + 1)
  const row = findRun(tx, environment, runId)
  const key = Number(row.key)
  const finished = tx.get("SELECT kind FROM steps WHERE run = ? AND step_key = ?", key, stepKey)
  const open = tx.get(
    `SELECT name, step_kind, created_at FROM waits WHERE run = ? AND step_key = ? AND step_key <> '${RUN_ITSELF}'`,
    key,
    stepKey
  )
  if (finished === undefined && (open === undefined || row.ended_at !== null))
    throw new StepNotFoundError(runId, stepId)

  const jobId = holdingJob(row)
  // the live turn has seen, or is about to see, another result
  if (jobId !== undefined) callBack(tx, row, jobId, "a step was patched")
  const now = tx.now()
  if (finished !== undefined) {
    keepSuperseded(tx, key, "step_key = ?", stepKey, reason === "" ? "patched" : `patched: ${reason}`)
    tx.run(
      "UPDATE steps SET kind = ?, failed = 0, value = ? WHERE run = ? AND step_key = ?",
      patchedKind(String(finished.kind)),
      output,
      key,
      stepKey
    )
  } else if (open !== undefined) {
    tx.run("DELETE FROM waits WHERE run = ? AND step_key = ?", key, stepKey)
    tx.run(
      `INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at)
       VALUES (?, ?, ?, ?, ?, 0, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET kind = excluded.kind, failed = 0, value = excluded.value`,
      key,
      stepKey,
      tx.nextSeq(),
      open.name!,
      patchedKind(String(open.step_kind)),
      output,
      open.created_at!,
      now
    )
  }
  tx.tell(() => ({ _tag: "StepPatched", ...about(tx, row), name: stepKey, reason }))
  makeReady(tx, key)
}

/** Revokes the lease of a live turn, and tells it. */
const callBack = (tx: Transaction, row: Row, jobId: string, reason: string): void => {
  tx.notify(String(row.worker), { _tag: "LeaseLost", jobId, reason })
  endLease(tx, Number(row.key), "calledBack")
  keepRevoked(tx, row)
}

/** What an activity says of every run. */
const about = (tx: Transaction, row: Row) => ({
  runId: String(row.id),
  functionId: tx.registry.byKey(Number(row.function))?.registration.id ?? String(row.function),
  environment: tx.environmentName(Number(row.environment))
})

const reread = (tx: Transaction, environment: string, runId: string): Run =>
  readRun(tx, findRun(tx, environment, runId))

const ended = (row: Row, verb: string): InvalidStateError =>
  new InvalidStateError(`Run ${row.id} has ${statusIn(row)} and cannot be ${verb}`)

/** The place in the journal of a step given by name, step id or step id without the run id; after all of it for an open one. */
const findStep = (tx: Transaction, run: Row, wanted: string): number => {
  const isWanted = "(step_key = ? OR name = ? OR ? = ? || ':' || step_key)"
  const values = [run.key!, wanted, wanted, wanted, run.id!] as const
  const step = tx.get(`SELECT seq FROM steps WHERE run = ? AND ${isWanted} ORDER BY seq LIMIT 1`, ...values)
  if (step !== undefined) return Number(step.seq)
  const open = tx.get(
    `SELECT 1 FROM waits WHERE run = ? AND ${isWanted} AND step_key <> '${RUN_ITSELF}' LIMIT 1`,
    ...values
  )
  if (open === undefined) throw new StepNotFoundError(String(run.id), wanted)
  return Number.MAX_SAFE_INTEGER
}

/** Takes journal entries out and keeps what they were. `condition` has one parameter, `value`. */
const supersede = (
  tx: Transaction,
  run: number,
  condition: string,
  value: string | number,
  reason: string
): void => {
  keepSuperseded(tx, run, condition, value, reason)
  tx.run(`DELETE FROM steps WHERE run = ? AND ${condition}`, run, value)
}

const keepSuperseded = (
  tx: Transaction,
  run: number,
  condition: string,
  value: string | number,
  reason: string
): void => {
  tx.run(
    `INSERT INTO superseded_steps (run, step_key, superseded_at, reason, entry)
     SELECT run, step_key, ?, ?, json_object('name', name, 'kind', kind, 'seq', seq, 'failed', failed, 'value', value,
       'attempt', attempt, 'started_at', started_at, 'ended_at', ended_at)
     FROM steps WHERE run = ? AND ${condition}`,
    tx.now(),
    reason,
    run,
    value
  )
}

/**
 * Takes out the journal from `seq` on. What is open comes after all that is in the journal, so it begins anew too: waits and
 * delays before a next attempt with their whole time, invocations with a new child.
 */
const beginAnew = (tx: Transaction, row: Row, seq: number, reason: string): void => {
  const run = Number(row.key)
  supersede(tx, run, "seq >= ?", seq, reason)
  cancelAwaited(tx, run, `Parent run ${row.id} was ${reason}`)
  tx.run(`DELETE FROM waits WHERE run = ? AND step_key <> '${RUN_ITSELF}'`, run)
}

/** The keys of the steps that a rollback has undone. */
const undoneSteps = (tx: Transaction, row: Row): ReadonlyArray<string> => {
  if (row.compensations === null) return []
  // written by the report of the rollback: names of steps in the order in which their compensations were registered
  const registered = parseStored(String(row.compensations)) as ReadonlyArray<string>
  return [...new Set(registered)].flatMap((name) => {
    const undone = registered
      .filter((other) => other === name)
      .map((_, n) => {
        const ran = tx.get(
          "SELECT 1 FROM steps WHERE run = ? AND step_key = ? AND failed = 0",
          row.key!,
          compensationKey(name, n)
        )
        return ran !== undefined
      })
    if (!undone.includes(true)) return []
    const steps = tx
      .all(
        "SELECT step_key FROM steps WHERE run = ? AND name = ? AND failed = 0 AND kind <> 'compensate' ORDER BY seq",
        row.key!,
        name
      )
      .map((step) => String(step.step_key))
    // a compensation is registered when its step is done: of as many steps each has its own, in the same order
    return steps.length === undone.length ? steps.filter((_, n) => undone[n]) : steps
  })
}

/** After a rollback the steps that were rolled back have to run again, and so may every compensation, failed or not. */
const supersedeRollback = (tx: Transaction, run: number, undone: ReadonlyArray<string>): void => {
  supersede(tx, run, "kind = ?", "compensate", "rolled back")
  for (const stepKey of undone) supersede(tx, run, "step_key = ?", stepKey, "rolled back")
}

/** Takes out the failures that ended the run: those that its error tells of. The handler had caught the others. */
const supersedeFailure = (tx: Transaction, row: Row): void => {
  if (row.error === null) return
  const run = Number(row.key)
  const told = tellings(row.error)
  for (const step of tx.all("SELECT step_key, value FROM steps WHERE run = ? AND failed = 1", run)) {
    const id = `${row.id}:${step.step_key}`
    if (told.some((telling) => tellsOf(telling, id, tellings(step.value)))) {
      supersede(tx, run, "step_key = ?", String(step.step_key), "retried")
    }
  }
}

/** What an error says of where it came from. */
type Telling = Pick<SerializedError, "name" | "message"> & { readonly stepId?: string }

/** A stored error and its causes, up to the one that names a step: what is behind that is the step's own affair. */
const tellings = (json: unknown): ReadonlyArray<Telling> => {
  const told: Array<Telling> = []
  // written by this store: a serialised error
  let error = parseStored(String(json)) as SerializedError | undefined
  while (error !== undefined) {
    const { cause, data, message, name }: SerializedError = error
    const stepId = data?.stepId
    if (typeof stepId === "string") return [...told, { name, message, stepId }]
    told.push({ name, message })
    error = cause
  }
  return told
}

/** Whether a telling is of the failed step; the verdict of a parallel call names the step that failed in a branch. */
const tellsOf = (telling: Telling, stepId: string, stored: ReadonlyArray<Telling>): boolean =>
  telling.stepId === undefined
    ? stored[0]?.name === telling.name && stored[0].message === telling.message
    : telling.stepId === stepId || stored.some((other) => other.stepId === telling.stepId)
