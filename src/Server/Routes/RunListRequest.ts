/** Reads requests for lists of runs. */
import type { ListRunsOptions } from "../../Client/Client.ts"
import { ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { nearest } from "../../OptionKeys.ts"
import { membersOf, otherCase } from "../../Protocol/Codec.ts"
import { decoder } from "../../Protocol/ServerCodec.ts"
import { listFilters, type ListRuns, ListRunsRequest } from "../../Protocol/RunLists.ts"
import { decodeRunStatus } from "../../Protocol/Runs.ts"
import { checkFilterNames, refuseBlankFilter } from "../../RunFilters.ts"
import { type RunStatus, runStatuses } from "../../RunStatus.ts"
import { show } from "../../Show.ts"

const readList = decoder(ListRunsRequest, "ListRuns")

/** What some programs send for a status that is not set. */
const NO_STATUS = "RUN_STATUS_UNSPECIFIED"

const singleFilters = ["function_id", "status"] as const

/** The parameters that may be repeated. */
const repeatableFilters: ReadonlySet<string> = new Set(listFilters.filter((name) => name.endsWith("s")))

const members: ReadonlySet<string> = new Set(
  Object.keys(membersOf(ListRunsRequest)).flatMap((name) => [name, otherCase(name) ?? name])
)
/** The filters that a list had in version 0.8.0 of this package. */
const initialFilters: ReadonlySet<string> = new Set([
  "functionId",
  "function_id",
  "status",
  "limit",
  "cursor"
])
/** Filters that only legacy servers have. */
const legacyFilters: ReadonlySet<string> = new Set(["since", "until"])

/**
 * Refuses unknown filters with the message for unknown options. A client that only uses filters of version 0.8.0 may
 * also send unknown members: these are ignored, as they were in that version, unless they resemble a filter.
 */
const checkMembers = (names: ReadonlyArray<string>): void => {
  const usesNewFilters = names.some((name) => members.has(name) && !initialFilters.has(name))
  for (const name of names) {
    if (members.has(name)) continue
    if (usesNewFilters || legacyFilters.has(name) || nearest(name, [...members]) !== undefined) {
      checkFilterNames({ [name]: true })
    }
  }
}

/** Reads a request for a list from its body. */
export const readListBody = (body: unknown): ListRuns => {
  if (isObject(body)) checkMembers(Object.keys(body))
  return readList(body)
}

const filterDecoders = {
  Bulk: decoder(ListRunsRequest, "Bulk: `filters`"),
  CountRuns: decoder(ListRunsRequest, "CountRuns: `filters`"),
  Erase: decoder(ListRunsRequest, "Erase: `runs`")
}

const methodNames = { Bulk: "bulk", CountRuns: "countRuns", Erase: "erase" } as const

/**
 * Reads the filters of a bulk operation, an erasure or a count, none of which has pages. Unknown and empty filters are
 * always refused.
 */
export const readFilters = (what: keyof typeof filterDecoders, filters: unknown): ListRuns => {
  if (isObject(filters)) {
    for (const [name, value] of Object.entries(filters)) {
      if (members.has(name) && name !== "limit" && name !== "cursor") {
        refuseBlankFilter(methodNames[what], name, value === NO_STATUS ? "" : value)
        continue
      }
      throw new ValidationError(
        `${what} has no filter ${show(name)}: use ${[...singleFilters, ...filterNames].join(", ")}`
      )
    }
  }
  return filterDecoders[what](filters)
}

/** Reads a request for a list from the query of its URL. */
export const readListQuery = (query: URLSearchParams): ListRuns => {
  checkMembers([...query.keys()])
  const { limit, ...rest } = Object.fromEntries(query)
  const filters = Object.fromEntries(
    listFilters.flatMap((name): ReadonlyArray<readonly [string, unknown]> => {
      const values = query.getAll(name).filter((value) => value !== "")
      if (values.length === 0) return []
      if (name === "attributes") return [[name, attributesOf(values)]]
      return [[name, repeatableFilters.has(name) ? values : values.at(-1)]]
    })
  )
  return readList({
    ...Object.fromEntries(Object.entries(rest).filter(([name]) => !filterNames.has(name))),
    ...filters,
    // digits become the number that a body would have; anything else is refused as in a body
    ...(limit === undefined ? {} : { limit: /^\d+$/.test(limit) ? Number(limit) : limit })
  })
}

const filterNames: ReadonlySet<string> = new Set(listFilters)

const attributesOf = (values: ReadonlyArray<string>): { readonly [path: string]: string } =>
  Object.fromEntries(
    values.map((value) => {
      const at = value.indexOf("=")
      if (at > 0) return [value.slice(0, at), value.slice(at + 1)]
      throw new ValidationError(
        `ListRuns: \`attributes\` must be a path and its value, as in event.data.orderId=o-17, got "${value.slice(0, 64)}"`
      )
    })
  )

/** The options that the request asks for. An empty string counts as no value. */
export const listOptionsOf = ({
  attributes,
  cursor,
  functionId,
  functionIds,
  limit,
  status,
  statuses,
  ...others
}: ListRuns): ListRunsOptions => {
  const functions = [
    ...(functionId === undefined || functionId === "" ? [] : [functionId]),
    ...(functionIds ?? [])
  ]
  const chosenStatuses = [
    ...(status === undefined || status === "" || status === NO_STATUS ? [] : [status]),
    ...(statuses ?? [])
  ].map(readStatus)
  return {
    ...Object.fromEntries(Object.entries(others).filter(([, value]) => value !== undefined && value !== "")),
    // an empty list is kept, and refused later: it does not mean all functions or all statuses
    ...(functions.length === 0 && functionIds === undefined ? {} : { functionId: functions }),
    ...(chosenStatuses.length === 0 && statuses === undefined ? {} : { status: chosenStatuses }),
    // the engine checks the values of the attributes
    ...(attributes === undefined
      ? {}
      : { attributes: attributes as NonNullable<ListRunsOptions["attributes"]> }),
    ...(limit === undefined || limit === 0 ? {} : { limit }),
    ...(cursor === undefined || cursor === "" ? {} : { cursor })
  }
}

const readStatus = (text: string): RunStatus => {
  const status = decodeRunStatus(text)
  if (status !== undefined) return status
  throw new ValidationError(
    `"${text.slice(0, 64)}" is not a run status: use ${runStatuses.slice(0, -1).join(", ")} or ${runStatuses.at(-1)}`
  )
}
