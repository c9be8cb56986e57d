/**
 * Helps to list events for a client: turns the client's options into a query, makes and reads cursors, and makes the answer from
 * the found events.
 */
import { createHash } from "node:crypto"
import { ValidationError } from "../../Errors.ts"
import {
  checkListEvents,
  type ListEventsOptions,
  type ListEventsResult,
  type LoggedEvent
} from "../../Protocol/Events.ts"
import { show } from "../../Show.ts"
import type { EventQuery, FoundEvent, FoundEvents } from "../Log/LogRecords.ts"
import { parseStored } from "../Store/StoredJson.ts"

const DEFAULT_LIMIT = 50

/** Checks and converts the options of the list. Throws `ValidationError`. */
export const queryOf = (environment: string, options: ListEventsOptions): EventQuery => {
  const {
    cursor,
    limit = DEFAULT_LIMIT,
    order = "newest",
    since,
    until,
    ...filter
  } = checkListEvents(options)
  return {
    environment,
    order,
    limit,
    ...withoutUndefined({
      ...filter,
      since: since === undefined ? undefined : Date.parse(since),
      until: until === undefined ? undefined : Date.parse(until),
      cursor: cursor === undefined ? undefined : positionOf(cursor, options)
    })
  }
}

const withoutUndefined = <A extends object>(fields: A): { [K in keyof A]?: Exclude<A[K], undefined> } =>
  // only members that are not `undefined` remain, as the type says
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never

/** An object with the member `nextCursor` of a page; empty for the last page. */
export const cursorOf = (options: ListEventsOptions, { next }: FoundEvents): { nextCursor?: string } =>
  next === undefined ? {} : { nextCursor: `e${next}-${digestOfFilters(options)}` }

const positionOf = (cursor: string, options: ListEventsOptions): number => {
  const [, position, mark] = /^e(\d{1,15})-([\w-]{6})$/.exec(cursor) ?? []
  if (position === undefined) {
    throw new ValidationError(
      `Cursor ${show(cursor)} is not one that listEvents returned: pass the nextCursor of the previous page`
    )
  }
  if (mark === digestOfFilters(options)) return Number(position)
  throw new ValidationError(
    `Cursor ${show(cursor)} belongs to a list with other filters: pass it with the filters of the page that returned it, or begin without a cursor`
  )
}

/** A digest of the filters and the order of a list. It is part of the cursor, so that a cursor of another list is recognized. */
const digestOfFilters = (options: ListEventsOptions): string => {
  const { cursor: _, limit: _limit, order = "newest", ...filter } = checkListEvents(options)
  return createHash("sha256")
    .update(JSON.stringify({ ...filter, order }))
    .digest("base64url")
    .slice(0, 6)
}

export const pageOf = (options: ListEventsOptions, found: FoundEvents): ListEventsResult => ({
  events: found.events.map(toLoggedEvent),
  ...cursorOf(options, found),
  ...(found.lookedTo === undefined
    ? {}
    : {
        lookedTo: {
          position: found.lookedTo.position,
          timestamp: new Date(found.lookedTo.timestamp).toISOString()
        }
      })
})

/** The event as a client gets it. */
export const toLoggedEvent = ({ data, kind: _, metadata, timestamp, ...event }: FoundEvent): LoggedEvent => ({
  ...event,
  data: parseStored(data),
  timestamp: new Date(timestamp).toISOString(),
  ...(metadata === undefined ? {} : { metadata: parseStored(metadata) })
})
