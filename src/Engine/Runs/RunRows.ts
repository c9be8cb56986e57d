/** Rows of runs: how they are created and read. */
import { markReady } from "../Functions/ReadyFunctions.ts"
import { notifyRunObservers } from "./RunObservers.ts"
import {
  get,
  insert,
  statement,
  type Program,
  type Statement,
  inEnvironment,
  refuse,
  acrossEnvironments
} from "../Store/Program.ts"
import type { Run } from "../../Client/Client.ts"
import { type RunError, runErrorOf } from "../../RunError.ts"
import { RunNotFoundError, type SerializedError } from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import {
  actorOf,
  concurrencyKey,
  type EventView,
  type RegisteredFunction,
  registryOf
} from "../Functions/Registry.ts"
import type { JobEvent } from "../../Protocol/Worker.ts"
import type { EventEntity } from "../../Event.ts"
import { entityOfRow } from "../Log/EventViews.ts"
import { holdBackRow } from "./NewRuns.ts"
import { NO_PIN, pinsRuns } from "../Functions/Pins.ts"
import { countRunEvent } from "./RunStats.ts"
import { putAttributes } from "./SearchAttributes.ts"
import { initialStatus } from "./Transitions.ts"
import { Status, statusIn } from "./StatusRows.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { parseStored, parseStoredIfAny, storedOutput } from "../Store/StoredJson.ts"
import { checkEvent, erasedAt, EVENT_DATA, invocationEventId } from "./RunEvent.ts"
import { isLeased } from "./LeaseCache.ts"
import type { ForkedFrom } from "../Store/RunActivity.ts"
import type { EndedRunRecord } from "../Store/EndedRunRecord.ts"
import { readPause } from "./Pause.ts"

