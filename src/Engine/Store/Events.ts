/** The log: events start runs and satisfy waits in the transaction that stores them; messages do neither. */
import { all, among, apart, get, insert, statement, type Program } from "./Program.ts"
import { LimitExceededError } from "../../Errors.ts"
import type { EventEntity } from "../../Event.ts"
import * as Limits from "../../Limits.ts"
import { compilePattern, matchesPattern } from "../../Pattern.ts"
import { evaluateExpression, type Evaluation } from "../../Expression.ts"
import { readPath } from "../../Path.ts"
import { type EventView, eventView, type RegisteredFunction } from "../Registry.ts"
import { fingerprint, recall, recallUnscoped, remember } from "./Idempotency.ts"
import { checkEvent, createRun, invocationEventId } from "./RunRows.ts"
import type { AppendedEvent, AppendedMessage, NewEvent, NewMessage } from "./Store.ts"
import { countMessage } from "./TopicRows.ts"
import { type Row, type Transaction, WaitKind } from "./Transaction.ts"
import { fireWait } from "./Waits.ts"

/** What a row of the log is; the numbers are part of the database. */
export const LogKind = { event: 0, message: 1 } as const

/** What the expression of a wait may speak of. */
export const waitRoots = ["event", "trigger"] as const

/** The name under which the waits for a pattern are indexed. */
const ANY_NAME = "*"

/**
 * Stores an event, or finds the one that the same idempotency key has stored. `firing` is the function whose cron trigger
 * the event comes from.
 */
export function* appendEvent(
  tx: Transaction,
  input: NewEvent,
  firing?: RegisteredFunction
): Program<AppendedEvent> {
  const { idempotencyKey } = input
  if (idempotencyKey === undefined) return yield* storeEvent(tx, input, firing)
  const environment = tx.environment(input.environment)
  const print = fingerprint([], [input])
  const scope = input.webhook === undefined ? `emit ${input.name}` : `webhook ${input.webhook} ${input.name}`
  type Emitted = { eventId: string; position: number; runIds: Array<string> }
  const earlier =
    (yield* recall<Emitted>(tx, environment, scope, idempotencyKey, print)) ??
    (input.webhook === undefined
      ? undefined
      : yield* recallUnscoped<Emitted>(tx, environment, idempotencyKey, print))
  if (earlier !== undefined) {
    return { ...earlier.result, duplicate: true, conflicting: earlier.conflicting, warnings: [] }
  }

  const stored = yield* storeEvent(tx, input, firing)
  const { eventId, position, runIds } = stored
  yield* remember(tx, environment, scope, idempotencyKey, print, { eventId, position, runIds })
  return stored
}

/** Why events are not stored together: with the runs that they start, which could stop everything else for long. */
export const tooManyRuns = (
  tx: Transaction,
  environment: string,
  what: string,
  events: ReadonlyArray<{ readonly name: string }>
): LimitExceededError | undefined => {
  let runs = 0
  for (const { name } of events) runs += tx.registry.countListeners(environment, name)
  return runs > Limits.runsOfAppend && events.length > 1
    ? new LimitExceededError(
        `${what}, by the runs that its events may start,`,
        runs,
        Limits.runsOfAppend,
        "runs"
      )
    : undefined
}

/** Stores events of one environment in their order as {@link appendEvent} does; returns what refuses them. */
export function* appendEvents(
  tx: Transaction,
  inputs: ReadonlyArray<NewEvent>
): Program<ReadonlyArray<AppendedEvent> | LimitExceededError> {
  const [first] = inputs
  const refused = first && tooManyRuns(tx, first.environment, "The batch of events", inputs)
  if (refused !== undefined) return refused
  const stored: Array<AppendedEvent> = []
  for (const input of inputs) stored.push(yield* appendEvent(tx, input))
  return stored
}

/**
 * Every event enters the log here, with the runs that it starts and the waits that it satisfies. Events that are stored
 * together may share a `timestamp`.
 */
