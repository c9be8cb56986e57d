/**
 * Reads rows, and checks them against the guarantees (`docs/guarantees.md`). The reads and checks share no statement and no rule
 * with the programs that write these rows, because a mistake in such a program must not be repeated in the check.
 */
import { createHash } from "node:crypto"
import { isObject, safeJsonParse } from "../../Json.ts"
import { shortestRetentionMs } from "../Functions/FunctionRetention.ts"
import { acrossEnvironments, all, get, type Program, statement } from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** A state of the rows that a guarantee rules out. */
export interface Violation {
  /** `G1` to `G16`, or `table` for a row that has no value in a required column. */
  readonly guarantee: string
  /** What is wrong, with the ids and keys of the rows. */
  readonly message: string
  /** Identifies the rows, so that each violation is reported once. */
  readonly key: string
}

/** Digests of a run. A later check compares them with newer digests, to find changes that must not happen. */
export interface CheckedRun {
  readonly run: number
  readonly id: string
  /** The function and the triggering event. Absent for a run that was invoked, and for a fork. */
  readonly cause?: string
  /** Epoch milliseconds. */
  readonly createdAt: number
  /** Epoch milliseconds. Absent for an unfinished run. */
  readonly endedAt?: number
  /**
   * Changes when a client restarts the run from a step, patches a step or erases data. These are the only changes that may alter
   * recorded steps.
   */
  readonly permittedChanges: string
  /** A digest of each step, by step key. */
  readonly steps: ReadonlyMap<string, string>
  /**
   * Absent for an unfinished run. `hash` is a digest of how the run ended. `hash` must stay the same as long as `at` is the same.
   * `at` changes when a client controls the run or erases data.
   */
  readonly end?: { readonly at: string; readonly hash: string }
}

/** An event that was stored with an idempotency key. */
export interface KeyedEvent {
  readonly environment: number
  readonly name: string
  readonly key: string
  readonly id: string
  readonly timestamp: number
}

interface Slice {
  readonly violations: ReadonlyArray<Violation>
  readonly checkedRuns?: ReadonlyArray<CheckedRun>
  readonly keyedEvents?: ReadonlyArray<KeyedEvent>
  /** How many runs, rows of the log or idempotency keys were checked. Other rows that were read for these checks do not count. */
  readonly rows: number
  /** The `after` of the next slice; absent at the end. */
  readonly next?: number
}

export interface SliceQuery {
  /** Only runs with a key higher than this, or events with a higher position. */
  readonly after: number
  readonly limit: number
  /** How long ended runs are kept unless their function says otherwise. */
  readonly keepMs: number
}

// statuses of runs, as the database stores them
const ENDED: ReadonlySet<number> = new Set([5, 6, 7])
const COMPLETED = 5
const FAILED = 6
const PAUSED = 4

const LIST_RUNS = statement("GuaranteeRows.listRuns", "SELECT * FROM runs WHERE key > ? ORDER BY key LIMIT ?")
// the order must not depend on the plan of the query, because the order decides which digests are kept, and changes the digest of
// the end
const LIST_STEPS = statement(
  "GuaranteeRows.listSteps",
  "SELECT * FROM steps WHERE run = ? ORDER BY step_key LIMIT 1001"
)
const LIST_SUPERSEDED_STEPS = statement(
  "GuaranteeRows.listSupersededSteps",
  "SELECT step_key FROM superseded_steps WHERE run = ?"
)
const COUNT_TIMERS_OF_RUN = statement(
  "GuaranteeRows.countTimersOfRun",
  "SELECT count(*) AS n FROM waits WHERE run = ? AND fired IS NULL AND due_at IS NOT NULL"
)
const FIND_EVENT = statement(
  "GuaranteeRows.findEvent",
  "SELECT id, name, kind FROM events WHERE position = ?"
)
const LIST_CHILDREN_OF_STEP = statement(
  "GuaranteeRows.listChildrenOfStep",
  "SELECT id FROM runs WHERE parent = ? AND parent_step = ?"
)
/** The columns that must have a value (NOT NULL). */
const columnsOf = (table: "runs" | "events") =>
  statement(
    `GuaranteeRows.columnsOf.${table}`,
    `SELECT name FROM pragma_table_info('${table}') WHERE "notnull" = 1`,
    {
      scans: "the columns of one table",
      postgres: `SELECT column_name AS name FROM information_schema.columns
        WHERE table_schema = current_schema() AND table_name = '${table}' AND is_nullable = 'NO'`
    }
  )
