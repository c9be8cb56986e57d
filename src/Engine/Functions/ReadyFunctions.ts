/** Which functions may have claimable runs. */
import { registryOf } from "./Registry.ts"
import { remembered } from "../Store/Memory.ts"
import { statement } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

interface Ready {
  /** Keys of functions that may have ready runs: a hint for claims, which may name too many but never too few. */
  readonly hot: Set<number>
  /** What this transaction removed from `hot`. */
  readonly cooled: Array<number>
  /** Those in `hot` whose ready runs are all new in this transaction, and have no row yet. */
  readonly onlyNew: Set<number>
}

export const readyOf = remembered<Ready>({
  make: () => ({ hot: new Set(), cooled: [], onlyNew: new Set() }),
  begin: ({ cooled, hot, onlyNew }) => {
    onlyNew.clear()
    for (const key of cooled.splice(0)) hot.add(key)
  },
  moved: ({ hot }, { ready }) => {
    for (const key of ready) hot.add(key)
  },
  committed: ({ cooled, hot }, tx) => {
    cooled.length = 0
    tx.changes.mayHaveReady = hot.size > 0
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
  const { hot, onlyNew } = readyOf(tx)
  hot.add(functionKey)
  onlyNew.delete(functionKey)
  tx.changes.ready = true
}

/** The same, once the transaction is committed: until then, the remembered state of the function holds its runs back. */
export const markReadyAtCommit = (tx: Transaction, functionKey: number): void => {
  tx.changes.ready = true
  tx.afterCommit(() => readyOf(tx).hot.add(functionKey))
}

/**
 * Notes that a new run can be claimed without a row. Possible only if no ready run of the function has one; returns whether it
 * is.
 */
export const markNew = (tx: Transaction, functionKey: number): boolean => {
  const { hot, onlyNew } = readyOf(tx)
  if (hot.has(functionKey) && !onlyNew.has(functionKey)) return false
  hot.add(functionKey)
  onlyNew.add(functionKey)
  tx.changes.ready = true
  return true
}

/** Whether all ready runs of a function are new, and have no row yet. */
export const isNew = (tx: Transaction, functionKey: number): boolean => readyOf(tx).onlyNew.has(functionKey)

/** From now on, new runs are stored like all ready ones. */
export const noneIsNew = (tx: Transaction): void => readyOf(tx).onlyNew.clear()

/** Notes that a function has nothing ready any more, as far as this transaction knows: it may yet be rolled back. */
export const markCold = (tx: Transaction, functionKey: number): void => {
  const { cooled, hot } = readyOf(tx)
  if (hot.delete(functionKey)) cooled.push(functionKey)
}

/** A lease of a function ended: there may be room under its limit, or for the next run of an actor. */
export const markRoom = (tx: Transaction, functionKey: number): void => {
  const registration = registryOf(tx).byKey(functionKey)?.registration
  if (registration?.concurrency !== undefined || registration?.actorKey !== undefined)
    markReady(tx, functionKey)
}

/** A run of a function ended: fires of its schedules may have waited for that. */
export const markFreed = (tx: Transaction, functionKey: number): void => {
  const triggers = registryOf(tx).byKey(functionKey)?.registration.triggers
  if (triggers?.some(({ overlap }) => overlap !== undefined) === true) tx.markDue(tx.now())
}
