/** The log lines of runs. Workers send them with their reports. The newest lines of a run are kept, until the run is deleted. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { RunLogLine } from "../../Protocol/Runs.ts"
import type { RunNotFoundError, StoreError } from "../../Errors.ts"
import { lengthOf } from "../../Execution/TurnLog.ts"
import { logCharactersOfRun, logLinesOfRun } from "../../Limits.ts"
import type { LogLine, TurnLogs } from "../../Protocol/Worker.ts"
import { decodeJson } from "../../Json.ts"
import type { Page, PageQuery } from "../Pages.ts"
import { defineCache } from "../Store/Cache.ts"
import {
  acrossEnvironments,
  all,
  get,
  inEnvironment,
  type Program,
  statement,
  write
} from "../Store/Program.ts"
import type { StoreService } from "../Store/Store.ts"
import { parseStored } from "../Store/StoredJson.ts"
import { asMoment, type Transaction } from "../Store/Transaction.ts"
import { findRun } from "./RunRows.ts"

/** How many log lines, and how many characters of them, are kept for one run. */
export interface KeptLogs {
  readonly lines: number
  readonly length: number
}

/** How many log lines are kept: by default 1,000 lines and 262,144 characters for each run. With 0 lines, none are kept. */
export const RunLogRetention = Context.Reference<KeptLogs>("@ironflow/node/RunLogRetention", {
  defaultValue: () => ({ lines: logLinesOfRun, length: logCharactersOfRun })
})

/** The limits of the engine that a transaction belongs to. */
const limitsOf = defineCache<{ current: KeptLogs }>({
  make: () => ({ current: { lines: logLinesOfRun, length: logCharactersOfRun } })
})

/** Sets the limits from now on. */
const setLogLimits = acrossEnvironments(
  "setLogLimits",
  function* (tx: Transaction, kept: KeptLogs): Program<void> {
    limitsOf(tx).current = kept
  },
  () => "set how much is kept of logs"
)

/** Applies {@link RunLogRetention} to the engine. */
export const make = (store: StoreService): Effect.Effect<void, StoreError> =>
  Effect.flatMap(RunLogRetention, (kept) => store.read(setLogLimits(kept)))

const FIND_ENDS = statement(
  "RunLogs.findEnds",
  `SELECT (SELECT min(first) FROM run_logs WHERE run = ?) AS oldest,
     first + lines AS next, up_to FROM run_logs WHERE run = ? ORDER BY first DESC LIMIT 1`
)

const INSERT_LINES = statement(
  "RunLogs.insertLines",
  "INSERT INTO run_logs (run, first, lines, length, up_to, text) VALUES (?, ?, ?, ?, ?, ?)"
)

const FIND_FIRST_OFFSET = statement(
  "RunLogs.findFirstOffset",
  "SELECT up_to - length AS before FROM run_logs WHERE run = ? ORDER BY first LIMIT 1"
)

const DELETE_OLD_LINES = statement(
  "RunLogs.deleteOldLines",
  "DELETE FROM run_logs WHERE run = ? AND (first + lines <= ? OR up_to <= ?)"
)

/** Stores the log lines of a turn. Deletes the oldest lines of the run beyond the limits. */
export function* keepLogs(tx: Transaction, run: number, { dropped = 0, lines }: TurnLogs): Program<void> {
  const limits = limitsOf(tx).current
  if (limits.lines === 0 || lines.length === 0) return
  const ends = yield* get(FIND_ENDS, run, run)
  const totalLength = Number(ends?.up_to ?? 0)
  const newest = newestOf(lines, limits)
  if (newest.length === 0) return
  const leftOut = lines.length - newest.length
  const first = Number(ends?.next ?? 1) + dropped + leftOut
  const length = newest.reduce((sum, line) => sum + lengthOf(line), 0)
  yield* write(INSERT_LINES, run, first, newest.length, length, totalLength + length, JSON.stringify(newest))
  if (ends === undefined) return
  const isFull =
    first + newest.length - Number(ends.oldest) > limits.lines ||
    totalLength + length - Number((yield* get(FIND_FIRST_OFFSET, run))?.before) > limits.length
  if (isFull) {
    yield* write(
      DELETE_OLD_LINES,
      run,
      first + newest.length - limits.lines,
      totalLength + length - limits.length
    )
  }
}

/** The newest lines, as many as the limits allow. */
const newestOf = (lines: ReadonlyArray<LogLine>, limits: KeptLogs): ReadonlyArray<LogLine> => {
  let length = 0
  let firstIndex = lines.length
  while (firstIndex > 0 && lines.length - firstIndex < limits.lines) {
    length += lengthOf(lines[firstIndex - 1]!)
    if (length > limits.length) break
    firstIndex--
  }
  return firstIndex === 0 ? lines : lines.slice(firstIndex)
}

const LIST_LINES = statement(
  "RunLogs.listLines",
  "SELECT first, lines, text FROM run_logs WHERE run = ? AND first + lines > ? ORDER BY first"
)

const readRunLogs = inEnvironment(
  "readRunLogs",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    after: number,
    limit: number
  ): Program<ReadonlyArray<RunLogLine>, RunNotFoundError> {
    const run = yield* findRun(tx, environment, runId)
    const limits = limitsOf(tx).current
    const rows = yield* all(LIST_LINES, run.key!, after + 1)
    const end = rows.length === 0 ? 0 : Number(rows.at(-1)!.first) + Number(rows.at(-1)!.lines)
    // a row has several lines: the first rows may have lines that are too old, or that were on an earlier page
    const firstNumber = Math.max(after + 1, end - limits.lines)
    const found: Array<RunLogLine> = []
    for (const row of rows) {
      // only `keepLogs` writes this column
      const lines = parseStored(String(row.text)) as ReadonlyArray<LogLine>
      for (const [i, line] of lines.entries()) {
        const number = Number(row.first) + i
        if (number >= firstNumber) found.push(lineOf(number, line))
        if (found.length === limit) return found
      }
    }
    return found
  },
  (_, runId) => `read what run ${runId} has logged`
)

const lineOf = (number: number, { at, data, ...line }: LogLine): RunLogLine => ({
  number,
  at: new Date(asMoment(at)).toISOString(),
  ...line,
  ...(data === undefined ? {} : { data: decodeJson(data) })
})

/** A page of the log lines of a run, oldest first. The cursor is the number of the last line before the page. */
export const logsPage = (
  store: StoreService,
  environment: string,
  runId: string,
  { after, limit }: PageQuery
): Effect.Effect<Page<RunLogLine>, StoreError | RunNotFoundError> =>
  Effect.map(store.read(readRunLogs(environment, runId, Number(after), limit)), (lines) => {
    const last = lines.at(-1)
    return {
      items: lines,
      ...(lines.length < limit || last === undefined ? {} : { nextCursor: String(last.number) })
    }
  })
