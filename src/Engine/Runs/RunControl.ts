/** What clients do to runs: cancel, pause, resume, retry, patch. A program that refuses does so before its first write. */
import { registryOf } from "../Functions/Registry.ts"
import { forgetLease } from "./LeaseCache.ts"
import { markReady } from "../Functions/ReadyFunctions.ts"
import { notifyObservers, notifyRunObservers } from "./RunObservers.ts"
import {
  affected,
  get,
  statement,
  type PlainName,
  type Program,
  variant,
  write,
  refuse,
  inEnvironment
} from "../Store/Program.ts"
import { InvalidStateError, StepNotFoundError, ValidationError, type RunNotFoundError } from "../../Errors.ts"
import type { Run } from "../../Client/Client.ts"
import type { JsonText } from "../../Json.ts"
import { holdingJob } from "./RevokedLeases.ts"
import { erasedAt, refusalOfErased } from "./RunEvent.ts"
import { findRun, readRun } from "./RunRows.ts"
import { cancelRow } from "./CancelRun.ts"
import { type Pause, readPause } from "./Pause.ts"
import { isCompensating, pauseRow } from "./PauseRun.ts"
import { patchedKind } from "./StepKinds.ts"
import { type TransitionName, insteadOfRetry, nextStatus } from "./Transitions.ts"
import { moves, mustMove, statusIn } from "./StatusRows.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { RUN_ITSELF } from "./WaitKinds.ts"
import { revokeLease } from "./EndLease.ts"
import {
  supersedeFrom,
  keepSuperseded,
  supersedeFailure,
  supersedeRollback,
  undoneSteps
} from "./SupersededSteps.ts"
import { makeReady } from "./Waits.ts"

const ASK_FOR_PAUSE = `UPDATE runs SET pause = ? WHERE key = ? AND ${moves.pauseAsked.where}`
const WITHDRAW_PAUSE = `UPDATE runs SET pause = NULL WHERE key = ? AND ${moves.pauseWithdrawn.where}`
const resume = (transition: "resumed" | "rollbackResumed"): string =>
  `UPDATE runs SET ${moves[transition].set}, pause = NULL, losses = 0, updated_at = ? WHERE key = ? AND ${moves[transition].where}`
const RESUMES = { resumed: resume("resumed"), rollbackResumed: resume("rollbackResumed") }
const RETRY = `UPDATE runs SET ${moves.retried.set}, attempt = 1, generation = generation + ?, error = NULL, output = NULL,
     compensations = NULL, losses = 0, ended_at = NULL, updated_at = ? WHERE key = ? AND ${moves.retried.where}`

/** Whether the current status of the run allows the transition. */
const isAllowed = (row: Row, transition: TransitionName): boolean => {
  const status = statusIn(row)
  return status !== undefined && nextStatus(status, transition) !== undefined
}

/**
 * A program that controls a run. If the run was set aside as damaged, the engine tries to continue the run after the program:
 * the operator may have repaired it.
 */
const controlProgram = <Rest extends ReadonlyArray<unknown>, A, E>(
  name: PlainName<[environment: string, runId: string, ...rest: Rest], A>,
  run: (tx: Transaction, environment: string, runId: string, ...rest: Rest) => Program<A, E>,
  what: (environment: string, runId: string, ...rest: Rest) => string
) =>
  inEnvironment(
    name,
    function* (tx: Transaction, environment: string, runId: string, ...rest: Rest): Program<A, E> {
      const result = yield* run(tx, environment, runId, ...rest)
      yield* tryDamagedRunAgain(tx, environment, runId)
      return result
    },
    what
  )

const FIND_RUN = statement("RunControl.findRun", "SELECT key, function FROM runs WHERE id = ?")

function* tryDamagedRunAgain(tx: Transaction, environment: string, runId: string): Program<void> {
  if (tx.damage.skippedCount === 0 || tx.findEnvironment(environment) === undefined) return
  const row = yield* get(FIND_RUN, runId)
  if (row === undefined || tx.damage.reasonOf("run", Number(row.key)) === undefined) return
  tx.afterCommit(() => tx.damage.forgive("run", Number(row.key)))
  markReady(tx, Number(row.function))
}

