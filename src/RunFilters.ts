/** Which runs are meant: what lists of runs are narrowed by. */
import { ValidationError } from "./Errors.ts"
import type { RunStatus } from "./RunStatus.ts"
import { show } from "./Show.ts"

/** Points in time are a `Date`, an ISO string, or milliseconds since 1970. Runs fit that fit each member that is given. */
export interface RunFilters {
  /** One function, or any of at most 100. */
  readonly functionId?: string | ReadonlyArray<string>
  /** One status, or any of several. */
  readonly status?: RunStatus | ReadonlyArray<RunStatus>
  /** Runs that were created then or later. */
  readonly createdFrom?: Moment
  /** Runs that were created before that. */
  readonly createdTo?: Moment
  /** Runs that ended then or later. */
  readonly endedFrom?: Moment
  /** Runs that ended before that. */
  readonly endedTo?: Moment
  /** Runs that an event of this name has started. */
  readonly eventName?: string
  /** Runs that an event in the stream of this entity has started. */
  readonly entityId?: string
  /** Runs that an event with this idempotency key has started. */
  readonly idempotencyKey?: string
  /** Failed runs with this text in the message, the name or the code of their error or its cause, in letters of either case. */
  readonly error?: string
  /** Values at paths that functions name in `searchBy`, of the event that has started the run. */
  readonly attributes?: { readonly [path: string]: string | number | boolean }
  /**
   * A CEL expression over `event`, `output` and `error`, as in `event.data.amount > 100 && error.code == "DECLINED"`. Runs are looked
   * at from the newest on, for at most 200 ms a page: `lookedBackTo` of the result says how far. A run for which it cannot be evaluated
   * does not fit.
   */
  readonly where?: string
}

/** A point in time: a `Date`, epoch milliseconds, or an ISO string with a time zone or without a time. */
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

/** Throws `ValidationError` for a filter that there is not, or that says nothing: the list would be longer than whoever asks for it thinks. */
export const checkFilterNames = (options: object): void =>
  checkEach("listRuns", options, { ...filterNames, limit: true, cursor: true, signal: true })

/** The same of what something is done to, which has no pages. */
export const checkBulkFilterNames = (filters: object): void => checkEach("bulk", filters, filterNames)

/** The same of what is counted, which has no pages either. */
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
    if (Object.hasOwn(filterNames, name)) checkSaid(call, name, value)
  }
}

/**
 * Throws `ValidationError` for a filter that is there and says nothing: `null`, a blank text, or a list with one of these. To pass it over
 * would be to take in more runs than whoever has written it thinks.
 */
export const checkSaid = (call: string, name: string, value: unknown): void => {
  const blank = (Array.isArray(value) ? value : [value]).find(saysNothing)
  if (blank === undefined) return
  throw new ValidationError(
    `${call}: the filter \`${name}\` is ${nothing(blank)}, which says nothing about runs: leave it out, or give it a value`
  )
}

/** A hole in a list comes as `null`: JSON has no other word for it. */
const saysNothing = (value: unknown): boolean =>
  value === null || (typeof value === "string" && value.trim() === "")

const nothing = (value: unknown): string => (value === null ? "null" : value === "" ? "empty" : "blank")

/** A time zone is needed: the same filter has to mean the same on every machine. */
const iso = /^(\d{4})-(\d\d)-(\d\d)(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))?$/

/** Epoch milliseconds of a point in time; `undefined` for what is none, a day that its month does not have included. */
export const momentOf = (value: unknown): number | undefined => {
  const at =
    value instanceof Date
      ? value.getTime()
      : typeof value === "number"
        ? value
        : typeof value === "string"
          ? parsed(value)
          : Number.NaN
  return Number.isFinite(at) && Math.abs(at) <= 8.64e15 ? Math.floor(at) : undefined
}

const parsed = (text: string): number => {
  const [, year, month, day] = iso.exec(text) ?? []
  if (day === undefined) return Number.NaN
  // the 30th of February would be read as a day in March
  const date = new Date(0)
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day))
  return date.getUTCDate() === Number(day) ? Date.parse(text) : Number.NaN
}

/** The same of a filter. Throws `ValidationError` that names it. */
export const checkMoment = (name: string, value: unknown): number => {
  const at = momentOf(value)
  if (at !== undefined) return at
  throw new ValidationError(
    `listRuns: \`${name}\` must be a Date, milliseconds since 1970, or an ISO string of a day that there is, such as "2026-01-31" or "2026-01-31T12:00:00Z", got ${show(value)}`
  )
}
