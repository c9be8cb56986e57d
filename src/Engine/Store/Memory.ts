/**
 * What each part of the engine remembers while a database is open: registered functions, buckets, leases. It lives in the process
 * that runs the programs, and follows the transactions.
 */
import type { Program } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

/** What other engines on the same database have done since this engine's last transaction. */
export interface Others {
  /** Keys of the functions with ready runs. */
  readonly ready: ReadonlyArray<number>
  /** Whether functions were registered or deleted. */
  readonly functions: boolean
  /** Whether they have changed leases that they did not give. */
  readonly leases: boolean
}

export interface Memory<A> {
  /** Called when the memory is first used. */
  readonly make: (tx: Transaction) => A
  /** Called when a transaction begins: discards what a rolled back one has left. */
  readonly begin?: (memory: A) => void
  /** Called when other engines have written since this engine's last transaction: forgets what they may have changed. */
  readonly moved?: (memory: A, others: Others) => void
  /** Writes what the transaction has changed, before it commits. */
  readonly save?: (memory: A) => Program<void>
  /** Writes what the memory holds back, if anything: called before a program that may query it, and before the commit. */
  readonly write?: (memory: A, tx: Transaction) => Program<void> | undefined
  readonly committed?: (memory: A, tx: Transaction) => void
  /**
   * Whether concurrent readers share this memory: it changes only with a commit. Without it, a reader starts with an empty
   * memory. `"unmoved"`: shared unless others are known to have written since.
   */
  readonly isShared?: boolean | "unmoved"
  readonly rolledBack?: (memory: A) => void
}

const all: Array<Memory<unknown>> = []
/** Indexes of the memories that may hold something back. */
const holding: Array<number> = []

/** Defines a memory. The result returns the memory of a database. */
export const remembered = <A>(memory: Memory<A>): ((tx: Transaction) => A) => {
  const index = all.length
  // each memory only gets what its own `make` returned
  all.push(memory as Memory<unknown>)
  if (memory.write !== undefined) holding.push(index)
  return (tx) => (tx.memories[index] ??= memory.make(tx)) as A
}

/** Gives `to` the memories of `from` that concurrent readers may see. */
export const shareMemories = (from: Transaction, to: Transaction, isUnmoved: boolean): void => {
  for (const [index, memory] of all.entries()) {
    if (memory.isShared === true || (memory.isShared === "unmoved" && isUnmoved))
      to.memories[index] = from.memories[index] ??= memory.make(from)
  }
}

/** Calls `use` with each existing memory, in the order of definition. */
export const eachMemory = (
  memories: ReadonlyArray<unknown>,
  use: (memory: Memory<unknown>, made: unknown) => void
): void => {
  for (const [index, made] of memories.entries()) if (made !== undefined) use(all[index]!, made)
}

/** Programs that write what memories hold back. */
export const writesOf = function* (tx: Transaction): Iterable<Program<void>> {
  for (const index of holding) {
    const made = tx.memories[index]
    const program = made === undefined ? undefined : all[index]!.write?.(made, tx)
    if (program !== undefined) yield program
  }
}