/** Cancels a run. Does not change a run that has ended. */
export const cancelRun = controlProgram(
  "cancelRun",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    reason: string
  ): Program<Run, InvalidStateError | RunNotFoundError> {
    const row = yield* findRun(tx, environment, runId)
    if (isCompensating(row)) {
      return yield* refuse(
        new InvalidStateError(
          `Run ${runId} is rolling back and cannot be cancelled: its compensations would be left half done. ${statusIn(row) === "paused" ? "Resume it, and wait" : "Wait"} until it has failed.`
        )
      )
    }
    if (isAllowed(row, "cancelled")) yield* cancelRow(tx, row, reason)
    return yield* reread(tx, environment, runId)
  },
  (_, runId) => `cancel run ${runId}`
)

const UPDATE_PAUSE = statement(
  "RunControl.updatePause",
  "UPDATE runs SET pause = ?, updated_at = ? WHERE key = ?"
)

/**
 * Pauses a run. A run that a worker executes is paused when the worker has ended its turn. If a client has already paused the
 * run, only the reason is replaced. A pause by the engine stays as it is.
 */
export const pauseRun = controlProgram(
  "pauseRun",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    reason: string
  ): Program<Run, InvalidStateError | RunNotFoundError> {
    const row = yield* findRun(tx, environment, runId)
    if (row.ended_at !== null) {
      return yield* refuse(
        new InvalidStateError(`Run ${runId} is ${statusIn(row)} and cannot be paused: it has ended.`)
      )
    }
    if (row.pause === null) {
      const pause: Pause = { code: "PAUSED", message: reason === "" ? "Paused by a client" : reason }
      // the worker keeps its lease until the turn ends, so that the results of the running steps are not lost
      const jobId = holdingJob(row)
      if (jobId !== undefined) {
        forgetLease(tx, Number(row.key), jobId)
        yield* mustMove(
          Number(row.key),
          "pauseAsked",
          yield* affected(variant("RunControl.pauseRun", ASK_FOR_PAUSE), JSON.stringify(pause), row.key!)
        )
        tx.notify(String(row.worker), { _tag: "Paused", jobId })
      } else yield* pauseRow(tx, Number(row.key), pause)
    } else if (reason !== "") {
      const current = readPause(row)
      // the reason of a pause by the engine says what is to be repaired, so it stays
      if (current.code === "PAUSED" && current.message !== reason)
        yield* write(UPDATE_PAUSE, JSON.stringify({ ...current, message: reason }), tx.now(), row.key!)
    }
    return yield* reread(tx, environment, runId)
  },
  (_, runId) => `pause run ${runId}`
)

