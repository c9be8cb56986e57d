/** Erasing the data of one person: which data to erase, and the call that starts it. */
import { InvalidStateError, ValidationError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import type { RunFilters } from "../RunFilters.ts"
import { show } from "../Show.ts"
import { Operation } from "./Bulk.ts"
import { fields, flag, list, optional, text } from "./Codec.ts"
import { all, operation, callSpec } from "./CallSpec.ts"
import { type ListRuns, ListRunsRequest } from "./RunLists.ts"

/** Selects events of the log and messages of topics that match all given members. Times are ISO strings. */
export interface EraseEvents {
  /**
   * CEL expression over `event`, such as `event.data.email == "jane@example.com"`. The engine reads all events
   * and messages to evaluate it, which takes time.
   */
  readonly where?: string
  /** Name or pattern of events or topics. */
  readonly name?: string
  /** Events of the entity with this id. */
  readonly entityId?: string
  /** Events of entities of this type. */
  readonly entityType?: string
  /** Events and messages that were stored with this idempotency key. */
  readonly idempotencyKey?: string
  /** Stored at this time or later. */
  readonly since?: string
  /** Stored before this time. */
  readonly until?: string
}

/** Keys of a bucket: one key, or all keys that begin with a prefix. */
export interface EraseKeys {
  /** Name of the bucket. */
  readonly bucket: string
  /** One key. */
  readonly key?: string
  /** Prefix of the keys. */
  readonly prefix?: string
}

/** The data to erase: everything that any of the members selects. */
export interface EraseTarget {
  /** Events and messages, the runs that were started by them, and the runs that received them. */
  readonly events?: EraseEvents
  /** Runs, by filters or ids, and the events that started them. */
  readonly runs?: RunFilters & { readonly ids?: ReadonlyArray<string> }
  /** Ids of entities, whose streams are erased. */
  readonly streams?: ReadonlyArray<string>
  /** Keys of buckets, with their history. */
  readonly keys?: ReadonlyArray<EraseKeys>
  /** Names of configurations. */
  readonly configs?: ReadonlyArray<string>
}

/** A request to erase. */
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

/** Returns the target of an erasure if it is an object. Throws `ValidationError` otherwise. */
export const checkEraseTarget = (target: unknown): { readonly [member: string]: unknown } => {
  if (isObject(target)) return target
  throw new ValidationError(
    `erase: say what to erase, as in { events: { where: 'event.data.email == "..."' } }, got ${show(target)}`
  )
}

/**
 * Throws `ValidationError` for a member that is null or blank. If such a member were ignored, the operation could erase
 * more data than intended, or erase data that it should only count (`dryRun`).
 */
export const refuseBlankEraseOptions = (options: object, where = ""): void => {
  for (const [name, value] of Object.entries(options)) {
    if (value === null || (typeof value === "string" && value.trim() === "")) {
      throw new ValidationError(
        `erase: \`${where}${name}\` is ${value === null ? "null" : "blank"}: leave it out, or give it a value`
      )
    }
  }
  const { events } = options as { readonly events?: unknown }
  if (where === "" && events !== undefined) {
    if (typeof events !== "object" || Array.isArray(events)) {
      throw new ValidationError(`erase: \`events\` must be an object of filters, got ${show(events)}`)
    }
    refuseBlankEraseOptions(events as object, "events.")
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

export const startErase = operation("POST /api/v1/erase", { answer: Operation, onlyOurEngine: true })

export const callSpecs = {
  /** Starts a bulk operation that erases the data of one person. Refused when a policy forbids the key to read some of this data. */
  startErase: callSpec(startErase, all("data:erase", "engine"), {
    body: Request,
    errors: { 409: InvalidStateError }
  })
}
