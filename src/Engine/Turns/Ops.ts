/** Applies the ops (operations) of a worker's report. Each op changes the run that the worker executes. */
import { statement, type Program, write, get, affected, variant } from "../Store/Program.ts"
import { WaitKind, RUN_ITSELF } from "../Runs/WaitKinds.ts"
import { Status, mustMove, moves } from "../Runs/StatusRows.ts"
import { type Transaction, asMoment } from "../Store/Transaction.ts"
import { type LeasedRun, forgetLease } from "../Runs/LeaseCache.ts"
import { type TurnOp, type Outcome, endsTurn } from "../../Protocol/Worker.ts"
import { outcomeColumns, outcomeIn, dueTime, settleWait, delayRun, makeReady } from "../Runs/Waits.ts"
import { insertStep, knownStep, recordEngineStep } from "../Runs/Journal.ts"
import { transact } from "./Transact.ts"
import { countRunEvent } from "../Runs/RunStats.ts"
import { notifyObservers, runMembers, notifyRunObservers } from "../Runs/RunObservers.ts"
import { openEventWait } from "./OpenEventWaits.ts"
import { appendMessage } from "../PubSub/Publish.ts"
import { endRun } from "../Runs/EndRun.ts"
import { endLease } from "../Runs/EndLease.ts"
import { serializeError, FunctionNotFoundError } from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import { registryOf } from "../Functions/Registry.ts"
import { createRun } from "../Runs/RunRows.ts"
import { endOfLog } from "../Log/EndOfLog.ts"
import { validTrace } from "../../Trace.ts"
import { invocationView } from "../Runs/RunEvent.ts"

const DELETE_WAIT_OF_STEP = statement(
  "Ops.deleteWaitOfStep",
  "DELETE FROM waits WHERE run = ? AND step_key = ?"
)

type Op<Tag extends TurnOp["_tag"]> = Extract<TurnOp, { readonly _tag: Tag }>

/**
 * Applies the most common op. It has a function of its own, so that a report with only such ops never enters the switch of {@link
 * applyOp}.
 */
export function* applyStepDone(tx: Transaction, run: LeasedRun, op: Op<"StepDone">): Program<undefined> {
  const [failed, value] = outcomeColumns(op.outcome)
  yield* insertStep(tx, run, op, failed, value, op.attempt, op.startedAt, op.endedAt)
  countRunEvent(tx, "step", run.function, op.endedAt - op.startedAt)
  if (op.attempt > 1) yield* write(DELETE_WAIT_OF_STEP, run.key, op.stepKey)
  if (op.outcome._tag === "Failure") {
    tx.changes.runFailures.push({
      ...runMembers(tx, run),
      _tag: "AttemptFailed",
      step: op.name,
      attempt: op.attempt,
      error: op.outcome.error
    })
  }
  return undefined
}

/**
 * Applies an op. Returns the outcome of the op's step if the engine decides the outcome or has it already. Returns `undefined` if
 * the step waits, or the op has no step.
 *
 * This function is no generator itself: it returns the program of the op, so that no second generator is suspended for each op.
 */
export const applyOp = (
  tx: Transaction,
  run: LeasedRun,
  op: Exclude<TurnOp, Op<"StepDone">>
): Program<Outcome | undefined> => {
  if (!endsTurn(op)) run.mayHaveWaits = true
  switch (op._tag) {
    case "Transact":
      return applyTransact(tx, run, op)
    case "StepRetry":
      return retryStep(tx, run, op)
    case "Sleep":
      return openSleep(tx, run, op)
    case "WaitForEvent":
      return openEventWait(tx, run, op)
    case "Invoke":
      return openChildWait(tx, run, op)
    case "InvokeAsync":
      return invokeAsync(tx, run, op)
    case "Publish":
      return publish(tx, run, op)
    case "Settle":
      return settle(tx, run, op)
    case "Withdraw":
      return withdraw(run, op)
    case "Complete":
      return complete(tx, run, op)
    case "Fail":
      return fail(tx, run, op)
    case "Compensate":
      return compensate(tx, run, op)
    case "RetryRun":
      return retryRun(tx, run, op)
    case "Suspend":
      return suspend(tx, run, op)
    case "Pause":
      return pause(tx, run, op)
    case "Release":
      return release(tx, run)
  }
}