export const resumeRun = controlProgram(
  "resumeRun",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    fromStep?: string
  ): Program<Run, InvalidStateError | RunNotFoundError | StepNotFoundError> {
    const row = yield* findRun(tx, environment, runId)
    const key = Number(row.key)
    if (isAllowed(row, "retried")) return yield* retryRun.in(tx, environment, runId, fromStep)
    if (fromStep !== undefined && row.pause !== null && isCompensating(row)) {
      return yield* refuse(
        new InvalidStateError(
          `Run ${runId} is rolling back and cannot be resumed from a step: its compensations would be left half done. ` +
            `Resume it without a step; once it has failed, retry it from step "${fromStep}".`
        )
      )
    }
    const jobId = holdingJob(row)
    if (jobId !== undefined && row.pause !== null) {
      if (fromStep === undefined) {
        // if the turn has already stopped for the pause, it ends, and another turn continues the run
        yield* mustMove(
          key,
          "pauseWithdrawn",
          yield* affected(variant("RunControl.resumeRun", WITHDRAW_PAUSE), key)
        )
        tx.notify(String(row.worker), { _tag: "Resumed", jobId })
        return yield* reread(tx, environment, runId)
      }
      // the worker has gone past the step: its lease is revoked, the requested pause begins, and then the run is resumed
      yield* findStep(row, fromStep)
      yield* revokeLease(tx, row, jobId, "the run goes on from an earlier step")
      return yield* resumeRun.in(tx, environment, runId, fromStep)
    }
    if (!isAllowed(row, "resumed")) {
      return yield* refuse(
        new InvalidStateError(
          `Run ${runId} is ${statusIn(row)} and cannot be resumed: only a paused, failed or cancelled run can.`
        )
      )
    }
    const fromSeq = fromStep === undefined ? undefined : yield* findStep(row, fromStep)
    if (fromSeq !== undefined) yield* supersedeFrom(tx, row, fromSeq, "resumed from a step")
    const transition = readPause(row).wasCompensating === true ? "rollbackResumed" : "resumed"
    yield* mustMove(
      key,
      transition,
      yield* affected(variant("RunControl.resumeRun", RESUMES[transition]), tx.now(), key)
    )
    notifyRunObservers(tx, () => ({
      _tag: "RunResumed",
      ...membersOf(tx, row),
      ...(fromStep === undefined ? {} : { fromStep })
    }))
    yield* makeReady(tx, key)
    return yield* reread(tx, environment, runId)
  },
  (_, runId, _fromStep?: string) => `resume run ${runId}`
)

const FIND_COMPENSATED_STEP = statement(
  "RunControl.findCompensatedStep",
  "SELECT 1 FROM steps WHERE run = ? AND kind = 'compensate' AND failed = 0 LIMIT 1"
)

export const retryRun = controlProgram(
  "retryRun",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    fromStep?: string
  ): Program<Run, InvalidStateError | RunNotFoundError | StepNotFoundError> {
    const row = yield* findRun(tx, environment, runId)
    const key = Number(row.key)
    const erased = erasedAt(row)
    if (erased !== undefined) return yield* refuse(refusalOfErased(runId, erased, "retried"))
    if (!isAllowed(row, "retried")) {
      const status = statusIn(row)
      return yield* refuse(
        new InvalidStateError(
          `Run ${runId} is ${status} and cannot be retried: only a failed or cancelled run can. ` +
            insteadOfRetry(runId, status)
        )
      )
    }
    const fromSeq = fromStep === undefined ? undefined : yield* findStep(row, fromStep)
    const compensation = yield* get(FIND_COMPENSATED_STEP, key)
    const undoneKeys = yield* undoneSteps(row)
    if (row.compensations !== null) yield* supersedeRollback(tx, key, undoneKeys)
    yield* supersedeFailure(tx, row)
    if (fromSeq !== undefined) yield* supersedeFrom(tx, row, fromSeq, "retried from a step")
    yield* mustMove(
      key,
      "retried",
      yield* affected(
        variant("RunControl.retryRun", RETRY),
        // steps that were undone run again with new idempotency keys
        compensation === undefined ? 0 : 1,
        tx.now(),
        key
      )
    )
    // the run may have ended in this transaction: the record of its end is no longer true
    tx.changes.endings.delete(runId)
    notifyRunObservers(tx, () => ({
      _tag: "RunRetried",
      ...membersOf(tx, row),
      ...(fromStep === undefined ? {} : { fromStep })
    }))
    yield* makeReady(tx, key)
    return yield* reread(tx, environment, runId)
  },
  (_, runId, _fromStep?: string) => `retry run ${runId}`
)

const FIND_STEP = statement("RunControl.findStep", "SELECT kind FROM steps WHERE run = ? AND step_key = ?")

const FIND_WAIT = statement(
  "RunControl.findWait",
  `SELECT name, step_kind, created_at FROM waits WHERE run = ? AND step_key = ? AND step_key <> '${RUN_ITSELF}'`
)

const UPDATE_STEP = statement(
  "RunControl.updateStep",
  "UPDATE steps SET kind = ?, failed = 0, value = ? WHERE run = ? AND step_key = ?"
)

