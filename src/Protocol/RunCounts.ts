/** Runs counted by what they have in common: how that travels, and the call about it. */
import { ValidationError } from "../Errors.ts"
import { checkLimit } from "../Limits.ts"
import { isPath } from "../Path.ts"
import { checkCountFilterNames, filterNames, type RunFilters } from "../RunFilters.ts"
import { show } from "../Show.ts"
import {
  entries,
  fields,
  flag,
  integer,
  number,
  object,
  optional,
  orElse,
  some,
  struct,
  text,
  unless
} from "./Codec.ts"
import { each, operation, row } from "./Row.ts"

/** What else runs can be counted by than a path. The last three are the time of creation, in UTC. */
export const countedBy = ["status", "function", "error", "event", "version", "minute", "hour", "day"] as const

/**
 * What the runs of a group have in common: their status, function, error, the name of the event that has started them, the version of the
 * code that they are pinned to, the minute, hour or day in which they were created, or the value at a path of the event, such as
 * `event.data.customerId`.
 */
export type CountRunsBy = (typeof countedBy)[number] | `event.${string}`

/** Options of `countRuns`: which runs, and what groups them. */
export interface CountRunsOptions extends RunFilters {
  /** What the runs of a group have in common: `"function"`, `"status"`, `"error"`, a time, or a path such as `"event.data.customer"`. */
  readonly by: CountRunsBy
  /** How many groups at most: 20 by default, of times 1000, which is the most. */
  readonly limit?: number
  /** How long runs take is measured too, which takes longer. `false` by default. */
  readonly durations?: boolean
  /** How long it may look, in milliseconds: 200 by default, 10,000 at most. */
  readonly timeLimit?: number
}

/** How long runs took from their first turn to their end, in milliseconds, to within one percent. */
export interface RunDurations {
  /** Runs that were measured: those that began and have ended. */
  readonly count: number
  /** Half of them took so long or less. */
  readonly p50: number
  /** 95 of 100 took so long or less. */
  readonly p95: number
  /** The longest. */
  readonly max: number
}

/** How many runs there are. */
export interface RunCount {
  /** All of them, whatever their status. */
  readonly count: number
  /** How many are in which status; without those of which there are none. */
  readonly statuses: { readonly [status: string]: number }
  /** How many needed more than one attempt. Steps that were tried again do not count. */
  readonly retried: number
  /** With `durations: true`, when some have been measured. */
  readonly durations?: RunDurations
}

/** Runs that have something in common. */
export interface RunGroup extends RunCount {
  /**
   * What that is. Times are ISO strings: when the minute, hour or day begins. Of an error it is the message, in which `…` stands for numbers
   * and ids. Absent for runs that have none.
   */
  readonly value?: string
}

/** Runs that fit, counted, and those of them that have most in common. */
export interface RunCounts extends RunCount {
  /** Those with most runs first; of times the latest ones, oldest first. */
  readonly groups: Array<RunGroup>
  /** How many groups there are, with those that are not listed. */
  readonly groupCount: number
  /** Whether that is all. Otherwise the time was up, and what is counted was created since `lookedBackTo`. */
  readonly isExact: boolean
  /** ISO string. */
  readonly lookedBackTo?: string
  /** ISO string: a filter is by an attribute that a function names only lately, and earlier runs are still being filled in. */
  readonly filledBackTo?: string
}

const MAX_TIME_MS = 10_000

/** Whether they are counted by a time. */
export const isTime = (by: string): by is "minute" | "hour" | "day" =>
  by === "minute" || by === "hour" || by === "day"

/** Throws `ValidationError` for what runs cannot be counted by, for a filter that there is not, and for one that says nothing. */
export const checkCountRuns = (options: CountRunsOptions) => {
  const { by, durations, limit, timeLimit, ...filters } = options
  checkCountFilterNames(filters)
  const isKnown = (countedBy as ReadonlyArray<unknown>).includes(by)
  if (!isKnown && !(typeof by === "string" && by.startsWith("event.") && isPath(by))) {
    throw new ValidationError(
      `countRuns: \`by\` must be ${countedBy.join(", ")} or a path such as event.data.customerId, got ${show(by)}`
    )
  }
  if (durations !== undefined && typeof durations !== "boolean") {
    throw new ValidationError(`countRuns: \`durations\` must be true or false, got ${show(durations)}`)
  }
  if (
    timeLimit !== undefined &&
    !(Number.isInteger(timeLimit) && timeLimit >= 1 && timeLimit <= MAX_TIME_MS)
  ) {
    throw new ValidationError(
      `countRuns: \`timeLimit\` must be a whole number of milliseconds from 1 to ${MAX_TIME_MS}, got ${show(timeLimit)}`
    )
  }
  return {
    by,
    limit: limit === undefined ? undefined : checkLimit("countRuns", limit),
    durations,
    timeLimit,
    filters: Object.fromEntries(
      Object.entries(filters).filter(
        ([name, value]) => value !== undefined && Object.hasOwn(filterNames, name)
      )
    ) as RunFilters
  }
}

interface CountRuns {
  readonly by: string
  readonly limit?: number
  readonly durations?: boolean
  readonly timeLimit?: number
  readonly filters?: { readonly [name: string]: unknown }
}
const Request = fields<CountRuns>({
  by: text,
  limit: optional(integer),
  durations: optional(flag),
  timeLimit: optional(integer),
  filters: optional(object)
})

const zero = orElse(integer, 0)
const Durations = fields<RunDurations>({ count: zero, p50: number, p95: number, max: number })
const Group = fields<RunGroup>({
  value: optional(text),
  count: zero,
  statuses: orElse(entries(integer), {}),
  retried: zero,
  durations: optional(Durations)
})
const Counts = struct({
  groups: unless([], some(Group)),
  groupCount: zero,
  count: zero,
  statuses: orElse(entries(integer), {}),
  retried: zero,
  durations: optional(Durations),
  isExact: orElse(flag, false),
  lookedBackTo: optional(text),
  filledBackTo: optional(text)
})

export const countRuns = operation("IronflowService/CountRuns", { answer: Counts, ours: true, repeats: true })

export const rows = {
  /** Runs counted by what they have in common, such as the customer: the groups with most of them, without runs that may not be seen. */
  countRuns: row(countRuns, each("run:read", "run"), { body: Request })
}
