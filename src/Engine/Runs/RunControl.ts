/** Controls runs from the outside: cancel, pause, resume, retry, patch. Every refusal comes before the first write. */
import { registryOf } from "../Functions/Registry.ts"
import { forgetLease } from "./LeaseCache.ts"
import { markReady } from "../Functions/ReadyFunctions.ts"
import { notifyObservers, notifyRunObservers } from "./RunObservers.ts"
import {
  affected,
  all,
  forEach,
  get,
  statement,
  type PlainName,
  type Program,
  variant,
  write,
  refuse,
  inEnvironment
} from "../Store/Program.ts"
import {
  InvalidStateError,
  type SerializedError,
  StepNotFoundError,
  ValidationError,
  type RunNotFoundError
} from "../../Errors.ts"
import type { Run } from "../../Client/Client.ts"
import { compensationKey } from "../../StepId.ts"
import type { JsonText } from "../../Json.ts"
import { holdingJob, keepRevoked } from "./RevokedLeases.ts"
import { erasedAt, refusalOfErased } from "./RunEvent.ts"
import { findRun, readRun } from "./RunRows.ts"
import { cancelAwaited, cancelRow } from "./CancelRun.ts"
import { isCompensating, type Pause, pauseRow } from "./PauseRun.ts"
import { patchedKind } from "./StepKinds.ts"
import { type TransitionName, insteadOfRetry, nextStatus } from "./Transitions.ts"
import { moves, mustMove, statusIn } from "./StatusRows.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { RUN_ITSELF } from "./WaitKinds.ts"
import { endLease } from "./EndLease.ts"
import { makeReady } from "./Waits.ts"
import { parseStored } from "../Store/StoredJson.ts"

const ASK_FOR_PAUSE = `UPDATE runs SET pause = ? WHERE key = ? AND ${moves.pauseAsked.where}`
const WITHDRAW_PAUSE = `UPDATE runs SET pause = NULL WHERE key = ? AND ${moves.pauseWithdrawn.where}`
const resume = (happening: "resumed" | "rollbackResumed"): string =>
  `UPDATE runs SET ${moves[happening].set}, pause = NULL, losses = 0, updated_at = ? WHERE key = ? AND ${moves[happening].where}`
const RESUMES = { resumed: resume("resumed"), rollbackResumed: resume("rollbackResumed") }
const RETRY = `UPDATE runs SET ${moves.retried.set}, attempt = 1, generation = generation + ?, error = NULL, output = NULL,
     compensations = NULL, losses = 0, ended_at = NULL, updated_at = ? WHERE key = ? AND ${moves.retried.where}`

/** Whether the current status of the run allows this. */
const may = (row: Row, happening: TransitionName): boolean => {
  const status = statusIn(row)
  return status !== undefined && nextStatus(status, happening) !== undefined
}

/** A program on a run. After it, a run that was set aside as damaged is tried again, since an operator has looked at it. */
const controlling = <Rest extends ReadonlyArray<unknown>, A, E>(
  name: PlainName<[environment: string, runId: string, ...rest: Rest], A>,
  run: (tx: Transaction, environment: string, runId: string, ...rest: Rest) => Program<A, E>,
  what: (environment: string, runId: string, ...rest: Rest) => string
) =>
  inEnvironment(
    name,
    function* (tx: Transaction, environment: string, runId: string, ...rest: Rest): Program<A, E> {
      const result = yield* run(tx, environment, runId, ...rest)
      yield* forgive(tx, environment, runId)
      return result
    },
    what
  )

const FIND_RUN = statement("RunControl.findRun", "SELECT key, function FROM runs WHERE id = ?")

function* forgive(tx: Transaction, environment: string, runId: string): Program<void> {
  if (tx.damage.count === 0 || tx.findEnvironment(environment) === undefined) return
  const row = yield* get(FIND_RUN, runId)
  if (row === undefined || tx.damage.why("run", Number(row.key)) === undefined) return
  tx.afterCommit(() => tx.damage.forgive("run", Number(row.key)))
  markReady(tx, Number(row.function))
}

