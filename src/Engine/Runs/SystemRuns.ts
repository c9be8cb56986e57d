/**
 * Runs that are started by system events: failure handlers, and functions with a trigger such as `system.run.*.failed`. They are
 * created in the transaction of the system event, like runs for events in the log. The system event itself is stored only with
 * these runs.
 *
 * What happens to a run that a system event started, or to a run that such a run invoked, starts nothing. Otherwise a failing
 * handler would be started for its own failure, and fail again.
 */
import type { FailedRun, FailedRunStep } from "../../OnFailure.ts"
import type { SerializedError } from "../../Errors.ts"
import { validTrace } from "../../Trace.ts"
import { type RegisteredFunction, registryOf } from "../Functions/Registry.ts"
import { endOfLog } from "../Log/EndOfLog.ts"
import { all, get, type Program, statement } from "../Store/Program.ts"
import { parseStored, parseStoredIfAny, storedPlain } from "../Store/StoredJson.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { isDamage } from "../Store/SqliteErrors.ts"
import { invocationView, jobEvent } from "./RunEvent.ts"
import { runErrorOf } from "../../RunError.ts"
import { createRun, runError } from "./RunRows.ts"
import { readKind } from "./StepKinds.ts"
import { outcomeIn } from "./Waits.ts"

/** The facts about a run in the system events that start functions. */
export interface RunOfEvent {
  readonly key: number
  readonly id: string
  readonly environment: number
  readonly function: number
}

/** Maximum number of characters of the triggering event's data, and of all outputs together, in the data of a system event. */
const MAX_DATA = 256 * 1024
/** Maximum number of characters of one output. */
const MAX_OUTPUT = 16 * 1024
/** Maximum number of steps in the data of a system event. */
const MAX_STEPS = 200

const FIND_RUN_WITH_EVENT = statement(
  "SystemRuns.findRunWithEvent",
  `SELECT r.id, r.input, r.attempt, r.created_at, r.trace, r.system_event, e.id AS e_id, e.name AS e_name, e.version AS e_version,
     e.data AS e_data, e.metadata AS e_metadata, e.source AS e_source, e.idempotency_key AS e_key, e.timestamp AS e_timestamp,
     e.entity_id, e.entity_type, e.entity_version, e.trace AS e_trace
     FROM runs r LEFT JOIN events e ON e.position = r.event WHERE r.key = ?`
)

/** Starts the failure handler of a run that has failed for good, and every function that listens for failures of runs. */
export function* startAfterFailure(
  tx: Transaction,
  run: RunOfEvent,
  error: SerializedError,
  at: number
): Program<void> {
  const environment = tx.environmentName(run.environment)
  const registry = registryOf(tx)
  const functionId = registry.byKey(run.function)?.registration.id ?? String(run.function)
  const handler = registry.failureHandlerOf(environment, functionId)
  const hasListeners = registry.hasSystemListeners(environment)
  if (handler === undefined && !hasListeners) return
  if (yield* isStartedBySystem(run.key)) return
  const row = yield* get(FIND_RUN_WITH_EVENT, run.key)
  if (row === undefined) return
  const facts = { ...factsOf(row, functionId), error: runErrorOf(error) }
  const failedAt = new Date(at).toISOString()
  const name = systemName(run.id, "failed")
  const trace = validTrace((row.trace ?? row.e_trace ?? undefined)?.toString())
  if (handler !== undefined) {
    const failed: FailedRun = { ...facts, event: eventOf(row), ...(yield* stepsOf(tx, run.key)), failedAt }
    yield* start(tx, run.environment, handler, name, failed, trace)
  }
  if (hasListeners) yield* startListeners(tx, run.environment, name, { ...facts, failedAt }, trace)
}

/** Starts the functions that listen for pauses of runs. */
export function* startAfterPause(
  tx: Transaction,
  run: RunOfEvent,
  reason: { readonly code: string; readonly message: string }
): Program<void> {
  if (!registryOf(tx).hasSystemListeners(tx.environmentName(run.environment))) return
  yield* startRunListeners(tx, run, "paused", { reason })
}

/**
 * Starts the functions that listen for a system event of a run. `suffix` is the last part of the event's name, such as
 * `paused`, and `extraData` has further members of the event's data. Starts none when
 * {@link isStartedBySystem} is true of the run.
 */
export function* startRunListeners(
  tx: Transaction,
  run: RunOfEvent,
  suffix: string,
  extraData: { readonly [name: string]: unknown }
): Program<void> {
  if (yield* isStartedBySystem(run.key)) return
  const row = yield* get(FIND_RUN_WITH_EVENT, run.key)
  if (row === undefined) return
  const functionId = registryOf(tx).byKey(run.function)?.registration.id ?? String(run.function)
  const at = new Date(tx.now()).toISOString()
  yield* startListeners(tx, run.environment, systemName(run.id, suffix), {
    ...factsOf(row, functionId),
    ...extraData,
    at
  })
}

/** Starts the functions of an environment that have a trigger for the system event. */
export function* startListeners(
  tx: Transaction,
  environment: number,
  name: string,
  data: object,
  trace: { readonly trace?: string } = {}
): Program<void> {
  const view = invocationView("run_", JSON.stringify(data), tx.now(), name)
  const { functions, warnings } = registryOf(tx).matchSystem(tx.environmentName(environment), view)
  for (const warning of warnings) tx.changes.warnings.push(`System event "${name}": ${warning}`)
  for (const fn of functions) yield* start(tx, environment, fn, name, data, trace)
}

