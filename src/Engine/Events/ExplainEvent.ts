/**
 * Explains which functions an event has started, and why it has not started the others. This is derived from the stored runs, and
 * from the functions as they are now.
 */
import { addEventBudget } from "../../ExpressionBudget.ts"
import { quoteExpression } from "../../Expression.ts"
import { matchesPattern } from "../../Pattern.ts"
import type { EventVerdict } from "../../Protocol/Events.ts"
import type { RunStatus } from "../../RunStatus.ts"
import { isObject } from "../../Json.ts"
import { cronEventName, matchTrigger, type Trigger } from "../../Trigger.ts"
import { type EventView, type RegisteredFunction, registryOf } from "../Functions/Registry.ts"
import * as EventSearch from "../Log/EventSearch.ts"
import { viewOfRow } from "../Log/EventViews.ts"
import { LogKind } from "../Log/LogRecords.ts"
import { statusIn } from "../Runs/StatusRows.ts"
import { all, get, inEnvironment, type Program, statement } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

/** How many functions one read explains. */
const SLICE_FUNCTIONS = 200
/**
 * Maximum number of runs of one function that are named. An event starts one run of each function, and clients may fork that run.
 */
const MAX_RUNS = 100

/** Part of the explanation of an event. */
interface ExplainedSlice {
  readonly name: string
  /** Epoch milliseconds. */
  readonly timestamp: number
  readonly functions: ReadonlyArray<EventVerdict>
  /** The index of the first function of the next slice; absent after the last slice. */
  readonly next?: number
}

const FIND_EVENT = statement("ExplainEvent.findEvent", "SELECT * FROM events WHERE position = ?")

/**
 * Explains the event for a slice of the functions, which begins at index `firstIndex`. Returns `undefined` when the event does not
 * exist.
 */
export const explainEventFrom = inEnvironment(
  "explainEventFrom",
  function* (
    tx: Transaction,
    environment: string,
    eventId: string,
    firstIndex: number
  ): Program<ExplainedSlice | undefined> {
    const position = yield* EventSearch.findEvent.in(tx, environment, eventId)
    const row = position === undefined ? undefined : yield* get(FIND_EVENT, position)
    // the id may be that of a message of a topic
    if (position === undefined || row === undefined || row.kind !== LogKind.event) return undefined
    const view = viewOfRow(row)
    const timestamp = Number(row.timestamp)
    const registered = registryOf(tx)
      .all()
      .filter((fn) => fn.environment === environment)
    const functions: Array<EventVerdict> = []
    const firing = yield* firingFunction(registered, position, view)
    addEventBudget()
    for (const fn of registered.slice(firstIndex, firstIndex + SLICE_FUNCTIONS)) {
      functions.push(yield* verdictOf(fn, { position, timestamp, view, isOwnFire: fn === firing }))
    }
    const next = firstIndex + SLICE_FUNCTIONS
    return {
      name: view.name,
      timestamp,
      functions,
      ...(next < registered.length ? { next } : {})
    }
  },
  (_, eventId) => `explain event ${eventId}`
)

const LIST_RUNS_OF_EVENT = statement(
  "ExplainEvent.listRunsOfEvent",
  `SELECT id, status FROM runs WHERE function = ? AND event = ? AND input IS NULL ORDER BY key LIMIT ${MAX_RUNS}`
)
const FIND_FUNCTION_TIMES = statement(
  "ExplainEvent.findFunctionTimes",
  "SELECT created_at, updated_at, deleted_at FROM functions WHERE key = ?"
)

interface EventToExplain {
  readonly position: number
  readonly timestamp: number
  readonly view: EventView
  /** Whether the function's own schedule has fired the event. */
  readonly isOwnFire: boolean
}

/**
 * The function whose schedule has fired the event. The event does not name the function. If several functions have the same
 * schedule and event name, returns the one that has a run of the event, or else the first one.
 */
function* firingFunction(
  functions: ReadonlyArray<RegisteredFunction>,
  position: number,
  { data, name, source }: EventView
): Program<RegisteredFunction | undefined> {
  if (source !== "cron" || !isObject(data)) return undefined
  const candidates = functions.filter(({ registration: { id, triggers } }) =>
    triggers.some(
      (trigger) =>
        trigger.cron !== undefined &&
        trigger.cron === data.cron &&
        (trigger.timezone ?? "UTC") === data.timezone &&
        cronEventName(id, trigger) === name
    )
  )
  if (candidates.length === 1) return candidates[0]
  for (const fn of candidates) if ((yield* get(LIST_RUNS_OF_EVENT, fn.key, position)) !== undefined) return fn
  return candidates[0]
}

