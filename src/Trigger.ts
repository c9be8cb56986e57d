/** What starts runs of a function: events by name or pattern, with an optional expression, and cron schedules. */
import { ValidationError } from "./Errors.ts"
import {
  checkEventName,
  type EventDefinition,
  type EventJson,
  type EventOf,
  type IronflowEvent,
  isEventDefinition
} from "./Event.ts"
import { compileExpression, evaluateExpression, type Evaluation, quoteExpression } from "./Expression.ts"
import { isObject } from "./Json.ts"
import type { Keys } from "./OptionKeys.ts"
import { type Overlap, overlaps } from "./Overlap.ts"
import { checkPattern, matchesPattern } from "./Pattern.ts"
import { checkComes, parseSchedule } from "./Schedule.ts"
import { show } from "./Show.ts"
import type { SchemaJson, SchemaOutput } from "./StandardSchema.ts"

/** An event trigger, a cron trigger, or a cron trigger whose fires are events of the given name. */
export interface Trigger {
  /** Event name or pattern: `order.placed`, `order.*`, `order.>`. */
  readonly event?: string
  /** CEL over `event`; the event starts a run only when it is true. */
  readonly expression?: string
  /** Five fields, or six with seconds in front: `0 9 * * *` is 9:00 every day. */
  readonly cron?: string
  /** IANA name (`Europe/Berlin`) or offset of the zone that `cron` is read in; UTC by default. */
  readonly timezone?: string
  /** What a fire of `cron` does while the run of the fire before has not ended; `"allow"` by default. */
  readonly overlap?: Overlap
}

export const triggerKeys = {
  event: true,
  expression: true,
  cron: true,
  timezone: true,
  overlap: true
} satisfies Keys<Trigger>

/** What starts runs: a trigger, a definition, whose events do, or a definition with an expression. */
export type TriggerSource = Trigger | DefinedTrigger | EventDefinition

/** A trigger by the definition of an event, which checks and types its data. */
export interface DefinedTrigger<D extends EventDefinition = EventDefinition> {
  /** The definition of the event. */
  readonly event: D
  /** CEL over `event`, with the data as it is stored; the event starts a run only when it is true. */
  readonly expression?: string
}

export const definedTriggerKeys = { event: true, expression: true } satisfies Keys<DefinedTrigger>

/** Refuses keys that a trigger does not have: the compiler does not, where it infers what is written. */
export type KnownTriggers<Sources extends ReadonlyArray<TriggerSource>> = {
  readonly [I in keyof Sources]: Sources[I] extends EventDefinition
    ? unknown
    : { readonly [Key in Exclude<keyof Sources[I], keyof Trigger>]?: NoSuchTriggerOption }
}

/** What a key has to be that a trigger does not have: there is nothing that is this. */
export interface NoSuchTriggerOption {
  /** Says in the compiler's message what is wrong. */
  readonly "a trigger has no option of this name": never
}

/** The event that a source lets through. Of one that is no definition the data is `Data`, and the name may be any: see `invoke`. */
export type TriggeredBy<Source, Data> = Source extends EventDefinition
  ? EventOf<Source>
  : Source extends { readonly event: infer D extends EventDefinition }
    ? EventOf<D>
    : IronflowEvent<Data>

/** The event that a handler gets; of several definitions a union, which `name` tells apart. */
export type TriggerEvents<Sources extends ReadonlyArray<TriggerSource>, S> = [Sources[number]] extends [never]
  ? IronflowEvent<SchemaOutput<S>>
  : | TriggeredBy<Sources[number], SchemaOutput<S>>
    // an invoked run has data by the function's own schema, if there is one
    | (0 extends 1 & SchemaOutput<S> ? never : IronflowEvent<SchemaOutput<S>>)

/** The data that a function is invoked with, as it is stored: by its schema, else by the definitions among its triggers. */
export type InvokedWith<Sources extends ReadonlyArray<TriggerSource>, S> = 0 extends 1 & SchemaOutput<S>
  ? [Sources[number]] extends [never]
    ? // oxlint-disable-next-line typescript/no-explicit-any -- nothing is known about the data
      any
    : StoredBy<Sources[number]>
  : SchemaJson<S>

type StoredBy<Source> = Source extends EventDefinition
  ? EventJson<Source>
  : Source extends { readonly event: infer D extends EventDefinition }
    ? EventJson<D>
    : // oxlint-disable-next-line typescript/no-explicit-any -- a plain trigger says nothing about the data
      any