const FIND_STEP = statement(
  "Ops.findStep",
  "SELECT failed, value, event FROM steps WHERE run = ? AND step_key = ?"
)

function* applyTransact(tx: Transaction, run: LeasedRun, op: Op<"Transact">): Program<Outcome> {
  // a step in the journal means that this report is repeated; `knownStep` would also find the wait, which here is only the delay
  // before this attempt
  const row = yield* get(FIND_STEP, run.key, op.stepKey)
  if (row !== undefined) return yield* outcomeIn(tx, row, row.event)
  const outcome = yield* transact(tx, run.environment, op)
  if (outcome._tag === "Failure") return outcome
  const [failed, value] = outcomeColumns(outcome)
  const { attempt, endedAt, name, startedAt, stepKey } = op
  yield* insertStep(tx, run, { stepKey, name, kind: "tx" }, failed, value, attempt, startedAt, endedAt)
  if (attempt > 1) yield* write(DELETE_WAIT_OF_STEP, run.key, stepKey)
  return outcome
}

const PUT_RETRY_WAIT = statement(
  "Ops.putRetryWait",
  `INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, failures, value, created_at)
         SELECT ?, ?, ${WaitKind.retry}, ?, ?, ?, ?, ?, ?
         WHERE NOT EXISTS (SELECT 1 FROM steps WHERE run = ? AND step_key = ?)
         ON CONFLICT (run, step_key) DO UPDATE SET due_at = excluded.due_at, fired = NULL,
           failures = excluded.failures, value = excluded.value
         WHERE excluded.failures > waits.failures`
)

function* retryStep(tx: Transaction, run: LeasedRun, op: Op<"StepRetry">): Program<undefined> {
  const dueAt = dueTime(op.due, tx.now())
  yield* write(
    PUT_RETRY_WAIT,
    run.key,
    op.stepKey,
    op.name,
    op.kind,
    dueAt,
    op.failures,
    JSON.stringify(op.error),
    tx.now(),
    run.key,
    op.stepKey
  )
  tx.markDue(dueAt)
  const about = runMembers(tx, run)
  tx.changes.runFailures.push({
    ...about,
    _tag: "AttemptFailed",
    step: op.name,
    attempt: op.failures,
    error: op.error,
    dueAt
  })
  countRunEvent(tx, "retried", run.function)
  notifyObservers(tx, () => ({
    _tag: "StepFailed",
    runId: run.id,
    functionId: about.functionId,
    environment: about.environment,
    name: op.name,
    failures: op.failures,
    error: op.error,
    dueAt
  }))
  return undefined
}

const INSERT_SLEEP = statement(
  "Ops.insertSleep",
  `INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, timeout_ms, created_at)
         VALUES (?, ?, ${WaitKind.sleep}, ?, 'sleep', ?, ?, ?)`
)

function* openSleep(tx: Transaction, run: LeasedRun, op: Op<"Sleep">): Program<Outcome | undefined> {
  const known = yield* knownStep(tx, run, op.stepKey)
  if (known !== undefined) return known.outcome
  const now = tx.now()
  const dueAt = dueTime(op.due, now)
  const lengthMs = "at" in op.due ? null : asMoment(op.due.afterMs)
  yield* write(INSERT_SLEEP, run.key, op.stepKey, op.name, dueAt, lengthMs, now)
  tx.markDue(dueAt)
  return undefined
}