export function* storeEvent(
  tx: Transaction,
  input: NewEvent & { readonly timestamp?: number },
  firing?: RegisteredFunction
): Program<AppendedEvent> {
  const environment = tx.environment(input.environment)
  const { id, position, timestamp } = yield* insertLogRow(tx, environment, LogKind.event, input)
  tx.changes.counts.events++
  const view = eventView({
    id,
    name: input.name,
    version: input.version,
    data: input.data,
    timestamp,
    ...(input.metadata === undefined ? {} : { metadata: input.metadata }),
    ...(input.source === undefined ? {} : { source: input.source }),
    ...(input.entity === undefined ? {} : { entity: input.entity })
  })
  const matched = tx.registry.match(input.environment, view, firing)
  const runIds: Array<string> = []
  for (const fn of matched.functions)
    runIds.push((yield* createRun(tx, { environment, fn, event: position, view })).id)
  const warnings = [...matched.warnings, ...(yield* satisfyWaits(tx, environment, position, view))]
  return { eventId: id, position, runIds, duplicate: false, conflicting: false, warnings }
}

export function* appendMessage(tx: Transaction, input: NewMessage): Program<AppendedMessage> {
  const environment = tx.environment(input.environment)
  const { data, idempotencyKey, topic } = input
  if (idempotencyKey === undefined) return { ...(yield* storeMessage(tx, environment, input)), ...fresh }
  const print = fingerprint([], [{ name: topic, data }])
  const scope = `publish ${topic}`
  const earlier = yield* recall<StoredMessage>(tx, environment, scope, idempotencyKey, print)
  if (earlier !== undefined) return { ...earlier.result, duplicate: true, conflicting: earlier.conflicting }

  const stored = yield* storeMessage(tx, environment, input)
  yield* remember(tx, environment, scope, idempotencyKey, print, stored)
  return { ...stored, ...fresh }
}

const fresh = { duplicate: false, conflicting: false }

type StoredMessage = Pick<AppendedMessage, "eventId" | "sequence">

function* storeMessage(tx: Transaction, environment: number, input: NewMessage): Program<StoredMessage> {
  const { id, position } = yield* insertLogRow(tx, environment, LogKind.message, {
    name: input.topic,
    version: 1,
    data: input.data,
    ...(input.idempotencyKey === undefined ? {} : { idempotencyKey: input.idempotencyKey })
  })
  yield* countMessage(environment, input, position)
  return { eventId: id, sequence: position }
}

const END_OF_LOG = statement("Events.endOfLog", "SELECT max(position) AS position FROM events")

/** The position of the newest row of the log; 0 when it is empty. */
export function* endOfLog(): Program<number> {
  return Number((yield* get(END_OF_LOG))?.position ?? 0)
}

const END_OF_LOG_BY_NAME = statement(
  "Events.endOfLogByName",
  "SELECT position, name FROM events ORDER BY +position DESC LIMIT 1",
  { scans: "for a log whose end is damaged: the index of names is read in its place" }
)

/** The same when the last page of the log is damaged: names are indexed with their positions. Reads that whole index. */
export function* endOfLogByName(): Program<number> {
  return Number((yield* get(END_OF_LOG_BY_NAME))?.position ?? 0)
}

/** What a wait looks for. */
export interface WaitFilter {
  readonly event: string
  /** Set when `event` has wildcards. */
  readonly pattern: boolean
  readonly match?: EventMatch
}

/** How a candidate is compared: a path with the trigger's value there, or an expression. */
export type EventMatch =
  | { readonly _tag: "Path"; readonly path: string; readonly value: string }
  | { readonly _tag: "Expression"; readonly text: string }

const FIND_EVENT = statement(
  "Events.findEvent",
  "SELECT * FROM events WHERE environment = ? AND kind = 0 AND name = ? AND position > ? ORDER BY position LIMIT 200"
)

const FIND_EVENT_2 = statement(
  "Events.findEvent.2",
  "SELECT * FROM events NOT INDEXED WHERE position > ? AND environment = ? AND kind = 0 ORDER BY position LIMIT 200"
)

/** The first event after `after` that a wait of `run` accepts. */
export function* findEvent(
  tx: Transaction,
  environment: number,
  filter: WaitFilter,
  after: number,
  trigger: () => Program<EventView>
): Program<{ readonly view: EventView; readonly position: number } | undefined> {
  const accepts = filter.pattern ? compilePattern(filter.event) : undefined
  let position = after
  while (true) {
    const rows =
      accepts === undefined
        ? yield* all(FIND_EVENT, environment, filter.event, position)
        : yield* all(FIND_EVENT_2, position, environment)
    for (const row of rows) {
      position = Number(row.position)
      if (accepts !== undefined && !accepts(String(row.name))) continue
      const view = viewOfRow(row)
      if (yield* matches(tx, filter.match, view, trigger)) return { view, position }
    }
    if (rows.length < 200) return undefined
  }
}