const COLUMNS = { runs: columnsOf("runs"), events: columnsOf("events") }

const LIST_EVENTS = statement(
  "GuaranteeRows.listEvents",
  "SELECT * FROM events WHERE position > ? ORDER BY position LIMIT ?"
)
const FIND_STREAM_VERSION = statement(
  "GuaranteeRows.findStreamVersion",
  "SELECT version FROM streams WHERE environment = ? AND entity_id = ?"
)
const COUNT_STREAM_EVENTS = statement(
  "GuaranteeRows.countStreamEvents",
  "SELECT count(*) AS n FROM events WHERE environment = ? AND entity_id = ?"
)
const FIND_LAST_POSITION_OF_TOPIC = statement(
  "GuaranteeRows.findLastPositionOfTopic",
  "SELECT last_position FROM topics WHERE environment = ? AND name = ?"
)
const FIND_OLDEST_MESSAGE = statement(
  "GuaranteeRows.findOldestMessage",
  "SELECT min(position) AS position FROM events WHERE environment = ? AND kind = 1 AND name = ?"
)
const LIST_IDEMPOTENCY_KEYS = statement(
  "GuaranteeRows.listIdempotencyKeys",
  "SELECT * FROM idempotency ORDER BY expires_at DESC LIMIT ?",
  {
    scans: "the newest, by the index"
  }
)
const FIND_RUN_KEY = statement("GuaranteeRows.findRunKey", "SELECT key FROM runs WHERE id = ?")
const FIND_ENDS = statement(
  "GuaranteeRows.findEnds",
  "SELECT (SELECT max(key) FROM runs) AS runs, (SELECT max(position) FROM events) AS events"
)

/** The events of a stream are counted only if its version is not higher than this. */
const STREAM_EVENTS_COUNTED = 1000

/** The key of the newest run, and the position of the newest row of the log. */
export const findNewest = acrossEnvironments(
  "findNewest",
  function* (_tx: Transaction): Program<{ readonly runs: number; readonly events: number }> {
    const row = yield* get(FIND_ENDS)
    return { runs: Number(row?.runs ?? 0), events: Number(row?.events ?? 0) }
  },
  () => "check the database against the guarantees"
)

/** Checks runs, with their steps. */
export const checkRuns = acrossEnvironments(
  "checkRuns",
  function* (_tx: Transaction, { after, limit }: SliceQuery): Program<Slice> {
    const rows = yield* all(LIST_RUNS, after, limit)
    const required = (yield* all(COLUMNS.runs)).map(({ name }) => String(name))
    const violations: Array<Violation> = []
    const checkedRuns: Array<CheckedRun> = []
    for (const row of rows) {
      const report = reporter(`run ${row.id}`, violations)
      checkColumns(row, required, "runs", report)
      const steps = yield* all(LIST_STEPS, row.key!)
      const superseded = new Set(
        (yield* all(LIST_SUPERSEDED_STEPS, row.key!)).map(({ step_key }) => String(step_key))
      )
      yield* checkRun(row, report)
      for (const step of steps) yield* checkStep(row, step, superseded, report)
      checkCompensations(row, steps, superseded, report)
      // runs with more steps are not compared with the next check: not all of their steps were read
      if (steps.length <= 1000) checkedRuns.push(checkedRunOf(row, steps, superseded.size))
    }
    return { violations, checkedRuns, rows: rows.length, ...nextOf(rows, limit, "key") }
  },
  () => "check runs against the guarantees"
)

type Report = (guarantee: string, what: string) => void

/** Makes a function that adds violations of one run, event or other thing (`about`) to `violations`. */
const reporter =
  (about: string, violations: Array<Violation>): Report =>
  (guarantee, what) =>
    void violations.push({ guarantee, message: `${about}: ${what}`, key: `${guarantee} ${about} ${what}` })

