/** Reports of turns: each op is one change of the run that the turn holds. */
import type { EventView } from "../Registry.ts"
import { affected, get, statement, type Program, variant, write } from "./Program.ts"
import { FunctionNotFoundError, serializeError, ValidationError } from "../../Errors.ts"
import { compileExpression } from "../../Expression.ts"
import type { JsonText } from "../../Json.ts"
import { isPath } from "../../Path.ts"
import { checkPattern, isPattern } from "../../Pattern.ts"
import {
  type Due,
  endsTurn,
  type Outcome,
  type TurnAck,
  type TurnOp,
  type TurnReport
} from "../../Protocol/Worker.ts"
import {
  appendMessage,
  endOfLog,
  type EventMatch,
  findEvent,
  invocationView,
  matchValue,
  triggerView,
  waitName,
  waitRoots
} from "./Events.ts"
import { createRun, endRun, functionIdOf, isCompensating, type Pause } from "./RunRows.ts"
import { asMoment, type LeasedRun, type Row, RUN_ITSELF, type Transaction, WaitKind } from "./Transaction.ts"
import { type Happening, nextStatus, refusal, type TurnEnding } from "../Runs/Transitions.ts"
import { moves, mustMove, Status, statusIn } from "./StatusRows.ts"
import { transact } from "./Transact.ts"
import {
  clear,
  delayRun,
  makeReady,
  outcomeColumns,
  readOutcome,
  settleFiredWaits,
  settleWait,
  tellStepEnded
} from "./Waits.ts"
import { holdingJob, keepRevoked, revoked } from "./RevokedLeases.ts"
import { isDamage } from "./SqliteErrors.ts"
import { parseStored } from "./StoredJson.ts"

/** Applies reports one after the other: a damaged run costs those of the others nothing. */
export function* applyReports(
  tx: Transaction,
  reports: ReadonlyArray<TurnReport>,
  environment?: string,
  callsBack = false
): Program<ReadonlyArray<TurnAck>> {
  const acks: Array<TurnAck> = []
  for (const report of reports) acks.push(yield* applyApart(tx, report, environment, callsBack))
  return acks
}

const APPLY_APART = statement("Turns.applyApart", "SELECT key FROM runs WHERE id = ?")

function* applyApart(
  tx: Transaction,
  report: TurnReport,
  environment: string | undefined,
  callsBack: boolean
): Program<TurnAck> {
  // remembered here, since it is forgotten as soon as the run ends
  const known = tx.leasedTo(report.jobId)
  try {
    if (tx.damage.count > 0) {
      const key = known?.key ?? (yield* get(APPLY_APART, report.runId))?.key
      const why = key === undefined ? undefined : tx.damage.why("run", Number(key))
      if (why !== undefined) return refusedForDamage(report, why)
    }
    return yield* applyReport(tx, report, known, environment, callsBack)
  } catch (error) {
    // otherwise it may be the report that is not acceptable
    const isCertain = isDamage(error)
    if (known !== undefined)
      tx.blame({ error, kind: "run", keys: { statement: RUN_BY_KEY, values: [known.key] }, isCertain })
    else tx.blame({ error, kind: "run", keys: { statement: RUN_BY_ID, values: [report.runId] }, isCertain })
    throw error
  }
}

const RUN_BY_KEY = statement("Turns.runByKey", "SELECT key FROM runs WHERE key = ?")

const RUN_BY_ID = statement("Turns.runById", "SELECT key FROM runs WHERE id = ?")

/** What a worker is told whose report cannot be stored: it would send it again for ever otherwise, and others with it. */
export const refusedForDamage = ({ runId }: TurnReport, why: string): TurnAck => ({
  _tag: "Refused",
  reason: "LEASE_LOST",
  message: `Run ${runId} cannot be stored, since the database is damaged: ${why}`
})

const APPLY_REPORT = statement(
  "Turns.applyReport",
  "SELECT key, environment, function, status, event, parent, lease, worker, lease_until, pause FROM runs WHERE id = ?"
)

/**
 * Applies a report if its job holds the run, and the run is one of the environment, if that is given. `callsBack`: see
 * `StoreService.applyReports`.
 */
