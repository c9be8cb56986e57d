/** The log: events start runs and satisfy waits in the transaction that stores them; messages do neither. */
import type { EventEntity } from "../../Event.ts"
import { compilePattern, matchesPattern } from "../../Pattern.ts"
import { evaluateExpression } from "../../Expression.ts"
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
export const appendEvent = (tx: Transaction, input: NewEvent, firing?: RegisteredFunction): AppendedEvent => {
  const { idempotencyKey } = input
  if (idempotencyKey === undefined) return storeEvent(tx, input, firing)
  const environment = tx.environment(input.environment)
  const print = fingerprint([], [input])
  const scope = input.webhook === undefined ? `emit ${input.name}` : `webhook ${input.webhook} ${input.name}`
  type Emitted = { eventId: string; position: number; runIds: Array<string> }
  const earlier =
    recall<Emitted>(tx, environment, scope, idempotencyKey, print) ??
    (input.webhook === undefined
      ? undefined
      : recallUnscoped<Emitted>(tx, environment, idempotencyKey, print))
  if (earlier !== undefined) {
    return { ...earlier.result, duplicate: true, conflicting: earlier.conflicting, warnings: [] }
  }

  const stored = storeEvent(tx, input, firing)
  const { eventId, position, runIds } = stored
  remember(tx, environment, scope, idempotencyKey, print, { eventId, position, runIds })
  return stored
}

/**
 * Every event enters the log here, with the runs that it starts and the waits that it satisfies. Events that are stored
 * together may share a `timestamp`.
 */
export const storeEvent = (
  tx: Transaction,
  input: NewEvent & { readonly timestamp?: number },
  firing?: RegisteredFunction
): AppendedEvent => {
  const environment = tx.environment(input.environment)
  const { id, position, timestamp } = insertLogRow(tx, environment, LogKind.event, input)
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
  const runIds = matched.functions.map((fn) => createRun(tx, { environment, fn, event: position, view }).id)
  const warnings = [...matched.warnings, ...satisfyWaits(tx, environment, position, view)]
  return { eventId: id, position, runIds, duplicate: false, conflicting: false, warnings }
}

export const appendMessage = (tx: Transaction, input: NewMessage): AppendedMessage => {
  const environment = tx.environment(input.environment)
  const { data, idempotencyKey, topic } = input
  if (idempotencyKey === undefined) return { ...storeMessage(tx, environment, input), ...fresh }
  const print = fingerprint([], [{ name: topic, data }])
  const scope = `publish ${topic}`
  const earlier = recall<StoredMessage>(tx, environment, scope, idempotencyKey, print)
  if (earlier !== undefined) return { ...earlier.result, duplicate: true, conflicting: earlier.conflicting }

  const stored = storeMessage(tx, environment, input)
  remember(tx, environment, scope, idempotencyKey, print, stored)
  return { ...stored, ...fresh }
}

const fresh = { duplicate: false, conflicting: false }

type StoredMessage = Pick<AppendedMessage, "eventId" | "sequence">

const storeMessage = (tx: Transaction, environment: number, input: NewMessage): StoredMessage => {
  const { id, position } = insertLogRow(tx, environment, LogKind.message, {
    name: input.topic,
    version: 1,
    data: input.data,
    ...(input.idempotencyKey === undefined ? {} : { idempotencyKey: input.idempotencyKey })
  })
  countMessage(tx, environment, input, position)
  return { eventId: id, sequence: position }
}

/** The position of the newest row of the log; 0 when it is empty. */
export const endOfLog = (tx: Transaction): number =>
  Number(tx.get("SELECT max(position) AS position FROM events")?.position ?? 0)

/** The same when the last page of the log is damaged: names are indexed with their positions. Reads that whole index. */
export const endOfLogByName = (tx: Transaction): number =>
  Number(tx.get("SELECT position, name FROM events ORDER BY +position DESC LIMIT 1")?.position ?? 0)

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