export const cancelRun = controlling(
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
          `Run ${runId} is rolling back and cannot be cancelled: its compensations would be left half done. Wait until it has failed.`
        )
      )
    }
    if (may(row, "cancelled")) yield* cancelRow(tx, row, reason)
    return yield* reread(tx, environment, runId)
  },
  (_, runId) => `cancel run ${runId}`
)

const UPDATE_PAUSE = statement(
  "RunControl.updatePause",
  "UPDATE runs SET pause = ?, updated_at = ? WHERE key = ?"
)

/** Pauses a run. If a client has already paused it, only the reason is replaced. */
export const pauseRun = controlling(
  "pauseRun",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    reason: string
  ): Program<Run, InvalidStateError | RunNotFoundError> {
    const row = yield* findRun(tx, environment, runId)
    if (row.ended_at !== null) return yield* refuse(ended(row, "paused"))
    if (row.pause === null) {
      const pause: Pause = { code: "PAUSED", message: reason === "" ? "Paused by a client" : reason }
      // a live turn keeps its lease until it ends, so that the results of its running steps are kept
      const jobId = holdingJob(row)
      if (jobId !== undefined) {
        forgetLease(tx, Number(row.key))
        yield* mustMove(
          Number(row.key),
          "pauseAsked",
          yield* affected(variant("RunControl.pauseRun", ASK_FOR_PAUSE), JSON.stringify(pause), row.key!)
        )
        tx.notify(String(row.worker), { _tag: "Paused", jobId })
      } else yield* pauseRow(tx, Number(row.key), pause)
    } else if (reason !== "") {
      const before = parseStored(String(row.pause)) as Pause
      // the reason of a pause by the engine says what is to be repaired, so it stays
      if (before.code === "PAUSED" && before.message !== reason)
        yield* write(UPDATE_PAUSE, JSON.stringify({ ...before, message: reason }), tx.now(), row.key!)
    }
    return yield* reread(tx, environment, runId)
  },
  (_, runId) => `pause run ${runId}`
)

