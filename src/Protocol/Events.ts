/** Events: their messages and calls. */
import { EventNotFoundError, TimeoutError, ValidationError } from "../Errors.ts"
import type { EventEntity } from "../Event.ts"
import { checkCursor, checkIdempotencyKey, checkLimit, checkName } from "../Limits.ts"
import { checkPattern } from "../Pattern.ts"
import { show } from "../Show.ts"
import { type RunStatus, runStatuses } from "../RunStatus.ts"
import {
  oneOfList,
  digits,
  camelOrSnake,
  fields,
  flag,
  integer,
  json,
  lenientList,
  list,
  object,
  omittedWhen,
  oneOf,
  optional,
  orElse,
  struct,
  text,
  withLegacyNames,
  withWireName
} from "./Codec.ts"
import { each, inBody, operation, callSpec } from "./CallSpec.ts"

/** The result of `emit`. */
export interface EmitResult {
  /** Ids of the runs that the event started: one for every function with a matching trigger. */
  readonly runIds: Array<string>
  /** Id of the event, `evt_...`. */
  readonly eventId: string
  /** Position of the event in the log, for reads that wait for projections; absent from servers without positions. */
  readonly position?: number
}

/** A stored event, not decoded or upcast. */
export interface LoggedEvent {
  /** Id of the event, `evt_...`. */
  readonly id: string
  /** Name of the event. */
  readonly name: string
  /** The schema version with which the event was emitted. */
  readonly version: number
  /** The data of the event, in stored form. */
  // oxlint-disable-next-line typescript/no-explicit-any -- nothing is known about the data
  readonly data: any
  /** When it was stored, as an ISO string. */
  readonly timestamp: string
  /** Position of the event in the log. */
  readonly position: number
  /** `cron` for an event of a schedule; absent for an event that a client or a run has emitted. */
  readonly source?: string
  /** The idempotency key with which the event was emitted or appended. */
  readonly idempotencyKey?: string
  /** The metadata of the event. */
  readonly metadata?: { readonly [name: string]: unknown }
  /** The entity and its version, for an event that was appended to an entity stream. */
  readonly entity?: EventEntity
}

/** Explains for each function whether an event started runs of it, and if not, why. Times are ISO strings. */
export interface EventExplanation {
  /** Id of the event. */
  readonly eventId: string
  /** Name of the event. */
  readonly name: string
  /** When it was stored. */
  readonly timestamp: string
  /** First the functions of which the event started runs, then the others. Functions that the key may not see are left out. */
  readonly functions: Array<EventVerdict>
}

/**
 * `STARTED`: the event started runs. `NO_TRIGGER`: no trigger matches the name. `EXPRESSION_FALSE`, `EXPRESSION_FAILED`: the name
 * matches, but the expression is false for the event, or cannot be evaluated. `OTHER_SCHEDULE`: the event comes from the schedule
 * of another function. `REGISTERED_LATER`, `CHANGED_LATER`: the function was registered or changed after the event. `DELETED`: the
 * function was deleted before the event. `RUN_GONE`: the event matches, but its run is no longer kept.
 */
const eventVerdicts = [
  "STARTED",
  "EXPRESSION_FALSE",
  "EXPRESSION_FAILED",
  "REGISTERED_LATER",
  "CHANGED_LATER",
  "RUN_GONE",
  "DELETED",
  "OTHER_SCHEDULE",
  "NO_TRIGGER"
] as const

/** Whether an event started runs of a function, and if not, why. */
export interface EventVerdict {
  /** Id of the function. */
  readonly functionId: string
  /** The verdict: `STARTED`, `NO_TRIGGER`, `EXPRESSION_FALSE` and others. */
  readonly code: (typeof eventVerdicts)[number]
  /** The verdict as a sentence. */
  readonly message: string
  /** The runs of the function that the event started, at most 100; absent when there are none. */
  readonly runs?: Array<{ readonly runId: string; readonly status: RunStatus }>
  /** For `EXPRESSION_FALSE` and `EXPRESSION_FAILED`: the expression of the trigger. */
  readonly expression?: string
}

/** Sorts verdicts from the most to the least interesting. */
export const byInterest = (a: EventVerdict, b: EventVerdict): number =>
  eventVerdicts.indexOf(a.code) - eventVerdicts.indexOf(b.code)

/** Filters of `listEvents`; all of them apply. */
export interface ListEventsOptions {
  /** Event name, or a pattern such as `order.*`. */
  readonly name?: string
  /** Type of the entity that the event was appended to. */
  readonly entityType?: string
  /** Id of the entity that the event was appended to. */
  readonly entityId?: string
  /** Idempotency key with which the event was emitted or appended, even if that is more than 24 hours ago. */
  readonly idempotencyKey?: string
  /** Only events that were stored at this time or later. */
  readonly since?: Date | string
  /** Only events that were stored before this time. */
  readonly until?: Date | string
  /** Only events after this position in the log, such as `position` in the result of `emit`. */
  readonly after?: number
  /** Sort order; `newest` first by default. */
  readonly order?: "newest" | "oldest"
  /** Events per page; 50 by default, 1000 at most. */
  readonly limit?: number
  /** `nextCursor` of the previous page. The filters must be the same. */
  readonly cursor?: string
}

