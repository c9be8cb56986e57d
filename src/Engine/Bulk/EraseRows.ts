/**
 * Erases the data of an event or a run, and collects the runs that came from it. The rows of events, runs, steps and recordings
 * stay, with their ids, times and statuses, and a mark replaces their data. Most other rows with such data are deleted.
 * `docs/erasing.md` lists the tables, and a test checks all columns.
 */
import type { SerializedError } from "../../Errors.ts"
import type { Erased } from "../../Erased.ts"
import { matchesPattern } from "../../Pattern.ts"
import type { Outcome } from "../../Protocol/Worker.ts"
import { forgetLastText } from "../Log/EventViews.ts"
import { LogKind } from "../Log/LogRecords.ts"
import { eventsOf } from "../Projections/ProjectionRows.ts"
import { registryOf } from "../Functions/Registry.ts"
import { dropCalls } from "../Runs/HookCalls.ts"
import { all, get, type Program, statement, write } from "../Store/Program.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { RunActivity } from "../Store/RunActivity.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { FollowPlace } from "./EraseRecords.ts"

/** The mark that replaces erased data, as JSON text. */
const markOf = (at: number): string => {
  const mark: Erased = { $erased: new Date(at).toISOString() }
  return JSON.stringify(mark)
}

/** Replaces erased texts, such as the messages of errors. */
const ERASED_TEXT = "Erased"

/** A stored error without its message, data and stack. Its name and code are kept. */
const erasedError = (text: string): string =>
  JSON.stringify(withoutDetails(parseStored(text) as SerializedError))

const withoutDetails = ({ base, code, name, retryable }: SerializedError): SerializedError => ({
  name,
  message: ERASED_TEXT,
  ...(code === undefined ? {} : { code }),
  ...(retryable === undefined ? {} : { retryable }),
  ...(base === undefined ? {} : { base })
})

// ---------------------------------------------------------------------------------------------------------------------
// Events and messages
// ---------------------------------------------------------------------------------------------------------------------

const FIND_EVENT = statement(
  "EraseRows.findEvent",
  `SELECT position, environment, kind, name, entity_id, entity_version, idempotency_key, erased_at, octet_length(data) AS bytes
     FROM events WHERE position = ? AND environment = ?`
)
const ERASE_EVENT = statement(
  "EraseRows.eraseEvent",
  "UPDATE events SET data = ?, metadata = NULL, idempotency_key = NULL, erased_at = ? WHERE position = ? AND environment = ?"
)
const LESSEN_TOPIC_BYTES = statement(
  "EraseRows.lessenTopicBytes",
  "UPDATE topics SET bytes = bytes - ? WHERE environment = ? AND name = ?"
)
const DELETE_IDEMPOTENCY_KEY = statement(
  "EraseRows.deleteIdempotencyKey",
  "DELETE FROM idempotency WHERE environment = ? AND operation = ? AND key = ?"
)
const FIND_NEXT_WEBHOOK = statement(
  "EraseRows.findNextWebhook",
  "SELECT operation FROM idempotency WHERE environment = ? AND operation > ? AND operation < 'webhook!' ORDER BY operation LIMIT 1"
)
const DELETE_SNAPSHOTS = statement(
  "EraseRows.deleteSnapshots",
  "DELETE FROM snapshots WHERE environment = ? AND entity_id = ? AND entity_version >= ?"
)
const DELETE_FAN_OUT = statement(
  "EraseRows.deleteFanOut",
  "DELETE FROM fan_outs WHERE environment = ? AND event = ? AND position = ?"
)
const ofGroups = (name: string, table: string) =>
  statement(
    `EraseRows.${name}`,
    `DELETE FROM ${table} WHERE position = ? AND consumer_group IN (SELECT key FROM consumer_groups WHERE environment = ?)`
  )
const FORGET_DELIVERIES = ofGroups("forgetDeliveries", "deliveries")
const FORGET_GIVEN_UP = ofGroups("forgetGivenUp", "group_dead_letters")
const DELETE_DEAD_LETTERS = statement(
  "EraseRows.deleteDeadLetters",
  "DELETE FROM dead_letters WHERE position = ? AND projection IN (SELECT key FROM projections WHERE environment = ?)"
)
const LIST_PROJECTIONS = statement(
  "EraseRows.listProjections",
  "SELECT key, name, events, position, failing, error_position FROM projections WHERE environment = ?"
)
const ERASE_PROJECTION_ERROR = statement(
  "EraseRows.eraseProjectionError",
  "UPDATE projections SET error = ? WHERE key = ? AND error IS NOT NULL"
)

