/** Encodes run filters for requests. The server checks most of their values. */
import { UnsupportedError } from "../Errors.ts"
import type { ListRunsOptions, ListRunsResult } from "./Client.ts"
import { checkFilterNames, checkMoment, type Moment } from "../RunFilters.ts"

/**
 * Encodes the filters. A single function or status is encoded as legacy servers expect it. Throws
 * `ValidationError` for an unknown or empty filter, and for an invalid time.
 */
export const encodeFilters = (options: ListRunsOptions) => {
  checkFilterNames(options)
  const {
    createdFrom,
    createdTo,
    endedFrom,
    endedTo,
    functionId,
    limit: _,
    cursor: __,
    status,
    ...others
  } = options
  return {
    ...oneOrSeveral("functionId", "functionIds", functionId),
    ...oneOrSeveral("status", "statuses", status),
    createdFrom: textOf("createdFrom", createdFrom),
    createdTo: textOf("createdTo", createdTo),
    endedFrom: textOf("endedFrom", endedFrom),
    endedTo: textOf("endedTo", endedTo),
    ...others
  }
}

const oneOrSeveral = (
  singularName: string,
  pluralName: string,
  value: string | ReadonlyArray<string> | undefined
) => {
  if (typeof value === "string" || value === undefined) return { [singularName]: value }
  return value.length === 1 ? { [singularName]: value[0] } : { [pluralName]: value }
}

/** The time as text. A string is passed on as it is. */
const textOf = (name: string, moment: Moment | undefined): string | undefined => {
  if (moment === undefined) return undefined
  const at = checkMoment(name, moment)
  return typeof moment === "string" ? moment : new Date(at).toISOString()
}

/**
 * Whether the server has applied all filters. Legacy servers ignore filters that they do not know, and their
 * answers lack `isTotalExact`.
 */
export const areFiltersApplied = (body: object, page: ListRunsResult): boolean =>
  page.isTotalExact !== undefined ||
  Object.entries(body).every(
    ([name, value]) => value === undefined || /^(?:functionId|status|limit|cursor)$/.test(name)
  )

/** The error when the server has ignored filters. */
export const unsupportedFilters = (url: string): UnsupportedError =>
  new UnsupportedError(
    `The server at ${url} can filter runs by one function and one status only, and ignored the other filters: leave them out`
  )
