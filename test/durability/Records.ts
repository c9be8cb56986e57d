/**
 * What the checker reads: the tables of a database file and the executions of a side log. Nothing here uses the
 * engine's code, so that an error there cannot hide itself here.
 */
import { DatabaseSync } from "node:sqlite"
import type { EventData } from "./Plan.ts"
import type { Line, Seen } from "./SideLog.ts"

export interface EventRow {
  readonly position: number
  readonly kind: "event" | "message"
  readonly id: string
  readonly name: string
  readonly data: EventData
  readonly idempotencyKey: string | undefined
  readonly timestamp: number
}

export interface RunRow {
  readonly key: number
  readonly id: string
  readonly fn: string
  readonly status: string
  readonly attempt: number
  readonly event: number
  /** Data of the event or of the invocation. */
  readonly data: EventData
  readonly invoked: boolean
  readonly output: unknown
  readonly error: { readonly message: string } | undefined
  readonly parent: number | undefined
  readonly parentStep: string | undefined
  readonly steps: ReadonlyMap<string, StepRow>
}

export interface StepRow {
  readonly key: string
  readonly seq: number
  readonly kind: string
  readonly failed: boolean
  readonly value: unknown
  readonly attempt: number
  readonly startedAt: number
  readonly endedAt: number
  /** Position of the event that a wait received. */
  readonly event: number | undefined
}

export interface Tables {
  readonly events: ReadonlyArray<EventRow>
  readonly runs: ReadonlyMap<string, RunRow>
  /** Complaints about unfinished runs that nothing will wake, and about waits of runs that have ended. */
  readonly stuck: ReadonlyArray<string>
  /** The result of SQLite's integrity check: `ok` for a sound file. */
  readonly integrity: string
}

const statuses = [
  "pending",
  "running",
  "waiting",
  "compensating",
  "paused",
  "completed",
  "failed",
  "cancelled"
]

/** Finds runs that nothing will wake, from the tables alone. Here every lease ends with its process. */
const STUCK = `
SELECT r.id || ' has nothing that will wake it' AS complaint FROM runs r
WHERE r.ended_at IS NULL AND r.lease IS NULL AND r.ready_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.run = r.key AND w.fired IS NULL AND w.due_at IS NOT NULL)
UNION ALL SELECT r.id || ' is paused' FROM runs r WHERE r.status = 4
UNION ALL SELECT r.id || ' is leased and ready' FROM runs r WHERE r.lease IS NOT NULL AND r.ready_at IS NOT NULL
UNION ALL SELECT r.id || ' has ended and still waits for ' || w.step_key
  FROM runs r JOIN waits w ON w.run = r.key WHERE r.ended_at IS NOT NULL
UNION ALL SELECT r.id || ' waits for ' || w.step_key || ', whose run has ended'
  FROM runs r JOIN waits w ON w.run = r.key JOIN runs c ON c.key = w.child
  WHERE w.fired IS NULL AND c.ended_at IS NOT NULL`

