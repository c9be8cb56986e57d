/**
 * Delivers events to the waits that they satisfy.
 *
 * Any number of runs may wait for one event. The transaction that stores the event delivers it to as many waits as the budget of
 * the transaction allows. If waits are left, a row of `fan_outs` says so, and later transactions continue the delivery, even after
 * a restart.
 *
 * Waits are indexed by event name; in the index, all waits with a pattern have the same reserved name. Events under one name are
 * delivered one by one, in log order, so that a wait gets the first event that it accepts. A wait that is opened while such events
 * are left looks back over all of them when it is opened, and is not given them again. A wait whose timeout is due still gets an
 * event that was stored before, if there is one (see `FireDue.ts`).
 */
import { evaluateExpression } from "../../Expression.ts"
import { matchesPattern } from "../../Pattern.ts"
import type { EventView } from "../Functions/Registry.ts"
import { eventAt, matchValue } from "../Log/EventViews.ts"
import { defineCache } from "../Store/Cache.ts"
import { allIsolatingDamage, isolateRow, get, type Program, statement, write } from "../Store/Program.ts"
import { triggerView } from "../Runs/RunEvent.ts"
import { WaitKind } from "../Runs/WaitKinds.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { deliverEvent } from "../Runs/Waits.ts"
import { ANY_NAME } from "../Log/WaitFilter.ts"
import { oldestFanOut } from "../Log/WaitFanOuts.ts"

/** An event that is being delivered to the waits under one name. */
interface FanOut {
  readonly environment: number
  readonly position: number
  readonly view: EventView
  readonly name: string
}

/**
 * A place in the order of the waits: the last wait that was looked at. The order is by match path; waits without a path (`path` is
 * `null`) come last.
 */
interface Place {
  readonly path: string | null
  readonly run: number
  readonly stepKey: string
}

/** Comes before all match paths, none of which is empty. */
const NO_PATH = ""

const BEGINNING: Place = { path: NO_PATH, run: 0, stepKey: "" }

/**
 * Collects the problems with the expressions of waits. Thousands of waits may have the same problem, so it is noted once with the
 * number of the waits.
 */
class Problems {
  readonly #waits = new Map<string, number>()

  add(problem: string): void {
    this.#waits.set(problem, (this.#waits.get(problem) ?? 0) + 1)
  }