/** The row of an event or message; `undefined` when it was deleted, or is of another environment. */
export const eventRow = (position: number, environment: number): Program<Row | undefined> =>
  get(FIND_EVENT, position, environment)

/** Erases the data of an event or a message. Returns the names of the projections that had processed the event. */
export function* eraseEvent(tx: Transaction, row: Row): Program<ReadonlyArray<string>> {
  const position = Number(row.position)
  const environment = Number(row.environment)
  const name = String(row.name)
  const now = tx.now()
  const mark = markOf(now)
  yield* write(ERASE_EVENT, mark, now, position, environment)
  forgetLastText(tx)
  if (row.kind === LogKind.message)
    yield* write(LESSEN_TOPIC_BYTES, Number(row.bytes) - Buffer.byteLength(mark), environment, name)
  if (row.idempotency_key !== null) {
    const operations = [
      `${row.kind === LogKind.message ? "publish" : "emit"} ${name}`,
      ...(row.entity_id === null ? [] : [`append ${row.entity_id}`])
    ]
    // it is not stored through which webhook an event came, so all webhooks are tried, which are few
    for (let last = "webhook"; ;) {
      const next = yield* get(FIND_NEXT_WEBHOOK, environment, last)
      if (next === undefined) break
      last = String(next.operation)
      if (last.endsWith(` ${name}`)) operations.push(last)
    }
    for (const operation of [...operations, "webhook"])
      yield* write(DELETE_IDEMPOTENCY_KEY, environment, operation, row.idempotency_key!)
  }
  if (row.entity_id !== null) yield* write(DELETE_SNAPSHOTS, environment, row.entity_id!, row.entity_version!)
  for (const awaited of [name, "*"]) yield* write(DELETE_FAN_OUT, environment, awaited, position)
  yield* write(FORGET_DELIVERIES, position, environment)
  yield* write(FORGET_GIVEN_UP, position, environment)
  yield* write(DELETE_DEAD_LETTERS, position, environment)
  const projectionNames: Array<string> = []
  if (row.kind === LogKind.event) {
    for (const projection of yield* all(LIST_PROJECTIONS, environment)) {
      if (!eventsOf(projection).some((pattern) => matchesPattern(pattern, name))) continue
      if (projection.error_position === position || projection.failing === position)
        yield* write(ERASE_PROJECTION_ERROR, ERASED_TEXT, projection.key!)
      if (Number(projection.position) >= position) projectionNames.push(String(projection.name))
    }
  }
  return projectionNames
}

// ---------------------------------------------------------------------------------------------------------------------
// Runs
// ---------------------------------------------------------------------------------------------------------------------

