/** Checks the request of a bulk operation. */
import { ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { bulkIds, checkLength, checkName, reasonLength } from "../../Limits.ts"
import { bulkActions, type BulkAction, type TextOption, refuseBlankBulkOptions } from "../../Protocol/Bulk.ts"
import { checkBulkFilterNames } from "../../RunFilters.ts"
import { show } from "../../Show.ts"
import { checkFilters } from "../Runs/CheckFilters.ts"
import type { BulkRequest } from "./BulkRecords.ts"

interface CheckedBulk {
  readonly action: BulkAction
  readonly request: BulkRequest
  /** Without duplicates, in the given order. */
  readonly ids?: ReadonlyArray<string>
}

/** The options of a bulk operation, not yet checked. */
interface UncheckedOptions {
  readonly dryRun?: boolean
  readonly reason?: string
  readonly fromStep?: string
  readonly version?: string
}

const actionsWithReason: ReadonlySet<BulkAction> = new Set<BulkAction>(["cancel", "pause"])
const actionsWithStep: ReadonlySet<BulkAction> = new Set<BulkAction>(["retry", "resume", "fork"])
const actionsWithVersion: ReadonlySet<BulkAction> = new Set<BulkAction>(["move"])

/** Throws a `ValidationError` or `LimitExceededError` that names what is wrong. */
export const checkBulk = (action: unknown, runs: unknown, given: UncheckedOptions = {}): CheckedBulk => {
  if (!isAction(action)) {
    throw new ValidationError(
      `bulk: the action must be one of ${bulkActions.join(", ")}, got ${show(action)}`
    )
  }
  const { dryRun = false, fromStep, reason, version } = given
  refuseBlankBulkOptions({ dryRun, fromStep, reason, version })
  if (typeof dryRun !== "boolean") {
    throw new ValidationError(`bulk: \`dryRun\` must be true or false, got ${show(dryRun)}`)
  }
  if (!isObject(runs)) {
    throw new ValidationError(
      `bulk: select runs by filters such as { status: "failed" } or by { ids: [...] }, got ${show(runs)}`
    )
  }
  const { ids, ...filters } = runs
  refuseBlankBulkOptions({ ids })
  const request = {
    dryRun,
    ...textOf(action, "reason", reason, actionsWithReason),
    ...textOf(action, "fromStep", fromStep, actionsWithStep),
    ...textOf(action, "version", version, actionsWithVersion)
  }
  if (ids !== undefined) {
    if (Object.values(filters).some((value) => value !== undefined)) {
      throw new ValidationError("bulk: runs are named by `ids` or found by filters, not both: leave one out")
    }
    return { action, request, ids: idsOf(ids) }
  }
  checkBulkFilterNames(filters)
  const checked = checkFilters(filters, "bulk")
  if (Object.keys(checked).length === 0) {
    throw new ValidationError(
      `bulk: without a filter this would ${action} all runs of the environment. Select runs by filters such as { status: "failed" } or by { ids: [...] }`
    )
  }
  return { action, request: { ...request, filters: checked } }
}

const isAction = (action: unknown): action is BulkAction =>
  (bulkActions as ReadonlyArray<unknown>).includes(action)

const textOf = (
  action: BulkAction,
  name: TextOption,
  value: unknown,
  actions: ReadonlySet<BulkAction>
): { readonly [name: string]: string } => {
  if (value === undefined || value === "") return {}
  if (typeof value !== "string") {
    throw new ValidationError(`bulk: \`${name}\` must be a string, got ${show(value)}`)
  }
  if (!actions.has(action)) {
    throw new ValidationError(
      `bulk: \`${name}\` is for ${listInWords([...actions])}, not for ${action}: leave it out`
    )
  }
  checkLength(`bulk: \`${name}\``, value, reasonLength)
  return { [name]: value }
}

const listInWords = (actions: ReadonlyArray<string>): string =>
  actions.length === 1 ? actions[0]! : `${actions.slice(0, -1).join(", ")} and ${actions.at(-1)}`

const idsOf = (ids: unknown): ReadonlyArray<string> => {
  if (!Array.isArray(ids) || ids.length === 0) {
    throw new ValidationError(`bulk: \`ids\` must be a non-empty list of ids of runs, got ${show(ids)}`)
  }
  if (ids.length > bulkIds) {
    throw new ValidationError(
      `bulk: \`ids\` may name ${bulkIds} runs at most, got ${ids.length}: give them in several calls, or use filters`
    )
  }
  return [...new Set(ids.map((id) => checkName("run id", id)))]
}
