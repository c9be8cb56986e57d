/** Counting runs by groups: messages and the call. */
import { ValidationError } from "../Errors.ts"
import { checkLimit } from "../Limits.ts"
import { isDataPath } from "../DataPath.ts"
import { checkCountFilterNames, filterNames, type RunFilters } from "../RunFilters.ts"
import { show } from "../Show.ts"
import {
  entries,
  fields,
  flag,
  integer,
  lenientList,
  number,
  object,
  omittedWhen,
  optional,
  orElse,
  struct,
  text
} from "./Codec.ts"
import { each, operation, callSpec } from "./CallSpec.ts"

/**
 * The values by which runs can be grouped, besides paths of the event. `minute`, `hour` and `day` are those of the creation, in
 * UTC.
 */
export const groupings = ["status", "function", "error", "event", "version", "minute", "hour", "day"] as const

/**
 * How runs are grouped: by status, function, error, name of the event that started them, pinned version of the code, minute, hour
 * or day of creation, or by the value at a path of the event, such as `event.data.customerId`.
 */
export type CountRunsBy = (typeof groupings)[number] | `event.${string}`

/** Options of `countRuns`: filters and grouping. */
export interface CountRunsOptions extends RunFilters {
  /** The grouping: `"function"`, `"status"`, `"error"`, a time, or a path such as `"event.data.customer"`. */
  readonly by: CountRunsBy
  /** Maximum number of groups: 20 by default, 1000 for times; 1000 at most. */
  readonly limit?: number
  /** Whether to measure durations too, which is slower. `false` by default. */
  readonly durations?: boolean
  /** Maximum duration of the scan in milliseconds: 200 by default, 10,000 at most. */
  readonly timeLimit?: number
}

/** Durations of runs from their first turn to their end, in milliseconds, to within one percent. */
export interface RunDurations {
  /** Number of measured runs: those that started and ended. */
  readonly count: number
  /** The median. */
  readonly p50: number
  /** The 95th percentile. */
  readonly p95: number
  /** The maximum. */
  readonly max: number
}

/** Counts of a set of runs. */
export interface RunCount {
  /** Number of runs in the set. */
  readonly count: number
  /** Number of runs by status; statuses without runs are left out. */
  readonly statuses: { readonly [status: string]: number }
  /** Number of runs with more than one attempt. Retries of steps do not count. */
  readonly retried: number
  /** Durations of the runs; only with the option `durations: true`, and if any run was measured. */
  readonly durations?: RunDurations
}

/** Runs with the same value. */
export interface RunGroup extends RunCount {
  /**
   * The value. For a time, the beginning of the minute, hour or day as an ISO string. An error is its message, with `…`
   * in place of numbers and ids. Absent for runs without a value.
   */
  readonly value?: string
}

/** Counts of the matching runs, and of their largest groups. */
export interface RunCounts extends RunCount {
  /** The largest groups, the largest first. With a grouping by time: the latest groups, the oldest first. */
  readonly groups: Array<RunGroup>
  /** Number of groups, including those that are not listed. */
  readonly groupCount: number
  /**
   * Whether all runs were counted. If not, the time was up, and only runs created since `lookedBackTo` are
   * counted.
   */
  readonly isExact: boolean
  /** The time back to which runs were counted, as an ISO string. */
  readonly lookedBackTo?: string
  /**
   * Only if a filter uses an attribute whose index is still being built: the index has the runs that were created since
   * this time. ISO string.
   */
  readonly filledBackTo?: string
}

const MAX_TIME_MS = 10_000

/** Whether the grouping is by time. */
export const isTimeGrouping = (by: string): by is "minute" | "hour" | "day" =>
  by === "minute" || by === "hour" || by === "day"

/** Checks the options. Throws `ValidationError` for an invalid grouping, and for unknown or empty filters. */
export const checkCountRuns = (options: CountRunsOptions) => {
  const { by, durations, limit, timeLimit, ...filters } = options
  checkCountFilterNames(filters)
  const isKnown = (groupings as ReadonlyArray<unknown>).includes(by)
  if (!isKnown && !(typeof by === "string" && by.startsWith("event.") && isDataPath(by))) {
    throw new ValidationError(
      `countRuns: \`by\` must be ${groupings.join(", ")} or a path such as event.data.customerId, got ${show(by)}`
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
      `countRuns: \`timeLimit\` must be an integer from 1 to ${MAX_TIME_MS}, in milliseconds, got ${show(timeLimit)}`
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

const integerOrZero = orElse(integer, 0)
const Durations = fields<RunDurations>({ count: integerOrZero, p50: number, p95: number, max: number })
const Group = fields<RunGroup>({
  value: optional(text),
  count: integerOrZero,
  statuses: orElse(entries(integer), {}),
  retried: integerOrZero,
  durations: optional(Durations)
})
const Counts = struct({
  groups: omittedWhen([], lenientList(Group)),
  groupCount: integerOrZero,
  count: integerOrZero,
  statuses: orElse(entries(integer), {}),
  retried: integerOrZero,
  durations: optional(Durations),
  isExact: orElse(flag, false),
  lookedBackTo: optional(text),
  filledBackTo: optional(text)
})

export const countRuns = operation("IronflowService/CountRuns", {
  answer: Counts,
  onlyOurEngine: true,
  repeats: true
})

export const callSpecs = {
  /** Counts runs, grouped by a value such as the customer; largest groups first. Leaves out runs that the key may not read. */
  countRuns: callSpec(countRuns, each("run:read", "run"), { body: Request })
}
