/**
 * Caches and counters of the parts of the engine while a database is open: registered functions, buckets, leases. They live in
 * the process that runs the programs, and follow the transactions.
 */
import type { Program } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

/** What other engines on the same database have done since this engine's last transaction. */
export interface RemoteChanges {
  /** Keys of the functions with ready runs. */
  readonly ready: ReadonlyArray<number>
  /** Whether functions were registered or deleted. */
  readonly functions: boolean
  /** Whether they have changed leases that this engine may have cached. */
  readonly leases: boolean
}

export interface Cache<A> {
  /** Called when the cache is first used. */
  readonly make: (tx: Transaction) => A
  /** Called when a transaction begins: discards what a rolled back transaction has left in the cache. */
  readonly begin?: (cache: A) => void
  /** Called when other engines have written since this engine's last transaction: discards what they may have changed. */
  readonly invalidate?: (cache: A, others: RemoteChanges) => void
  /** Writes what the transaction has changed, before it commits. */
  readonly save?: (cache: A) => Program<void>
  /**
   * Writes what the cache holds back; `undefined` when there is nothing. Called before a program that may query it, and before
   * the commit.
   */
  readonly write?: (cache: A, tx: Transaction) => Program<void> | undefined
  /** Called when the transaction is committed. */
  readonly committed?: (cache: A, tx: Transaction) => void
  /**
   * Whether concurrent readers share this cache, which is safe when it changes only with a commit. By default, a reader starts
   * with an empty cache. `"unmoved"`: shared unless other engines are known to have written since this engine's last transaction.
   */
  readonly isShared?: boolean | "unmoved"
  /** Called when the transaction is rolled back. */
  readonly rolledBack?: (cache: A) => void
}

const all: Array<Cache<unknown>> = []
/** Indexes of the caches that may hold back writes. */
const holding: Array<number> = []

/** Defines a cache. The result returns the cache of a database. */
export const defineCache = <A>(cache: Cache<A>): ((tx: Transaction) => A) => {
  const index = all.length
  // each cache gets only values that its own `make` returned
  all.push(cache as Cache<unknown>)
  if (cache.write !== undefined) holding.push(index)
  return (tx) => (tx.caches[index] ??= cache.make(tx)) as A
}

/** Gives `to` the caches of `from` that concurrent readers may see. */
export const shareCaches = (from: Transaction, to: Transaction, isUnmoved: boolean): void => {
  for (const [index, cache] of all.entries()) {
    if (cache.isShared === true || (cache.isShared === "unmoved" && isUnmoved))
      to.caches[index] = from.caches[index] ??= cache.make(from)
  }
}

/** Calls `use` with each existing cache, in the order of definition. */
export const eachCache = (
  caches: ReadonlyArray<unknown>,
  use: (cache: Cache<unknown>, made: unknown) => void
): void => {
  for (const [index, made] of caches.entries()) if (made !== undefined) use(all[index]!, made)
}

/** The programs that write what the caches of a transaction hold back. */
export const writesOf = function* (tx: Transaction): Iterable<Program<void>> {
  for (const index of holding) {
    const made = tx.caches[index]
    const program = made === undefined ? undefined : all[index]!.write?.(made, tx)
    if (program !== undefined) yield program
  }
}