/** The definition that a source is, or names its event by. */
export const definitionOf = (source: unknown): EventDefinition | undefined => {
  if (isEventDefinition(source)) return source
  return isObject(source) && isEventDefinition(source.event) ? source.event : undefined
}

export const toTrigger = (source: unknown): unknown => {
  const definition = definitionOf(source)
  if (definition === undefined) return source
  return isEventDefinition(source)
    ? { event: definition.name }
    : { ...(source as object), event: definition.name }
}

/** The event that is matched against triggers, as plain data. */
export interface TriggerEvent {
  readonly name: string
  readonly data?: unknown
}

/**
 * Whether the event matches the trigger. An expression that cannot be evaluated for this event does not match, and
 * `error` says why. A trigger without an event name matches no event. Never throws.
 */
export const matchTrigger = (trigger: Trigger, event: TriggerEvent): Evaluation => {
  if (trigger.event === undefined || !matchesPattern(trigger.event, event.name)) return mismatch
  return trigger.expression === undefined ? match : evaluateExpression(trigger.expression, { event })
}

const match: Evaluation = { matched: true }
const mismatch: Evaluation = { matched: false }

/** Whether the event matches one of the triggers, and what went wrong with those before it. Never throws. */
export const matchTriggers = (
  triggers: ReadonlyArray<Trigger>,
  event: TriggerEvent
): { readonly matched: boolean; readonly errors: ReadonlyArray<string> } => {
  const errors: Array<string> = []
  for (const trigger of triggers) {
    const { matched, error } = matchTrigger(trigger, event)
    if (matched) return { matched, errors }
    if (error !== undefined)
      errors.push(`trigger expression ${quoteExpression(trigger.expression ?? "")}: ${error}`)
  }
  return { matched: false, errors }
}

/** The name of the events that a cron trigger of the function fires. */
export const cronEventName = (functionId: string, trigger: Trigger): string =>
  trigger.event ?? `cron.${functionId}`

/** Throws `ValidationError` when the schedule cannot be read, or never comes: there is no 30th of February. */
const checkSchedule = (cron: string, timezone: string | undefined): void => {
  const schedule = parseSchedule(cron, timezone)
  try {
    checkComes(schedule)
  } catch (cause) {
    throw new ValidationError(`"${cron}" never comes: no date fits its day and month`, { cause })
  }
}

/** Throws `ValidationError` unless the trigger is one that the engine accepts. `what` names it in the error. */
export const checkTrigger = (trigger: unknown, what: string): void => {
  if (typeof trigger !== "object" || trigger === null) {
    throw new ValidationError(`${what} must be an object such as { event: "order.placed" }`)
  }
  const { event, expression, cron, overlap, timezone } = trigger as { readonly [K in keyof Trigger]: unknown }
  if (event === undefined && cron === undefined) {
    throw new ValidationError(`${what} needs \`event\` or \`cron\``)
  }
  naming(what, "event", () => {
    if (event === undefined) return
    // The fires of a cron trigger are events, and an event has a name, not a pattern.
    if (cron === undefined) checkPattern(event, "event")
    else checkEventName(event)
  })
  naming(what, "expression", () => {
    if (expression !== undefined) compileExpression(text(expression), ["event"])
  })
  naming(what, "timezone", () => {
    if (timezone === undefined) return
    if (cron === undefined) throw new ValidationError("it goes with `cron`, and there is none")
    text(timezone)
  })
  naming(what, "overlap", () => {
    if (overlap === undefined) return
    if (cron === undefined) throw new ValidationError("it goes with `cron`, and there is none")
    if (!overlaps.some((known) => known === overlap)) {
      throw new ValidationError(`it must be "allow", "skip" or "queue", got ${show(overlap)}`)
    }
  })
  naming(what, "cron", () => {
    if (cron !== undefined) checkSchedule(text(cron), timezone === undefined ? undefined : text(timezone))
  })
}

const text = (value: unknown): string => {
  if (typeof value === "string" && value.trim() !== "") return value
  throw new ValidationError("it must be a string that is not blank")
}

const naming = (what: string, field: string, check: () => void): void => {
  try {
    check()
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error
    throw new ValidationError(`${what}: \`${field}\`: ${error.message}`, { cause: error })
  }
}