const FIND_RUN = statement(
  "EraseRows.findRun",
  `SELECT key, id, environment, function, event, status, input, error, actor, parent, parent_step, ended_at, erased_at
     FROM runs WHERE key = ? AND environment = ?`
)
const ERASE_RUN = statement(
  "EraseRows.eraseRun",
  `UPDATE runs SET input = CASE WHEN input IS NULL THEN NULL ELSE CAST(?1 AS TEXT) END,
       fork_data = CASE WHEN input IS NULL THEN CAST(?1 AS TEXT) END, output = CASE WHEN output IS NULL THEN NULL ELSE CAST(?1 AS TEXT) END,
       error = ?2, pause = NULL, concurrency_key = NULL, actor = NULL, erased_at = ?3 WHERE key = ?4`
)
const ERASE_STEPS = statement(
  "EraseRows.eraseSteps",
  "UPDATE steps SET value = ? WHERE run = ? AND failed = 0 AND (value IS NOT NULL OR event IS NOT NULL)"
)
const LIST_FAILED_STEPS = statement(
  "EraseRows.listFailedSteps",
  "SELECT step_key, value FROM steps WHERE run = ? AND failed = 1"
)
const FIND_STEP = statement(
  "EraseRows.findStep",
  "SELECT failed, value FROM steps WHERE run = ? AND step_key = ?"
)
const ERASE_STEP = statement(
  "EraseRows.eraseStep",
  "UPDATE steps SET value = ? WHERE run = ? AND step_key = ?"
)
const DELETE_SUPERSEDED_STEPS = statement(
  "EraseRows.deleteSupersededSteps",
  "DELETE FROM superseded_steps WHERE run = ?"
)
const DELETE_SUPERSEDED_STEP = statement(
  "EraseRows.deleteSupersededStep",
  "DELETE FROM superseded_steps WHERE run = ? AND step_key = ?"
)
const DELETE_WAITS = statement("EraseRows.deleteWaits", "DELETE FROM waits WHERE run = ?")
const DELETE_ATTRIBUTES = statement("EraseRows.deleteAttributes", "DELETE FROM run_attributes WHERE run = ?")
const DELETE_LOGS = statement("EraseRows.deleteLogs", "DELETE FROM run_logs WHERE run = ?")
const DELETE_ACTOR = statement("EraseRows.deleteActor", "DELETE FROM actors WHERE function = ? AND actor = ?")
const LIST_IDEMPOTENCY_KEYS_OF_RUN = statement(
  "EraseRows.listIdempotencyKeysOfRun",
  "SELECT key FROM idempotency WHERE environment = ? AND operation = ? AND result LIKE ?"
)
const LIST_AUDIT_RECORDS = statement(
  "EraseRows.listAuditRecords",
  "SELECT seq, activity FROM recordings WHERE run_id = ?"
)
const ERASE_AUDIT_RECORD = statement(
  "EraseRows.eraseAuditRecord",
  "UPDATE recordings SET activity = ? WHERE run_id = ? AND seq = ?"
)
const FIND_PARENT = statement(
  "EraseRows.findParent",
  "SELECT key, id, error, erased_at FROM runs WHERE key = ?"
)
const ERASE_ERROR = statement("EraseRows.eraseError", "UPDATE runs SET error = ? WHERE key = ?")

/** The row of a run; `undefined` when it was deleted, or is of another environment. */
export const runRow = (key: number, environment: number): Program<Row | undefined> =>
  get(FIND_RUN, key, environment)

/** Erases the data of a run that has ended, and the run's result in the run that invoked it. */
export function* eraseRun(tx: Transaction, row: Row): Program<void> {
  const key = Number(row.key)
  const now = tx.now()
  const mark = markOf(now)
  yield* write(ERASE_RUN, mark, row.error === null ? null : erasedError(String(row.error)), now, key)
  yield* write(ERASE_STEPS, mark, key)
  for (const step of yield* all(LIST_FAILED_STEPS, key))
    yield* write(ERASE_STEP, erasedError(String(step.value)), key, step.step_key!)
  yield* write(DELETE_SUPERSEDED_STEPS, key)
  yield* write(DELETE_WAITS, key)
  yield* write(DELETE_ATTRIBUTES, key)
  yield* write(DELETE_LOGS, key)
  if (row.actor !== null) yield* write(DELETE_ACTOR, row.function!, row.actor!)
  yield* eraseAuditRecords(String(row.id), mark, () => true)
  yield* dropCalls(tx, String(row.id))
  // the idempotency key of a run that a client started is only in the table `idempotency`
  if (row.input !== null && row.parent === null) yield* forgetRunKey(tx, row)
  if (row.parent !== null && row.parent_step !== null)
    yield* eraseResult(Number(row.parent), String(row.parent_step), mark)
}

function* forgetRunKey(tx: Transaction, row: Row): Program<void> {
  const id = registryOf(tx).byKey(Number(row.function))?.registration.id
  if (id === undefined) return
  const operation = `run ${id}`
  for (const { key } of yield* all(
    LIST_IDEMPOTENCY_KEYS_OF_RUN,
    row.environment!,
    operation,
    `%"${row.id}"%`
  ))
    yield* write(DELETE_IDEMPOTENCY_KEY, row.environment!, operation, key!)
}

