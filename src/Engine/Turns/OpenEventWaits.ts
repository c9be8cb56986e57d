/** Opens waits for events. A wait may find in the log that its event has already arrived. */
import { statement, type Program, get, write } from "../Store/Program.ts"
import { WaitKind } from "../Runs/WaitKinds.ts"
import { type Transaction, asMoment } from "../Store/Transaction.ts"
import type { LeasedRun } from "../Runs/LeaseCache.ts"
import type { TurnOp, Outcome } from "../../Protocol/Worker.ts"
import { knownStep } from "../Runs/Journal.ts"
import { isPattern, checkPattern } from "../../Pattern.ts"
import type { EventView } from "../Functions/Registry.ts"
import { triggerView } from "../Runs/RunEvent.ts"
import { type EventMatch, findAcceptedEvent, waitName, waitRoots } from "../Log/WaitFilter.ts"
import { isDataPath } from "../../DataPath.ts"
import { matchValue } from "../Log/EventViews.ts"
import { serializeError, ValidationError } from "../../Errors.ts"
import { outcomeColumns, dueTime } from "../Runs/Waits.ts"
import { compileExpression } from "../../Expression.ts"
import { markAwaited } from "../Events/FireWaits.ts"

const FIND_LAST_EVENT_OF_WAIT = statement(
  "OpenEventWaits.findLastEventOfWait",
  "SELECT max(event) AS position FROM steps WHERE run = ? AND wait = ?"
)

const FIND_LAST_EVENT_OF_OTHER_STEPS = statement(
  "OpenEventWaits.findLastEventOfOtherSteps",
  "SELECT max(event) AS position FROM steps WHERE run = ? AND wait = ? AND step_key NOT IN (SELECT value FROM json_each(?))"
)

const INSERT_EVENT_WAIT = statement(
  "OpenEventWaits.insertEventWait",
  `INSERT INTO waits (run, step_key, kind, name, step_kind, due_at, environment, event, pattern, match_path, match_value, expression, wait, timeout_ms, fired, failed, value, event_position, created_at, looked_back_to)
     VALUES (?1, ?2, ${WaitKind.event}, ?3, 'waitForEvent', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
       (SELECT max(position) FROM fan_outs WHERE environment = ?5 AND event = ?6))`
)

/**
 * Opens a wait for an event. Returns the outcome of the wait if the event has already arrived, or if the wait is invalid. Accepts
 * only events that came after the event that started the run. If earlier waits for the same event and match, in the same branch,
 * have given events to the handler, accepts only events after the last event that the handler was given (guarantee G8).
 */
export function* openEventWait(
  tx: Transaction,
  run: LeasedRun,
  op: Extract<TurnOp, { readonly _tag: "WaitForEvent" }>
): Program<Outcome | undefined> {
  const known = yield* knownStep(tx, run, op.stepKey)
  if (known !== undefined) return known.outcome
  const mistake = mistakeIn(op)
  const pattern = isPattern(op.event)
  const identity = JSON.stringify([op.scope, op.event, op.match ?? null])
  let trigger: EventView | undefined
  /** The event that triggered the run. It is read only once. */
  function* triggerOnce(): Program<EventView> {
    return (trigger ??= yield* triggerView(run.key))
  }

  let match: EventMatch | undefined
  let isImpossible = false
  if (op.match !== undefined && isDataPath(op.match)) {
    const value = matchValue(yield* triggerOnce(), op.match)
    // the trigger has no value at the path: no event can match
    isImpossible = value === undefined
    match = { _tag: "Path", path: op.match, value: value ?? "" }
  } else if (op.match !== undefined) {
    match = { _tag: "Expression", text: op.match }
  }

  const filter = { event: op.event, pattern, ...(match === undefined ? {} : { match }) }
  const lastReceived =
    op.unseen === undefined
      ? yield* get(FIND_LAST_EVENT_OF_WAIT, run.key, identity)
      : yield* get(FIND_LAST_EVENT_OF_OTHER_STEPS, run.key, identity, JSON.stringify(op.unseen))
  const after = Math.max(run.event, Number(lastReceived?.position ?? 0))
  const found =
    isImpossible || mistake !== undefined
      ? undefined
      : yield* findAcceptedEvent(tx, run.environment, filter, after, triggerOnce)
  const outcome: Outcome | undefined =
    mistake !== undefined
      ? { _tag: "Failure", error: serializeError(mistake) }
      : found !== undefined
        ? { _tag: "Success", value: found.view.toText() }
        : undefined
  const [failed, value] =
    outcome === undefined ? [null, null] : found !== undefined ? [0, null] : outcomeColumns(outcome)
  const now = tx.now()
  markAwaited(tx, run.environment)
  const dueAt = outcome === undefined ? dueTime(op.timeout, now) : null
  yield* write(
    INSERT_EVENT_WAIT,
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

/** The error for a wait that can never be satisfied, because its pattern or expression is invalid. */
const mistakeIn = (op: Extract<TurnOp, { readonly _tag: "WaitForEvent" }>): ValidationError | undefined => {
  try {
    if (isPattern(op.event)) checkPattern(op.event, "event")
    if (op.match !== undefined && !isDataPath(op.match)) compileExpression(op.match, waitRoots)
    return undefined
  } catch (error) {
    if (error instanceof ValidationError) return error
    throw error
  }
}
