/** Reads the histories of runs, either within an engine or from a database file, which an engine may have open. */
import {
  all,
  forEach,
  get,
  statement,
  type Program,
  inEnvironment,
  refuse,
  Refused
} from "../Store/Program.ts"
import { existsSync } from "node:fs"
import { RunNotFoundError, StoreError } from "../../Errors.ts"
import { makeIdGenerator } from "../../Ids.ts"
import type { RunHistory } from "../../Protocol/History.ts"
import { registryOf } from "../Functions/Registry.ts"
import { EVENT_DATA, jobEvent } from "./RunEvent.ts"
import { readJournal, readOpenSteps } from "./Journal.ts"
import { refuseNonFile } from "../Store/Files.ts"
import { migrations } from "../Store/Migrations.ts"
import { DatabaseSync } from "../Store/NodeSqlite.ts"
import { loadRegistrations } from "../Functions/FunctionRows.ts"
import { statusIn } from "./StatusRows.ts"
import { type Row, Transaction } from "../Store/Transaction.ts"

const RUNS = `SELECT r.*, e.id AS e_id, e.name AS e_name, e.version AS e_version, ${EVENT_DATA} AS e_data, e.metadata AS e_metadata,
  e.source AS e_source, e.idempotency_key AS e_key, e.timestamp AS e_timestamp
  FROM runs r LEFT JOIN events e ON e.position = r.event WHERE r.environment = ?`

const READ_HISTORY = statement("History.readHistory", `${RUNS} AND r.id = ?`)

/** The history of one run. Fails with `RunNotFoundError` for an unknown run. */
export const readHistory = inEnvironment(
  "History.readHistory",
  function* (tx: Transaction, environment: string, runId: string): Program<RunHistory, RunNotFoundError> {
    const key = tx.findEnvironment(environment)
    const row = key === undefined ? undefined : yield* get(READ_HISTORY, key, runId)
    if (row === undefined) return yield* refuse(new RunNotFoundError(runId))
    return yield* historyOf(tx, environment, row)
  },
  (_, runId) => `read run ${runId}`
)

function* historyOf(tx: Transaction, environment: string, row: Row): Program<RunHistory> {
  return {
    runId: String(row.id),
    functionId: registryOf(tx).byKey(Number(row.function))?.registration.id ?? String(row.function),
    environment,
    status: statusIn(row) ?? "",
    attempt: Number(row.attempt),
    generation: Number(row.generation),
    event: jobEvent(row),
    journal: yield* readJournal(tx, Number(row.key)),
    open: yield* readOpenSteps(Number(row.key)),
    createdAt: Number(row.created_at)
  }
}

export interface HistoryQuery {
  /** Path of the database file. */
  readonly filename: string
  readonly environment: string
  /** The id of one run, whatever its status; absent for all runs that have not ended. */
  readonly runId?: string | undefined
}

const READ_HISTORIES = statement("History.readHistories", `${RUNS} AND r.ended_at IS NULL ORDER BY r.key`, {
  scans: "the unfinished runs, which a command asks for"
})

function* readOpenHistories(
  tx: Transaction,
  environment: string,
  runId: string | undefined
): Program<Array<RunHistory>, RunNotFoundError> {
  if (runId !== undefined) return [yield* readHistory.in(tx, environment, runId)]
  const key = tx.findEnvironment(environment)
  if (key === undefined) return []
  return yield* forEach(yield* all(READ_HISTORIES, key), (row) => historyOf(tx, environment, row))
}

/**
 * Reads histories from a database file. Opens the file read-only and takes no lock, because an engine may have it open. Throws
 * `StoreError` when the file does not exist or cannot be read, `ValidationError` when `filename` names no file (such as
 * `:memory:`), and `RunNotFoundError` when the run is not in the database.
 */
export const readHistories = ({ environment, filename, runId }: HistoryQuery): Array<RunHistory> => {
  refuseNonFile(filename)
  if (!existsSync(filename)) {
    throw new StoreError(`There is no database "${filename}"`, { code: "STORE_UNAVAILABLE" })
  }
  let db: DatabaseSync | undefined
  try {
    db = new DatabaseSync(filename, { readOnly: true, timeout: 5000 })
    const found = Number(db.prepare("PRAGMA user_version").get()?.user_version)
    if (found !== migrations.length) {
      throw new StoreError(
        `The tables of "${filename}" are at version ${found}, and this package reads version ${migrations.length}: ${found > migrations.length ? "upgrade @ironflow/node" : "start an engine of this version of the package on the file once"}`,
        { code: "STORE_UNAVAILABLE" }
      )
    }
    // all reads see the same state, whatever the engine commits in the meantime
    db.exec("BEGIN")
    const tx = new Transaction({
      db,
      now: () => 0,
      random: () => 0,
      ids: makeIdGenerator(
        () => 0,
        () => 0
      )
    })
    tx.perform(loadRegistrations(tx))
    return tx.perform(readOpenHistories(tx, environment, runId))
  } catch (cause) {
    if (cause instanceof Refused) throw cause.error
    if (cause instanceof StoreError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new StoreError(`Cannot read database "${filename}": ${reason}`, {
      code: "STORE_UNAVAILABLE",
      cause
    })
  } finally {
    db?.close()
  }
}