function* applyReport(
  tx: Transaction,
  report: TurnReport,
  known: LeasedRun | undefined,
  environment: string | undefined,
  callsBack: boolean
): Program<TurnAck> {
  if (known !== undefined && known.id === report.runId && isOf(tx, known.environment, environment)) {
    return (
      refusedAsImpossible(tx, known, report) ?? {
        _tag: "Accepted",
        outcomes: yield* applyOps(tx, known, report)
      }
    )
  }
  const row = yield* get(APPLY_REPORT, report.runId)
  const isKnown = row !== undefined && isOf(tx, Number(row.environment), environment)
  const last = report.ops.at(-1)
  const isEnd = last !== undefined && endsTurn(last)
  if (!isKnown || holdingJob(row) !== report.jobId) {
    tx.changes.counts.staleReports++
    // whatever it is answered, the turn is over
    if (isKnown && isEnd && row.lease === revoked(report.jobId)) yield* endRevokedLease(tx, Number(row.key))
    return isKnown && statusIn(row) === "cancelled"
      ? { _tag: "Refused", reason: "CANCELLED", message: `Run ${report.runId} was cancelled` }
      : {
          _tag: "Refused",
          reason: "LEASE_LOST",
          message: `Run ${report.runId} is not leased to job ${report.jobId} any more`
        }
  }
  const run: LeasedRun = {
    key: Number(row.key),
    id: report.runId,
    environment: Number(row.environment),
    function: Number(row.function),
    status: statusIn(row),
    event: Number(row.event),
    parent: row.parent === null ? null : Number(row.parent),
    mayHaveWaits: true
  }
  const refused = refusedAsImpossible(tx, run, report)
  if (refused !== undefined) return refused
  const outcomes = yield* applyOps(tx, run, report)
  // with the turn the lease has ended, and with the lease a pause that was asked for has begun
  if (row.pause === null || isEnd) return { _tag: "Accepted", outcomes }
  return callsBack
    ? yield* callBackPaused(tx, run, row, report)
    : { _tag: "Accepted", outcomes, paused: true }
}

/** What an op makes of the run, if it makes anything of it. */
const happeningIn = (op: TurnOp): Happening | undefined => {
  switch (op._tag) {
    case "Complete":
      return "completed"
    case "Fail":
      return "failed"
    case "Compensate":
      return "compensationBegan"
    case "RetryRun":
      return "attemptFailed"
    case "Suspend":
      return "suspended"
    case "Pause":
      return "stopped"
    case "Release":
      return "released"
  }
}

/** A worker that reports what cannot happen to its run (that it has completed, while it rolls back) changes nothing. */
const refusedAsImpossible = (tx: Transaction, run: LeasedRun, report: TurnReport): TurnAck | undefined => {
  let { status } = run
  for (const op of report.ops) {
    const happening = happeningIn(op)
    if (happening === undefined) continue
    const next = status === undefined ? undefined : nextStatus(status, happening)
    if (next === undefined) {
      tx.changes.counts.staleReports++
      return { _tag: "Refused", reason: "LEASE_LOST", message: refusal(run.id, status, happening) }
    }
    status = next
  }
}

function* applyOps(
  tx: Transaction,
  run: LeasedRun,
  report: TurnReport
): Program<ReadonlyArray<Outcome | undefined>> {
  const outcomes: Array<Outcome | undefined> = []
  for (const op of report.ops) outcomes.push(yield* applyOp(tx, run, op))
  return outcomes
}

/** Whether the environment has this key, if one is asked for. */
export const isOf = (tx: Transaction, key: number, environment: string | undefined): boolean =>
  environment === undefined || key === tx.findEnvironment(environment)

/** The worker would go on whatever it is told but a refusal: what it has reported is stored, and it loses the lease. */
function* callBackPaused(tx: Transaction, run: LeasedRun, row: Row, report: TurnReport): Program<TurnAck> {
  tx.notify(String(row.worker), { _tag: "LeaseLost", jobId: report.jobId, reason: "the run was paused" })
  yield* endLease(tx, run.key, "calledBack")
  yield* keepRevoked(tx, row)
  return {
    _tag: "Refused",
    reason: "LEASE_LOST",
    message: `Run ${run.id} was paused; what was reported is stored`
  }
}

const APPLY_OP = statement("Turns.applyOp", "DELETE FROM waits WHERE run = ? AND step_key = ?")

const APPLY_OP_2 = statement(
  "Turns.applyOp.2",
  "SELECT failed, value FROM steps WHERE run = ? AND step_key = ?"
)

const APPLY_OP_3 = statement("Turns.applyOp.3", "DELETE FROM waits WHERE run = ? AND step_key = ?")

