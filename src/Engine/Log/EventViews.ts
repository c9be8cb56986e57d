/** Rows of the log in the form that triggers, waits and expressions use. */
import type { EventEntity } from "../../Event.ts"
import { StoreError } from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import { readPath } from "../../DataPath.ts"
import { type EventView, eventView } from "../Functions/Registry.ts"
import { defineCache } from "../Store/Cache.ts"
import { get, type Program, type Row, statement } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

/** A row of the log as expressions and waits see it. */
export const viewOfRow = (row: Row): EventView =>
  eventView({
    id: String(row.id),
    name: String(row.name),
    version: Number(row.version),
    data: String(row.data),
    timestamp: Number(row.timestamp),
    ...(row.metadata == null ? {} : { metadata: String(row.metadata) }),
    ...(row.source == null ? {} : { source: String(row.source) }),
    ...entityOfRow(row),
    ...(row.trace == null ? {} : { trace: String(row.trace) })
  })

/** The entity to whose stream a row of the log belongs, if it belongs to one. */
export const entityOfRow = (row: Row): { readonly entity?: EventEntity } =>
  row.entity_id == null
    ? {}
    : {
        entity: {
          id: String(row.entity_id),
          type: String(row.entity_type),
          version: Number(row.entity_version)
        }
      }

/**
 * The value at a match path, as JSON text: waits are indexed by this text. `undefined` when there is no value, and so nothing
 * matches.
 */
export const matchValue = (root: EventView, path: string): string | undefined => {
  const value = readPath(root, path)
  return value === undefined ? undefined : JSON.stringify(value)
}

const FIND_EVENT_AT = statement("EventViews.findEventAt", "SELECT * FROM events WHERE position = ?")

/**
 * The event at a position of the log. Throws a `StoreError` when the event is missing: only damage explains that, because events
 * that a run needs are never deleted.
 */
export function* eventAt(position: number): Program<EventView> {
  const row = yield* get(FIND_EVENT_AT, position)
  if (row === undefined) {
    throw new StoreError(
      `The event at position ${position} of the log is missing, and a run needs it: the log is damaged. Restore a backup, or cancel the run`,
      {
        code: "STORE_CORRUPT"
      }
    )
  }
  return viewOfRow(row)
}

/** The last event that was serialized. It is kept so that all receivers of the event share one string. */
const lastTextCache = defineCache<{
  last: { readonly position: number; readonly text: JsonText } | undefined
}>({
  make: () => ({ last: undefined }),
  // after a rollback, the position of the kept event may be assigned to another event
  begin: (memory) => void (memory.last = undefined)
})

/** Drops the kept string. Called when a stored event was changed. */
export const forgetLastText = (tx: Transaction): void => void (lastTextCache(tx).last = undefined)

/** The event at a position as JSON, as waits deliver it. */
export function* eventText(tx: Transaction, position: number): Program<JsonText> {
  const { last } = lastTextCache(tx)
  if (last?.position === position) return last.text
  const view = yield* eventAt(position)
  return rememberText(tx, position, () => view.toText())
}

/** {@link eventText}, or `undefined` when the event was deleted. */
export function* eventTextIfKept(tx: Transaction, position: number): Program<JsonText | undefined> {
  return (yield* get(FIND_EVENT_AT, position)) === undefined ? undefined : yield* eventText(tx, position)
}

/** {@link eventText} for an event that was already read. `text` serializes it. */
export const rememberText = (tx: Transaction, position: number, text: () => JsonText): JsonText => {
  const memory = lastTextCache(tx)
  if (memory.last?.position !== position) memory.last = { position, text: text() }
  return memory.last.text
}