const INSERT_RUN = statement(
  "RunRows.insertRun",
  `INSERT INTO runs (id, environment, function, status, event, input, ready_at, concurrency_key, actor, parent, parent_step, trace, system_event,
       created_at, updated_at, pin, forked_from, fork_data)
     VALUES (?, ?, ?, ${Status[initialStatus]}, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

/** Creates a run. Workers can claim the run at once, unless its function is paused. */
export function* createRun(
  tx: Transaction,
  input: {
    readonly environment: number
    readonly fn: RegisteredFunction
    /** Log position of the event that starts the run; the end of the log for a run with `data`, whose event is not in the log. */
    readonly event: number
    readonly view: EventView
    readonly id?: string
    /** The data of an invoked run, or of the system event that starts the run. */
    readonly data?: JsonText
    readonly parent?: { readonly run: number; readonly stepKey: string }
    /**
     * The id of the step that invoked the run without waiting for it. Neither run is cancelled with the other, and the invoking
     * run may be deleted first.
     */
    readonly invokedBy?: string
    /** The `traceparent` of the trace that an invoked run is part of. */
    readonly trace?: string | undefined
    /** For a fork: the run that was forked, and the first step that was not copied. */
    readonly forkedFrom?: ForkedFrom
    /** For a fork: data that replaces the data of the event. */
    readonly forkData?: JsonText
    /** The name of the system event that starts the run. `data` is then the data of that event. */
    readonly systemEvent?: string
  }
): Program<{ readonly id: string; readonly key: number }> {
  const now = tx.now()
  const id = input.id ?? tx.ids.run()
  const { registration } = input.fn
  const key = yield* insert(
    INSERT_RUN,
    id,
    input.environment,
    input.fn.key,
    input.event,
    input.data ?? null,
    now,
    concurrencyKey(registration, input.view) ?? null,
    actorOf(registration, input.view) ?? null,
    input.parent?.run ?? null,
    input.parent?.stepKey ?? input.invokedBy ?? null,
    input.trace ?? null,
    input.systemEvent ?? null,
    now,
    now,
    pinsRuns(tx, input.fn) ? NO_PIN : null,
    input.forkedFrom?.runId ?? null,
    input.forkData ?? null
  )
  if (registration.searchBy !== undefined)
    yield* putAttributes(input.fn.key, key, registration.searchBy, input.view)
  noteStart(tx, input, id, now)
  // the runs of a paused function are dispatched when the pause is over
  if (input.fn.paused === undefined) markReady(tx, input.fn.key)
  return { id, key }
}

const noteStart = (
  tx: Transaction,
  input: {
    readonly environment: number
    readonly fn: RegisteredFunction
    readonly forkedFrom?: ForkedFrom
  },
  id: string,
  at: number
): void => {
  tx.changes.counts.started++
  countRunEvent(tx, "started", input.fn.key)
  notifyRunObservers(tx, () => ({
    _tag: "RunStarted",
    runId: id,
    functionId: input.fn.registration.id,
    environment: tx.environmentName(input.environment),
    at,
    ...(input.forkedFrom === undefined ? {} : { forkedFrom: input.forkedFrom })
  }))
}

/**
 * Creates a run for an event in the log, and returns the id of the run. A worker may claim the run before the run has a row: see
 * `NewRuns.ts`.
 */
export function* startRun(
  tx: Transaction,
  input: {
    readonly environment: number
    readonly fn: RegisteredFunction
    readonly position: number
    readonly event: JobEvent
    readonly view: EventView
  }
): Program<string> {
  const { environment, event, fn, position, view } = input
  const id = tx.ids.run()
  const createdAt = tx.now()
  if (
    !holdBackRow(tx, fn, { id, environment, function: fn.key, event: position, jobEvent: event, createdAt })
  ) {
    yield* createRun(tx, { environment, fn, event: position, view, id })
    return id
  }
  noteStart(tx, input, id, createdAt)
  return id
}

/** The event that started a run. */
export interface StartedBy {
  readonly name: string
  readonly entity?: EventEntity
}

const FROM_RUNS = "FROM runs r LEFT JOIN events e ON e.position = r.event"

/**
 * A query with only the columns that {@link readRun} needs, since every column costs time. The columns that begin with `e_` are
 * of the triggering event; only `e_trace` is the trace of the run itself, if the run has one.
 */
export const RUNS_WITH_EVENTS = `SELECT r.key, r.id, r.function, r.status, r.event, r.input, r.output, r.error, r.worker, r.actor, r.parent, r.parent_step, r.pause,
  r.attempt, r.created_at, r.updated_at, r.started_at, r.ended_at, r.forked_from, r.pin, r.erased_at, coalesce(r.trace, e.trace) AS e_trace,
  e.id AS e_id, e.erased_at AS e_erased_at, ${EVENT_DATA} AS e_data ${FROM_RUNS}`

/** Like {@link RUNS_WITH_EVENTS}, with every column of the run. */
export const WHOLE_RUNS = `SELECT r.*, coalesce(r.trace, e.trace) AS e_trace, e.id AS e_id, e.erased_at AS e_erased_at, ${EVENT_DATA} AS e_data ${FROM_RUNS}`

const ONE = "WHERE r.id = ? AND r.environment = ?"

const FIND_RUN = statement("RunRows.findRun", `${WHOLE_RUNS} ${ONE}`)

/** The whole row of a run with its event. Fails with `RunNotFoundError` for an unknown run. */
export const findRun = (tx: Transaction, environment: string, runId: string) =>
  oneRun(tx, FIND_RUN, environment, runId)

const SHOW_RUN = statement("RunRows.showRun", `${RUNS_WITH_EVENTS} ${ONE}`)

function* oneRun(
  tx: Transaction,
  query: Statement,
  environment: string,
  runId: string
): Program<Row, RunNotFoundError> {
  const key = tx.findEnvironment(environment)
  const row = key === undefined ? undefined : yield* get(query, runId, key)
  if (row === undefined) return yield* refuse(new RunNotFoundError(runId))
  return row
}

const FIND_STARTING_EVENT = statement(
  "RunRows.findStartingEvent",
  `SELECT coalesce(e.name, r.system_event) AS name, e.entity_id, e.entity_type, e.entity_version
     FROM runs r LEFT JOIN events e ON e.position = r.event AND r.input IS NULL WHERE r.id = ? AND r.environment = ?`
)

/**
 * The event or the system event that started a run, without its data; `undefined` for a run that was invoked or does not exist.
 */
export const startedBy = inEnvironment(
  "startedBy",
  function* (tx: Transaction, environment: string, runId: string): Program<StartedBy | undefined> {
    const row = yield* get(FIND_STARTING_EVENT, runId, tx.findEnvironment(environment) ?? null)
    return row?.name == null ? undefined : { name: String(row.name), ...entityOfRow(row) }
  },
  (_, runId) => `read run ${runId}`
)

const text = (value: unknown): string | undefined => (value == null ? undefined : String(value))

/** The times that were formatted last, with their texts. The last six bits of a time are its index. */
const shownTimes = Array.from({ length: 64 }, () => ({ at: Number.NaN, shown: "" }))

/**
 * Formats a time in epoch milliseconds as ISO 8601. Runs of one transaction have the same times, so most texts are in the cache.
 */
const iso = (value: unknown): string | undefined => {
  if (value == null) return undefined
  const at = Number(value)
  const slot = at & (shownTimes.length - 1)
  const cached = shownTimes[slot]!
  if (cached.at === at) return cached.shown
  const shown = new Date(at).toISOString()
  shownTimes[slot] = { at, shown }
  return shown
}

/** A stored error as clients see it. */
export const runError = (json: unknown): RunError =>
  // only this engine writes the column, with serialized errors
  runErrorOf(parseStored(String(json)) as SerializedError)

/** A row of {@link RUNS_WITH_EVENTS} as clients see it. */
export function* readRun(tx: Transaction, row: Row): Program<Run> {
  checkEvent(row)
  return yield* runOf(tx, row)
}

const FIND_RUN_ID = statement("RunRows.findRunId", "SELECT id FROM runs WHERE key = ?")

/** Like {@link readRun}, also for a run whose event is missing. */
export function* runOf(tx: Transaction, row: Row): Program<Run> {
  const fn = registryOf(tx).byKey(Number(row.function))
  const input = parseStoredIfAny(text(row.input ?? row.e_data))
  // optional members are set one by one, which is fast: lists have many runs
  const run: Writable<Omit<Run, "createdAt" | "updatedAt">> = {
    id: String(row.id),
    functionId: fn?.registration.id ?? String(row.function),
    eventId: row.input === null ? String(row.e_id) : invocationEventId(String(row.id)),
    status: statusIn(row)!,
    attempt: Number(row.attempt),
    maxAttempts: fn?.registration.retry.maxAttempts ?? 1,
    ...(input === undefined ? {} : { input }),
    ...storedOutput(text(row.output))
  }
  if (row.error !== null) run.error = runError(row.error)
  if (row.worker !== null) run.workerId = String(row.worker)
  if (row.actor !== null) run.actorId = actorText(String(row.actor))
  const parent = row.parent === null ? undefined : yield* get(FIND_RUN_ID, row.parent!)
  if (parent !== undefined) run.parentRunId = String(parent.id)
  else if (row.parent === null && row.parent_step !== null) run.invokedBy = runOfStep(String(row.parent_step))
  if (row.forked_from !== null) run.forkedFrom = String(row.forked_from)
  if (row.pin !== null && row.pin !== NO_PIN) run.codeVersion = String(row.pin)
  if (row.e_trace != null) run.traceId = traceIdIn(String(row.e_trace))
  if (row.pause !== null) run.pauseReason = readPause(row).message
  const erased = erasedAt(row)
  if (erased !== undefined) run.erasedAt = iso(erased)!
  if (row.started_at !== null) run.startedAt = iso(row.started_at)!
  if (row.ended_at !== null) run.endedAt = iso(row.ended_at)!
  return Object.assign(run, { createdAt: iso(row.created_at)!, updatedAt: iso(row.updated_at)! })
}

const runOfStep = (stepId: string): string => stepId.slice(0, stepId.indexOf(":"))

/** The trace id in a `traceparent`. The text was checked before it was stored. */
const traceIdIn = (trace: string): string => trace.slice(3, 35)

type Writable<A> = { -readonly [K in keyof A]: A[K] }

/** The actor of a run, as clients see it. Actors are stored as JSON, and a string is shown without its quotes. */
const actorText = (json: string): string => {
  const value: unknown = parseStored(json)
  return typeof value === "string" ? value : json
}

const FIND_RUN_ID_OF_DAMAGED = statement("RunRows.findRunIdOfDamaged", "SELECT id FROM runs WHERE +key = ?", {
  scans: "all keys, from the index of ids: only for a run whose row is damaged"
})

/** The id of a run whose row may be damaged. The id is read from an index. */
export function* runIdOf(key: number): Program<string | undefined> {
  try {
    // the `+` in the statement makes SQLite read the index and not the row
    const row = yield* get(FIND_RUN_ID_OF_DAMAGED, key)
    return row === undefined ? undefined : String(row.id)
  } catch {
    // the index is damaged too: log lines show the key instead
    return undefined
  }
}

/** Reads a run. */
export const getRun = inEnvironment(
  "getRun",
  function* (tx: Transaction, environment: string, runId: string) {
    return yield* readRun(tx, yield* oneRun(tx, SHOW_RUN, environment, runId))
  },
  (_, runId) => `read run ${runId}`
)

/** An ended run in the form of {@link getRun}, from the record that was kept in memory when the run ended. */
export const showEnding = inEnvironment(
  "showEnding",
  // this is a program because only a program can look up the function
  function* (tx: Transaction, _environment: string, ending: EndedRunRecord): Program<Run> {
    const fn = registryOf(tx).byKey(ending.function)
    const endedAt = iso(ending.endedAt)!
    return {
      id: ending.id,
      functionId: fn?.registration.id ?? String(ending.function),
      eventId: ending.eventId,
      status: ending.status,
      attempt: 1,
      maxAttempts: fn?.registration.retry.maxAttempts ?? 1,
      input: parseStored(ending.data),
      ...storedOutput(ending.output ?? undefined),
      ...(ending.error === null ? {} : { error: runError(ending.error) }),
      workerId: ending.workerId,
      ...(ending.trace === undefined ? {} : { traceId: traceIdIn(ending.trace) }),
      startedAt: iso(ending.startedAt)!,
      endedAt,
      createdAt: iso(ending.createdAt)!,
      updatedAt: endedAt
    }
  },
  (_, { id }) => `read run ${id}`
)

const SHOW_ENDED_RUN = statement(
  "RunRows.showEndedRun",
  `${RUNS_WITH_EVENTS} ${ONE} AND r.ended_at IS NOT NULL`
)

const FIND_KEY_IN_ENVIRONMENT = statement(
  "RunRows.findKeyInEnvironment",
  "SELECT key FROM runs WHERE id = ? AND environment = ?"
)

/**
 * The run if it has ended, and `undefined` if it has not. The data of a run that has not ended is not read. Fails with
 * `RunNotFoundError` for an unknown run.
 */
export const getEndedRun = inEnvironment(
  "getEndedRun",
  function* (
    tx: Transaction,
    environment: string,
    runId: string
  ): Program<Run | undefined, RunNotFoundError> {
    const key = tx.findEnvironment(environment)
    if (key !== undefined && isLeased(tx, key, runId)) return undefined
    const row = key === undefined ? undefined : yield* get(SHOW_ENDED_RUN, runId, key)
    if (row !== undefined) return yield* readRun(tx, row)
    const open = key === undefined ? undefined : yield* get(FIND_KEY_IN_ENVIRONMENT, runId, key)
    return open === undefined ? yield* refuse(new RunNotFoundError(runId)) : undefined
  },
  (_, runId) => `read run ${runId}`
)

const FIND_ENVIRONMENT_OF_RUN = statement(
  "RunRows.findEnvironmentOfRun",
  "SELECT environment FROM runs WHERE id = ?"
)

/** The environment of a run; `undefined` when there is no such run. */
export const environmentOfRun = acrossEnvironments(
  "environmentOfRun",
  function* (tx: Transaction, runId: string) {
    const row = yield* get(FIND_ENVIRONMENT_OF_RUN, runId)
    return row === undefined ? undefined : tx.environmentName(Number(row.environment))
  },
  (runId) => `read run ${runId}`
)
