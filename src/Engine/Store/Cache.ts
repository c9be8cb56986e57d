/**
 * What each part of the engine caches, or counts, while a database is open: registered functions, buckets, leases. It lives in
 * the process that runs the programs, and follows the transactions.
 */
import type { Program } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

/** What other engines on the same database have done since this engine's last transaction. */
export interface RemoteChanges {
  /** Keys of the functions with ready runs. */
  readonly ready: ReadonlyArray<number>
  /** Whether functions were registered or deleted. */
  readonly functions: boolean
  /** Whether they have changed leases that they did not give. */
  readonly leases: boolean
}

export interface Cache<A> {
  /** Called when the cache is first used. */
  readonly make: (tx: Transaction) => A
  /** Called when a transaction begins: discards what a rolled back one has left. */
  readonly begin?: (cache: A) => void
  /** Called when other engines have written since this engine's last transaction: forgets what they may have changed. */
  readonly invalidate?: (cache: A, others: RemoteChanges) => void
  /** Writes what the transaction has changed, before it commits. */
  readonly save?: (cache: A) => Program<void>
  /** Writes what the cache holds back, if anything: called before a program that may query it, and before the commit. */
  readonly write?: (cache: A, tx: Transaction) => Program<void> | undefined
  readonly committed?: (cache: A, tx: Transaction) => void
  /**
   * Whether concurrent readers share this cache: it changes only with a commit. Without it, a reader starts with an empty
   * cache. `"unmoved"`: shared unless others are known to have written since.
   */
  readonly isShared?: boolean | "unmoved"
  readonly rolledBack?: (cache: A) => void
}

const all: Array<Cache<unknown>> = []
/** Indexes of the caches that may hold something back. */
const holding: Array<number> = []

/** Defines a cache. The result returns the cache of a database. */
export const defineCache = <A>(cache: Cache<A>): ((tx: Transaction) => A) => {
  const index = all.length
  // each cache only gets what its own `make` returned
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

/** Programs that write what caches hold back. */
export const writesOf = function* (tx: Transaction): Iterable<Program<void>> {
  for (const index of holding) {
    const made = tx.caches[index]
    const program = made === undefined ? undefined : all[index]!.write?.(made, tx)
    if (program !== undefined) yield program
  }
}
