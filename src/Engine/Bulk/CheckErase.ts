/** Checks the target of an erasure. */
import { ValidationError } from "../../Errors.ts"
import { compileExpression } from "../../Expression.ts"
import { isObject } from "../../Json.ts"
import { checkBucketName, checkKey } from "../../KvKeys.ts"
import { bulkIds, checkIdempotencyKey, checkName } from "../../Limits.ts"
import { checkPattern } from "../../Pattern.ts"
import { checkEraseTarget, refuseBlankEraseOptions } from "../../Protocol/Erase.ts"
import { checkBulkFilterNames, momentOf } from "../../RunFilters.ts"
import { show } from "../../Show.ts"
import { checkFilters } from "../Runs/CheckFilters.ts"
import type { CheckedEvents, CheckedKeys, CheckedTarget, EraseRequest } from "./EraseRecords.ts"

interface CheckedErase {
  readonly request: EraseRequest
  /** Ids of runs, without duplicates. */
  readonly ids?: ReadonlyArray<string>
}

const members = ["events", "runs", "streams", "keys", "configs"] as const
const eventMembers = ["where", "name", "entityId", "entityType", "idempotencyKey", "since", "until"] as const
const keyMembers = ["bucket", "key", "prefix"] as const
const flags = ["dryRun", "cancel", "compact"] as const

/** Throws a `ValidationError` or `LimitExceededError` that names what is wrong. */
export const checkErase = (given: unknown, givenOptions: object = {}): CheckedErase => {
  const target = checkEraseTarget(given)
  refuseUnknown("", target, members)
  refuseBlankEraseOptions(target)
  refuseBlankEraseOptions(givenOptions)
  refuseUnknown("", givenOptions, [...flags, "signal"])
  const options: { readonly [name: string]: unknown } = { ...givenOptions }
  for (const name of flags) {
    if (options[name] !== undefined && typeof options[name] !== "boolean") {
      throw new ValidationError(`erase: \`${name}\` must be true or false, got ${show(options[name])}`)
    }
  }
  const { dryRun = false, cancel = false, compact = false } = options
  const { configs, events, keys, runs, streams } = target
  const { filters, ids } = runs === undefined ? {} : runsOf(runs)
  const checked: CheckedTarget = {
    ...(events === undefined ? {} : { events: eventsOf(events) }),
    ...(filters === undefined ? {} : { runs: filters }),
    ...(streams === undefined
      ? {}
      : { streams: listOf("streams", streams).map((id) => checkName("entity id", id)) }),
    ...(keys === undefined ? {} : { keys: listOf("keys", keys).map(keysOf) }),
    ...(configs === undefined
      ? {}
      : { configs: listOf("configs", configs).map((name) => checkName("configuration name", name)) })
  }
  if (Object.keys(checked).length === 0 && ids === undefined && compact !== true) {
    throw new ValidationError(
      `erase: no target is given, which would erase everything: give at least one of ${members.join(", ")}`
    )
  }
  return {
    request: { dryRun: dryRun === true, cancel: cancel === true, compact: compact === true, erase: checked },
    ...(ids === undefined ? {} : { ids })
  }
}

/** Refuses members whose names are not in `names`. `where` is the path of the object, for the error. */
const refuseUnknown = (where: string, given: object, names: ReadonlyArray<string>): void => {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || names.includes(name)) continue
    throw new ValidationError(`erase has no \`${where}${name}\`: use ${names.join(", ")}`)
  }
}

const listOf = (name: string, list: unknown): ReadonlyArray<unknown> => {
  if (!Array.isArray(list) || list.length === 0) {
    throw new ValidationError(`erase: \`${name}\` must be a non-empty list, got ${show(list)}`)
  }
  if (list.length > bulkIds) {
    throw new ValidationError(
      `erase: \`${name}\` may have ${bulkIds} items at most, got ${list.length}: give them in several calls`
    )
  }
  return [...new Set(list)]
}

const eventsOf = (events: unknown): CheckedEvents => {
  // `refuseBlankEraseOptions` has refused everything but an object
  const filters = events as { readonly [name: string]: unknown }
  refuseUnknown("events.", filters, eventMembers)
  const { entityId, entityType, idempotencyKey, name, since, until, where } = filters
  if (where !== undefined) compileExpression(where as string, ["event"])
  const checked: CheckedEvents = {
    // a string, because it was compiled above
    ...(where === undefined ? {} : { where: where as string }),
    ...(name === undefined ? {} : { name: checkPattern(name, "name of the events") }),
    ...(entityId === undefined ? {} : { entityId: checkName("entity id", entityId) }),
    ...(entityType === undefined ? {} : { entityType: checkName("entity type", entityType) }),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey: checkIdempotencyKey(idempotencyKey) }),
    ...(since === undefined ? {} : { since: timeOf("since", since) }),
    ...(until === undefined ? {} : { until: timeOf("until", until) })
  }
  if (Object.keys(checked).length === 0) {
    throw new ValidationError(
      `erase: \`events\` is empty, which would erase all events: give at least one of ${eventMembers.join(", ")}`
    )
  }
  return checked
}

const timeOf = (name: string, value: unknown): number => {
  const at = momentOf(value)
  if (at !== undefined && typeof value === "string") return at
  throw new ValidationError(
    `erase: \`events.${name}\` must be an ISO string such as "2026-01-31" or "2026-01-31T12:00:00Z", got ${show(value)}`
  )
}

const runsOf = (runs: unknown) => {
  if (!isObject(runs)) {
    throw new ValidationError(
      `erase: \`runs\` must be filters such as { functionId: "..." } or { ids: [...] }, got ${show(runs)}`
    )
  }
  const { ids, ...filters } = runs
  checkBulkFilterNames(filters, "erase")
  const checked = checkFilters(filters, "erase")
  const hasFilters = Object.keys(checked).length > 0
  if (ids === undefined && !hasFilters) {
    throw new ValidationError(
      "erase: `runs` is empty, which would erase all runs: use filters, or { ids: [...] }"
    )
  }
  if (ids === null)
    throw new ValidationError("erase: `runs.ids` is null, which selects nothing: leave it out")
  return {
    ...(hasFilters ? { filters: checked } : {}),
    ...(ids === undefined ? {} : { ids: listOf("runs.ids", ids).map((id) => checkName("run id", id)) })
  }
}

const keysOf = (item: unknown): CheckedKeys => {
  if (!isObject(item)) {
    throw new ValidationError(
      `erase: each of \`keys\` must be { bucket, key } or { bucket, prefix }, got ${show(item)}`
    )
  }
  refuseUnknown("keys.", item, keyMembers)
  refuseBlankEraseOptions(item, "keys.")
  const bucket = checkBucketName(item.bucket as string)
  if ((item.key === undefined) === (item.prefix === undefined)) {
    throw new ValidationError(
      `erase: each of \`keys\` needs \`key\` or \`prefix\`, and not both; an item of bucket "${bucket}" has ${item.key === undefined ? "neither" : "both"}`
    )
  }
  // a prefix may be as long as a key, and may also end with a character with which no key ends
  if (item.key !== undefined) return { bucket, key: checkKey(item.key as string) }
  return { bucket, prefix: checkName("prefix of keys", item.prefix) }
}