const APPLY_OP_4 = statement(
  "Turns.applyOp.4",
  `INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, failures, value, created_at)
         SELECT ?, ?, ${WaitKind.retry}, ?, ?, ?, ?, ?, ?
         WHERE NOT EXISTS (SELECT 1 FROM steps WHERE run = ? AND step_key = ?)
         ON CONFLICT (run, step_key) DO UPDATE SET due_at = excluded.due_at, fired = NULL,
           failures = excluded.failures, value = excluded.value
         WHERE excluded.failures > failures`
)

const APPLY_OP_5 = statement(
  "Turns.applyOp.5",
  `INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, timeout_ms, created_at)
         VALUES (?, ?, ${WaitKind.sleep}, ?, 'sleep', ?, ?, ?)`
)

const APPLY_OP_6 = statement("Turns.applyOp.6", "DELETE FROM waits WHERE run = ? AND step_key = ?")

const APPLY_OP_7 = statement("Turns.applyOp.7", "DELETE FROM waits WHERE run = ?")

const APPLY_OP_8 = statement(
  "Turns.applyOp.8",
  `UPDATE runs SET attempt = attempt + 1, error = CASE WHEN status = ${Status.compensating} THEN error ELSE ? END WHERE key = ?`
)

const APPLY_OP_9 = statement(
  "Turns.applyOp.9",
  `SELECT count(*) AS pending, (SELECT count(*) FROM waits WHERE run = ? AND fired IS NOT NULL
           AND (kind <> ${WaitKind.retry} OR step_key IN (SELECT value FROM json_each(?)))) AS fired
         FROM waits WHERE run = ? AND fired IS NULL AND step_key <> '${RUN_ITSELF}'`
)