function* invokeAsync(tx: Transaction, run: LeasedRun, op: Op<"InvokeAsync">): Program<Outcome | undefined> {
  const known = yield* knownStep(tx, run, op.stepKey)
  if (known !== undefined) return known.outcome
  const child = yield* startChild(tx, run, op, { invokedBy: `${run.id}:${op.stepKey}` })
  const outcome: Outcome =
    child === undefined
      ? unknownFunction(op.functionId)
      : { _tag: "Success", value: JSON.stringify({ runId: child.id }) }
  return yield* recordEngineStep(tx, run, op.stepKey, op.name, "invokeAsync", outcome)
}

function* publish(tx: Transaction, run: LeasedRun, op: Op<"Publish">): Program<Outcome | undefined> {
  const known = yield* knownStep(tx, run, op.stepKey)
  if (known !== undefined) return known.outcome
  const message = yield* appendMessage.in(tx, {
    environment: tx.environmentName(run.environment),
    topic: op.topic,
    data: op.data,
    ...validTrace(op.trace)
  })
  return yield* recordEngineStep(tx, run, op.stepKey, op.name, "publish", {
    _tag: "Success",
    value: JSON.stringify({ eventId: message.eventId, sequence: message.sequence })
  })
}

function* settle(tx: Transaction, run: LeasedRun, op: Op<"Settle">): Program<undefined> {
  yield* settleWait(tx, run.key, op.stepKey)
  return undefined
}

function* withdraw(run: LeasedRun, op: Op<"Withdraw">): Program<undefined> {
  yield* write(DELETE_WAIT_OF_STEP, run.key, op.stepKey)
  return undefined
}

function* complete(tx: Transaction, run: LeasedRun, op: Op<"Complete">): Program<undefined> {
  yield* endRun(tx, run, { _tag: "Completed", output: op.output })
  return undefined
}

function* fail(tx: Transaction, run: LeasedRun, op: Op<"Fail">): Program<undefined> {
  yield* endRun(tx, run, { _tag: "Failed", error: op.error })
  return undefined
}

const DELETE_WAITS_OF_RUN = statement("Ops.deleteWaitsOfRun", "DELETE FROM waits WHERE run = ?")

const COMPENSATE = `UPDATE runs SET ${moves.compensationBegan.set}, error = ?, compensations = ?, updated_at = ?
   WHERE key = ? AND ${moves.compensationBegan.where}`

function* compensate(tx: Transaction, run: LeasedRun, op: Op<"Compensate">): Program<undefined> {
  forgetLease(tx, run.key, run.jobId)
  yield* write(DELETE_WAITS_OF_RUN, run.key)
  yield* mustMove(
    run.key,
    "compensationBegan",
    yield* affected(
      variant("Ops.compensate", COMPENSATE),
      JSON.stringify(op.error),
      JSON.stringify(op.compensations),
      tx.now(),
      run.key
    )
  )
  return undefined
}

const INCREMENT_ATTEMPT = statement(
  "Ops.incrementAttempt",
  `UPDATE runs SET attempt = attempt + 1, error = CASE WHEN status = ${Status.compensating} THEN error ELSE ? END WHERE key = ?`
)

function* retryRun(tx: Transaction, run: LeasedRun, op: Op<"RetryRun">): Program<undefined> {
  // a run that is compensating keeps its error, which is the reason for the rollback
  yield* write(INCREMENT_ATTEMPT, JSON.stringify(op.error), run.key)
  yield* endLease(tx, run, "attemptFailed")
  const dueAt = dueTime(op.due, tx.now())
  yield* delayRun(tx, run.key, dueAt)
  const about = runMembers(tx, run)
  tx.changes.runFailures.push({ ...about, _tag: "TurnFailed", error: op.error, dueAt })
  countRunEvent(tx, "retried", run.function)
  notifyRunObservers(tx, () => ({
    _tag: "RunFailed",
    runId: run.id,
    functionId: about.functionId,
    environment: about.environment,
    error: op.error,
    dueAt
  }))
  return undefined
}

