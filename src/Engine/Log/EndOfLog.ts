/** Finds the position of the newest row of the log. */
import { statement, type Program, get, acrossEnvironments } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { StoreService } from "../Store/Store.ts"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import { isDamage } from "../Store/SqliteErrors.ts"

const FIND_END_OF_LOG = statement("EndOfLog.findEndOfLog", "SELECT max(position) AS position FROM events")

/** The position of the newest row of the log; 0 when it is empty. */
export function* endOfLog(): Program<number> {
  return Number((yield* get(FIND_END_OF_LOG))?.position ?? 0)
}

const FIND_END_OF_LOG_BY_NAME = statement(
  "EndOfLog.findEndOfLogByName",
  "SELECT position, name FROM events ORDER BY +position DESC LIMIT 1",
  { scans: "for a log whose end is damaged: the index of names is read in its place" }
)

/**
 * Finds the position that {@link endOfLog} finds, even if the last page of the log is damaged. The index of names has the positions
 * too; the index is read as a whole.
 */
function* endOfLogByName(): Program<number> {
  return Number((yield* get(FIND_END_OF_LOG_BY_NAME))?.position ?? 0)
}

const findEnd = acrossEnvironments(
  "findEnd",
  (_tx: Transaction) => endOfLog(),
  () => "read the log"
)

const findEndByName = acrossEnvironments(
  "findEndByName",
  (_tx: Transaction) => endOfLogByName(),
  () => "read the log"
)

/** Reads the position of the newest row of the log, of any environment; 0 when the log is empty. */
export const readEndOfLog = (store: StoreService): Effect.Effect<number, StoreError> =>
  Effect.catchIf(store.read(findEnd()), isDamage, () => store.readApart(findEndByName()))