function* eraseResult(parent: number, stepKey: string, mark: string): Program<void> {
  const row = yield* get(FIND_PARENT, parent)
  const step = yield* get(FIND_STEP, parent, stepKey)
  if (row === undefined || row.erased_at !== null) return
  yield* write(DELETE_SUPERSEDED_STEP, parent, stepKey)
  const hasFailed = step?.failed === 1
  if (step !== undefined && step.value !== null)
    yield* write(ERASE_STEP, hasFailed ? erasedError(String(step.value)) : mark, parent, stepKey)
  // the error of the parent repeats the error of the child
  if (hasFailed && row.error !== null) yield* write(ERASE_ERROR, erasedError(String(row.error)), parent)
  yield* eraseAuditRecords(
    String(row.id),
    mark,
    (activity) =>
      ("name" in activity && activity.name === stepKey) ||
      (hasFailed && (activity._tag === "RunEnded" || activity._tag === "RunFailed"))
  )
}

function* eraseAuditRecords(
  runId: string,
  mark: string,
  isSelected: (activity: RunActivity) => boolean
): Program<void> {
  for (const { activity: text, seq } of yield* all(LIST_AUDIT_RECORDS, runId)) {
    // only `record` and this function write this column
    const activity = parseStored(String(text)) as RunActivity
    if (isSelected(activity))
      yield* write(ERASE_AUDIT_RECORD, JSON.stringify(withoutData(activity, mark)), runId, seq!)
  }
}

const withoutData = (activity: RunActivity, mark: string): RunActivity => {
  switch (activity._tag) {
    case "StepEnded": {
      const { received: _, ...rest } = activity
      return { ...rest, outcome: outcomeWithoutData(activity.outcome, mark) }
    }
    case "RunEnded":
      return { ...activity, outcome: outcomeWithoutData(activity.outcome, mark) }
    case "StepFailed":
    case "RunFailed":
      return { ...activity, error: withoutDetails(activity.error) }
    case "RunPaused":
      return { ...activity, message: ERASED_TEXT }
    case "StepPatched":
      return { ...activity, reason: ERASED_TEXT }
    default:
      return activity
  }
}

const outcomeWithoutData = (outcome: Outcome, mark: string): Outcome =>
  outcome._tag === "Success"
    ? { _tag: "Success", value: mark }
    : { _tag: "Failure", error: withoutDetails(outcome.error) }

// ---------------------------------------------------------------------------------------------------------------------
// Runs that came from the targets
// ---------------------------------------------------------------------------------------------------------------------

const ITEMS = "INSERT INTO erase_items (operation, kind, key, followed)"
const collectStatement = (name: string, from: string) =>
  statement(
    `EraseRows.${name}`,
    `${ITEMS} SELECT CAST(?1 AS BIGINT), 1, r.key, 0 ${from} ON CONFLICT DO NOTHING`
  )
const ADD_STARTED_RUNS = collectStatement(
  "started",
  "FROM functions f JOIN runs r ON r.function = f.key AND r.event = ?2 WHERE f.environment = ?3 AND r.input IS NULL AND r.erased_at IS NULL"
)
/** How many runs that have received an event are on a page. */
const RECEIVERS_PER_PAGE = 2000

/**
 * Statements that collect the runs that have received an event. There may be very many such runs. So `add` adds one page of these
 * runs, in the order of their keys, and `page` finds the last key of the page.
 */