const checkColumns = (row: Row, required: ReadonlyArray<string>, table: string, report: Report): void => {
  for (const column of required) {
    if (row[column] === null)
      report("table", `the column ${column} of ${table} has no value, and must have one`)
  }
}

const nextOf = (rows: ReadonlyArray<Row>, limit: number, key: string): { readonly next?: number } =>
  rows.length < limit ? {} : { next: Number(rows.at(-1)?.[key]) }

function* checkRun(row: Row, report: Report): Program<void> {
  const status = Number(row.status)
  if (row.input === null) {
    if ((yield* get(FIND_EVENT, row.event!)) === undefined)
      report("G1", `its event at position ${row.event} is not in the log`)
  }
  if (row.parent !== null && row.parent_step !== null) {
    const siblings = yield* all(LIST_CHILDREN_OF_STEP, row.parent!, row.parent_step!)
    const supersededCalls = (yield* all(LIST_SUPERSEDED_STEPS, row.parent!)).filter(
      ({ step_key }) => step_key === row.parent_step
    )
    if (siblings.length > 1 + supersededCalls.length) {
      report("G3", `step ${row.parent_step} of its parent has several children: ${idsOf(siblings)}`)
    }
  }
  if (ENDED.has(status) !== (row.ended_at !== null)) {
    report(
      "G2",
      `it has status ${status} and ${row.ended_at === null ? "no end" : `an end at ${row.ended_at}`}`
    )
    return
  }
  if (status !== COMPLETED && row.ended_at !== null && row.output !== null) {
    report("G3", `it has an output, which only completed runs have, but its status is ${status}`)
  }
  if (row.ended_at !== null || status === PAUSED || row.lease !== null || row.ready_at !== null) return
  if (Number((yield* get(COUNT_TIMERS_OF_RUN, row.key!))?.n) === 0)
    report("G2", "nothing will ever continue it")
}

const idsOf = (rows: ReadonlyArray<Row>): string => rows.map(({ id }) => String(id)).join(", ")

function* checkStep(run: Row, step: Row, superseded: ReadonlySet<string>, report: Report): Program<void> {
  const key = String(step.step_key)
  if (superseded.has(key)) return
  if (step.kind === "waitForEvent" && step.event !== null) {
    if (Number(step.failed) === 1)
      report("G8", `step ${key} has received the event at position ${step.event}, but is recorded as failed`)
    const event = yield* get(FIND_EVENT, step.event!)
    if (event === undefined)
      report("G8", `the event at position ${step.event}, which step ${key} has received, is not in the log`)
    else if (step.value !== null) {
      const value = safeJsonParse(String(step.value))
      if (isObject(value) && typeof value.id === "string" && value.id !== event.id) {
        report("G8", `step ${key} has the data of event ${value.id}, but received event ${event.id}`)
      }
    }
  }
  if (step.kind === "publish" && Number(step.failed) === 0) {
    const value = safeJsonParse(String(step.value))
    if (!isObject(value) || !Number.isSafeInteger(value.sequence)) return
    const message = yield* get(FIND_EVENT, Number(value.sequence))
    if (message?.id === value.eventId) return
    const topic = String(step.name).replace(/^publish:/, "")
    const oldest = (yield* get(FIND_OLDEST_MESSAGE, run.environment!, topic))?.position
    const newest = (yield* get(FIND_LAST_POSITION_OF_TOPIC, run.environment!, topic))?.last_position
    // the oldest messages of a topic are deleted first: the message must be there if it is the newest, or if an older one is there
    if (
      Number(newest) === Number(value.sequence) ||
      (oldest != null && Number(oldest) < Number(value.sequence))
    ) {
      report("G3", `the message ${value.eventId}, which step ${key} has published, is not in the log`)
    }
  }
  if (step.kind === "tx" && Number(step.failed) === 0) {
    const value = safeJsonParse(String(step.value))
    if (!isObject(value) || !Array.isArray(value.writes)) return
    for (const write of value.writes) {
      if (!isObject(write) || !Number.isSafeInteger(write.position) || write._tag === "kv") continue
      if ((yield* get(FIND_EVENT, Number(write.position))) === undefined) {
        report("G3", `what step ${key} has written at position ${write.position} is not in the log`)
      }
    }
  }
}

