/** Rows of runs: how they come to be, how they end, and how they are read. */
import { all, apart, forEach, get, insert, statement, type Program, variant, write } from "./Program.ts"
import type { Run, RunError } from "../../Client/Client.ts"
import {
  invokeFailure,
  messageOf,
  RunNotFoundError,
  type SerializedError,
  StoreError,
  withoutEncoding
} from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import type { Outcome } from "../../Protocol/Worker.ts"
import { actorOf, concurrencyKey, type EventView, type RegisteredFunction } from "../Registry.ts"
import { type Happening, initialStatus } from "../Runs/Transitions.ts"
import { holdingJob, keepRevoked } from "./RevokedLeases.ts"
import { moves, mustMove, Status, statusIn } from "./StatusRows.ts"
import type { Row, Transaction } from "./Transaction.ts"
import { fireWait } from "./Waits.ts"
import { decodeStored, parseStored, storedOutput } from "./StoredJson.ts"

const CREATE_RUN = statement(
  "RunRows.createRun",
  `INSERT INTO runs (id, environment, function, status, event, input, ready_at, concurrency_key, actor, parent, parent_step, created_at, updated_at)
     VALUES (?, ?, ?, ${Status[initialStatus]}, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

/** Creates a run that can be claimed at once. */
export function* createRun(
  tx: Transaction,
  input: {
    readonly environment: number
    readonly fn: RegisteredFunction
    /** Log position of the trigger; for an invoked run the end of the log. */
    readonly event: number
    readonly view: EventView
    readonly id?: string
    /** Data of an invoked run. */
    readonly data?: JsonText
    readonly parent?: { readonly run: number; readonly stepKey: string }
  }
): Program<{ readonly id: string; readonly key: number }> {
  const now = tx.now()
  const id = input.id ?? tx.ids.run()
  const { registration } = input.fn
  const key = yield* insert(
    CREATE_RUN,
    id,
    input.environment,
    input.fn.key,
    input.event,
    input.data ?? null,
    now,
    concurrencyKey(registration, input.view) ?? null,
    actorOf(registration, input.view) ?? null,
    input.parent?.run ?? null,
    input.parent?.stepKey ?? null,
    now,
    now
  )
  tx.changes.counts.started++
  tx.tellOfRun(() => ({
    _tag: "RunStarted",
    runId: id,
    functionId: registration.id,
    environment: tx.environmentName(input.environment),
    at: now
  }))
  tx.markReady(input.fn.key)
  return { id, key }
}

/** Why a run is paused, and what it goes back to. */
export interface Pause {
  readonly code: string
  readonly message: string
  readonly details?: unknown
  readonly wasCompensating?: boolean
}

/** Whether the run is rolling back, or was when it was paused: then it must not be cancelled half way. */
export const isCompensating = (row: Row): boolean =>
  statusIn(row) === "compensating" ||
  // a paused run has its reason, written by `pauseRow`
  (statusIn(row) === "paused" && (parseStored(String(row.pause)) as Pause).wasCompensating === true)

const countOf = { Completed: "completed", Failed: "failed", Cancelled: "cancelled" } as const

const end = (happening: Happening): string =>
  `UPDATE runs SET ${moves[happening].set}, output = ?, error = ?, lease = NULL, lease_until = NULL, ready_at = NULL,
     pause = NULL, ended_at = ?, updated_at = ? WHERE key = ? AND ${moves[happening].where} RETURNING created_at`
const ENDS = {
  completed: end("completed"),
  failed: end("failed"),
  cancelled: end("cancelled"),
  outgrown: end("outgrown")
}

/** How a run ends. */
export type Ending =
  | { readonly _tag: "Completed"; readonly output: JsonText | undefined }
  | { readonly _tag: "Failed"; readonly error: SerializedError }
  | { readonly _tag: "Cancelled"; readonly error: SerializedError }

const END_RUN = statement("RunRows.endRun", "DELETE FROM waits WHERE run = ?")

/**
 * Ends a run: frees its lease, drops its waits, and tells the run that waits for it.
 */
export function* endRun(
  tx: Transaction,
  run: {
    readonly key: number
    readonly id: string
    readonly environment: number
    readonly function: number
    readonly parent: number | null
    readonly mayHaveWaits?: boolean
  },
  ending: Ending,
  happening: keyof typeof ENDS = countOf[ending._tag]
): Program<void> {
  const now = tx.now()
  tx.forgetLease(run.key)
  tx.suspects.release(run.key)
  const ended = yield* get(
    variant("RunRows.endRun", ENDS[happening]),
    ending._tag === "Completed" ? (ending.output ?? null) : null,
    ending._tag === "Completed" ? null : JSON.stringify(ending.error),
    now,
    now,
    run.key
  )
  yield* mustMove(run.key, happening, ended)
  if (run.mayHaveWaits !== false) yield* write(END_RUN, run.key)
  tx.changes.counts[countOf[ending._tag]]++
  tx.markEnded(run.id)
  tx.tellOfRun(() => ({
    _tag: "RunEnded",
    runId: run.id,
    functionId: functionIdOf(tx, run.function),
    environment: tx.environmentName(run.environment),
    status: countOf[ending._tag],
    outcome:
      ending._tag === "Completed"
        ? { _tag: "Success", value: ending.output }
        : { _tag: "Failure", error: ending.error },
    createdAt: Number(ended?.created_at ?? now),
    endedAt: now
  }))
  tx.markRoom(run.function)
  tx.markFreed(run.function)
  if (run.parent !== null) yield* tellParent(tx, run, ending)
}

/** The id of the function with this key. */
export const functionIdOf = (tx: Transaction, key: number): string =>
  tx.registry.byKey(key)?.registration.id ?? String(key)

/** Cancels an unfinished run and the children that it waits for, and tells their live turns. */
export function* cancelRow(tx: Transaction, row: Row, reason: string): Program<void> {
  return yield* cancelAll(tx, [{ row, reason }])
}

const CANCEL_AWAITED = statement(
  "RunRows.cancelAwaited",
  "DELETE FROM waits WHERE run = ? AND child IS NOT NULL"
)

/** Takes out the waits of a run for its children, and with `reason` cancels those that have not ended. */
export function* cancelAwaited(tx: Transaction, run: number, reason: string): Program<void> {
  const children = yield* awaitedChildren(run)
  yield* write(CANCEL_AWAITED, run)
  yield* cancelAll(
    tx,
    children.map((row) => ({ row, reason }))
  )
}

interface ToCancel {
  readonly row: Row
  readonly reason: string
}

function* cancelAll(tx: Transaction, runs: ReadonlyArray<ToCancel>): Program<void> {
  // a list and no recursion: a function that invokes itself makes chains of any length
  const left = [...runs]
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const { id, key } = next.row
    const children = yield* awaitedChildren(Number(key))
    yield* cancelAlone(tx, next.row, next.reason)
    for (const row of children) left.push({ row, reason: `Parent run ${id} was cancelled` })
  }
}

const AWAITED_CHILDREN = statement(
  "RunRows.awaitedChildren",
  "SELECT child FROM waits WHERE run = ? AND child IS NOT NULL AND fired IS NULL"
)

const AWAITED_CHILDREN_2 = statement(
  "RunRows.awaitedChildren.2",
  "SELECT * FROM runs WHERE key = ? AND ended_at IS NULL"
)

/** The children that a run waits for; those that are rolling back go on with that. */
function* awaitedChildren(run: number): Program<ReadonlyArray<Row>> {
  return (yield* forEach(yield* all(AWAITED_CHILDREN, run), ({ child }) =>
    get(AWAITED_CHILDREN_2, child!)
  )).filter((row): row is Row => row !== undefined && !isCompensating(row))
}

function* cancelAlone(tx: Transaction, row: Row, reason: string): Program<void> {
  const jobId = holdingJob(row)
  if (jobId !== undefined) tx.notify(String(row.worker), { _tag: "Cancelled", jobId, reason })
  yield* endRun(
    tx,
    {
      key: Number(row.key),
      id: String(row.id),
      environment: Number(row.environment),
      function: Number(row.function),
      parent: row.parent === null ? null : Number(row.parent)
    },
    {
      _tag: "Cancelled",
      error: {
        name: "RunCancelledError",
        message: reason,
        code: "RUN_CANCELLED",
        retryable: false,
        data: { runId: row.id }
      }
    }
  )
  yield* keepRevoked(tx, row)
}

const TELL_PARENT = statement(
  "RunRows.tellParent",
  "SELECT run, step_key FROM waits WHERE child = ? AND fired IS NULL"
)

function* tellParent(
  tx: Transaction,
  run: { readonly key: number; readonly id: string; readonly function: number },
  ending: Ending
): Program<void> {
  const waiting = yield* get(TELL_PARENT, run.key)
  if (waiting === undefined) return
  const parent = Number(waiting.run)
  // it cannot be told, which must not keep the child from ending
  if (tx.damage.why("run", parent) !== undefined) return
  const functionId = functionIdOf(tx, run.function)
  const outcome: Outcome =
    ending._tag === "Completed"
      ? { _tag: "Success", value: ending.output }
      : {
          _tag: "Failure",
          error: invokeFailure(functionId, run.id, ending.error)
        }
  yield* apart(tx, "run", parent, fireWait(tx, parent, String(waiting.step_key), outcome))
}

/** Runs, each with the id and the data of its triggering event. */
export const RUNS_WITH_EVENTS =
  "SELECT r.*, e.id AS e_id, e.data AS e_data FROM runs r LEFT JOIN events e ON e.position = r.event"

/** The id of the event that an invoked run sees; there is none in the log. */
export const invocationEventId = (runId: string): string => `evt_${runId.slice(runId.indexOf("_") + 1)}`

/** Throws a `StoreError` when {@link problemWithEvent} finds something. */
export const checkEvent = (row: Row): void => {
  const problem = problemWithEvent(row)
  if (problem !== undefined) throw new StoreError(problem, { code: "STORE_CORRUPT" })
}

/**
 * What is wrong when the event of a row with `e_id` and `e_data` is not in the log. Events are never deleted, and an invoked
 * run has its input instead.
 */
export const problemWithEvent = (row: Row): string | undefined =>
  row.input === null && (row.e_id === null || row.e_data === null)
    ? "the event that has started the run cannot be found, since the log is damaged"
    : undefined

const FIND_RUN = statement("RunRows.findRun", `${RUNS_WITH_EVENTS} WHERE r.id = ? AND r.environment = ?`)

/** The row of a run with its event, or a `RunNotFoundError`. */
export function* findRun(tx: Transaction, environment: string, runId: string): Program<Row> {
  const key = tx.findEnvironment(environment)
  const row = key === undefined ? undefined : yield* get(FIND_RUN, runId, key)
  if (row === undefined) throw new RunNotFoundError(runId)
  return row
}

const EVENT_NAME_OF = statement(
  "RunRows.eventNameOf",
  "SELECT e.name FROM runs r JOIN events e ON e.position = r.event WHERE r.id = ? AND r.environment = ? AND r.input IS NULL"
)

/** The name of the event that has started a run; `undefined` for one that was invoked, or is not there. */
export function* eventNameOf(
  tx: Transaction,
  environment: string,
  runId: string
): Program<string | undefined> {
  const row = yield* get(EVENT_NAME_OF, runId, tx.findEnvironment(environment) ?? null)
  return text(row?.name)
}

const HAS_ENDED = statement("RunRows.hasEnded", "SELECT ended_at FROM runs WHERE id = ? AND environment = ?")

/** Whether a run has ended; throws `RunNotFoundError` when there is none. */
export function* hasEnded(tx: Transaction, environment: string, runId: string): Program<boolean> {
  const key = tx.findEnvironment(environment)
  const row = key === undefined ? undefined : yield* get(HAS_ENDED, runId, key)
  if (row === undefined) throw new RunNotFoundError(runId)
  return row.ended_at !== null
}

const text = (value: unknown): string | undefined => (value == null ? undefined : String(value))
const iso = (value: unknown): string | undefined =>
  value == null ? undefined : new Date(Number(value)).toISOString()

/** A stored error as clients see it. */
export const runError = (json: unknown): RunError =>
  // written by this engine: it is a serialised error
  toRunError(parseStored(String(json)) as SerializedError)

const toRunError = (stored: SerializedError): RunError => {
  const error = withoutEncoding(stored)
  const stack = stackOf(error)
  const details = error.data?.details ?? error.data
  return {
    message: messageOf(error),
    code: error.code ?? "ERROR",
    name: error.name,
    ...(stack === undefined ? {} : { stack }),
    ...(error.retryable === undefined ? {} : { retryable: error.retryable }),
    ...(details === undefined ? {} : { details }),
    ...(error.cause === undefined ? {} : { cause: toRunError(error.cause) })
  }
}

/** The stacks of an error and its causes. Where a step's error was wrapped is of no use to anybody but us. */
const stackOf = (error: SerializedError): string | undefined => {
  const cause = error.cause === undefined ? undefined : stackOf(error.cause)
  if (cause === undefined) return error.stack
  const own = error.name === "StepError" ? `${error.name}: ${error.message}` : error.stack
  return own === undefined ? cause : `${own}\nCaused by: ${cause}`
}

/** A row of {@link RUNS_WITH_EVENTS} as clients see it. */
export function* readRun(tx: Transaction, row: Row): Program<Run> {
  checkEvent(row)
  return yield* runOf(tx, row)
}

const RUN_OF = statement("RunRows.runOf", "SELECT id FROM runs WHERE key = ?")

/** The same, also of a run whose event is missing. */
export function* runOf(tx: Transaction, row: Row): Program<Run> {
  const fn = tx.registry.byKey(Number(row.function))
  const optional = {
    input: decodeStored(text(row.input ?? row.e_data)),
    ...storedOutput(text(row.output)),
    error: row.error === null ? undefined : runError(row.error),
    workerId: text(row.worker),
    actorId: row.actor === null ? undefined : actorText(String(row.actor)),
    parentRunId: row.parent === null ? undefined : text((yield* get(RUN_OF, row.parent!))?.id),
    pauseReason: row.pause === null ? undefined : (parseStored(String(row.pause)) as Pause).message,
    startedAt: iso(row.started_at),
    endedAt: iso(row.ended_at)
  }
  return {
    id: String(row.id),
    functionId: fn?.registration.id ?? String(row.function),
    eventId: row.input === null ? String(row.e_id) : invocationEventId(String(row.id)),
    status: statusIn(row)!,
    attempt: Number(row.attempt),
    maxAttempts: fn?.registration.retry.maxAttempts ?? 1,
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
    createdAt: iso(row.created_at)!,
    updatedAt: iso(row.updated_at)!
  }
}

/** An actor is stored as JSON; a string reads better without its quotes. */
const actorText = (json: string): string => {
  const value: unknown = parseStored(json)
  return typeof value === "string" ? value : json
}

const RUN_ID_OF = statement("RunRows.runIdOf", "SELECT id FROM runs WHERE +key = ?", {
  scans: "for a run whose row is damaged: the index of ids is read in its place"
})

/** The id of a run whose row may be out of reach: it is in an index too. */
export function* runIdOf(key: number): Program<string | undefined> {
  try {
    // without the `+` the row would be read and not the index
    const row = yield* get(RUN_ID_OF, key)
    return row === undefined ? undefined : String(row.id)
  } catch {
    // a name for the log: the index is damaged too
    return undefined
  }
}
