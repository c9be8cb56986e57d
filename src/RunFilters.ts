/** The filters of lists, counts and bulk operations of runs, and checks of their names and times. */
import { ValidationError } from "./Errors.ts"
import type { RunStatus } from "./RunStatus.ts"
import { show } from "./Show.ts"

/** Filters of runs; all given filters apply. Times are a `Date`, an ISO string, or epoch milliseconds. */
export interface RunFilters {
  /** Runs of this function, or of one of these functions, at most 100. */
  readonly functionId?: string | ReadonlyArray<string>
  /** Runs with this status, or with one of these statuses. */
  readonly status?: RunStatus | ReadonlyArray<RunStatus>
  /** Runs created at this time or later. */
  readonly createdFrom?: Moment
  /** Runs created before this time. */
  readonly createdTo?: Moment
  /** Runs that ended at this time or later. */
  readonly endedFrom?: Moment
  /** Runs that ended before this time. */
  readonly endedTo?: Moment
  /** Runs that an event of this name started. */
  readonly eventName?: string
  /** Runs that an event in the stream of this entity started. */
  readonly entityId?: string
  /** Runs that an event with this idempotency key started. */
  readonly idempotencyKey?: string
  /**
   * Failed runs with this text in the message, name or code of their error or of its cause. Upper and lower case are
   * the same.
   */
  readonly error?: string
  /** Values at paths in the event that started the run. The functions must list these paths in `searchBy`. */
  readonly attributes?: { readonly [path: string]: string | number | boolean }
  /**
   * CEL expression over `event`, `output` and `error`, such as `event.data.amount > 100 && error.code ==
   * "DECLINED"`. Runs are read from the newest back, for at most 200 ms a page; `lookedBackTo` of the result
   * says how far back. A run for which the evaluation fails does not match.
   */
  readonly where?: string
}

/**
 * A point in time: a `Date`, epoch milliseconds, or an ISO string. The string is a date, or a time with a
 * time zone.
 */
export type Moment = string | number | Date

export const timeFilters = ["createdFrom", "createdTo", "endedFrom", "endedTo"] as const

export const filterNames = {
  functionId: true,
  status: true,
  createdFrom: true,
  createdTo: true,
  endedFrom: true,
  endedTo: true,
  eventName: true,
  entityId: true,
  idempotencyKey: true,
  error: true,
  attributes: true,
  where: true
} as const satisfies { readonly [K in keyof RunFilters]-?: true }

/**
 * Throws `ValidationError` for an unknown or empty filter of a list. If it was ignored, the list would have
 * more runs than the caller expects.
 */
export const checkFilterNames = (options: object): void =>
  checkEach("listRuns", options, { ...filterNames, limit: true, cursor: true, signal: true })

/** Throws `ValidationError` for an unknown or empty filter of a bulk operation or an erasure. `limit` and `cursor` are unknown. */
export const checkBulkFilterNames = (filters: object, call = "bulk"): void =>
  checkEach(call, filters, filterNames)

/** Throws `ValidationError` for an unknown or empty filter of a count. `limit` and `cursor` are unknown. */
export const checkCountFilterNames = (filters: object): void =>
  checkEach("countRuns", filters, { ...filterNames, signal: true })

const checkEach = (call: string, given: object, known: object): void => {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue
    if (!Object.hasOwn(known, name)) {
      const names = Object.keys(filterNames)
      throw new ValidationError(
        `${call} has no filter ${show(name)}: use ${names.slice(0, -1).join(", ")} and ${names.at(-1)}`
      )
    }
    if (Object.hasOwn(filterNames, name)) refuseBlankFilter(call, name, value)
  }
}

/**
 * Throws `ValidationError` for an empty filter: `null`, a blank string, or a list that contains `null` or a blank
 * string. If an empty filter was ignored, more runs would match than was intended.
 */
export const refuseBlankFilter = (call: string, name: string, value: unknown): void => {
  const blank = (Array.isArray(value) ? value : [value]).find(isBlank)
  if (blank === undefined) return
  throw new ValidationError(
    `${call}: the filter \`${name}\` is ${kindOfBlank(blank)}: leave it out, or give it a value`
  )
}

/** Whether the value is empty. `null` may stand for a hole in a list: JSON encodes holes as `null`. */
const isBlank = (value: unknown): boolean =>
  value === null || (typeof value === "string" && value.trim() === "")

const kindOfBlank = (value: unknown): string => (value === null ? "null" : value === "" ? "empty" : "blank")

/**
 * Dates, and times with a time zone. The zone is required, so that a filter means the same on every machine.
 */
const isoTime = /^(\d{4})-(\d\d)-(\d\d)(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))?$/

/**
 * A point in time in epoch milliseconds. `undefined` for an invalid one, such as a day that its month does
 * not have.
 */
export const momentOf = (value: unknown): number | undefined => {
  const epochMs =
    value instanceof Date
      ? value.getTime()
      : typeof value === "number"
        ? value
        : typeof value === "string"
          ? parseIso(value)
          : Number.NaN
  return Number.isFinite(epochMs) && Math.abs(epochMs) <= 8.64e15 ? Math.floor(epochMs) : undefined
}

const parseIso = (text: string): number => {
  const [, year, month, day] = isoTime.exec(text) ?? []
  if (day === undefined) return Number.NaN
  // `Date.parse` alone would read the 30th of February as a day in March
  const date = new Date(0)
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day))
  return date.getUTCDate() === Number(day) ? Date.parse(text) : Number.NaN
}

/** The point in time of a filter, in epoch milliseconds. Throws `ValidationError`, which names the filter. */
export const checkMoment = (name: string, value: unknown): number => {
  const epochMs = momentOf(value)
  if (epochMs !== undefined) return epochMs
  throw new ValidationError(
    `The filter \`${name}\` must be a Date, milliseconds since 1970, or an ISO string with a valid date, such as "2026-01-31" or "2026-01-31T12:00:00Z", got ${show(value)}`
  )
}