const COUNT_WAITS = statement(
  "Ops.countWaits",
  `SELECT count(*) AS pending, (SELECT count(*) FROM waits WHERE run = ? AND fired IS NOT NULL
           AND (kind <> ${WaitKind.retry} OR step_key IN (SELECT value FROM json_each(?)))) AS fired
         FROM waits WHERE run = ? AND fired IS NULL AND step_key <> '${RUN_ITSELF}'`
)

function* suspend(tx: Transaction, run: LeasedRun, op: Op<"Suspend">): Program<undefined> {
  const open = yield* get(COUNT_WAITS, run.key, JSON.stringify(op.open), run.key)
  yield* endLease(tx, run, "suspended")
  // makes the run ready if a wait has fired that the worker did not know of yet, or if no wait is left that could wake the run. A
  // step whose next attempt may start counts only if the handler waits for the step: otherwise, the step would wake the run again
  // and again
  if (Number(open?.fired) > 0 || Number(open?.pending) === 0) yield* makeReady(tx, run.key)
  return undefined
}

function* pause(tx: Transaction, run: LeasedRun, op: Op<"Pause">): Program<undefined> {
  // the worker could not read what is stored of the run
  if (op.code === "STORE_CORRUPT") tx.damage.wasFound = true
  // this pause takes precedence over a requested pause
  yield* endLease(tx, run, "stopped", { code: op.code, message: op.message, details: op.details })
  return undefined
}

function* release(tx: Transaction, run: LeasedRun): Program<undefined> {
  yield* endLease(tx, run, "released")
  yield* makeReady(tx, run.key)
  return undefined
}

const unknownFunction = (functionId: string): Outcome => ({
  _tag: "Failure",
  error: serializeError(new FunctionNotFoundError(functionId))
})

function* startChild(
  tx: Transaction,
  run: LeasedRun,
  {
    functionId,
    input,
    trace
  }: { readonly functionId: string; readonly input: JsonText | undefined; readonly trace?: string },
  caller:
    { readonly parent: { readonly run: number; readonly stepKey: string } } | { readonly invokedBy: string }
): Program<{ readonly id: string; readonly key: number } | undefined> {
  const fn = registryOf(tx).get(tx.environmentName(run.environment), functionId)
  if (fn === undefined || fn.deleted === true) return undefined
  const id = tx.ids.run()
  const data = input ?? "null"
  return yield* createRun(tx, {
    environment: run.environment,
    fn,
    event: yield* endOfLog(),
    view: invocationView(id, data, tx.now()),
    id,
    data,
    ...validTrace(trace),
    ...caller
  })
}

const INSERT_CHILD_WAIT = statement(
  "Ops.insertChildWait",
  `INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, child, timeout_ms, event, fired, failed, value, created_at)
     VALUES (?, ?, ${WaitKind.child}, ?, 'invoke', ?, ?, ?, ?, ?, ?, ?, ?)`
)

function* openChildWait(tx: Transaction, run: LeasedRun, op: Op<"Invoke">): Program<Outcome | undefined> {
  const known = yield* knownStep(tx, run, op.stepKey)
  if (known !== undefined) return known.outcome
  const child = yield* startChild(tx, run, op, { parent: { run: run.key, stepKey: op.stepKey } })
  const now = tx.now()
  const outcome = child === undefined ? unknownFunction(op.functionId) : undefined
  const [failed, value] = outcome === undefined ? [null, null] : outcomeColumns(outcome)
  const dueAt = outcome === undefined ? dueTime({ afterMs: op.timeoutMs }, now) : null
  yield* write(
    INSERT_CHILD_WAIT,
    run.key,
    op.stepKey,
    op.name,
    dueAt,
    child?.key ?? null,
    asMoment(op.timeoutMs),
    op.functionId,
    outcome === undefined ? null : tx.nextSeq(),
    failed,
    value,
    now
  )
  if (dueAt !== null) tx.markDue(dueAt)
  return outcome
}