/** A row of the log as expressions and waits see it. */
export const viewOfRow = (row: Row): EventView =>
  eventView({
    id: String(row.id),
    name: String(row.name),
    version: Number(row.version),
    data: String(row.data),
    timestamp: Number(row.timestamp),
    ...(row.metadata == null ? {} : { metadata: String(row.metadata) }),
    ...(row.source == null ? {} : { source: String(row.source) }),
    ...entityOfRow(row)
  })

/** The entity to whose stream a row of the log belongs, if any. */
export const entityOfRow = (row: Row): { readonly entity?: EventEntity } =>
  row.entity_id == null
    ? {}
    : {
        entity: {
          id: String(row.entity_id),
          type: String(row.entity_type),
          version: Number(row.entity_version)
        }
      }

/** The value at a match path as it is indexed; an absent value matches nothing. */
export const matchValue = (root: EventView, path: string): string | undefined => {
  const value = readPath(root, path)
  return value === undefined ? undefined : JSON.stringify(value)
}

function* matches(
  tx: Transaction,
  match: EventMatch | undefined,
  view: EventView,
  trigger: () => Program<EventView>
): Program<boolean> {
  if (match === undefined) return true
  if (match._tag === "Path") return matchValue(view, match.path) === match.value
  const { error, exceeded, matched } = evaluateExpression(match.text, {
    event: view,
    trigger: yield* trigger()
  })
  if (exceeded === true) {
    tx.changes.warnings.push(`Event "${view.name}" ${view.id}: match of a wait: ${error}`)
  }
  return matched
}

