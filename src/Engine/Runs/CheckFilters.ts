/** Checks the filters of a run list. */
import { compileExpression, whereRoots } from "../../Expression.ts"
import { ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import {
  checkLength,
  checkName,
  functionsOfList,
  keyLength,
  nameLength,
  searchPaths,
  searchValueLength
} from "../../Limits.ts"
import { isDataPath } from "../../DataPath.ts"
import { checkFilterNames, checkMoment, type RunFilters, timeFilters } from "../../RunFilters.ts"
import { isRunStatus, type RunStatus, runStatuses } from "../../RunStatus.ts"
import { show } from "../../Show.ts"

/** The checked filters. Times are epoch milliseconds; lists are sorted. */
export interface CheckedFilters {
  readonly functionIds?: ReadonlyArray<string>
  readonly statuses?: ReadonlyArray<RunStatus>
  readonly createdFrom?: number
  readonly createdTo?: number
  readonly endedFrom?: number
  readonly endedTo?: number
  readonly eventName?: string
  readonly entityId?: string
  readonly idempotencyKey?: string
  readonly error?: string
  readonly attributes?: { readonly [path: string]: string }
  readonly where?: string
}

/** Whether the filters need a search. The plain list can filter by one function and one status. */
export const isSearch = (filters: CheckedFilters): boolean =>
  Object.entries(filters).some(
    ([name, value]) =>
      value !== undefined &&
      ((name !== "functionIds" && name !== "statuses") || (value as ReadonlyArray<string>).length > 1)
  )

/**
 * Checks each filter. Throws a `ValidationError` or `LimitExceededError` for the first wrong filter. `call` is the method of the
 * client, for messages.
 */
export const checkFilters = (
  filters: { readonly [K in keyof RunFilters]?: unknown },
  call = "listRuns"
): CheckedFilters => {
  checkFilterNames(filters)
  const functionIds = listOf(call, "functionId", filters.functionId)?.map((id) =>
    checkName("function id", id)
  )
  if (functionIds !== undefined && functionIds.length > functionsOfList) {
    throw new ValidationError(
      `${call}: \`functionId\` may name ${functionsOfList} functions at most, got ${functionIds.length}`
    )
  }
  const statuses = listOf(call, "status", filters.status)?.map((status) => {
    if (typeof status === "string" && isRunStatus(status)) return status
    throw new ValidationError(`${show(status)} is not a run status: use one of ${runStatuses.join(", ")}`)
  })
  const moments = Object.fromEntries(
    timeFilters.flatMap((name) => {
      const value = filters[name]
      return value === undefined ? [] : [[name, checkMoment(name, value)] as const]
    })
  )
  const { entityId, error, eventName, idempotencyKey, where } = filters
  const texts = {
    ...textOf(call, "eventName", eventName, nameLength),
    ...textOf(call, "entityId", entityId, nameLength),
    ...textOf(call, "idempotencyKey", idempotencyKey, keyLength),
    ...textOf(call, "error", error, nameLength)
  }
  if (where !== undefined) compileExpression(where as string, whereRoots)
  const attributes = attributesOf(call, filters.attributes)
  return {
    ...(functionIds === undefined ? {} : { functionIds: sorted(functionIds) }),
    ...(statuses === undefined ? {} : { statuses: sorted(statuses) }),
    ...moments,
    ...texts,
    ...(attributes === undefined ? {} : { attributes }),
    // a string, because it was compiled above
    ...(where === undefined ? {} : { where: where as string })
  }
}

const sorted = <A extends string>(list: ReadonlyArray<A>): ReadonlyArray<A> => [...new Set(list)].sort()

const listOf = (call: string, name: string, value: unknown): ReadonlyArray<unknown> | undefined => {
  if (value === undefined) return undefined
  if (!Array.isArray(value)) return [value]
  if (value.length > 0) return value
  throw new ValidationError(
    `${call}: \`${name}\` is an empty list, which matches no run: leave \`${name}\` out, or give it at least one item`
  )
}

const textOf = (
  call: string,
  name: string,
  value: unknown,
  maxLength: number
): { readonly [name: string]: string } => {
  if (value === undefined) return {}
  if (typeof value !== "string" || value.trim() === "") {
    throw new ValidationError(`${call}: \`${name}\` must be a string that is not blank, got ${show(value)}`)
  }
  checkLength(`${call}: \`${name}\``, value, maxLength)
  checkNul(`${call}: \`${name}\``, value)
  return { [name]: value }
}

/** Rejects a text with a NUL character: no stored value contains one, and Postgres refuses it. */
const checkNul = (what: string, text: string): void => {
  if (text.includes("\0")) throw new ValidationError(`${what} has a NUL character, got ${show(text)}`)
}

const attributesOf = (call: string, value: unknown): { readonly [path: string]: string } | undefined => {
  if (value === undefined) return undefined
  const entries = isObject(value) ? Object.entries(value) : []
  if (entries.length === 0 || entries.length > searchPaths) {
    throw new ValidationError(
      `${call}: \`attributes\` must be an object of 1 to ${searchPaths} paths and their values, such as { "event.data.orderId": "o-17" }, got ${show(value)}`
    )
  }
  return Object.fromEntries(
    entries
      .map(([path, value]) => {
        if (!isDataPath(path))
          throw new ValidationError(
            `${call}: ${show(path)} in \`attributes\` is not a dotted path such as "event.data.orderId"`
          )
        if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean") {
          throw new ValidationError(
            `${call}: the value of "${path}" in \`attributes\` must be a string, a number or a boolean, got ${show(value)}`
          )
        }
        checkLength(`${call}: the value of "${path}" in \`attributes\``, String(value), searchValueLength)
        checkNul(`${call}: the value of "${path}" in \`attributes\``, String(value))
        return [path, String(value)] as const
      })
      .sort(([a], [b]) => (a < b ? -1 : 1))
  )
}
