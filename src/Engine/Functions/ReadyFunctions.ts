/** Which functions may have runs that can be claimed. */
import { registryOf } from "./Registry.ts"
import { remembered } from "../Store/Memory.ts"
import { statement } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

interface Ready {
  /** Keys of functions that may have ready runs: a hint for claims, never wrong by omission. */
  readonly hot: Set<number>
  /** What this transaction took out of `hot`. */
  readonly cooled: Array<number>
  /** Those of `hot` whose ready runs are all new in this transaction, and have no row yet. */
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

/** The functions that have runs that are ready. */
export const READY_FUNCTIONS = statement(
  "ReadyFunctions.readyFunctions",
  "SELECT key FROM functions WHERE EXISTS (SELECT 1 FROM runs WHERE runs.function = functions.key AND ready_at IS NOT NULL)",
  { scans: "functions are held in memory, when another engine has written" }
)

/** Something of a function is ready to be claimed. */
export const markReady = (tx: Transaction, functionKey: number): void => {
  const { hot, onlyNew } = readyOf(tx)
  hot.add(functionKey)
  onlyNew.delete(functionKey)
  tx.changes.ready = true
}

/** The same, once the transaction is committed: what a program before that remembers of the function keeps its runs back. */
export const markReadyAtCommit = (tx: Transaction, functionKey: number): void => {
  tx.changes.ready = true
  tx.afterCommit(() => readyOf(tx).hot.add(functionKey))
}

/** A new run of a function can be claimed without a row, if nothing of it is ready that has one: says whether that is so. */
export const markNew = (tx: Transaction, functionKey: number): boolean => {
  const { hot, onlyNew } = readyOf(tx)
  if (hot.has(functionKey) && !onlyNew.has(functionKey)) return false
  hot.add(functionKey)
  onlyNew.add(functionKey)
  tx.changes.ready = true
  return true
}

/** Whether what is ready of a function is all new, and has no row yet. */
export const isNew = (tx: Transaction, functionKey: number): boolean => readyOf(tx).onlyNew.has(functionKey)

/** What is new is stored like all that is ready from now on. */
export const noneIsNew = (tx: Transaction): void => readyOf(tx).onlyNew.clear()

/** Nothing of a function is ready any more, as far as this transaction knows: it may yet be rolled back. */
export const markCold = (tx: Transaction, functionKey: number): void => {
  const { cooled, hot } = readyOf(tx)
  if (hot.delete(functionKey)) cooled.push(functionKey)
}

/** A lease of a function ended: that may make room under its limit, or for the next run of an actor. */
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
