/** Reads the history of an entity: its events, the runs that each event has started, and the steps of these runs. */
import type { StreamNotFoundError } from "../../Errors.ts"
import { all, forEach, statement, type Program, inEnvironment } from "../Store/Program.ts"
import { registryOf } from "../Functions/Registry.ts"
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

/** A page ends early after the event at which this many functions, runs and steps have been read for the page. */
const MAX_ROWS = 10_000

/**
 * A page of the history. `nextVersion` is the first version of the next page; absent on the last page. Fails with
 * `StreamNotFoundError` for an entity without a stream.
 */
export const readStreamHistory = inEnvironment(
  "readStreamHistory",
  function* (tx: Transaction, query: ReadStreamQuery): Program<StreamHistoryPage, StreamNotFoundError> {
    const info = yield* getStream.in(tx, query.environment, query.entityId)
    // reads one more event than the page has: it is the first event of the next page
    const { events, ...rest } = yield* readPart.in(tx, { ...query, limit: query.limit + 1 })
    const environment = tx.findEnvironment(query.environment) ?? -1
    const functions = registryOf(tx)
      .all()
      .filter((fn) => fn.environment === query.environment)
    const entries: Array<StreamHistoryEntry> = []
    let rows = 0
    for (const event of events.slice(0, query.limit)) {
      const runs = yield* runsOf(environment, event.position)
      entries.push({ event, runs })
      rows += runs.reduce((sum, { steps }) => sum + 1 + steps.length, functions.length)
      if (rows >= MAX_ROWS) break
    }
    const nextVersion = events[entries.length]?.entityVersion ?? rest.next
    return { info, entries, ...(nextVersion === undefined ? {} : { nextVersion }) }
  },
  (query) => `read the history of stream "${query.entityId}"`
)

const LIST_RUNS = statement(
  "StreamHistory.listRuns",
  // with these joins, the database uses the index of function and event for each function
  `SELECT r.key, r.id, r.status, r.attempt, r.created_at, r.started_at, r.ended_at, f.id AS fn FROM functions f CROSS JOIN runs r
       WHERE f.environment = ? AND r.function = f.key AND r.event = ? AND r.input IS NULL`
)

/** The runs that the event at this position of the log has started, and the forks of these runs, ordered by key. */
function* runsOf(environment: number, position: number): Program<Array<StartedRun>> {
  const rows = [...(yield* all(LIST_RUNS, environment, position))]
  return yield* forEach(
    rows.sort((a, b) => Number(a.key) - Number(b.key)),
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
  const waiting = yield* all(LIST_WAITS, run.key!)
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
    ...waiting.map((row): StartedStep => ({
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