/** Checks whether a failed run has run its registered compensations. */
const checkCompensations = (
  row: Row,
  steps: ReadonlyArray<Row>,
  superseded: ReadonlySet<string>,
  report: Report
): void => {
  if (row.ended_at === null || Number(row.status) !== FAILED || row.compensations === null) return
  if (row.erased_at !== null) return
  const error = row.error === null ? undefined : safeJsonParse(String(row.error))
  // with this error the engine has ended the run: it did not call the handler again, which would have run the compensations
  if (isObject(error) && error.code === "LIMIT_EXCEEDED") return
  const registered = safeJsonParse(String(row.compensations))
  const keys = [...steps.map(({ step_key }) => String(step_key)), ...superseded]
  const compensatedNames = new Set(keys.map((key) => key.replace(/[:~]\d+$/, "")))
  for (const name of Array.isArray(registered) ? registered : []) {
    if (!compensatedNames.has(`compensate:${name}`))
      report("G6", `it has failed, and the compensation of "${name}" has not run`)
  }
}

const hashOf = (values: ReadonlyArray<unknown>): string =>
  createHash("sha256").update(JSON.stringify(values)).digest("base64").slice(0, 12)

const checkedRunOf = (row: Row, steps: ReadonlyArray<Row>, superseded: number): CheckedRun => {
  const { attempt, ended_at, error, generation, input, output, status, updated_at } = row
  // this number changes when data of the run is erased; a step's result that came from an invoked run is erased together with
  // that run
  const erased =
    steps.filter(({ value }) => String(value).startsWith('{"$erased":')).length + Number(row.erased_at ?? 0)
  const hashes = new Map(steps.map((step) => [String(step.step_key), hashOf(Object.values(step))]))
  return {
    run: Number(row.key),
    id: String(row.id),
    // a fork has no cause, because its event is the event of the run that it was forked from
    ...(input === null && row.forked_from === null ? { cause: `${row.function} ${row.event}` } : {}),
    createdAt: Number(row.created_at),
    ...(ended_at === null ? {} : { endedAt: Number(ended_at) }),
    permittedChanges: `${superseded} ${generation} ${erased}`,
    steps: hashes,
    ...(ended_at === null
      ? {}
      : {
          end: {
            at: `${ended_at} ${updated_at} ${superseded} ${erased}`,
            hash: hashOf([status, attempt, input, output, error, ...hashes])
          }
        })
  }
}