/** A page of events. */
export interface ListEventsResult {
  /**
   * The events. A page may be shorter than `limit` before the last one: it ends when its events have more than 16 MiB
   * of data, or when 10,000 rows of the log were scanned. With a filter by name, entity id or idempotency key, which
   * uses an index, fewer rows are scanned than with a filter by pattern, entity type or time.
   */
  readonly events: Array<LoggedEvent>
  /** Cursor of the next page; absent on the last page. */
  readonly nextCursor?: string
  /** The last scanned row of the log; absent when there was none. `timestamp` is an ISO string. */
  readonly lookedTo?: { readonly position: number; readonly timestamp: string }
}

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

const Emitted = camelOrSnake(
  fields<EmitResult>({
    runIds: omittedWhen([], lenientList(text)),
    eventId: withLegacyNames(orElse(text, ""), "id"),
    position: optional(digits)
  })
)
export const ManyEmitted = camelOrSnake(struct({ results: omittedWhen([], lenientList(Emitted)) }))
/** The answer over REST. It contains the id of the event twice, since clients read either name. */
const RestEmitted = struct({
  eventId: withWireName("event_id", text),
  id: text,
  runIds: withWireName("run_ids", list(text))
})
const Outcomes = struct({
  results: omittedWhen(
    [],
    list(
      struct({
        runId: text,
        functionId: text,
        status: text,
        output: optional(json),
        outputHasErrors: optional(flag),
        error: optional(json),
        durationMs: optional(integer)
      })
    )
  ),
  eventId: text
})

const LoggedEventCodec = fields<LoggedEvent>({
  id: text,
  name: text,
  version: integer,
  data: json,
  timestamp: text,
  position: withWireName("sequence", digits),
  source: optional(text),
  idempotencyKey: optional(text),
  metadata: optional(object),
  entity: optional(fields<EventEntity>({ id: text, type: text, version: integer }))
})
const LoggedEvents = fields<Omit<ListEventsResult, "lookedTo">>({
  events: list(LoggedEventCodec),
  nextCursor: optional(text)
})
const FoundEvents = fields<ListEventsResult>({
  events: list(LoggedEventCodec),
  nextCursor: optional(text),
  lookedTo: optional(
    fields<{ position: number; timestamp: string }>({
      position: withWireName("sequence", digits),
      timestamp: text
    })
  )
})

const timeText = (name: string, time: Date | string): string => {
  // a number is refused: it is a time in JavaScript, but not on the wire
  const isTime = typeof time === "string" || (time as unknown) instanceof Date
  const date = new Date(isTime ? time : Number.NaN)
  if (Number.isFinite(date.getTime())) return date.toISOString()
  throw new ValidationError(
    `\`${name}\` must be a \`Date\` or a text with a time, such as 2026-11-29T10:00:00Z, got ${show(time)}`
  )
}

/** The request body of `listEvents`. Throws `ValidationError` for invalid values and unknown filters. */
export const checkListEvents = (options: ListEventsOptions) => {
  const {
    after,
    cursor,
    entityId,
    entityType,
    idempotencyKey,
    limit,
    name,
    order,
    since,
    until,
    ...unknownFilters
  } = options
  for (const [other, value] of Object.entries(unknownFilters)) {
    if (other === "signal" || value === undefined) continue
    throw new ValidationError(
      `listEvents has no filter ${show(other)}: use name, entityType, entityId, idempotencyKey, since, until and after`
    )
  }
  if (after !== undefined && !(Number.isSafeInteger(after) && after >= 0)) {
    throw new ValidationError(
      `\`after\` must be a position in the log (the \`position\` of an event): an integer, at least 0, got ${show(after)}`
    )
  }
  if (order !== undefined && order !== "newest" && order !== "oldest") {
    throw new ValidationError(`\`order\` must be "newest" or "oldest", got ${show(order)}`)
  }
  return {
    name: name === undefined ? undefined : checkPattern(name, "name of the events"),
    entityType: entityType === undefined ? undefined : checkName("entity type", entityType),
    entityId: entityId === undefined ? undefined : checkName("entity id", entityId),
    idempotencyKey: idempotencyKey === undefined ? undefined : checkIdempotencyKey(idempotencyKey),
    since: since === undefined ? undefined : timeText("since", since),
    until: until === undefined ? undefined : timeText("until", until),
    after,
    order,
    limit: limit === undefined ? undefined : checkLimit("listEvents", limit),
    cursor: cursor === undefined ? undefined : checkCursor("listEvents", cursor)
  }
}

