/**
 * Search attributes of runs: the values of the event at the paths in the function's `searchBy`. A new run gets its attributes in
 * the transaction that creates it. When a path is added, older runs get the attribute later: `SearchFill.ts` fills in runs in
 * slices, from the newest to the oldest.
 */
import { readPath } from "../../DataPath.ts"
import { searchValueLength } from "../../Limits.ts"
import { type EventView, registryOf } from "../Functions/Registry.ts"
import { viewOfRow } from "../Log/EventViews.ts"
import { acrossEnvironments, all, get, type Program, statement, write } from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { invocationView } from "./RunEvent.ts"

/**
 * The text of the attribute at a path; `undefined` when the run has no such attribute. Only strings, numbers and booleans can be
 * attributes, as texts. A text is no attribute if it is too long, or contains a NUL character, which Postgres cannot store.
 */
export const attributeOf = (event: object, path: string): string | undefined => {
  const value = readPath({ event }, path)
  if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean") return undefined
  const text = String(value)
  return text.length <= searchValueLength && !text.includes("\0") ? text : undefined
}

const INSERT_ATTRIBUTE = statement(
  "SearchAttributes.insertAttribute",
  "INSERT INTO run_attributes (function, path, value, run) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
)

/** Stores the search attributes of a run. */
export function* putAttributes(
  fn: number,
  run: number,
  paths: ReadonlyArray<string>,
  event: EventView
): Program<void> {
  for (const path of paths) {
    const value = attributeOf(event, path)
    if (value !== undefined) yield* write(INSERT_ATTRIBUTE, fn, path, value, run)
  }
}

/** How many runs one transaction fills in, or how many attributes it deletes. */
const SLICE = 200
/** A transaction ends with the query that exceeds this number of characters of events. */
const SLICE_LENGTH = 1024 * 1024
/** How many runs one query reads. */
const RUNS_PER_QUERY = 20

const LIST_SEARCH_PATHS = statement(
  "SearchAttributes.listSearchPaths",
  "SELECT function, path, below FROM search_paths",
  {
    scans: "one row for each path of each function, which are few"
  }
)
const FIND_NEWEST_RUN = statement("SearchAttributes.findNewestRun", "SELECT max(key) AS key FROM runs")
const UPDATE_FILL_POSITION = statement(
  "SearchAttributes.updateFillPosition",
  "UPDATE search_paths SET below = ? WHERE function = ? AND path = ?"
)
const DELETE_SOME_ATTRIBUTES = statement(
  "SearchAttributes.deleteSomeAttributes",
  `DELETE FROM run_attributes WHERE function = ? AND path = ? AND (value, run) IN
     (SELECT value, run FROM run_attributes WHERE function = ? AND path = ? LIMIT ${SLICE})`
)
const FIND_ANY_ATTRIBUTE = statement(
  "SearchAttributes.findAnyAttribute",
  "SELECT 1 FROM run_attributes WHERE function = ? AND path = ? LIMIT 1"
)
const DELETE_SEARCH_PATH = statement(
  "SearchAttributes.deleteSearchPath",
  "DELETE FROM search_paths WHERE function = ? AND path = ?"
)
/**
 * Finds the end of a slice. A slice is cut from the runs of all functions, because the runs of a single function may be far
 * apart.
 */
const FIND_END_OF_SLICE = statement(
  "SearchAttributes.findEndOfSlice",
  "SELECT key FROM runs WHERE key < ? ORDER BY key DESC LIMIT 1 OFFSET 5000"
)
const LIST_RUNS_WITHIN = statement(
  "SearchAttributes.listRunsWithin",
  `SELECT r.key AS run_key, r.id AS run_id, r.input AS run_input, r.fork_data, r.system_event, r.created_at AS run_created_at, e.* FROM runs r
     LEFT JOIN events e ON e.position = r.event WHERE r.key < ? AND r.key >= ? AND +r.function = ? ORDER BY r.key DESC LIMIT ${RUNS_PER_QUERY}`
)

/**
 * The next path with work to do: runs lack its attribute, or its function no longer has the path in `searchBy` (`isNamed` is
 * `false`). `below` is the key below which runs lack the attribute; `null` when nothing is filled in yet.
 */
function* nextPath(
  tx: Transaction
): Program<
  | { readonly fn: number; readonly path: string; readonly below: number | null; readonly isNamed: boolean }
  | undefined
> {
  for (const row of yield* all(LIST_SEARCH_PATHS)) {
    const fn = Number(row.function)
    const path = String(row.path)
    const registration = registryOf(tx).byKey(fn)?.registration
    // a function with a damaged row is unknown until a worker registers it again
    if (registration === undefined) continue
    const isNamed = registration.searchBy?.includes(path) === true
    if (row.below === 0 && isNamed) continue
    return { fn, path, below: row.below === null ? null : Number(row.below), isNamed }
  }
  return undefined
}

/** Whether {@link fillAttributes} has work to do. */
export const isFillingNeeded = acrossEnvironments(
  "isFillingNeeded",
  function* (tx: Transaction): Program<boolean> {
    return (yield* nextPath(tx)) !== undefined
  },
  () => "check whether the search attributes of runs are filled in"
)

/**
 * Fills in one slice of missing attributes, or deletes some attributes of a path that its function no longer has in `searchBy`.
 * Returns whether there may be more to do.
 */
export const fillAttributes = acrossEnvironments(
  "fillAttributes",
  function* (tx: Transaction): Program<boolean> {
    const next = yield* nextPath(tx)
    if (next === undefined) return false
    const { below, fn, isNamed, path } = next
    if (!isNamed) {
      // if the function gets the path again in the meantime, filling begins anew
      yield* write(UPDATE_FILL_POSITION, null, fn, path)
      if ((yield* get(FIND_ANY_ATTRIBUTE, fn, path)) === undefined) yield* write(DELETE_SEARCH_PATH, fn, path)
      else yield* write(DELETE_SOME_ATTRIBUTES, fn, path, fn, path)
      return true
    }
    const fillBelowKey = below ?? Number((yield* get(FIND_NEWEST_RUN))?.key ?? 0) + 1
    yield* write(UPDATE_FILL_POSITION, yield* fillBelow(fn, path, fillBelowKey), fn, path)
    return true
  },
  () => "fill in search attributes of runs"
)

/** Fills in a slice of the runs below `from`. Returns the key below which runs still lack the attribute; 0 when none do. */
function* fillBelow(fn: number, path: string, from: number): Program<number> {
  const end = Number((yield* get(FIND_END_OF_SLICE, from))?.key ?? 0)
  let place = from
  let filled = 0
  let length = 0
  while (filled < SLICE && length < SLICE_LENGTH) {
    const rows = yield* all(LIST_RUNS_WITHIN, place, end, fn)
    for (const row of rows) {
      place = Number(row.run_key)
      length += String(row.run_input ?? row.data ?? "").length
      yield* putAttributes(fn, place, [path], eventOf(row))
    }
    filled += rows.length
    if (rows.length < RUNS_PER_QUERY) return end
  }
  return place
}

const eventOf = (row: Row): EventView =>
  row.run_input === null && row.id !== null
    ? viewOfRow(row.fork_data === null ? row : { ...row, data: row.fork_data! })
    : invocationView(
        String(row.run_id),
        String(row.run_input ?? "null"),
        Number(row.run_created_at),
        row.system_event
      )