const DELETE_WAIT = statement("RunControl.deleteWait", "DELETE FROM waits WHERE run = ? AND step_key = ?")

const PUT_STEP = statement(
  "RunControl.putStep",
  `INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at)
       VALUES (?, ?, ?, ?, ?, 0, ?, 1, ?, ?) ON CONFLICT (run, step_key) DO UPDATE SET kind = excluded.kind, failed = 0, value = excluded.value`
)

export const patchStep = inEnvironment(
  "patchStep",
  function* (
    tx: Transaction,
    environment: string,
    stepId: string,
    output: JsonText,
    reason: string
  ): Program<void, InvalidStateError | RunNotFoundError | StepNotFoundError | ValidationError> {
    const colon = stepId.indexOf(":")
    if (colon <= 0) {
      return yield* refuse(
        new ValidationError(
          `"${stepId}" is not a step id: a step id is "<run id>:<name>:<n>", as getRunSteps returns it`
        )
      )
    }
    const runId = stepId.slice(0, colon)
    const stepKey = stepId.slice(colon + 1)
    const row = yield* findRun(tx, environment, runId)
    const key = Number(row.key)
    const erased = erasedAt(row)
    if (erased !== undefined) return yield* refuse(refusalOfErased(runId, erased, "patched"))
    const finished = yield* get(FIND_STEP, key, stepKey)
    const open = yield* get(FIND_WAIT, key, stepKey)
    if (finished === undefined && (open === undefined || row.ended_at !== null))
      return yield* refuse(new StepNotFoundError(runId, stepId))

    const jobId = holdingJob(row)
    // the worker has read, or is about to read, the old result
    if (jobId !== undefined) yield* revokeLease(tx, row, jobId, "a step was patched")
    const now = tx.now()
    if (finished !== undefined) {
      yield* keepSuperseded(
        tx,
        key,
        "step_key = ?",
        stepKey,
        reason === "" ? "patched" : `patched: ${reason}`
      )
      yield* write(UPDATE_STEP, patchedKind(String(finished.kind)), output, key, stepKey)
    } else if (open !== undefined) {
      yield* write(DELETE_WAIT, key, stepKey)
      yield* write(
        PUT_STEP,
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
    notifyObservers(tx, () => ({ _tag: "StepPatched", ...membersOf(tx, row), name: stepKey, reason }))
    yield* makeReady(tx, key)
    yield* tryDamagedRunAgain(tx, environment, runId)
  },
  (_, stepId) => `patch step ${stepId}`
)

/** The members that every activity of a run has. */
const membersOf = (tx: Transaction, row: Row) => ({
  runId: String(row.id),
  functionId: registryOf(tx).byKey(Number(row.function))?.registration.id ?? String(row.function),
  environment: tx.environmentName(Number(row.environment))
})

function* reread(tx: Transaction, environment: string, runId: string): Program<Run, RunNotFoundError> {
  return yield* readRun(tx, yield* findRun(tx, environment, runId))
}

/**
 * The `seq` of a step in the journal. `wanted` is the name of the step, its step id, or its step id without the run id. A step
 * that is still open is not in the journal: it counts as coming after all entries.
 */
export function* findStep(run: Row, wanted: string): Program<number, StepNotFoundError> {
  const isWanted = "(step_key = ? OR name = ? OR ? = ? || ':' || step_key)"
  const values = [run.key!, wanted, wanted, wanted, run.id!] as const
  const step = yield* get(
    variant(
      "RunControl.findStep",
      `SELECT seq FROM steps WHERE run = ? AND ${isWanted} ORDER BY seq LIMIT 1`
    ),
    ...values
  )
  if (step !== undefined) return Number(step.seq)
  const open = yield* get(
    variant(
      "RunControl.findStep",
      `SELECT 1 FROM waits WHERE run = ? AND ${isWanted} AND step_key <> '${RUN_ITSELF}' LIMIT 1`
    ),
    ...values
  )
  if (open === undefined) return yield* refuse(new StepNotFoundError(String(run.id), wanted))
  return Number.MAX_SAFE_INTEGER
}