const receiverStatements = (name: string, from: string, table: string, column: string) => ({
  page: statement(
    `EraseRows.${name}Page`,
    `SELECT count(*) AS count, max(run) AS last FROM
       (SELECT run FROM ${table} WHERE ${column} = ?1 AND run > ?2 ORDER BY run LIMIT ${RECEIVERS_PER_PAGE}) AS page`,
    { scans: "a page, which an index has found" }
  ),
  add: collectStatement(
    name,
    `${from} WHERE w.${column} = ?2 AND w.run > ?4 AND w.run <= ?5 AND r.environment = ?3 AND r.erased_at IS NULL`
  ),
  /** Of the runs that have received the event, finds those that are unfinished, or are not among the items yet. */
  findRemaining: statement(
    `EraseRows.${name}Left`,
    `SELECT r.key, r.id, r.ended_at ${from} WHERE w.${column} = ?1 AND r.environment = ?2 AND (r.ended_at IS NULL
       OR (r.erased_at IS NULL AND NOT EXISTS (SELECT 1 FROM erase_items i WHERE i.operation = ?3 AND i.kind = 1 AND i.key = r.key)))
       LIMIT ${RECEIVERS_PER_PAGE}`
  )
})
const receiverQueries = [
  receiverStatements("received", "FROM steps w JOIN runs r ON r.key = w.run", "steps", "event"),
  receiverStatements("receiving", "FROM waits w JOIN runs r ON r.key = w.run", "waits", "event_position")
] as const
const ADD_CHILDREN = collectStatement(
  "children",
  "FROM runs r WHERE r.parent = ?2 AND r.environment = ?3 AND r.erased_at IS NULL"
)
const ADD_FORKS = collectStatement(
  "forks",
  "FROM runs r WHERE r.forked_from = ?2 AND r.environment = ?3 AND r.erased_at IS NULL"
)
const ADD_SYSTEM_EVENT_RUNS = collectStatement(
  "told",
  "FROM runs r WHERE r.system_event >= ?2 AND r.system_event < ?4 AND r.environment = ?3 AND r.erased_at IS NULL"
)

/**
 * Adds the runs that received an event, page by page, and before the first page the runs that the event started. Returns where to
 * continue when a page is full, and `undefined` when all these runs are added.
 */
export function* followEvent(
  operation: number,
  position: number,
  environment: number,
  from: FollowPlace | undefined
): Program<FollowPlace | undefined> {
  if (from === undefined) yield* write(ADD_STARTED_RUNS, operation, position, environment)
  for (const [way, { add, page }] of receiverQueries.entries()) {
    if (way < (from?.way ?? 0)) continue
    const after = from?.way === way ? from.after : 0
    const found = yield* get(page, position, after)
    const last = Number(found?.last ?? after)
    yield* write(add, operation, position, environment, after, last)
    if (Number(found?.count) === RECEIVERS_PER_PAGE) return { event: position, way, after: last }
  }
  return undefined
}

/** Adds the runs that a run invoked, its forks, and the runs that its system events started. */
export function* followRun(operation: number, row: Row): Program<void> {
  const environment = row.environment!
  yield* write(ADD_CHILDREN, operation, row.key!, environment)
  yield* write(ADD_FORKS, operation, row.id!, environment)
  // `"/"` is the character after `"."`, so this range has all names with this prefix
  yield* write(
    ADD_SYSTEM_EVENT_RUNS,
    operation,
    `system.run.${row.id}.`,
    environment,
    `system.run.${row.id}/`
  )
}

const LIST_OPEN_RUNS_OF_EVENT = statement(
  "EraseRows.listOpenRunsOfEvent",
  `SELECT r.id FROM functions f JOIN runs r ON r.function = f.key AND r.event = ?1
     WHERE f.environment = ?2 AND r.input IS NULL AND r.ended_at IS NULL AND r.erased_at IS NULL LIMIT 1`
)
const INSERT_RUN_ITEM = statement(
  "EraseRows.insertRunItem",
  "INSERT INTO erase_items (operation, kind, key, followed) VALUES (?, 1, ?, 0) ON CONFLICT DO NOTHING"
)

/**
 * Finds an unfinished run that needs the event. If there is none, returns `undefined`, and has added to the items the runs that
 * the event has started since the items were collected, and the runs that have received the event since.
 */
export function* findUnfinishedRunOf(
  operation: number,
  position: number,
  environment: number
): Program<string | undefined> {
  const started = yield* get(LIST_OPEN_RUNS_OF_EVENT, position, environment)
  if (started !== undefined) return String(started.id)
  yield* write(ADD_STARTED_RUNS, operation, position, environment)
  for (const { findRemaining } of receiverQueries) {
    for (let mayHaveMore = true; mayHaveMore;) {
      const rows = yield* all(findRemaining, position, environment, operation)
      const open = rows.find(({ ended_at }) => ended_at === null)
      if (open !== undefined) return String(open.id)
      for (const { key } of rows) yield* write(INSERT_RUN_ITEM, operation, key!)
      mayHaveMore = rows.length === RECEIVERS_PER_PAGE
    }
  }
  return undefined
}
