/** Which functions may have claimable runs. */
import { registryOf } from "./Registry.ts"
import { defineCache } from "../Store/Cache.ts"
import { statement } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

interface Ready {
  /** Keys of functions that may have ready runs: a hint for claims, which may name too many but never too few. */
  readonly mayBeReady: Set<number>
  /** What this transaction removed from `mayBeReady`. */
  readonly cleared: Array<number>
  /** Those in `mayBeReady` whose ready runs are all new in this transaction, and have no row yet. */
  readonly onlyNew: Set<number>
}

export const readyOf = defineCache<Ready>({
  make: () => ({ mayBeReady: new Set(), cleared: [], onlyNew: new Set() }),
  begin: ({ cleared, mayBeReady, onlyNew }) => {
    onlyNew.clear()
    for (const key of cleared.splice(0)) mayBeReady.add(key)
  },
  invalidate: ({ mayBeReady }, { ready }) => {
    for (const key of ready) mayBeReady.add(key)
  },
  committed: ({ cleared, mayBeReady }, tx) => {
    cleared.length = 0
    tx.changes.mayHaveReady = mayBeReady.size > 0
    // what became ready in this transaction may have been claimed in it too
    tx.changes.ready &&= tx.changes.mayHaveReady
  }
})

/** The functions with ready runs. */
export const READY_FUNCTIONS = statement(
  "ReadyFunctions.readyFunctions",
  "SELECT key FROM functions WHERE EXISTS (SELECT 1 FROM runs WHERE runs.function = functions.key AND ready_at IS NOT NULL)",
  { scans: "functions are held in memory, when another engine has written" }
)

/** Notes that a function has something ready to be claimed. */
export const markReady = (tx: Transaction, functionKey: number): void => {
  const { mayBeReady, onlyNew } = readyOf(tx)
  mayBeReady.add(functionKey)
  onlyNew.delete(functionKey)
  tx.changes.ready = true
}

/** The same, once the transaction is committed: until then, the remembered state of the function holds its runs back. */
export const markReadyAtCommit = (tx: Transaction, functionKey: number): void => {
  tx.changes.ready = true
  tx.afterCommit(() => readyOf(tx).mayBeReady.add(functionKey))
}

/**
 * Notes that a new run can be claimed without a row. Possible only if no ready run of the function has one; returns whether it
 * is.
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

/** From now on, new runs are stored like all ready ones. */
export const forgetNew = (tx: Transaction): void => readyOf(tx).onlyNew.clear()

/** Notes that a function has nothing ready any more, as far as this transaction knows: it may yet be rolled back. */
export const clearReady = (tx: Transaction, functionKey: number): void => {
  const { cleared, mayBeReady } = readyOf(tx)
  if (mayBeReady.delete(functionKey)) cleared.push(functionKey)
}

/** A lease of a function ended: there may be room under its limit, or for the next run of an actor. */
export const markCapacity = (tx: Transaction, functionKey: number): void => {
  const registration = registryOf(tx).byKey(functionKey)?.registration
  if (registration?.concurrency !== undefined || registration?.actorKey !== undefined)
    markReady(tx, functionKey)
}

/** A run of a function ended: fires of its schedules may have waited for that. */
export const markRunEnded = (tx: Transaction, functionKey: number): void => {
  const triggers = registryOf(tx).byKey(functionKey)?.registration.triggers
  if (triggers?.some(({ overlap }) => overlap !== undefined) === true) tx.markDue(tx.now())
}
