/** The history of an entity, with the runs that each of its events started, and their steps. */
import type { StreamNotFoundError } from "../../Errors.ts"
import { all, forEach, get, statement, type Program, inEnvironment } from "../Store/Program.ts"
import { statusIn } from "../Runs/StatusRows.ts"
import { readKind } from "../Runs/StepKinds.ts"
import type {
  ReadStreamQuery,
  StartedRun,
  StartedStep,
  StreamHistoryEntry,
  StreamHistoryPage
} from "./StreamRecords.ts"
import { getStream, readPart } from "./StreamRows.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { RUN_ITSELF } from "../Runs/WaitKinds.ts"

/** How many runs and steps one page has before it ends, whatever its limit. */
const MOST_ROWS = 10_000

/** A page of the history. `nextVersion` is the first version of the next page. Fails with `StreamNotFoundError`. */
export const readStreamHistory = inEnvironment(
  "readStreamHistory",
  function* (tx: Transaction, query: ReadStreamQuery): Program<StreamHistoryPage, StreamNotFoundError> {
    const info = yield* getStream.in(tx, query.environment, query.entityId)
    // reads one event more, because the page may end before its limit
    const { events, ...rest } = yield* readPart.in(tx, { ...query, limit: query.limit + 1 })
    const entries: Array<StreamHistoryEntry> = []
    let rows = 0
    for (const event of events.slice(0, query.limit)) {
      const runs = yield* runsOf(event.position)
      entries.push({ event, runs })
      rows += runs.reduce((sum, { steps }) => sum + steps.length, runs.length)
      if (rows >= MOST_ROWS) break
    }
    const next = events[entries.length]?.entityVersion ?? rest.next
    return { info, entries, ...(next === undefined ? {} : { nextVersion: next }) }
  },
  (query) => `read the history of stream "${query.entityId}"`
)

const LIST_RUNS = statement(
  "StreamHistory.listRuns",
  `SELECT r.key, r.id, r.status, r.attempt, r.created_at, r.started_at, r.ended_at, f.id AS fn FROM runs r
       JOIN functions f ON f.key = r.function
       WHERE r.key >= ? AND r.key < ? AND r.event = ? AND r.input IS NULL ORDER BY r.key`
)

/** The runs that the event at a position of the log started. */
function* runsOf(position: number): Program<Array<StartedRun>> {
  return yield* forEach(
    yield* all(LIST_RUNS, yield* firstRunAt(position), yield* firstRunAt(position + 1), position),
    function* (row) {
      return {
        id: String(row.id),
        functionId: String(row.fn),
        status: statusIn(row)!,
        attempt: Number(row.attempt),
        createdAt: Number(row.created_at),
        ...timeOf("startedAt", row.started_at),
        ...timeOf("endedAt", row.ended_at),
        steps: yield* stepsOf(row)
      }
    }
  )
}

const FIND_NEWEST_RUN = statement("StreamHistory.findNewestRun", "SELECT max(key) AS last FROM runs")

const FIND_FIRST_RUN_FROM = statement(
  "StreamHistory.findFirstRunFrom",
  "SELECT key, event FROM runs WHERE key >= ? ORDER BY key LIMIT 1"
)

/**
 * The lowest key of a run that began at this position of the log or after it. Keys and positions grow together, because runs are
 * created when their event is stored, and invoked runs at the end of the log. An index would only make every run more expensive.
 */
function* firstRunAt(position: number): Program<number> {
  let low = 0
  let high = Number((yield* get(FIND_NEWEST_RUN))?.last ?? 0) + 1
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    const row = yield* get(FIND_FIRST_RUN_FROM, middle)
    if (row === undefined || Number(row.event) >= position) high = middle
    else low = Number(row.key) + 1
  }
  return low
}

const LIST_STEPS = statement(
  "StreamHistory.listSteps",
  `SELECT step_key, name, kind, failed, attempt, started_at, ended_at FROM steps
     WHERE run = ? AND kind <> 'parallel' ORDER BY seq`
)

const LIST_WAITS = statement(
  "StreamHistory.listWaits",
  `SELECT step_key, name, step_kind, failures, created_at FROM waits
     WHERE run = ? AND step_key <> '${RUN_ITSELF}' ORDER BY created_at`
)

/** The steps of a run, without the outputs, which may be large. */
function* stepsOf(run: Row): Program<Array<StartedStep>> {
  const finished = yield* all(LIST_STEPS, run.key!)
  const open = yield* all(LIST_WAITS, run.key!)
  return [
    ...finished.map((row): StartedStep => ({
      id: `${String(run.id)}:${String(row.step_key)}`,
      name: String(row.name),
      kind: readKind(row.kind).kind,
      status: Number(row.failed) === 0 ? "completed" : "failed",
      attempt: Number(row.attempt),
      startedAt: Number(row.started_at),
      endedAt: Number(row.ended_at)
    })),
    ...open.map((row): StartedStep => ({
      id: `${String(run.id)}:${String(row.step_key)}`,
      name: String(row.name),
      kind: String(row.step_kind),
      status: "waiting",
      attempt: Number(row.failures) + 1,
      startedAt: Number(row.created_at)
    }))
  ]
}

const timeOf = <Name extends string>(
  name: Name,
  value: Row[string] | undefined
): { readonly [K in Name]?: number } =>
  // the compiler does not see that the computed name is `Name`
  (value == null ? {} : { [name]: Number(value) }) as { readonly [K in Name]?: number }
