/** The functions that may have ready runs, that is, runs that workers can claim. */
import { registryOf } from "./Registry.ts"
import { defineCache } from "../Store/Cache.ts"
import { statement } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

interface ReadyFunctions {
  /**
   * Keys of functions that may have ready runs. The set is a hint for claims: it may have too many functions, but never too few.
   */
  readonly mayBeReady: Set<number>
  /** The keys that this transaction has removed from `mayBeReady`. */
  readonly clearedKeys: Array<number>
  /** The functions in `mayBeReady` whose ready runs are all new in this transaction and have no row yet. */
  readonly functionsWithOnlyNewRuns: Set<number>
}

export const readyOf = defineCache<ReadyFunctions>({
  make: () => ({ mayBeReady: new Set(), clearedKeys: [], functionsWithOnlyNewRuns: new Set() }),
  begin: ({ clearedKeys, mayBeReady, functionsWithOnlyNewRuns }) => {
    functionsWithOnlyNewRuns.clear()
    for (const key of clearedKeys.splice(0)) mayBeReady.add(key)
  },
  invalidate: ({ mayBeReady }, { readyFunctions }) => {
    for (const key of readyFunctions) mayBeReady.add(key)
  },
  committed: ({ clearedKeys, mayBeReady }, tx) => {
    clearedKeys.length = 0
    tx.changes.mayHaveReady = mayBeReady.size > 0
    // runs that became ready in this transaction may also have been claimed in it
    tx.changes.ready &&= tx.changes.mayHaveReady
  }
})

/** SQL: the functions with ready runs. */
export const READY_FUNCTIONS = statement(
  "ReadyFunctions.readyFunctions",
  "SELECT key FROM functions WHERE EXISTS (SELECT 1 FROM runs WHERE runs.function = functions.key AND ready_at IS NOT NULL)",
  { scans: "functions are held in memory, when another engine has written" }
)

/** Notes that a function has ready runs. */
export const markReady = (tx: Transaction, functionKey: number): void => {
  const { mayBeReady, functionsWithOnlyNewRuns } = readyOf(tx)
  mayBeReady.add(functionKey)
  functionsWithOnlyNewRuns.delete(functionKey)
  tx.changes.ready = true
}

/**
 * {@link markReady} at the commit. Until then, the registry holds back the runs of the function, because it still has the earlier
 * state.
 */
export const markReadyAtCommit = (tx: Transaction, functionKey: number): void => {
  tx.changes.ready = true
  tx.afterCommit(() => readyOf(tx).mayBeReady.add(functionKey))
}

/**
 * Notes that a function has a new run that can be claimed before its row is written. That is possible only if no ready run of the
 * function has a row yet. Returns whether it is possible.
 */
export const markNewRun = (tx: Transaction, functionKey: number): boolean => {
  const { mayBeReady, functionsWithOnlyNewRuns } = readyOf(tx)
  if (mayBeReady.has(functionKey) && !functionsWithOnlyNewRuns.has(functionKey)) return false
  mayBeReady.add(functionKey)
  functionsWithOnlyNewRuns.add(functionKey)
  tx.changes.ready = true
  return true
}

/** Whether all ready runs of a function are new, and have no row yet. */
export const hasOnlyNewRuns = (tx: Transaction, functionKey: number): boolean =>
  readyOf(tx).functionsWithOnlyNewRuns.has(functionKey)

/** Notes that the new runs have rows now, as all other ready runs do. */
export const forgetNewRuns = (tx: Transaction): void => readyOf(tx).functionsWithOnlyNewRuns.clear()

/** Notes that a function has no more ready runs, as far as this transaction knows. A rollback undoes this. */
export const clearReady = (tx: Transaction, functionKey: number): void => {
  const { clearedKeys, mayBeReady } = readyOf(tx)
  if (mayBeReady.delete(functionKey)) clearedKeys.push(functionKey)
}

/** Notes that a lease of a function has ended: there may be room under the function's limit, or for the next run of an actor. */
export const markCapacity = (tx: Transaction, functionKey: number): void => {
  const registration = registryOf(tx).byKey(functionKey)?.registration
  if (registration?.concurrency !== undefined || registration?.actorKey !== undefined)
    markReady(tx, functionKey)
}

/** Notes that a run of a function has ended: fires of the function's schedules may have waited for that. */
export const markRunEnded = (tx: Transaction, functionKey: number): void => {
  const triggers = registryOf(tx).byKey(functionKey)?.registration.triggers
  if (triggers?.some(({ overlap }) => overlap !== undefined) === true) tx.markDue(tx.now())
}
