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

export type Moment = string | number | Date

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

/** Throws `ValidationError` for a filter that there is not: the list would be longer than whoever asks for it thinks. */
export const checkFilterNames = (options: object): void =>
  checkNames("listRuns", options, { ...filterNames, limit: true, cursor: true, signal: true })

/** The same of what something is done to, which has no pages. */
export const checkBulkFilterNames = (filters: object): void => checkNames("bulk", filters, filterNames)

const checkNames = (call: string, given: object, known: object): void => {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || Object.hasOwn(known, name)) continue
    const names = Object.keys(filterNames)
    throw new ValidationError(
      `${call} has no filter ${show(name)}: use ${names.slice(0, -1).join(", ")} and ${names.at(-1)}`
    )
  }
}