/** Optional fields of every emit. */
export interface EmitFields {
  readonly data?: unknown
  readonly version?: number
  readonly idempotencyKey?: string
  readonly metadata?: { readonly [name: string]: unknown }
}
export interface EmitBody extends EmitFields {
  readonly event: string
}
const Emit = fields<EmitBody>({
  event: text,
  data: optional(json),
  version: optional(integer),
  idempotencyKey: optional(text),
  metadata: optional(object)
})
const EmitMany = struct({ events: optional(list(Emit)) })
const EmitAndWait = fields<EmitBody & { timeoutMs?: number }>({
  event: text,
  data: optional(json),
  version: optional(integer),
  idempotencyKey: optional(text),
  metadata: optional(object),
  timeoutMs: optional(integer)
})
/** The body of an emit over REST. `webhook` is the id of the webhook that received the event. */
const RestEmit = fields<EmitFields & { name: string; webhook?: string }>({
  name: text,
  data: optional(json),
  version: optional(integer),
  idempotencyKey: optional(text),
  webhook: optional(text),
  metadata: optional(object)
})

const ListEvents = fields<Omit<ListEventsOptions, "since" | "until"> & { since?: string; until?: string }>({
  name: optional(text),
  entityType: optional(text),
  entityId: optional(text),
  idempotencyKey: optional(text),
  since: optional(text),
  until: optional(text),
  after: optional(digits),
  order: optional(oneOf("newest", "oldest")),
  limit: optional(integer),
  cursor: optional(text)
})
const EventId = fields<{ id: string }>({ id: text })
const ExplainedEvent = fields<EventExplanation>({
  eventId: text,
  name: text,
  timestamp: text,
  functions: omittedWhen(
    [],
    lenientList(
      fields<EventVerdict>({
        functionId: text,
        code: oneOfList(eventVerdicts),
        message: orElse(text, ""),
        runs: optional(
          lenientList(
            fields<{ runId: string; status: RunStatus }>({ runId: text, status: oneOfList(runStatuses) })
          )
        ),
        expression: optional(text)
      })
    )
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const trigger = operation("IronflowService/Trigger", { answer: Emitted })
export const restEmit = operation("POST /api/v1/events", { answer: RestEmitted })
export const triggerBatch = operation("IronflowService/TriggerBatch", { answer: ManyEmitted })
export const listEvents = operation("IronflowService/ListEvents", {
  answer: FoundEvents,
  onlyOurEngine: true,
  repeats: true
})
export const getEvent = operation("IronflowService/GetEvent", {
  answer: LoggedEventCodec,
  repeats: true,
  notFoundError: EventNotFoundError
})

export const explainEvent = operation("GET /api/v1/events/:id/explain", {
  answer: ExplainedEvent,
  notFoundError: EventNotFoundError,
  onlyOurEngine: true
})

export const callSpecs = {
  /** Stores an event and starts a run of every function with a matching trigger. An `idempotencyKey` prevents duplicates. */
  trigger: callSpec(trigger, inBody("emit:event", "event", "event"), { body: Emit }),
  /** Does what `Trigger` does. */
  emit: callSpec("IronflowService/Emit", inBody("emit:event", "event", "event"), {
    body: Emit,
    answer: Emitted
  }),
  /** Does what `Trigger` does. */
  publishEmit: callSpec("PubSubService/Emit", inBody("emit:event", "event", "event"), {
    body: Emit,
    answer: Emitted
  }),
  /** Emits an event as `Trigger` does, with `name` in place of `event`. */
  restEmit: callSpec(restEmit, inBody("emit:event", "event", "name"), { body: RestEmit }),
  /** Emits up to 1000 events in order, in one transaction. */
  triggerBatch: callSpec(
    triggerBatch,
    {
      action: "emit:event",
      resource: { from: "body", kind: "event", members: ["event"], each: "events" }
    },
    { body: EmitMany }
  ),
  /** Emits an event, and answers when the runs that it started have ended. */
  triggerSync: callSpec(
    "IronflowService/TriggerSync",
    { action: "emit:sync", resource: { from: "body", kind: "event", members: ["event"] }, mayWait: true },
    { body: EmitAndWait, answer: Outcomes, errors: { 504: TimeoutError } }
  ),
  /** Lists events by name or pattern, entity, idempotency key and time, from either end of the log, in pages. */
  listEvents: callSpec(listEvents, each("subscription:read", "subscription"), { body: ListEvents }),
  /** Returns an event. */
  getEvent: callSpec(getEvent, each("subscription:read", "subscription"), { body: EventId }),
  /** Explains of which functions an event started runs, and why not of the others. Leaves out functions and runs that the key may not read. */
  explainEvent: callSpec(explainEvent, each("subscription:read", "subscription")),
  /** Lists the events of an environment, newest first, in pages; `name` is a name or a pattern. */
  restEvents: callSpec("GET /api/v1/events", each("subscription:read", "subscription"), {
    query: ["name", "limit", "cursor"],
    answer: LoggedEvents
  })
}