/** The first event after `after` that a wait of `run` accepts. */
export const findEvent = (
  tx: Transaction,
  environment: number,
  filter: WaitFilter,
  after: number,
  trigger: () => EventView
): { readonly view: EventView; readonly position: number } | undefined => {
  const accepts = filter.pattern ? compilePattern(filter.event) : undefined
  let position = after
  while (true) {
    const rows =
      accepts === undefined
        ? tx.all(
            "SELECT * FROM events WHERE environment = ? AND kind = 0 AND name = ? AND position > ? ORDER BY position LIMIT 200",
            environment,
            filter.event,
            position
          )
        : tx.all(
            // the index of names would find all rows of the environment, and sort them
            "SELECT * FROM events NOT INDEXED WHERE position > ? AND environment = ? AND kind = 0 ORDER BY position LIMIT 200",
            position,
            environment
          )
    for (const row of rows) {
      position = Number(row.position)
      if (accepts !== undefined && !accepts(String(row.name))) continue
      const view = viewOfRow(row)
      if (matches(tx, filter.match, view, trigger)) return { view, position }
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

const matches = (
  tx: Transaction,
  match: EventMatch | undefined,
  view: EventView,
  trigger: () => EventView
): boolean => {
  if (match === undefined) return true
  if (match._tag === "Path") return matchValue(view, match.path) === match.value
  const { error, exceeded, matched } = evaluateExpression(match.text, { event: view, trigger: trigger() })
  if (exceeded === true) {
    tx.changes.warnings.push(`Event "${view.name}" ${view.id}: match of a wait: ${error}`)
  }
  return matched
}

const insertLogRow = (
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
): { readonly id: string; readonly position: number; readonly timestamp: number } => {
  const timestamp = input.timestamp ?? tx.now()
  const id = kind === LogKind.event ? tx.ids.event() : tx.ids.message()
  const position = tx.insert(
    "INSERT INTO events (environment, kind, id, name, version, data, metadata, source, idempotency_key, timestamp, entity_id, entity_type, entity_version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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

/** Fires every open wait that accepts the event; returns what went wrong in their expressions. */
const satisfyWaits = (
  tx: Transaction,
  environment: number,
  position: number,
  view: EventView
): ReadonlyArray<string> => {
  const open = tx.get(
    `SELECT 1 FROM waits WHERE environment = ? AND event IN (?, '${ANY_NAME}') AND kind = ${WaitKind.event} AND fired IS NULL LIMIT 1`,
    environment,
    view.name
  )
  if (open === undefined) return []
  /** What is wrong, and with how many waits: thousands of runs wait with one expression. */
  const problems = new Map<string, number>()
  for (const name of [view.name, ANY_NAME]) {
    // one wait at a time per distinct path: the index leads from path to path, and then to the equal values only
    let path: string | undefined
    while ((path = nextPath(tx, environment, name, path)) !== undefined) {
      const value = matchValue(view, path)
      if (value === undefined) continue
      const rows = tx.among(
        "run",
        [`SELECT DISTINCT run AS key FROM waits WHERE ${OPEN_FOR_EVENT}`, environment, name],
        `SELECT run, step_key, pattern FROM waits WHERE ${OPEN_FOR_EVENT} AND match_path = ? AND match_value = ?${tx.damage.except("run", "run")}`,
        environment,
        name,
        path,
        value
      )
      for (const row of rows) {
        if (acceptsName(row, view)) apartOf(tx, row, () => deliver(tx, row, view, position))
      }
    }
    const rest = tx.among(
      "run",
      [`SELECT DISTINCT run AS key FROM waits WHERE ${OPEN_FOR_EVENT}`, environment, name],
      `SELECT run, step_key, pattern, expression FROM waits WHERE ${OPEN_FOR_EVENT} AND match_path IS NULL${tx.damage.except("run", "run")}`,
      environment,
      name
    )
    for (const row of rest) {
      if (!acceptsName(row, view)) continue
      if (row.expression !== null) {
        const verdict = apartOf(tx, row, () =>
          evaluateExpression(String(row.expression), {
            event: view,
            trigger: triggerView(tx, Number(row.run))
          })
        )
        if (verdict.error !== undefined) {
          const problem = `match of wait "${row.step_key}": ${verdict.error}`
          problems.set(problem, (problems.get(problem) ?? 0) + 1)
        }
        if (!verdict.matched) continue
      }
      apartOf(tx, row, () => deliver(tx, row, view, position))
    }
  }
  return [...problems].map(([problem, waits]) => (waits === 1 ? problem : `${problem} (${waits} waits)`))
}

/** The run that waits is not the one that the event is of. */
const apartOf = <A>(tx: Transaction, wait: Row, run: () => A): A => tx.apart("run", Number(wait.run), run)

const nextPath = (
  tx: Transaction,
  environment: number,
  name: string,
  after: string | undefined
): string | undefined => {
  const row = tx.get(
    `SELECT match_path FROM waits WHERE ${OPEN_FOR_EVENT} AND match_path > ? ORDER BY match_path LIMIT 1`,
    environment,
    name,
    after ?? ""
  )
  return row === undefined ? undefined : String(row.match_path)
}

/** Whether the name fits the pattern of a wait, if it has one: such waits are indexed without a name. */
const acceptsName = (row: Row, view: EventView): boolean =>
  row.pattern === null || matchesPattern(String(row.pattern), view.name)

const deliver = (tx: Transaction, row: Row, view: EventView, position: number): void => {
  fireWait(tx, Number(row.run), String(row.step_key), { _tag: "Success", value: view.toText() }, position)
}

/** The triggering event of a run. */
export const triggerView = (tx: Transaction, run: number): EventView => {
  const row = tx.get(
    "SELECT r.id AS run_id, r.input, r.created_at, e.* FROM runs r LEFT JOIN events e ON e.position = r.event WHERE r.key = ?",
    run
  )
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
