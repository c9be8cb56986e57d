/** How many runs there are that have failed, by function: what the gauge `ironflow_failed_runs` says. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import { registryOf } from "../Functions/Registry.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import { acrossEnvironments, all, type Program, statement } from "../Store/Program.ts"
import type { StoreService } from "../Store/Store.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { listOf, Status } from "./StatusRows.ts"

/** Failed runs of a function. */
export interface FailedRuns {
  readonly environment: string
  readonly functionId: string
  readonly count: number
}

interface Slice {
  readonly functions: ReadonlyArray<FailedRuns>
  /** Where to go on; absent at the end. */
  readonly next?: number
}

/** Runs that are looked at in one slice: some milliseconds. */
const SLICE = 1000

// the list of statuses is that of the index, which is used for nothing else
const FAILED = statement(
  "FailedRuns.failed",
  `SELECT function, count(*) AS n, max(key) AS last FROM (
       SELECT function, key FROM runs WHERE status = ${Status.failed} AND status IN (${listOf(["failed", "cancelled"])}) AND key > ?
         ORDER BY key LIMIT ?) AS slice
     GROUP BY function`,
  { scans: "the slice, which an index has found" }
)

const readFailedRunSlice = acrossEnvironments(
  "readFailedRunSlice",
  function* (tx: Transaction, after: number, size: number): Program<Slice> {
    const rows = yield* all(FAILED, after, size)
    const looked = rows.reduce((sum, { n }) => sum + Number(n), 0)
    return {
      functions: rows.flatMap((row) => {
        const fn = registryOf(tx).byKey(Number(row.function))
        // the row of its function is damaged: its runs cannot be shown either
        if (fn === undefined) return []
        return [{ environment: fn.environment, functionId: fn.registration.id, count: Number(row.n) }]
      }),
      ...(looked < size ? {} : { next: Math.max(...rows.map(({ last }) => Number(last))) })
    }
  },
  () => "count failed runs"
)

/** Counts all of them, slice by slice, each in its turn of the event loop: not for hot paths. */
export const countFailedRuns = (
  store: StoreService,
  size = SLICE
): Effect.Effect<ReadonlyArray<FailedRuns>, StoreError> =>
  Effect.gen(function* () {
    const functions = new Map<string, FailedRuns>()
    let after: number | undefined = 0
    while (after !== undefined) {
      const slice: Slice = yield* store.read(readFailedRunSlice(after, size))
      for (const one of slice.functions) {
        const name = `${one.environment}\n${one.functionId}`
        functions.set(name, { ...one, count: one.count + (functions.get(name)?.count ?? 0) })
      }
      after = slice.next
      if (after !== undefined) yield* yieldToEventLoop
    }
    return [...functions.values()]
  })