/** Checks rows of the log. */
export const checkLog = acrossEnvironments(
  "checkLog",
  function* (_tx: Transaction, { after, limit }: Omit<SliceQuery, "keepMs">): Program<Slice> {
    const rows = yield* all(LIST_EVENTS, after, limit)
    const keyedEvents: Array<KeyedEvent> = []
    const countedStreams = new Set<string>()
    const required = (yield* all(COLUMNS.events)).map(({ name }) => String(name))
    const violations: Array<Violation> = []
    for (const row of rows) {
      const report = reporter(`${Number(row.kind) === 1 ? "message" : "event"} ${row.id}`, violations)
      checkColumns(row, required, "events", report)
      if (Number(row.kind) === 1) {
        const topic = yield* get(FIND_LAST_POSITION_OF_TOPIC, row.environment!, row.name!)
        if (topic === undefined || Number(topic.last_position) < Number(row.position)) {
          report(
            "G10",
            `it has position ${row.position} of topic ${row.name}, ${topic === undefined ? "which does not exist" : `whose last position is ${topic.last_position}`}`
          )
        }
      }
      if (row.entity_id !== null) {
        const stream = yield* get(FIND_STREAM_VERSION, row.environment!, row.entity_id!)
        if (stream === undefined || Number(stream.version) < Number(row.entity_version)) {
          report(
            "G9",
            `it is version ${row.entity_version} of stream ${row.entity_id}, ${stream === undefined ? "which does not exist" : `which is at version ${stream.version}`}`
          )
        }
      }
      const { entity_id, environment, id, idempotency_key, name, timestamp } = row
      if (entity_id === null && idempotency_key !== null && Number(row.kind) === 0) {
        keyedEvents.push({
          environment: Number(environment),
          name: String(name),
          key: String(idempotency_key),
          id: String(id),
          timestamp: Number(timestamp)
        })
      }
      if (entity_id !== null && !countedStreams.has(`${environment} ${entity_id}`)) {
        countedStreams.add(`${environment} ${entity_id}`)
        const stream = yield* get(FIND_STREAM_VERSION, environment!, entity_id!)
        // a missing stream is reported above, for each of its events
        if (stream === undefined) continue
        const version = Number(stream.version)
        if (version > STREAM_EVENTS_COUNTED) continue
        const count = Number((yield* get(COUNT_STREAM_EVENTS, environment!, entity_id!))?.n)
        if (count !== version) {
          reporter(`stream ${entity_id}`, violations)(
            "G9",
            `it is at version ${version}, but has ${count} events`
          )
        }
      }
    }
    return { violations, keyedEvents, rows: rows.length, ...nextOf(rows, limit, "position") }
  },
  () => "check the log against the guarantees"
)

/**
 * Checks the newest idempotency keys of emits: the event of each key must be in the log, and the runs that the event has started
 * must exist, unless the key is so old that these runs may have been deleted.
 */
export const checkKeys = acrossEnvironments(
  "checkKeys",
  function* (tx: Transaction, { keepMs, limit }: Omit<SliceQuery, "after">): Program<Slice> {
    const rows = yield* all(LIST_IDEMPOTENCY_KEYS, limit)
    const keptMs = shortestRetentionMs(tx, keepMs)
    const violations: Array<Violation> = []
    for (const row of rows) {
      const [operation] = String(row.operation).split(" ")
      if (operation !== "emit") continue
      const result = safeJsonParse(String(row.result))
      if (!isObject(result) || !Number.isSafeInteger(result.position)) continue
      const report = reporter(`idempotency key ${row.key}`, violations)
      const event = yield* get(FIND_EVENT, Number(result.position))
      if (event?.id !== result.eventId) report("G1", `its event ${result.eventId} is not in the log`)
      const storedAt = Number(row.expires_at) - KEY_MS
      if (tx.now() - storedAt >= keptMs) continue
      for (const id of Array.isArray(result.runIds) ? result.runIds : []) {
        if ((yield* get(FIND_RUN_KEY, String(id))) === undefined) {
          report("G1", `the run ${id}, which event ${result.eventId} has started, does not exist`)
        }
      }
    }
    return { violations, rows: rows.length }
  },
  () => "check idempotency keys against the guarantees"
)

/** How long an idempotency key is kept. */
const KEY_MS = 24 * 60 * 60 * 1000

const FIND_WEBHOOK_KEY = statement(
  "GuaranteeRows.findWebhookKey",
  "SELECT 1 AS found FROM idempotency WHERE environment = ? AND operation >= 'webhook' AND operation < 'webhool' AND key = ?"
)

/**
 * Reports two events with the same name and idempotency key. Does not report them when a webhook has used this key: the keys of
 * webhooks are kept apart from the keys of emits, so a webhook and an emit may each have stored one of the two events.
 */
export const checkDuplicateKeys = acrossEnvironments(
  "checkDuplicateKeys",
  function* (
    _tx: Transaction,
    [one, other]: readonly [KeyedEvent, KeyedEvent]
  ): Program<ReadonlyArray<Violation>> {
    const violations: Array<Violation> = []
    if ((yield* get(FIND_WEBHOOK_KEY, one.environment, one.key)) === undefined) {
      reporter(`idempotency key ${one.key}`, violations)(
        "G14",
        `events ${one.id} and ${other.id} were both stored with this key`
      )
    }
    return violations
  },
  () => "check idempotency keys against the guarantees"
)