/** Reads a database that no process has open. */
export const readTables = (filename: string): Tables => {
  // not read-only: after a kill SQLite has to recover the write-ahead log first
  const db = new DatabaseSync(filename)
  try {
    const all = (sql: string) => db.prepare(sql).all() as Array<Record<string, any>>
    const events = all("SELECT * FROM events ORDER BY position").map((row): EventRow => ({
      position: row.position,
      kind: row.kind === 0 ? "event" : "message",
      id: row.id,
      name: row.name,
      data: JSON.parse(row.data),
      idempotencyKey: row.idempotency_key ?? undefined,
      timestamp: row.timestamp
    }))
    const steps = groupBy(all("SELECT * FROM steps ORDER BY seq"), (row) => row.run)
    const dataAt = new Map(events.map(({ data, position }) => [position, data]))
    const idAt = new Map(events.map(({ id, position }) => [position, id]))
    /** A wait that received an event has the position of the event. */
    const valueOf = ({ event, failed, value }: Record<string, any>) =>
      value === null && failed === 0 && event !== null
        ? { id: idAt.get(event), data: dataAt.get(event) }
        : parse(value)
    const runs = all("SELECT r.*, f.id AS fn FROM runs r JOIN functions f ON f.key = r.function").map(
      (row): RunRow => ({
        key: row.key,
        id: row.id,
        fn: row.fn,
        status: statuses[row.status]!,
        attempt: row.attempt,
        event: row.event,
        // the event may be lost
        data: row.input === null ? (dataAt.get(row.event) ?? {}) : JSON.parse(row.input),
        invoked: row.input !== null,
        output: parse(row.output),
        error: row.error === null ? undefined : JSON.parse(row.error),
        parent: row.parent ?? undefined,
        parentStep: row.parent_step ?? undefined,
        steps: new Map(
          (steps.get(row.key) ?? []).map((step): [string, StepRow] => [
            step.step_key,
            {
              key: step.step_key,
              seq: step.seq,
              kind: step.kind,
              failed: step.failed === 1,
              value: valueOf(step),
              attempt: step.attempt,
              startedAt: step.started_at,
              endedAt: step.ended_at,
              event: step.event ?? undefined
            }
          ])
        )
      })
    )
    return {
      events,
      runs: new Map(runs.map((run) => [run.id, run])),
      stuck: all(STUCK).map((row) => row.complaint),
      integrity: all("PRAGMA integrity_check")
        .map((row) => row.integrity_check)
        .join(", ")
    }
  } finally {
    db.close()
  }
}

const parse = (text: string | null): unknown => (text === null ? undefined : JSON.parse(text))

/** Groups the values by a key; each group keeps their order. */
export const groupBy = <A, K>(values: Iterable<A>, key: (value: A) => K): Map<K, Array<A>> => {
  const groups = new Map<K, Array<A>>()
  for (const value of values) {
    const group = groups.get(key(value))
    if (group === undefined) groups.set(key(value), [value])
    else group.push(value)
  }
  return groups
}

/** One execution of a step's body. `begin` and `line` are line numbers of the side log. */
export interface Execution {
  readonly run: string
  readonly fn: string
  readonly key: string
  readonly token: string
  readonly attempt: number
  readonly seen: Seen
  /** The number of the process: everything that happened in it has the same one. */
  readonly life: number
  /** The process, where there are several at once. */
  readonly by: string | undefined
  readonly begunAt: number
  /** By the monotonic clock. */
  readonly begunMono: number
  readonly begin: number
  readonly end:
    | {
        readonly how: "returned" | "threw" | "aborted"
        readonly line: number
        readonly at: number
        readonly mono: number
      }
    | undefined
}

const outcomes = { end: "returned", fail: "threw", abort: "aborted" } as const

/** The life in which each line was written. */
export const livesOf = (lines: ReadonlyArray<Line>): ReadonlyArray<number> => {
  let life = -1
  const lives = new Map<string, number>()
  return lines.map((line) => {
    if (line.t === "life") {
      life = line.life
      if (line.by !== undefined) lives.set(line.by, life)
    }
    return line.by === undefined ? life : (lives.get(line.by) ?? -1)
  })
}

/** The executions of a side log in order of their beginning, by run and step. */
export const readExecutions = (
  lines: ReadonlyArray<Line>
): ReadonlyMap<string, ReadonlyMap<string, ReadonlyArray<Execution>>> => {
  const ends = new Map<string, Execution["end"]>()
  for (const [i, line] of lines.entries()) {
    if (line.t !== "end" && line.t !== "fail" && line.t !== "abort") continue
    ends.set(line.token, { how: outcomes[line.t], line: i, at: line.at, mono: line.mono })
  }
  const executions = new Map<string, Map<string, Array<Execution>>>()
  const lives = livesOf(lines)
  for (const [i, line] of lines.entries()) {
    if (line.t !== "begin") continue
    const { at, attempt, by, fn, key, mono, run, seen, token } = line
    const byKey = executions.get(run) ?? new Map<string, Array<Execution>>()
    executions.set(run, byKey)
    const ofStep = byKey.get(key) ?? []
    byKey.set(key, ofStep)
    ofStep.push({
      run,
      fn,
      key,
      token,
      attempt,
      seen,
      life: lives[i]!,
      by,
      begunAt: at,
      begunMono: mono,
      begin: i,
      end: ends.get(token)
    })
  }
  return executions
}
