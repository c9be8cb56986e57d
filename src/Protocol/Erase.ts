/** Erasing what belongs to one person: what is asked for, how it travels, and the call. */
import { InvalidStateError, ValidationError } from "../Errors.ts"
import type { RunFilters } from "../RunFilters.ts"
import { show } from "../Show.ts"
import { Operation } from "./Bulk.ts"
import { fields, flag, list, optional, text } from "./Codec.ts"
import { all, operation, row } from "./Row.ts"
import { type ListRuns, ListRunsRequest } from "./RunLists.ts"

/** Events of the log and messages of topics: those that fit each member that is given. Times are ISO strings. */
export interface EraseEvents {
  /** A CEL expression over `event`, as in `event.data.email == "jane@example.com"`. Looks through all of them. */
  readonly where?: string
  /** A name or a pattern, of events or topics. */
  readonly name?: string
  readonly entityId?: string
  readonly entityType?: string
  readonly idempotencyKey?: string
  /** Stored then or later. */
  readonly since?: string
  /** Stored before that. */
  readonly until?: string
}

/** Keys of a bucket: one, or all that begin with `prefix`. */
export interface EraseKeys {
  readonly bucket: string
  readonly key?: string
  readonly prefix?: string
}

/** What is to be erased: all that any of the members names. */
export interface EraseTarget {
  readonly events?: EraseEvents
  /** By filters or by ids. The events that have started them are erased with them. */
  readonly runs?: RunFilters & { readonly ids?: ReadonlyArray<string> }
  /** Ids of entities, whose streams are erased. */
  readonly streams?: ReadonlyArray<string>
  readonly keys?: ReadonlyArray<EraseKeys>
  /** Names of configurations. */
  readonly configs?: ReadonlyArray<string>
}

/** What is asked for, on its way. */
interface StartErase {
  readonly events?: EraseEvents
  readonly runs?: ListRuns
  readonly runIds?: Array<string>
  readonly streams?: Array<string>
  readonly keys?: Array<EraseKeys>
  readonly configs?: Array<string>
  readonly dryRun?: boolean
  readonly cancel?: boolean
  readonly compact?: boolean
}

/** Throws `ValidationError` for a member that says nothing: what is erased is gone, and was perhaps only to be counted. */
export const checkEraseSaid = (given: object, where = ""): void => {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || (typeof value === "string" && value.trim() === "")) {
      throw new ValidationError(
        `erase: \`${where}${name}\` is ${value === null ? "null" : "blank"}, which says nothing: leave it out, or give it a value`
      )
    }
  }
  const { events } = given as { readonly events?: unknown }
  if (where === "" && events !== undefined) {
    if (typeof events !== "object" || Array.isArray(events)) {
      throw new ValidationError(`erase: \`events\` must be an object of filters, got ${show(events)}`)
    }
    checkEraseSaid(events as object, "events.")
  }
}

const Request = fields<StartErase>({
  events: optional(
    fields<EraseEvents>({
      where: optional(text),
      name: optional(text),
      entityId: optional(text),
      entityType: optional(text),
      idempotencyKey: optional(text),
      since: optional(text),
      until: optional(text)
    })
  ),
  runs: optional(ListRunsRequest),
  runIds: optional(list(text)),
  streams: optional(list(text)),
  keys: optional(list(fields<EraseKeys>({ bucket: text, key: optional(text), prefix: optional(text) }))),
  configs: optional(list(text)),
  dryRun: optional(flag),
  cancel: optional(flag),
  compact: optional(flag)
})

export const startErase = operation("POST /api/v1/erase", { answer: Operation, ours: true })

export const rows = {
  /** Begins to erase what belongs to one person and what has come of it: a bulk operation, whose key may be denied to read none of it. */
  startErase: row(startErase, all("data:erase", "engine"), {
    body: Request,
    errors: { 409: InvalidStateError }
  })
}