const INSERT_LOG_ROW = statement(
  "Events.insertLogRow",
  "INSERT INTO events (environment, kind, id, name, version, data, metadata, source, idempotency_key, timestamp, entity_id, entity_type, entity_version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

function* insertLogRow(
  tx: Transaction,
  environment: number,
  kind: number,
  input: {
    readonly name: string
    readonly version: number
    readonly data: string
    readonly metadata?: string
    readonly source?: string
    readonly idempotencyKey?: string
    readonly entity?: EventEntity
    readonly timestamp?: number
  }
): Program<{ readonly id: string; readonly position: number; readonly timestamp: number }> {
  const timestamp = input.timestamp ?? tx.now()
  const id = kind === LogKind.event ? tx.ids.event() : tx.ids.message()
  const position = yield* insert(
    INSERT_LOG_ROW,
    environment,
    kind,
    id,
    input.name,
    input.version,
    input.data,
    input.metadata ?? null,
    input.source ?? null,
    input.idempotencyKey ?? null,
    timestamp,
    input.entity?.id ?? null,
    input.entity?.type ?? null,
    input.entity?.version ?? null
  )
  tx.changes.logEnd = position
  return { id, position, timestamp }
}

const OPEN_FOR_EVENT = `environment = ? AND event = ? AND kind = ${WaitKind.event} AND fired IS NULL`

const SATISFY_WAITS = statement(
  "Events.satisfyWaits",
  `SELECT 1 FROM waits WHERE environment = ? AND event IN (?, '${ANY_NAME}') AND kind = ${WaitKind.event} AND fired IS NULL LIMIT 1`
)

const SATISFY_WAITS_2 = statement(
  "Events.satisfyWaits.2",
  `SELECT DISTINCT run AS key FROM waits WHERE ${OPEN_FOR_EVENT}`
)

const SATISFY_WAITS_3 = statement(
  "Events.satisfyWaits.3",
  `SELECT run, step_key, pattern FROM waits WHERE ${OPEN_FOR_EVENT} AND match_path = ? AND match_value = ? @sound(run, run)`
)

const SATISFY_WAITS_4 = statement(
  "Events.satisfyWaits.4",
  `SELECT DISTINCT run AS key FROM waits WHERE ${OPEN_FOR_EVENT}`
)

const SATISFY_WAITS_5 = statement(
  "Events.satisfyWaits.5",
  `SELECT run, step_key, pattern, expression FROM waits WHERE ${OPEN_FOR_EVENT} AND match_path IS NULL @sound(run, run)`
)

/** Fires every open wait that accepts the event; returns what went wrong in their expressions. */
function* satisfyWaits(
  tx: Transaction,
  environment: number,
  position: number,
  view: EventView
): Program<ReadonlyArray<string>> {
  const open = yield* get(SATISFY_WAITS, environment, view.name)
  if (open === undefined) return []
  /** What is wrong, and with how many waits: thousands of runs wait with one expression. */
  const problems = new Map<string, number>()
  for (const name of [view.name, ANY_NAME]) {
    // one wait at a time per distinct path: the index leads from path to path, and then to the equal values only
    let path: string | undefined
    while ((path = yield* nextPath(environment, name, path)) !== undefined) {
      const value = matchValue(view, path)
      if (value === undefined) continue
      const rows = yield* among(
        tx,
        "run",
        [SATISFY_WAITS_2, environment, name],
        SATISFY_WAITS_3,
        environment,
        name,
        path,
        value
      )
      for (const row of rows) {
        if (acceptsName(row, view)) yield* apartOf(tx, row, deliver(tx, row, view, position))
      }
    }
    const rest = yield* among(
      tx,
      "run",
      [SATISFY_WAITS_4, environment, name],
      SATISFY_WAITS_5,
      environment,
      name
    )
    for (const row of rest) {
      if (!acceptsName(row, view)) continue
      if (row.expression !== null) {
        const verdict = yield* apartOf(tx, row, fits(row, view))
        if (verdict.error !== undefined) {
          const problem = `match of wait "${row.step_key}": ${verdict.error}`
          problems.set(problem, (problems.get(problem) ?? 0) + 1)
        }
        if (!verdict.matched) continue
      }
      yield* apartOf(tx, row, deliver(tx, row, view, position))
    }
  }
  return [...problems].map(([problem, waits]) => (waits === 1 ? problem : `${problem} (${waits} waits)`))
}

/** The run that waits is not the one that the event is of. */
function* apartOf<A>(tx: Transaction, wait: Row, program: Program<A>): Program<A> {
  return yield* apart(tx, "run", Number(wait.run), program)
}

/** Evaluates the expression of a wait. */
function* fits(wait: Row, view: EventView): Program<Evaluation> {
  return evaluateExpression(String(wait.expression), {
    event: view,
    trigger: yield* triggerView(Number(wait.run))
  })
}

const NEXT_PATH = statement(
  "Events.nextPath",
  `SELECT match_path FROM waits WHERE ${OPEN_FOR_EVENT} AND match_path > ? ORDER BY match_path LIMIT 1`
)

function* nextPath(
  environment: number,
  name: string,
  after: string | undefined
): Program<string | undefined> {
  const row = yield* get(NEXT_PATH, environment, name, after ?? "")
  return row === undefined ? undefined : String(row.match_path)
}

/** Whether the name fits the pattern of a wait, if it has one: such waits are indexed without a name. */
const acceptsName = (row: Row, view: EventView): boolean =>
  row.pattern === null || matchesPattern(String(row.pattern), view.name)

function* deliver(tx: Transaction, row: Row, view: EventView, position: number): Program<void> {
  yield* fireWait(
    tx,
    Number(row.run),
    String(row.step_key),
    { _tag: "Success", value: view.toText() },
    position
  )
}

const TRIGGER_VIEW = statement(
  "Events.triggerView",
  "SELECT r.id AS run_id, r.input, r.created_at, e.* FROM runs r LEFT JOIN events e ON e.position = r.event WHERE r.key = ?"
)

/** The triggering event of a run. */
export function* triggerView(run: number): Program<EventView> {
  const row = yield* get(TRIGGER_VIEW, run)
  if (row === undefined) throw new Error(`no run with key ${run}`)
  checkEvent({ input: row.input!, e_id: row.id!, e_data: row.data! })
  return row.input === null
    ? viewOfRow(row)
    : invocationView(String(row.run_id), String(row.input), Number(row.created_at))
}

/** The event that an invoked run sees: there is none in the log, its data is the input. */
export const invocationView = (runId: string, input: string, createdAt: number): EventView =>
  eventView({
    id: invocationEventId(runId),
    name: "ironflow.invoke",
    version: 1,
    data: input,
    timestamp: createdAt,
    source: "invoke"
  })

/** Where a wait for `event` is indexed. */
export const waitName = (filter: WaitFilter): string => (filter.pattern ? ANY_NAME : filter.event)