  get texts(): ReadonlyArray<string> {
    return [...this.#waits].map(([problem, waits]) => (waits === 1 ? problem : `${problem} (${waits} waits)`))
  }
}

const OPEN_FOR_EVENT = `environment = ? AND event = ? AND kind = ${WaitKind.event} AND fired IS NULL`

const FIND_WAIT_FOR_NAME = statement(
  "FireWaits.findWaitForName",
  `SELECT 1 FROM waits WHERE environment = ? AND event IN (?, '${ANY_NAME}') AND kind = ${WaitKind.event} AND fired IS NULL LIMIT 1`
)

const FIND_OPEN_WAIT = statement(
  "FireWaits.findOpenWait",
  `SELECT 1 FROM waits WHERE ${OPEN_FOR_EVENT} LIMIT 1`
)

const PUT_FAN_OUT = statement(
  "FireWaits.putFanOut",
  `INSERT INTO fan_outs (environment, event, position, path, run, step_key) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (environment, event, position) DO UPDATE SET path = excluded.path, run = excluded.run, step_key = excluded.step_key`
)

/** Fires the open waits that accept a newly stored event. Returns warnings about expressions that failed. */
export function* satisfyWaits(
  tx: Transaction,
  environment: number,
  position: number,
  view: EventView
): Program<ReadonlyArray<string>> {
  if (!(yield* isAwaited(tx, environment, view.name))) return []
  const problems = new Problems()
  for (const name of [view.name, ANY_NAME]) {
    const isBehind = (yield* oldestFanOut(environment, name)) !== undefined
    const place = isBehind
      ? BEGINNING
      : yield* deliverFrom(tx, { environment, position, view, name }, BEGINNING, problems)
    if (place === undefined || (yield* get(FIND_OPEN_WAIT, environment, name)) === undefined) continue
    yield* putFanOut(environment, name, position, place)
    tx.markDue(tx.now())
  }
  return problems.texts
}

/**
 * By environment: caches event names for which no run waits. Most events have one of a few names, so the cache saves most queries.
 */
const unawaitedNames = defineCache<Map<number, Set<string>>>({
  make: () => new Map(),
  // another engine may have opened a wait in the meantime
  invalidate: (names) => names.clear(),
  // the transaction may have deleted a wait, which now exists again
  rolledBack: (names) => names.clear()
})

/** Maximum number of names of an environment that are cached. */
const MAX_NAMES = 1000

function* isAwaited(tx: Transaction, environment: number, name: string): Program<boolean> {
  const names = unawaitedNames(tx).get(environment)
  if (names?.has(name) === true) return false
  if ((yield* get(FIND_WAIT_FOR_NAME, environment, name)) !== undefined) return true
  if (names === undefined) unawaitedNames(tx).set(environment, new Set([name]))
  else if (names.size < MAX_NAMES) names.add(name)
  return false
}

/** Notes that a wait for an event was opened in an environment. */
export const markAwaited = (tx: Transaction, environment: number): void => {
  unawaitedNames(tx).delete(environment)
}

/** Stores that the delivery of an event has to be continued after a place. */
function* putFanOut(
  environment: number,
  name: string,
  position: number,
  { path, run, stepKey }: Place
): Program<void> {
  yield* write(PUT_FAN_OUT, environment, name, position, path, run, stepKey)
}

/** By environment: the name under which an event was last delivered. Has an entry only as long as deliveries are left. */
const lastNames = defineCache<Map<number, string>>({ make: () => new Map() })

/** Finds the next name under which events are being delivered in an environment, and the oldest of these events. */
const FIND_NEXT_FAN_OUT = statement(
  "FireWaits.findNextFanOut",
  `SELECT environment, event, position, path, run, step_key FROM fan_outs WHERE environment = ? AND event > ? @sound(event, position)
     ORDER BY event, position LIMIT 1`
)

const FIND_NEXT_ENVIRONMENT = statement(
  "FireWaits.findNextEnvironment",
  "SELECT environment FROM fan_outs WHERE environment > ? AND position > 0 @sound(event, position) ORDER BY environment LIMIT 1"
)

/** At most `limit` environments with unfinished deliveries. The index leads from each environment to the next. */
export function* environmentsOfEvents(limit: number): Program<ReadonlyArray<Row>> {
  const found: Array<Row> = []
  while (found.length < limit) {
    const row = yield* get(FIND_NEXT_ENVIRONMENT, found.at(-1)?.environment ?? 0)
    if (row === undefined) break
    found.push(row)
  }
  return found
}

const DELETE_FAN_OUT = statement(
  "FireWaits.deleteFanOut",
  "DELETE FROM fan_outs WHERE environment = ? AND event = ? AND position = ?"
)

/**
 * Continues the deliveries of an environment, as far as the budget of the transaction allows. Returns how many events were handled.
 */
export function* continueDeliveries(tx: Transaction, environment: number): Program<number> {
  const last = lastNames(tx)
  let events = 0
  // handles at least one event even when the transaction is full already, so that a busy engine makes progress
  while (events === 0 || !tx.budget.isFull) {
    // goes from name to name, so that a name with very many waits does not hold up the others
    const row =
      (yield* get(FIND_NEXT_FAN_OUT, environment, last.get(environment) ?? "")) ??
      (yield* get(FIND_NEXT_FAN_OUT, environment, ""))
    if (row === undefined) {
      last.delete(environment)
      break
    }
    last.set(environment, String(row.event))
    const isDone = yield* isolateRow(
      tx,
      "event",
      Number(row.position),
      continueDelivery(tx, row, events === 0)
    )
    events++
    if (!isDone) break
  }
  return events
}

/** Continues the delivery of one event. Returns whether the delivery is finished. */
function* continueDelivery(tx: Transaction, row: Row, isFirst: boolean): Program<boolean> {
  const environment = Number(row.environment)
  const position = Number(row.position)
  const name = String(row.event)
  const view = yield* eventAt(position)
  const problems = new Problems()
  const start: Place = {
    path: row.path === null ? null : String(row.path),
    run: Number(row.run),
    stepKey: String(row.step_key)
  }
  const place = yield* deliverFrom(tx, { environment, position, view, name }, start, problems, isFirst)
  for (const problem of problems.texts) {
    tx.changes.warnings.push(`Event "${view.name}" ${view.id}: ${problem}`)
  }
  if (place === undefined) yield* write(DELETE_FAN_OUT, environment, name, position)
  else yield* putFanOut(environment, name, position, place)
  return place === undefined
}

const FIND_ANY_FAN_OUT = statement(
  "FireWaits.findAnyFanOut",
  "SELECT 1 FROM fan_outs WHERE position > 0 @sound(event, position) LIMIT 1",
  {
    scans: "the first row; more rows only when events are damaged"
  }
)

/** Whether there is an unfinished delivery. */
export function* hasDeliveries(): Program<boolean> {
  return (yield* get(FIND_ANY_FAN_OUT)) !== undefined
}

const LIST_WAITING_RUNS = statement(
  "FireWaits.listWaitingRuns",
  `SELECT DISTINCT run AS key FROM waits WHERE ${OPEN_FOR_EVENT}`
)

const LIST_WAITS_BY_PATH = statement(
  "FireWaits.listWaitsByPath",
  `SELECT run, step_key, pattern, expression, looked_back_to FROM waits WHERE ${OPEN_FOR_EVENT} AND match_path = ? AND match_value = ?
     AND (run, step_key) > (?, ?) @sound(run, run) ORDER BY run, step_key LIMIT ?`
)

const LIST_WAITS_WITHOUT_PATH = statement(
  "FireWaits.listWaitsWithoutPath",
  `SELECT run, step_key, pattern, expression, looked_back_to FROM waits WHERE ${OPEN_FOR_EVENT} AND match_path IS NULL AND match_value IS NULL
     AND (run, step_key) > (?, ?) @sound(run, run) ORDER BY run, step_key LIMIT ?`
)

/**
 * Fires the waits after a place that accept the event, as far as the budget of the transaction allows. Returns the place of the
 * last wait that was looked at; `undefined` when all waits were looked at. With `isFirst`, looks at one wait at least.
 */
function* deliverFrom(
  tx: Transaction,
  event: FanOut,
  start: Place,
  problems: Problems,
  isFirst = false
): Program<Place | undefined> {
  const { environment, name, position, view } = event
  const delivered = { position, text: () => view.toText() }
  let place = start
  let mustLookAtOne = isFirst
  while (true) {
    const maxRows = mustLookAtOne ? Math.max(1, tx.budget.rowsLeft) : tx.budget.rowsLeft
    if (maxRows === 0) return place
    const rows = yield* waitsAfter(tx, event, place, maxRows)
    for (const row of rows) {
      const run = Number(row.run)
      if (!mustLookAtOne && (tx.budget.isFull || (row.expression !== null && !tx.budget.mayEvaluate)))
        return place
      mustLookAtOne = false
      tx.budget.noteRow()
      place = { path: place.path, run, stepKey: String(row.step_key) }
      // the event was already in the log when this wait was opened, and the wait was checked against the event then
      if (row.looked_back_to !== null && Number(row.looked_back_to) >= position) continue
      if (!acceptsName(row, view)) continue
      if (
        row.expression !== null &&
        !(yield* isolateRow(tx, "run", run, satisfiesExpression(row, view, problems)))
      )
        continue
      yield* isolateRow(tx, "run", run, deliverEvent(tx, run, place.stepKey, delivered))
    }
    if (rows.length === maxRows) continue
    if (place.path === null) return undefined
    // goes on with the next path: of the waits with that path, the index finds only those that have the event's value
    place = { path: yield* nextPath(environment, name, place.path), run: 0, stepKey: "" }
  }
}

/** The open waits after a place that have the path of this place, and the event's value at that path. */
function* waitsAfter(
  tx: Transaction,
  { environment, name, view }: FanOut,
  { path, run, stepKey }: Place,
  limit: number
): Program<ReadonlyArray<Row>> {
  const keys = [LIST_WAITING_RUNS, environment, name] as const
  if (path === null)
    return yield* allIsolatingDamage(
      tx,
      "run",
      keys,
      LIST_WAITS_WITHOUT_PATH,
      environment,
      name,
      run,
      stepKey,
      limit
    )
  if (path === NO_PATH) return []
  const value = matchValue(view, path)
  // the index compares the value, which may be as large as the event, so its length counts as work
  tx.budget.noteRow(value?.length)
  if (value === undefined) return []
  return yield* allIsolatingDamage(
    tx,
    "run",
    keys,
    LIST_WAITS_BY_PATH,
    environment,
    name,
    path,
    value,
    run,
    stepKey,
    limit
  )
}

const FIND_NEXT_PATH = statement(
  "FireWaits.findNextPath",
  `SELECT match_path FROM waits WHERE ${OPEN_FOR_EVENT} AND match_path > ? ORDER BY match_path LIMIT 1`
)

function* nextPath(environment: number, name: string, after: string): Program<string | null> {
  const row = yield* get(FIND_NEXT_PATH, environment, name, after)
  return row === undefined ? null : String(row.match_path)
}

/** Whether an event satisfies the expression of a wait: `false` when the expression fails. */
function* satisfiesExpression(wait: Row, view: EventView, problems: Problems): Program<boolean> {
  const { error, matched } = evaluateExpression(String(wait.expression), {
    event: view,
    trigger: yield* triggerView(Number(wait.run))
  })
  if (error !== undefined)
    problems.add(`wait "${wait.step_key}" stays open, because its \`match\` failed: ${error}`)
  return matched
}

/**
 * Whether the name of the event matches the pattern of a wait. This has to be checked, because the index finds all waits with a
 * pattern, whatever the pattern is. `true` for a wait without a pattern.
 */
const acceptsName = (row: Row, view: EventView): boolean =>
  row.pattern === null || matchesPattern(String(row.pattern), view.name)
