/** The filter of a wait, and the first event in the log that it accepts. */
import { statement, type Program, all } from "../Store/Program.ts"
import type { Transaction, Row } from "../Store/Transaction.ts"
import type { EventView } from "../Functions/Registry.ts"
import { compilePattern } from "../../Pattern.ts"
import { viewOfRow, matchValue } from "./EventViews.ts"
import { evaluateExpression } from "../../Expression.ts"

/** The index has this name for a wait whose event name is a pattern. */
export const ANY_NAME = "*"

/** The variables that the expression of a wait may use. */
export const waitRoots = ["event", "trigger"] as const

/** The filter of a wait. */
export interface WaitFilter {
  readonly event: string
  /** Whether `event` has wildcards. */
  readonly pattern: boolean
  readonly match?: EventMatch
}

/**
 * The condition that an event must meet: either its value at `path` equals `value`, or the expression `text` is true. `value`
 * is the JSON text of the value at `path` in the event that started the run.
 */
export type EventMatch =
  | { readonly _tag: "Path"; readonly path: string; readonly value: string }
  | { readonly _tag: "Expression"; readonly text: string }

const LIST_EVENTS_BY_NAME = statement(
  "WaitFilter.listEventsByName",
  "SELECT * FROM events WHERE environment = ? AND kind = 0 AND name = ? AND position > ? AND erased_at IS NULL ORDER BY position LIMIT 200"
)

const LIST_EVENTS_OF_ANY_NAME = statement(
  "WaitFilter.listEventsOfAnyName",
  "SELECT * FROM events NOT INDEXED WHERE position > ? AND environment = ? AND kind = 0 AND erased_at IS NULL ORDER BY position LIMIT 200"
)

/**
 * The first event after the position `after` that the filter accepts. `trigger` is a program that reads the event that started the
 * run.
 */
export function* findAcceptedEvent(
  tx: Transaction,
  environment: number,
  filter: WaitFilter,
  after: number,
  trigger: () => Program<EventView>
): Program<{ readonly view: EventView; readonly position: number } | undefined> {
  const accepts = filter.pattern ? compilePattern(filter.event) : undefined
  let position = after
  while (true) {
    const rows =
      accepts === undefined
        ? yield* all(LIST_EVENTS_BY_NAME, environment, filter.event, position)
        : yield* all(LIST_EVENTS_OF_ANY_NAME, position, environment)
    for (const row of rows) {
      position = Number(row.position)
      tx.budget.noteRow()
      if (accepts !== undefined && !accepts(String(row.name))) continue
      const view = viewOfRow(row)
      if (yield* matches(tx, filter.match, view, trigger)) return { view, position }
    }
    if (rows.length < 200) return undefined
  }
}

function* matches(
  tx: Transaction,
  match: EventMatch | undefined,
  view: EventView,
  trigger: () => Program<EventView>
): Program<boolean> {
  if (match === undefined) return true
  if (match._tag === "Path") return matchValue(view, match.path) === match.value
  const { error, exceeded, matched } = evaluateExpression(match.text, {
    event: view,
    trigger: yield* trigger()
  })
  if (exceeded === true) {
    tx.changes.warnings.push(
      `Event "${view.name}" ${view.id}: a wait does not get it, because the wait's \`match\` failed: ${error}`
    )
  }
  return matched
}

/** The name that the index has for the wait. */
export const waitName = (filter: WaitFilter): string => (filter.pattern ? ANY_NAME : filter.event)

/** The filter of the wait in a row of `waits`. */
export const waitFilterOf = (row: Row): WaitFilter => {
  const match: EventMatch | undefined =
    row.match_path !== null
      ? { _tag: "Path", path: String(row.match_path), value: String(row.match_value) }
      : row.expression !== null
        ? { _tag: "Expression", text: String(row.expression) }
        : undefined
  return {
    event: String(row.pattern ?? row.event),
    pattern: row.pattern !== null,
    ...(match === undefined ? {} : { match })
  }
}
