/**
 * Triggers of functions: events by name, by pattern or by definition, with an optional expression, and cron schedules.
 */
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
import { checkEverFires, parseSchedule } from "./Schedule.ts"
import { show } from "./Show.ts"
import type { SchemaJson, SchemaOutput } from "./StandardSchema.ts"

/** An event trigger, a cron trigger, or a cron trigger that fires events with a given name. */
export interface Trigger {
  /**
   * Event name or pattern: `order.placed`, `order.*`, `order.>`. With `cron`, the name of the event that each fire
   * emits.
   */
  readonly event?: string
  /** CEL expression over `event`. An event only starts a run when the expression is true. */
  readonly expression?: string
  /** Cron schedule of five fields, or six with seconds first: `0 9 * * *` is 9:00 every day. */
  readonly cron?: string
  /** Time zone of `cron`: an IANA name (`Europe/Berlin`) or an offset; UTC by default. */
  readonly timezone?: string
  /** What a cron fire does while the run of the previous fire has not ended; `"allow"` by default. */
  readonly overlap?: Overlap
}

export const triggerKeys = {
  event: true,
  expression: true,
  cron: true,
  timezone: true,
  overlap: true
} satisfies Keys<Trigger>

/** What starts runs: a trigger, an event definition, or an event definition with an expression. */
export type TriggerSource = Trigger | DefinedTrigger | EventDefinition

/** A trigger by event definition, which checks and types the data. */
export interface DefinedTrigger<D extends EventDefinition = EventDefinition> {
  /** The definition of the event. */
  readonly event: D
  /**
   * CEL expression over `event`, with the data in stored form. An event only starts a run when the expression is true.
   */
  readonly expression?: string
}

export const definedTriggerKeys = { event: true, expression: true } satisfies Keys<DefinedTrigger>

/** Makes the compiler refuse unknown keys of triggers, which it does not do for inferred types. */
export type KnownTriggers<Sources extends ReadonlyArray<TriggerSource>> = {
  readonly [I in keyof Sources]: Sources[I] extends EventDefinition
    ? unknown
    : { readonly [Key in Exclude<keyof Sources[I], keyof Trigger>]?: NoSuchTriggerOption }
}

/** The type that an unknown key must have. No value has it. */
export interface NoSuchTriggerOption {
  /** Says in the message of the compiler what is wrong. */
  readonly "a trigger has no option of this name": never
}

/**
 * The type of the events of a trigger source. Without a definition the data is `Data`, and the name may be any name,
 * as in a run that was invoked.
 */
export type TriggeredBy<Source, Data> = Source extends EventDefinition
  ? EventOf<Source>
  : Source extends { readonly event: infer D extends EventDefinition }
    ? EventOf<D>
    : IronflowEvent<Data>

/** The type of a handler's events. For several definitions it is a union, discriminated by `name`. */
export type TriggerEvents<Sources extends ReadonlyArray<TriggerSource>, S> = [Sources[number]] extends [never]
  ? IronflowEvent<SchemaOutput<S>>
  : | TriggeredBy<Sources[number], SchemaOutput<S>>
    // a run that was invoked has the data of the function's own schema, if there is one
    | (0 extends 1 & SchemaOutput<S> ? never : IronflowEvent<SchemaOutput<S>>)

/**
 * The type of an invocation's input, in stored form: by the schema of the function, or else by the
 * definitions among its triggers.
 */
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

/** The event definition in a source; `undefined` when it has none. */
export const definitionOf = (source: unknown): EventDefinition | undefined => {
  if (isEventDefinition(source)) return source
  return isObject(source) && isEventDefinition(source.event) ? source.event : undefined
}

/** The source as a trigger, which names its event. */
export const toTrigger = (source: unknown): unknown => {
  const definition = definitionOf(source)
  if (definition === undefined) return source
  return isEventDefinition(source)
    ? { event: definition.name }
    : { ...(source as object), event: definition.name }
}

/** An event to compare with triggers, as plain data. */
export interface TriggerEvent {
  readonly name: string
  readonly data?: unknown
}

/**
 * Whether the event matches the trigger. An event for which the expression cannot be evaluated does not
 * match, and `error` says why. A trigger without `event` matches no event. Never throws.
 */
export const matchTrigger = (trigger: Trigger, event: TriggerEvent): Evaluation => {
  if (trigger.event === undefined || !matchesPattern(trigger.event, event.name)) return mismatch
  return trigger.expression === undefined ? match : evaluateExpression(trigger.expression, { event })
}

const match: Evaluation = { matched: true }
const mismatch: Evaluation = { matched: false }

/**
 * Whether the event matches one of the triggers, with the errors of the triggers before that one. Never
 * throws.
 */
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

/** The name of the events that a function's cron trigger fires. */
export const cronEventName = (functionId: string, trigger: Trigger): string =>
  trigger.event ?? `cron.${functionId}`

/** Throws `ValidationError` when the schedule is invalid, or never fires, as on the 30th of February. */
const checkSchedule = (cron: string, timezone: string | undefined): void => {
  const schedule = parseSchedule(cron, timezone)
  try {
    checkEverFires(schedule)
  } catch (cause) {
    throw new ValidationError(`"${cron}" never fires: no date matches its day and month`, { cause })
  }
}

/** Throws `ValidationError` for an invalid trigger, which `what` names. */
export const checkTrigger = (trigger: unknown, what: string): void => {
  if (typeof trigger !== "object" || trigger === null) {
    throw new ValidationError(
      `${what} must be an object such as { event: "order.placed" }, got ${show(trigger)}`
    )
  }
  const { event, expression, cron, overlap, timezone } = trigger as { readonly [K in keyof Trigger]: unknown }
  if (event === undefined && cron === undefined) {
    throw new ValidationError(`${what} needs \`event\` or \`cron\``)
  }
  checkField(what, "event", () => {
    if (event === undefined) return
    // with `cron`, the trigger fires an event, which needs a name and not a pattern
    if (cron === undefined) checkPattern(event, "event")
    else checkEventName(event)
  })
  checkField(what, "expression", () => {
    if (expression !== undefined) compileExpression(checkText(expression), ["event"])
  })
  checkField(what, "timezone", () => {
    if (timezone === undefined) return
    if (cron === undefined) throw new ValidationError("it needs `cron`, which is missing")
    checkText(timezone)
  })
  checkField(what, "overlap", () => {
    if (overlap === undefined) return
    if (cron === undefined) throw new ValidationError("it needs `cron`, which is missing")
    if (!overlaps.some((known) => known === overlap)) {
      throw new ValidationError(`it must be "allow", "skip" or "queue", got ${show(overlap)}`)
    }
  })
  checkField(what, "cron", () => {
    if (cron !== undefined)
      checkSchedule(checkText(cron), timezone === undefined ? undefined : checkText(timezone))
  })
}

const checkText = (value: unknown): string => {
  if (typeof value === "string" && value.trim() !== "") return value
  throw new ValidationError(`it must be a string that is not blank, got ${show(value)}`)
}

/** Puts the trigger and the field in front of the message of the check. */
const checkField = (what: string, field: string, check: () => void): void => {
  try {
    check()
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error
    throw new ValidationError(`${what}: \`${field}\`: ${error.message}`, { cause: error })
  }
}
