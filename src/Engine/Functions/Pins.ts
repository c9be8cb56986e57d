/** Runs that are pinned to the version of their function with which they began. */
import { defineCache } from "../Store/Cache.ts"
import { all, forEach, get, type Program, statement, write } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { RegisteredFunction } from "./Registry.ts"

/** Stands for the version of a run that has not begun. */
export const NO_PIN = ""

/** The functions for which this transaction has begun pinning. The registry shows that only after the commit. */
const newlyPinningFunctions = defineCache<Set<number>>({
  make: () => new Set(),
  begin: (keys) => keys.clear()
})

/** Whether runs of the function may be pinned. */
export const pinsRuns = (tx: Transaction, fn: RegisteredFunction): boolean =>
  fn.pins === true || newlyPinningFunctions(tx).has(fn.key)

const PIN_OPEN_RUNS = statement(
  "Pins.pinOpenRuns",
  `UPDATE runs SET pin = '${NO_PIN}' WHERE key > 0 AND ended_at IS NULL AND function = ? AND pin IS NULL`
)

/** Begins pinning for a function. Runs that already exist are pinned by their next turn. */
export function* beginPinning(tx: Transaction, functionKey: number): Program<void> {
  newlyPinningFunctions(tx).add(functionKey)
  yield* write(PIN_OPEN_RUNS, functionKey)
}

const COUNT_RUNS_BY_PIN = statement(
  "Pins.countRunsByPin",
  `SELECT pin, count(*) AS n, min(key) AS oldest FROM runs
     WHERE function = ? AND pin IS NOT NULL AND ended_at IS NULL GROUP BY pin ORDER BY pin`
)
const FIND_RUN_ID = statement("Pins.findRunId", "SELECT id FROM runs WHERE key = ?")

export interface PinnedVersion {
  readonly codeVersion: string
  readonly liveRuns: number
  readonly oldestRunId?: string
}

/** How many unfinished runs of a function are pinned to each version. */
export function* pinnedRuns(fn: RegisteredFunction): Program<ReadonlyArray<PinnedVersion>> {
  if (fn.pins !== true) return []
  const rows = (yield* all(COUNT_RUNS_BY_PIN, fn.key)).filter(({ pin }) => pin !== NO_PIN)
  return yield* forEach(rows, function* ({ n, oldest, pin }): Program<PinnedVersion> {
    const row = yield* get(FIND_RUN_ID, oldest!)
    return {
      codeVersion: String(pin),
      liveRuns: Number(n),
      ...(row === undefined ? {} : { oldestRunId: String(row.id) })
    }
  })
}
