/**
 * What a noun remembers while a database is open: registered functions, buckets, leases. It lives with whoever runs the programs, and
 * follows the transactions.
 */
import type { Program } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

/** What other engines on the same database have done since the last transaction of this one. */
export interface Others {
  /** Keys of the functions that have runs that are ready. */
  readonly ready: ReadonlyArray<number>
  /** Whether functions were registered or deleted. */
  readonly functions: boolean
  /** Whether they have changed leases that they had not given. */
  readonly leases: boolean
}

export interface Memory<A> {
  /** Made when it is first asked for. */
  readonly make: (tx: Transaction) => A
  /** A transaction begins: what one that was rolled back has left is gone. */
  readonly begin?: (memory: A) => void
  /** Others have written since the last transaction of this engine: what they may have changed is forgotten. */
  readonly moved?: (memory: A, others: Others) => void
  /** Writes what the transaction has changed, before it commits. */
  readonly save?: (memory: A) => Program<void>
  /**
   * Writes what it holds back, if it holds something back: before a program that may look for it, and before the commit.
   */
  readonly write?: (memory: A, tx: Transaction) => Program<void> | undefined
  readonly committed?: (memory: A, tx: Transaction) => void
  /**
   * Those who read beside a transaction see the same: it changes with a commit only. Others remember nothing that they read. `"unmoved"`:
   * they see it unless it is known that others have written since.
   */
  readonly isShared?: boolean | "unmoved"
  readonly rolledBack?: (memory: A) => void
}

const all: Array<Memory<unknown>> = []
/** Places of those that may hold something back. */
const holding: Array<number> = []

/** Defines a memory: what is returned finds that of a database. */
export const remembered = <A>(memory: Memory<A>): ((tx: Transaction) => A) => {
  const index = all.length
  // each is given what it has made itself
  all.push(memory as Memory<unknown>)
  if (memory.write !== undefined) holding.push(index)
  return (tx) => (tx.memories[index] ??= memory.make(tx)) as A
}

/** Gives `to` what of `from` may be seen by those who read beside it. */
export const shareMemories = (from: Transaction, to: Transaction, isUnmoved: boolean): void => {
  for (const [index, memory] of all.entries()) {
    if (memory.isShared === true || (memory.isShared === "unmoved" && isUnmoved))
      to.memories[index] = from.memories[index] ??= memory.make(from)
  }
}

/** Calls `use` with each memory that was made, in the order of their definitions. */
export const eachMemory = (
  memories: ReadonlyArray<unknown>,
  use: (memory: Memory<unknown>, made: unknown) => void
): void => {
  for (const [index, made] of memories.entries()) if (made !== undefined) use(all[index]!, made)
}

/** What memories hold back and have to write now. */
export const writesOf = function* (tx: Transaction): Iterable<Program<void>> {
  for (const index of holding) {
    const made = tx.memories[index]
    const program = made === undefined ? undefined : all[index]!.write?.(made, tx)
    if (program !== undefined) yield program
  }
}
