/** Bulk operations in the form of the API. */
import type { BulkOperation } from "../../Protocol/Bulk.ts"
import type { CheckedFilters } from "../Runs/CheckFilters.ts"
import type { BulkRecord } from "./BulkRecords.ts"

/** The operation as clients see it. */
export const toBulkOperation = (record: BulkRecord): BulkOperation => {
  const { action, request, byKey, createdAt, done, endedAt, error, examples, id, idCount, matched, skipped } =
    record
  const { lookedBackTo, status, updatedAt } = record
  const { dryRun, filters, fromStep, reason, target, version } = request
  const { kinds, note, rebuild } = record
  return {
    id,
    action,
    status,
    dryRun,
    ...(filters === undefined ? {} : { filters: toShownFilters(filters) }),
    ...(idCount === undefined ? {} : { ids: idCount }),
    ...(reason === undefined ? {} : { reason }),
    ...(fromStep === undefined ? {} : { fromStep }),
    ...(version === undefined ? {} : { version }),
    by: byKey ?? "local",
    matched,
    done,
    skipped,
    examples: [...examples],
    ...(target === undefined ? {} : { target }),
    ...(kinds === undefined ? {} : { kinds }),
    ...(rebuild === undefined ? {} : { rebuild: [...rebuild] }),
    ...(note === undefined ? {} : { note }),
    ...(lookedBackTo === undefined ? {} : { lookedBackTo: iso(lookedBackTo) }),
    ...(error === undefined ? {} : { error }),
    createdAt: iso(createdAt),
    updatedAt: iso(updatedAt),
    ...(endedAt === undefined ? {} : { endedAt: iso(endedAt) })
  }
}

/** The filters in the form of `listRuns`. */
const toShownFilters = ({
  createdFrom,
  createdTo,
  endedFrom,
  endedTo,
  functionIds,
  statuses,
  ...others
}: CheckedFilters): { readonly [name: string]: unknown } =>
  Object.fromEntries(
    Object.entries({
      functionId: oneOrAll(functionIds),
      status: oneOrAll(statuses),
      ...Object.fromEntries(
        Object.entries({ createdFrom, createdTo, endedFrom, endedTo }).map(([name, at]) => [
          name,
          at === undefined ? undefined : iso(at)
        ])
      ),
      ...others
    }).filter(([, value]) => value !== undefined)
  )

const oneOrAll = (list: ReadonlyArray<string> | undefined) => (list?.length === 1 ? list[0] : list)

const iso = (at: number): string => new Date(at).toISOString()