export const resumeRun = controlling(
  "resumeRun",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    fromStep?: string
  ): Program<Run, InvalidStateError | RunNotFoundError | StepNotFoundError> {
    const row = yield* findRun(tx, environment, runId)
    const key = Number(row.key)
    if (may(row, "retried")) return yield* retryRun.in(tx, environment, runId, fromStep)
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
        // a turn that is too far to notice this ends, and another turn goes on
        yield* mustMove(
          key,
          "pauseWithdrawn",
          yield* affected(variant("RunControl.resumeRun", WITHDRAW_PAUSE), key)
        )
        tx.notify(String(row.worker), { _tag: "Resumed", jobId })
        return yield* reread(tx, environment, runId)
      }
      // the live turn has gone past the step: its lease is revoked, and then the pause begins
      yield* findStep(row, fromStep)
      yield* callBack(tx, row, jobId, "the run goes on from an earlier step")
      return yield* resumeRun.in(tx, environment, runId, fromStep)
    }
    if (!may(row, "resumed")) {
      return yield* refuse(
        new InvalidStateError(
          `Run ${runId} is ${statusIn(row)} and cannot be resumed: only a paused, failed or cancelled run can.`
        )
      )
    }
    const from = fromStep === undefined ? undefined : yield* findStep(row, fromStep)
    if (from !== undefined) yield* beginAnew(tx, row, from, "resumed from a step")
    // written by `pauseRow`
    const pause = parseStored(String(row.pause)) as Pause
    const happening = pause.wasCompensating === true ? "rollbackResumed" : "resumed"
    yield* mustMove(
      key,
      happening,
      yield* affected(variant("RunControl.resumeRun", RESUMES[happening]), tx.now(), key)
    )
    notifyRunObservers(tx, () => ({
      _tag: "RunResumed",
      ...about(tx, row),
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

export const retryRun = controlling(
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
    if (!may(row, "retried")) {
      const status = statusIn(row)
      return yield* refuse(
        new InvalidStateError(
          `Run ${runId} is ${status} and cannot be retried: only a failed or cancelled run can. ` +
            insteadOfRetry(status)
        )
      )
    }
    const from = fromStep === undefined ? undefined : yield* findStep(row, fromStep)
    const wasUndone = yield* get(FIND_COMPENSATED_STEP, key)
    const undone = yield* undoneSteps(row)
    if (row.compensations !== null) yield* supersedeRollback(tx, key, undone)
    yield* supersedeFailure(tx, row)
    if (from !== undefined) yield* beginAnew(tx, row, from, "retried from a step")
    yield* mustMove(
      key,
      "retried",
      yield* affected(variant("RunControl.retryRun", RETRY), wasUndone === undefined ? 0 : 1, tx.now(), key)
    )
    // it may have ended in this transaction, and goes on now
    tx.changes.endings.delete(runId)
    notifyRunObservers(tx, () => ({
      _tag: "RunRetried",
      ...about(tx, row),
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
    // the live turn has seen, or is about to see, the old result
    if (jobId !== undefined) yield* callBack(tx, row, jobId, "a step was patched")
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
    notifyObservers(tx, () => ({ _tag: "StepPatched", ...about(tx, row), name: stepKey, reason }))
    yield* makeReady(tx, key)
    yield* forgive(tx, environment, runId)
  },
  (_, stepId) => `patch step ${stepId}`
)

/** Revokes the lease of a live turn, and tells its worker. */
function* callBack(tx: Transaction, row: Row, jobId: string, reason: string): Program<void> {
  tx.notify(String(row.worker), { _tag: "LeaseLost", jobId, reason })
  yield* endLease(tx, Number(row.key), "calledBack")
  yield* keepRevoked(tx, row)
}

/** The members that every activity of a run has. */
const about = (tx: Transaction, row: Row) => ({
  runId: String(row.id),
  functionId: registryOf(tx).byKey(Number(row.function))?.registration.id ?? String(row.function),
  environment: tx.environmentName(Number(row.environment))
})

function* reread(tx: Transaction, environment: string, runId: string): Program<Run, RunNotFoundError> {
  return yield* readRun(tx, yield* findRun(tx, environment, runId))
}

const ended = (row: Row, verb: string): InvalidStateError =>
  new InvalidStateError(`Run ${row.id} has ${statusIn(row)} and cannot be ${verb}`)

/**
 * The position in the journal of a step, given by name, step id, or step id without the run id. An open step is after the whole
 * journal.
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

/** Removes journal entries and keeps a copy of them. `condition` has one parameter, `value`. */
function* supersede(
  tx: Transaction,
  run: number,
  condition: string,
  value: string | number,
  reason: string
): Program<void> {
  yield* keepSuperseded(tx, run, condition, value, reason)
  yield* write(
    variant("RunControl.supersede", `DELETE FROM steps WHERE run = ? AND ${condition}`),
    run,
    value
  )
}

function* keepSuperseded(
  tx: Transaction,
  run: number,
  condition: string,
  value: string | number,
  reason: string
): Program<void> {
  yield* write(
    variant(
      "RunControl.keepSuperseded",
      `INSERT INTO superseded_steps (run, step_key, superseded_at, reason, entry)
     SELECT run, step_key, ?, ?, CAST(json_object('name', name, 'kind', kind, 'seq', seq, 'failed', failed, 'value', value, 'event', event,
       'attempt', attempt, 'started_at', started_at, 'ended_at', ended_at) AS TEXT)
     FROM steps WHERE run = ? AND ${condition}`
    ),
    tx.now(),
    reason,
    run,
    value
  )
}

const DELETE_WAITS_OF_STEPS = statement(
  "RunControl.deleteWaitsOfSteps",
  `DELETE FROM waits WHERE run = ? AND step_key <> '${RUN_ITSELF}'`
)

/**
 * Removes the journal from `seq` on. Open steps come after the whole journal, so they start again too: sleeps and retry delays
 * with their full time, invocations with a new child.
 */
function* beginAnew(tx: Transaction, row: Row, seq: number, reason: string): Program<void> {
  const run = Number(row.key)
  yield* supersede(tx, run, "seq >= ?", seq, reason)
  yield* cancelAwaited(tx, Number(row.environment), run, `Parent run ${row.id} was ${reason}`)
  yield* write(DELETE_WAITS_OF_STEPS, run)
}

const FIND_COMPENSATION = statement(
  "RunControl.findCompensation",
  "SELECT 1 FROM steps WHERE run = ? AND step_key = ? AND failed = 0"
)

const LIST_STEPS_BY_NAME = statement(
  "RunControl.listStepsByName",
  "SELECT step_key FROM steps WHERE run = ? AND name = ? AND failed = 0 AND kind <> 'compensate' ORDER BY seq"
)

/** The keys of the steps that a rollback has undone. */
export function* undoneSteps(row: Row): Program<ReadonlyArray<string>> {
  if (row.compensations === null) return []
  // written by the report of the rollback: names of steps in the order in which their compensations were registered
  const registered = parseStored(String(row.compensations)) as ReadonlyArray<string>
  return (yield* forEach([...new Set(registered)], function* (name) {
    const undone = yield* forEach(
      registered.filter((other) => other === name),
      function* (_, n) {
        const ran = yield* get(FIND_COMPENSATION, row.key!, compensationKey(name, n))
        return ran !== undefined
      }
    )
    if (!undone.includes(true)) return []
    const steps = (yield* all(LIST_STEPS_BY_NAME, row.key!, name)).map((step) => String(step.step_key))
    // a compensation is registered when its step is done: if the numbers are equal, they match in order
    return steps.length === undone.length ? steps.filter((_, n) => undone[n]) : steps
  })).flat()
}

/** After a rollback, the undone steps run again, and so may every compensation, failed or not. */
function* supersedeRollback(tx: Transaction, run: number, undone: ReadonlyArray<string>): Program<void> {
  yield* supersede(tx, run, "kind = ?", "compensate", "rolled back")
  for (const stepKey of undone) yield* supersede(tx, run, "step_key = ?", stepKey, "rolled back")
}

const LIST_FAILED_STEPS = statement(
  "RunControl.listFailedSteps",
  "SELECT step_key, value FROM steps WHERE run = ? AND failed = 1"
)

/** Removes the failures that ended the run, which its error refers to. The handler has caught all others. */
function* supersedeFailure(tx: Transaction, row: Row): Program<void> {
  if (row.error === null) return
  const run = Number(row.key)
  const told = tellings(row.error)
  for (const step of yield* all(LIST_FAILED_STEPS, run)) {
    const id = `${row.id}:${step.step_key}`
    if (told.some((telling) => tellsOf(telling, id, tellings(step.value)))) {
      yield* supersede(tx, run, "step_key = ?", String(step.step_key), "retried")
    }
  }
}

/** The origin of an error. */
type Telling = Pick<SerializedError, "name" | "message"> & { readonly stepId?: string }

/** A stored error and its causes, up to the first that names a step: causes beyond it are internal to the step. */
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

/** Whether an error is of the failed step. The verdict of a parallel call names the step that failed in a branch. */
const tellsOf = (telling: Telling, stepId: string, stored: ReadonlyArray<Telling>): boolean =>
  telling.stepId === undefined
    ? stored[0]?.name === telling.name && stored[0].message === telling.message
    : telling.stepId === stepId || stored.some((other) => other.stepId === telling.stepId)