function* start(
  tx: Transaction,
  environment: number,
  fn: RegisteredFunction,
  systemEvent: string,
  eventData: object,
  trace: { readonly trace?: string }
): Program<void> {
  const id = tx.ids.run()
  const data = JSON.stringify(eventData)
  const view = invocationView(id, data, tx.now(), systemEvent)
  yield* createRun(tx, {
    environment,
    fn,
    event: yield* endOfLog(),
    view,
    id,
    data,
    systemEvent,
    ...trace
  })
}

const systemName = (runId: string, suffix: string): string => `system.run.${runId}.${suffix}`

const FIND_CAUSE = statement("SystemRuns.findCause", "SELECT parent, system_event FROM runs WHERE key = ?")

/** Maximum number of invocations that are followed upwards. */
const MAX_DEPTH = 100

/**
 * Whether a system event started the run, or a run above it in its chain of invocations. `true` also for a chain that is longer
 * than {@link MAX_DEPTH}.
 */
function* isStartedBySystem(run: number): Program<boolean> {
  let key: number | null = run
  for (let depth = 0; key !== null && depth < MAX_DEPTH; depth++) {
    const row: Row | undefined = yield* get(FIND_CAUSE, key)
    if (row === undefined) return false
    if (row.system_event !== null) return true
    key = row.parent === null ? null : Number(row.parent)
  }
  return key !== null
}

/** The facts about a run for every caller who may read runs: without the input and the output of the run. */
const factsOf = (
  row: Row,
  functionId: string
): Pick<FailedRun, "runId" | "functionId" | "attempts" | "createdAt"> => ({
  runId: String(row.id),
  functionId,
  attempts: Number(row.attempt),
  createdAt: new Date(Number(row.created_at)).toISOString()
})

const eventOf = (row: Row): FailedRun["event"] => {
  try {
    const { data, entity, id, metadata, name, source, timestamp, version } = jobEvent(row)
    const isLarge = data.length > MAX_DATA
    return {
      id,
      name,
      version,
      data: isLarge ? null : (parseStoredIfAny(data) ?? null),
      ...(isLarge ? { dataOmitted: true } : {}),
      timestamp: new Date(timestamp).toISOString(),
      ...(source === undefined ? {} : { source }),
      ...(metadata === undefined ? {} : { metadata: parseStored(metadata) }),
      ...(entity === undefined ? {} : { entity })
    }
  } catch (error) {
    // a run whose event is damaged must end like any other
    if (!isDamage(error)) throw error
    const timestamp = new Date(Number(row.created_at)).toISOString()
    return { id: "", name: "", version: 1, data: null, dataOmitted: true, timestamp }
  }
}

const LIST_STEPS = statement(
  "SystemRuns.listSteps",
  `SELECT name, kind, failed, attempt, event, length(value) AS size, CASE WHEN failed = 1 OR length(value) <= ${MAX_OUTPUT} THEN value END AS value
     FROM steps WHERE run = ? ORDER BY seq DESC LIMIT ${MAX_STEPS}`
)

const COUNT_STEPS = statement("SystemRuns.countSteps", "SELECT count(*) AS steps FROM steps WHERE run = ?")

/** The last steps of a run, in order, without outputs that are too large. */
function* stepsOf(tx: Transaction, run: number): Program<Pick<FailedRun, "steps" | "stepsOmitted">> {
  const steps: Array<FailedRunStep> = []
  let room = MAX_DATA
  for (const row of yield* all(LIST_STEPS, run)) {
    const step = { name: String(row.name), kind: readKind(row.kind).kind, attempt: Number(row.attempt) }
    if (Number(row.failed) === 1) {
      const error = runError(row.value)
      room -= String(row.value).length
      const { code, message, name } = error
      const shownError = { message, code, ...(name === undefined ? {} : { name }) }
      steps.push({ ...step, status: "failed", error: room < 0 ? shownError : error })
      continue
    }
    const value = yield* outputOf(tx, row, room)
    room -= value?.length ?? 0
    steps.push({
      ...step,
      status: "completed",
      ...(value === null
        ? { outputOmitted: true }
        : value === undefined
          ? {}
          : { output: storedPlain(value) })
    })
  }
  const count = steps.length < MAX_STEPS ? steps.length : Number((yield* get(COUNT_STEPS, run))?.steps)
  return { steps: steps.reverse(), ...(count > steps.length ? { stepsOmitted: count - steps.length } : {}) }
}

/** The stored output of a finished step; `null` when the output does not fit into `room`, `undefined` when there is none. */
function* outputOf(tx: Transaction, row: Row, room: number): Program<string | null | undefined> {
  const maxLength = Math.min(MAX_OUTPUT, room)
  // the output may be an event in the log, whose size is not in the row: it is read unless there is no room at all
  if (Number(row.size ?? 0) > maxLength || maxLength <= 0) return null
  const outcome = yield* outcomeIn(tx, row, row.event)
  const value = outcome._tag === "Success" ? outcome.value : undefined
  return (value?.length ?? 0) > maxLength ? null : value
}
