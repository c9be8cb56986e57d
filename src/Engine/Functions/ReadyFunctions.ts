/** The functions that may have ready runs, that is, runs that workers can claim. */
import { registryOf } from "./Registry.ts"
import { defineCache } from "../Store/Cache.ts"
import { statement } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

interface Ready {
  /** Keys of functions that may have ready runs. It is a hint for claims: it may name too many functions, but never too few. */
  readonly mayBeReady: Set<number>
  /** The keys that this transaction has removed from `mayBeReady`. */
  readonly cleared: Array<number>
  /** The functions in `mayBeReady` whose ready runs are all new in this transaction and have no row yet. */
  readonly onlyNew: Set<number>
}

export const readyOf = defineCache<Ready>({
  make: () => ({ mayBeReady: new Set(), cleared: [], onlyNew: new Set() }),
  begin: ({ cleared, mayBeReady, onlyNew }) => {
    onlyNew.clear()
    for (const key of cleared.splice(0)) mayBeReady.add(key)
  },
  invalidate: ({ mayBeReady }, { readyFunctions }) => {
    for (const key of readyFunctions) mayBeReady.add(key)
  },
  committed: ({ cleared, mayBeReady }, tx) => {
    cleared.length = 0
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
  const { mayBeReady, onlyNew } = readyOf(tx)
  mayBeReady.add(functionKey)
  onlyNew.delete(functionKey)
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
export const markNew = (tx: Transaction, functionKey: number): boolean => {
  const { mayBeReady, onlyNew } = readyOf(tx)
  if (mayBeReady.has(functionKey) && !onlyNew.has(functionKey)) return false
  mayBeReady.add(functionKey)
  onlyNew.add(functionKey)
  tx.changes.ready = true
  return true
}

/** Whether all ready runs of a function are new, and have no row yet. */
export const isNew = (tx: Transaction, functionKey: number): boolean => readyOf(tx).onlyNew.has(functionKey)

/** Notes that the new runs have rows now, as all other ready runs do. */
export const forgetNew = (tx: Transaction): void => readyOf(tx).onlyNew.clear()

/** Notes that a function has no more ready runs, as far as this transaction knows. A rollback undoes this. */
export const clearReady = (tx: Transaction, functionKey: number): void => {
  const { cleared, mayBeReady } = readyOf(tx)
  if (mayBeReady.delete(functionKey)) cleared.push(functionKey)
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