function* verdictOf(
  fn: RegisteredFunction,
  { isOwnFire, position, timestamp, view }: EventToExplain
): Program<EventVerdict> {
  const { id: functionId } = fn.registration
  const runs = (yield* all(LIST_RUNS_OF_EVENT, fn.key, position)).map((run) => ({
    runId: String(run.id),
    // only engines write the column, and only with statuses
    status: statusIn(run) as RunStatus
  }))
  if (runs.length > 0) {
    return {
      functionId,
      code: "STARTED",
      message: "The event has started the function",
      runs
    }
  }
  const times = yield* get(FIND_FUNCTION_TIMES, fn.key)
  const createdAt = Number(times?.created_at)
  // an event that a schedule fired would start nothing if it were emitted again
  const advice = isOwnFire ? "run the function by hand to start a run" : "emit the event again to start a run"
  const verdict = isOwnFire ? { code: "MATCHES" as const, message: "" } : judge(fn, view)
  if (createdAt > timestamp) {
    const registrationNote = `The function was registered at ${iso(createdAt)}, after the event`
    if (verdict.code === "MATCHES")
      return { functionId, code: "REGISTERED_LATER", message: `${registrationNote}: ${advice}` }
    // the function was registered too late, but that is not the only reason: if the event were emitted again, it would still not
    // start the function
    return verdict.code === "NO_TRIGGER"
      ? { functionId, ...verdict }
      : { functionId, ...verdict, message: `${verdict.message}. ${registrationNote}` }
  }
  const deletedAt = times?.deleted_at == null ? undefined : Number(times.deleted_at)
  if (deletedAt !== undefined && deletedAt <= timestamp && verdict.code !== "NO_TRIGGER") {
    return {
      functionId,
      code: "DELETED",
      message: `The function was deleted at ${iso(deletedAt)}, before the event; a worker that registers it brings it back`
    }
  }
  const updatedAt = Number(times?.updated_at)
  // it is not known any more which triggers the function had at the time of the event
  const changeNote =
    updatedAt > timestamp
      ? `. The function was changed at ${iso(updatedAt)}, after the event, and its earlier triggers are not known any more`
      : ""
  if (verdict.code !== "MATCHES") return { functionId, ...verdict, message: verdict.message + changeNote }
  return updatedAt > timestamp
    ? {
        functionId,
        code: "CHANGED_LATER",
        message: `The event matches${changeNote}: ${advice}`
      }
    : {
        functionId,
        code: "RUN_GONE",
        message:
          "The event matches, and its run does not exist any more: it was deleted, or ended longer ago than runs are kept"
      }
}

type Judged = { readonly message: string } & (
  Omit<EventVerdict, "functionId" | "runs" | "message"> | { readonly code: "MATCHES" }
)

/** Whether the present triggers of a function accept an event that was not fired by the function's own schedule. */
const judge = ({ registration }: RegisteredFunction, view: EventView): Judged => {
  const { triggers } = registration
  const byName = triggers.filter(({ event }) => event !== undefined && matchesPattern(event, view.name))
  if (byName.length === 0) {
    return { code: "NO_TRIGGER", message: `The function ${listensTo(triggers)}` }
  }
  // an event from the schedule of another function starts this function only by a trigger that has no schedule itself
  const relevant = view.source === "cron" ? byName.filter(({ cron }) => cron === undefined) : byName
  if (relevant.length === 0) {
    return {
      code: "OTHER_SCHEDULE",
      message: "The event comes from the schedule of another function, whose events have the same name"
    }
  }
  let failed: Judged | undefined
  let unfit: Judged | undefined
  for (const trigger of relevant) {
    const { error, matched } = matchTrigger(trigger, view)
    if (matched) return { code: "MATCHES", message: "" }
    const expression = trigger.expression ?? ""
    if (error === undefined) {
      unfit ??= {
        code: "EXPRESSION_FALSE",
        message: `The expression ${quoteExpression(expression)} of the trigger "${trigger.event}" is false for the event`,
        expression
      }
    } else {
      failed ??= {
        code: "EXPRESSION_FAILED",
        message: `The expression ${quoteExpression(expression)} of the trigger "${trigger.event}" cannot be evaluated for the event: ${error}`,
        expression
      }
    }
  }
  return failed ?? unfit ?? { code: "NO_TRIGGER", message: `The function ${listensTo(triggers)}` }
}

const listensTo = (triggers: ReadonlyArray<Trigger>): string => {
  const names = triggers.flatMap(({ cron, event }) =>
    event === undefined || cron !== undefined ? [] : [event]
  )
  const crons = triggers.flatMap(({ cron }) => (cron === undefined ? [] : [cron]))
  if (names.length > 0) return `listens to ${names.map((name) => `"${name}"`).join(", ")}`
  if (crons.length > 0) return `is started by its schedule "${crons.join('", "')}"`
  return "has no trigger: other runs invoke it"
}

const iso = (at: number): string => new Date(at).toISOString()
