/** What starts runs of a function: events by name or pattern, with an optional expression, and cron schedules. */
import { ValidationError } from "./Errors.ts"
import { checkEventName } from "./Event.ts"
import { compileExpression, evaluateExpression, type Evaluation } from "./Expression.ts"
import type { Keys } from "./OptionKeys.ts"
import { type Overlap, overlaps } from "./Overlap.ts"
import { checkPattern, matchesPattern } from "./Pattern.ts"
import { checkComes, parseSchedule } from "./Schedule.ts"
import { show } from "./Show.ts"

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
    if (error !== undefined) errors.push(`trigger expression "${trigger.expression}": ${error}`)
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