function* applyOp(tx: Transaction, run: LeasedRun, op: TurnOp): Program<Outcome | undefined> {
  if (op._tag !== "StepDone" && !endsTurn(op)) run.mayHaveWaits = true
  switch (op._tag) {
    case "StepDone": {
      const [failed, value] = outcomeColumns(op.outcome)
      yield* insertStep(tx, run, op, failed, value, op.attempt, op.startedAt, op.endedAt)
      if (op.attempt > 1) yield* write(APPLY_OP, run.key, op.stepKey)
      return undefined
    }
    case "Transact": {
      // a report that comes twice; a wait under this key is only the delay before this attempt
      const row = yield* get(APPLY_OP_2, run.key, op.stepKey)
      if (row !== undefined) return readOutcome(row)
      const outcome = yield* transact(tx, run.environment, op.value, op.writes)
      if (outcome._tag === "Failure") return outcome
      yield* insertStep(
        tx,
        run,
        { ...op, kind: "tx" },
        0,
        outcome.value ?? null,
        op.attempt,
        op.startedAt,
        op.endedAt
      )
      if (op.attempt > 1) yield* write(APPLY_OP_3, run.key, op.stepKey)
      return outcome
    }
    case "StepRetry": {
      const dueAt = dueTime(op.due, tx.now())
      yield* write(
        APPLY_OP_4,
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
      tx.tell(() => ({
        _tag: "StepFailed",
        runId: run.id,
        functionId: functionIdOf(tx, run.function),
        environment: tx.environmentName(run.environment),
        name: op.name,
        failures: op.failures,
        error: op.error,
        dueAt
      }))
      return undefined
    }
    case "Sleep": {
      const known = yield* knownStep(run, op.stepKey)
      if (known !== undefined) return known.outcome
      const now = tx.now()
      const dueAt = dueTime(op.due, now)
      yield* write(
        APPLY_OP_5,
        run.key,
        op.stepKey,
        op.name,
        dueAt,
        "at" in op.due ? null : asMoment(op.due.afterMs),
        now
      )
      tx.markDue(dueAt)
      return undefined
    }
    case "WaitForEvent":
      return yield* openEventWait(tx, run, op)
    case "Invoke":
      return yield* openChildWait(tx, run, op)
    case "InvokeAsync": {
      const known = yield* knownStep(run, op.stepKey)
      if (known !== undefined) return known.outcome
      const child = yield* startChild(tx, run, op.functionId, op.input)
      const outcome: Outcome =
        child === undefined
          ? unknownFunction(op.functionId)
          : { _tag: "Success", value: JSON.stringify({ runId: child.id }) }
      return yield* recordNow(tx, run, op.stepKey, op.name, "invokeAsync", outcome)
    }
    case "Publish": {
      const known = yield* knownStep(run, op.stepKey)
      if (known !== undefined) return known.outcome
      const message = yield* appendMessage(tx, {
        environment: tx.environmentName(run.environment),
        topic: op.topic,
        data: op.data
      })
      return yield* recordNow(tx, run, op.stepKey, op.name, "publish", {
        _tag: "Success",
        value: JSON.stringify({ eventId: message.eventId, sequence: message.sequence })
      })
    }
    case "Settle":
      yield* settleWait(tx, run.key, op.stepKey)
      return undefined
    case "Withdraw":
      yield* write(APPLY_OP_6, run.key, op.stepKey)
      return undefined
    case "Complete":
      yield* endRun(tx, run, { _tag: "Completed", output: op.output })
      return undefined
    case "Fail":
      yield* endRun(tx, run, { _tag: "Failed", error: op.error })
      return undefined
    case "Compensate":
      tx.forgetLease(run.key)
      yield* write(APPLY_OP_7, run.key)
      yield* mustMove(
        run.key,
        "compensationBegan",
        yield* affected(
          variant("Turns.applyOp", COMPENSATE),
          JSON.stringify(op.error),
          JSON.stringify(op.compensations),
          tx.now(),
          run.key
        )
      )
      return undefined
    case "RetryRun": {
      // while the run is compensating, its error is the verdict
      yield* write(APPLY_OP_8, JSON.stringify(op.error), run.key)
      yield* endLease(tx, run.key, "attemptFailed")
      const dueAt = dueTime(op.due, tx.now())
      yield* delayRun(tx, run.key, dueAt)
      tx.tellOfRun(() => ({
        _tag: "RunFailed",
        runId: run.id,
        functionId: functionIdOf(tx, run.function),
        environment: tx.environmentName(run.environment),
        error: op.error,
        dueAt
      }))
      return undefined
    }
    case "Suspend": {
      const open = yield* get(APPLY_OP_9, run.key, JSON.stringify(op.open), run.key)
      yield* endLease(tx, run.key, "suspended")
      // something fired that the worker had not heard of yet, or nothing is left that could wake the run; an attempt that
      // may start and that the handler does not wait for would wake it again and again
      if (Number(open?.fired) > 0 || Number(open?.pending) === 0) yield* makeReady(tx, run.key)
      return undefined
    }
    case "Pause":
      // its reason counts more than that of a pause which was asked for
      yield* endLease(tx, run.key, "stopped", { code: op.code, message: op.message, details: op.details })
      return undefined
    case "Release":
      yield* endLease(tx, run.key, "released")
      yield* makeReady(tx, run.key)
      return undefined
  }
}

const COMPENSATE = `UPDATE runs SET ${moves.compensationBegan.set}, error = ?, compensations = ?, updated_at = ?
   WHERE key = ? AND ${moves.compensationBegan.where}`

// every ending of a turn does the same to the status
const END_LEASE = `UPDATE runs SET ${moves.suspended.set}, lease = NULL, lease_until = NULL, updated_at = ?
   WHERE key = ? AND ${moves.suspended.where} RETURNING function, pause`

/**
 * Takes a run back from its worker: what fired enters the journal, and the run waits. A run that was compensating goes on
 * compensating, and `pause` begins, or one that was asked for.
 */
export function* endLease(tx: Transaction, run: number, ending: TurnEnding, pause?: Pause): Program<void> {
  tx.forgetLease(run)
  tx.suspects.release(run)
  yield* settleFiredWaits(tx, run)
  const row = yield* get(variant("Turns.endLease", END_LEASE), tx.now(), run)
  yield* mustMove(run, ending, row)
  // there may be room under a concurrency limit now
  tx.markRoom(Number(row?.function))
  if (pause !== undefined) yield* pauseRow(tx, run, pause)
  // written by `pauseRun`
  else if (row?.pause != null) yield* pauseRow(tx, run, parseStored(String(row.pause)) as Pause)
}

const END_REVOKED_LEASE = statement(
  "Turns.endRevokedLease",
  "UPDATE runs SET lease = NULL, lease_until = NULL WHERE key = ? RETURNING function"
)

/** The worker whose lease of the run was revoked is done with it, or its time is over. */
export function* endRevokedLease(tx: Transaction, run: number): Program<void> {
  const row = yield* get(END_REVOKED_LEASE, run)
  tx.markRoom(Number(row?.function))
  // unless it has ended, or is paused
  yield* makeReady(tx, run)
}

const PAUSE = `UPDATE runs SET ${moves.paused.set}, pause = ?, ready_at = NULL, updated_at = ?
   WHERE key = ? AND ${moves.paused.where}`

const PAUSE_ROW = statement("Turns.pauseRow", "SELECT status, pause FROM runs WHERE key = ?")

const PAUSE_ROW_2 = statement("Turns.pauseRow.2", "SELECT id, function, environment FROM runs WHERE key = ?")

export function* pauseRow(tx: Transaction, run: number, pause: Pause): Program<void> {
  const row = yield* get(PAUSE_ROW, run)
  const wasCompensating = row !== undefined && isCompensating(row)
  if (tx.isToldOfRuns) {
    const paused = yield* get(PAUSE_ROW_2, run)
    tx.tellOfRun(() => ({
      _tag: "RunPaused",
      runId: String(paused?.id),
      functionId: functionIdOf(tx, Number(paused?.function)),
      environment: tx.environmentName(Number(paused?.environment)),
      message: pause.message
    }))
  }
  const changed = yield* affected(
    variant("Turns.pauseRow", PAUSE),
    JSON.stringify({ ...pause, ...(wasCompensating ? { wasCompensating } : {}) }),
    tx.now(),
    run
  )
  yield* mustMove(run, "paused", changed)
}

const dueTime = (due: Due, now: number): number => asMoment("at" in due ? due.at : now + due.afterMs)

const INSERT_STEP = statement(
  "Turns.insertStep",
  "INSERT INTO steps (run, step_key, seq, name, kind, failed, value, attempt, started_at, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)

function* insertStep(
  tx: Transaction,
  run: LeasedRun,
  step: { readonly stepKey: string; readonly name: string; readonly kind: string },
  failed: number,
  value: string | null,
  attempt: number,
  startedAt: number,
  endedAt: number
): Program<void> {
  const inserted = yield* affected(
    INSERT_STEP,
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
  )
  if (inserted === 0) return
  if (!tx.suspects.isEmpty) yield* clear(tx, run.key)
  yield* tellStepEnded(tx, run.key, step.stepKey)
}

/** Journals a step that the engine itself has just carried out. */
function* recordNow(
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

const KNOWN_STEP = statement(
  "Turns.knownStep",
  `SELECT failed, value, 1 AS over FROM steps WHERE run = ? AND step_key = ?
     UNION ALL SELECT failed, value, fired IS NOT NULL FROM waits WHERE run = ? AND step_key = ?`
)

/** A step that is in the journal or open already (an earlier turn or a report that comes twice), and its outcome, if any. */
function* knownStep(
  run: LeasedRun,
  stepKey: string
): Program<{ readonly outcome: Outcome | undefined } | undefined> {
  const row = yield* get(KNOWN_STEP, run.key, stepKey, run.key, stepKey)
  return row === undefined ? undefined : { outcome: Number(row.over) === 1 ? readOutcome(row) : undefined }
}

const unknownFunction = (functionId: string): Outcome => ({
  _tag: "Failure",
  error: serializeError(new FunctionNotFoundError(functionId))
})

function* startChild(
  tx: Transaction,
  run: LeasedRun,
  functionId: string,
  input: JsonText | undefined,
  stepKey?: string
): Program<{ readonly id: string; readonly key: number } | undefined> {
  const fn = tx.registry.get(tx.environmentName(run.environment), functionId)
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
    ...(stepKey === undefined ? {} : { parent: { run: run.key, stepKey } })
  })
}

const OPEN_CHILD_WAIT = statement(
  "Turns.openChildWait",
  `INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, child, timeout_ms, event, fired, failed, value, created_at)
     VALUES (?, ?, ${WaitKind.child}, ?, 'invoke', ?, ?, ?, ?, ?, ?, ?, ?)`
)

function* openChildWait(
  tx: Transaction,
  run: LeasedRun,
  op: Extract<TurnOp, { readonly _tag: "Invoke" }>
): Program<Outcome | undefined> {
  const known = yield* knownStep(run, op.stepKey)
  if (known !== undefined) return known.outcome
  const child = yield* startChild(tx, run, op.functionId, op.input, op.stepKey)
  const now = tx.now()
  const outcome = child === undefined ? unknownFunction(op.functionId) : undefined
  const [failed, value] = outcome === undefined ? [null, null] : outcomeColumns(outcome)
  const dueAt = outcome === undefined ? dueTime({ afterMs: op.timeoutMs }, now) : null
  yield* write(
    OPEN_CHILD_WAIT,
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

const OPEN_EVENT_WAIT = statement(
  "Turns.openEventWait",
  "SELECT max(event) AS position FROM steps WHERE run = ? AND wait = ?"
)

const OPEN_EVENT_WAIT_2 = statement(
  "Turns.openEventWait.2",
  "SELECT max(event) AS position FROM steps WHERE run = ? AND wait = ? AND step_key NOT IN (SELECT value FROM json_each(?))"
)

const OPEN_EVENT_WAIT_3 = statement(
  "Turns.openEventWait.3",
  `INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, environment, event, pattern, match_path, match_value, expression, wait, timeout_ms, fired, failed, value, event_position, created_at)
     VALUES (?, ?, ${WaitKind.event}, ?, 'waitForEvent', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

/**
 * Opens a wait for an event, or finds it satisfied already: it looks back to just after the later of the run's trigger
 * and the last event that the handler has seen of the same wait of the same branch (guarantee G8).
 */
function* openEventWait(
  tx: Transaction,
  run: LeasedRun,
  op: Extract<TurnOp, { readonly _tag: "WaitForEvent" }>
): Program<Outcome | undefined> {
  const known = yield* knownStep(run, op.stepKey)
  if (known !== undefined) return known.outcome
  const mistake = mistakeIn(op)
  const pattern = isPattern(op.event)
  const identity = JSON.stringify([op.scope, op.event, op.match ?? null])
  let trigger: EventView | undefined
  function* triggerOnce(): Program<EventView> {
    return (trigger ??= yield* triggerView(run.key))
  }

  let match: EventMatch | undefined
  let impossible = false
  if (op.match !== undefined && isPath(op.match)) {
    const value = matchValue(yield* triggerOnce(), op.match)
    // the trigger has nothing at the path: no event can equal it
    impossible = value === undefined
    match = { _tag: "Path", path: op.match, value: value ?? "" }
  } else if (op.match !== undefined) {
    match = { _tag: "Expression", text: op.match }
  }

  const filter = { event: op.event, pattern, ...(match === undefined ? {} : { match }) }
  const delivered =
    op.unseen === undefined
      ? yield* get(OPEN_EVENT_WAIT, run.key, identity)
      : yield* get(OPEN_EVENT_WAIT_2, run.key, identity, JSON.stringify(op.unseen))
  const after = Math.max(run.event, Number(delivered?.position ?? 0))
  const found =
    impossible || mistake !== undefined
      ? undefined
      : yield* findEvent(tx, run.environment, filter, after, triggerOnce)
  const outcome: Outcome | undefined =
    mistake !== undefined
      ? { _tag: "Failure", error: serializeError(mistake) }
      : found !== undefined
        ? { _tag: "Success", value: found.view.toText() }
        : undefined
  const [failed, value] = outcome === undefined ? [null, null] : outcomeColumns(outcome)
  const now = tx.now()
  const dueAt = outcome === undefined ? dueTime(op.timeout, now) : null
  yield* write(
    OPEN_EVENT_WAIT_3,
    run.key,
    op.stepKey,
    op.name,
    dueAt,
    run.environment,
    waitName(filter),
    pattern ? op.event : null,
    match?._tag === "Path" ? match.path : null,
    match?._tag === "Path" ? match.value : null,
    match?._tag === "Expression" ? match.text : null,
    identity,
    asMoment(op.timeoutMs),
    outcome === undefined ? null : tx.nextSeq(),
    failed,
    value,
    found?.position ?? null,
    now
  )
  if (dueAt !== null) tx.markDue(dueAt)
  return outcome
}

/** What makes a wait impossible to satisfy: a pattern or an expression that is none. */
const mistakeIn = (op: Extract<TurnOp, { readonly _tag: "WaitForEvent" }>): ValidationError | undefined => {
  try {
    if (isPattern(op.event)) checkPattern(op.event, "event")
    if (op.match !== undefined && !isPath(op.match)) compileExpression(op.match, waitRoots)
    return undefined
  } catch (error) {
    if (error instanceof ValidationError) return error
    throw error
  }
}
