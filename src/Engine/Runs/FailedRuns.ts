/** Counts the runs that have failed, by function, for the gauge `ironflow_failed_runs`. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import { registryOf } from "../Functions/Registry.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import { acrossEnvironments, all, type Program, statement } from "../Store/Program.ts"
import type { StoreService } from "../Store/Store.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { sqlListOf, Status } from "./StatusRows.ts"

/** How many runs of a function have failed. */
export interface FailedRuns {
  readonly environment: string
  readonly functionId: string
  readonly count: number
}

interface Slice {
  readonly functions: ReadonlyArray<FailedRuns>
  /** The key at which the next slice begins; absent after the last slice. */
  readonly next?: number
}

/** How many runs one slice counts, which takes some milliseconds. */
const RUNS_PER_SLICE = 1000

// the index has only the failed and the cancelled runs: the database uses it only for a condition with the same list of
// statuses
const FAILED = statement(
  "FailedRuns.failed",
  `SELECT function, count(*) AS n, max(key) AS last FROM (
       SELECT function, key FROM runs WHERE status = ${Status.failed} AND status IN (${sqlListOf(["failed", "cancelled"])}) AND key > ?
         ORDER BY key LIMIT ?) AS slice
     GROUP BY function`,
  { scans: "the slice, which an index has found" }
)

const readFailedRunSlice = acrossEnvironments(
  "readFailedRunSlice",
  function* (tx: Transaction, after: number, size: number): Program<Slice> {
    const rows = yield* all(FAILED, after, size)
    const runCount = rows.reduce((sum, { n }) => sum + Number(n), 0)
    return {
      functions: rows.flatMap((row) => {
        const fn = registryOf(tx).byKey(Number(row.function))
        // the row of the function is damaged: its runs cannot be shown either
        if (fn === undefined) return []
        return [{ environment: fn.environment, functionId: fn.registration.id, count: Number(row.n) }]
      }),
      ...(runCount < size ? {} : { next: Math.max(...rows.map(({ last }) => Number(last))) })
    }
  },
  () => "count failed runs"
)

/**
 * Counts all failed runs, one slice in each turn of the event loop. With many runs this takes long, so it is not for code that
 * runs often.
 */
export const countFailedRuns = (
  store: StoreService,
  size = RUNS_PER_SLICE
): Effect.Effect<ReadonlyArray<FailedRuns>, StoreError> =>
  Effect.gen(function* () {
    const functions = new Map<string, FailedRuns>()
    let after: number | undefined = 0
    while (after !== undefined) {
      const slice: Slice = yield* store.read(readFailedRunSlice(after, size))
      for (const part of slice.functions) {
        const name = `${part.environment}\n${part.functionId}`
        functions.set(name, { ...part, count: part.count + (functions.get(name)?.count ?? 0) })
      }
      after = slice.next
      if (after !== undefined) yield* yieldToEventLoop
    }
    return [...functions.values()]
  })
