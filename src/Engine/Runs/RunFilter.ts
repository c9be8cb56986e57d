/** The filter of the plain run list (`RunList.ts`), which filters by at most one function and one status. */
import { registryOf } from "../Functions/Registry.ts"
import type { RunsBefore } from "./RunRecords.ts"
import { sqlListOf, Status } from "./StatusRows.ts"
import type { Transaction } from "../Store/Transaction.ts"

/** The filter of a run list, as SQL. */
export interface RunFilter {
  readonly where: string
  readonly values: ReadonlyArray<number>
  /** A further condition, for which an index may help. Its values, `indexValues`, come after `values`. */
  readonly indexCondition: string
  readonly indexValues: ReadonlyArray<number>
  /** The SQL expression by which the runs are ordered and cut into slices. */
  readonly key: "r.key" | "+r.key"
  /** The key of the function whose runs are listed; absent for all functions. */
  readonly fn?: number
}

/** The filter of a query; `undefined` when no run can match. */
export const filterOf = (
  tx: Transaction,
  { environment: name, functionId, status }: RunsBefore
): RunFilter | undefined => {
  const environment = tx.findEnvironment(name)
  const fn = functionId === undefined ? undefined : registryOf(tx).get(name, functionId)
  if (environment === undefined || (functionId !== undefined && fn === undefined)) return undefined
  // the `+` keeps SQLite from using the index on the function: the list is cut into slices by run key
  const conditions = [fn === undefined ? "r.environment = ?" : "+r.function = ?"]
  const values = [fn?.key ?? environment]
  // unfinished, failed and cancelled runs have partial indexes with few rows; completed runs are found by a scan of all runs
  let indexCondition = ""
  if (status !== undefined) {
    const number = Status[status]
    conditions.push("r.status = ?")
    values.push(number)
    if (status === "failed" || status === "cancelled") {
      indexCondition = `AND r.status = ${number} AND r.status IN (${sqlListOf(["failed", "cancelled"])})`
    } else if (status !== "completed") indexCondition = "AND r.ended_at IS NULL"
  }
  return {
    where: conditions.join(" AND "),
    values,
    indexCondition,
    indexValues: [],
    key: "r.key",
    ...(fn === undefined ? {} : { fn: fn.key })
  }
}
