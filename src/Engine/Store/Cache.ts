/**
 * Caches and counters of the parts of the engine while a database is open: registered functions, buckets, leases. They live in
 * the process that runs the programs, and are kept in step with its commits and rollbacks.
 */
import type { Program } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

/** What other engines on the same database have done since this engine's last transaction. */
export interface RemoteChanges {
  /** Keys of the functions with ready runs. */
  readonly readyFunctions: ReadonlyArray<number>
  /** Whether functions were registered or deleted. */
  readonly functions: boolean
  /** Whether leases were changed that this engine may have cached. */
  readonly leases: boolean
}

export interface Cache<A> {
  /** Called when the cache is first used. */
  readonly make: (tx: Transaction) => A
  /** Called when a transaction begins. Discards what a transaction that was rolled back has left in the cache. */
  readonly begin?: (cache: A) => void
  /** Called when other engines have written since this engine's last transaction. Discards what they may have changed. */
  readonly invalidate?: (cache: A, remoteChanges: RemoteChanges) => void
  /** Returns a program that writes what the transaction has changed. Called before the commit. */
  readonly save?: (cache: A) => Program<void>
  /**
   * Returns a program that makes the writes which the cache holds back; `undefined` when there are none. Called before a program
   * that may query the rows of these writes, and before the commit.
   */
  readonly write?: (cache: A, tx: Transaction) => Program<void> | undefined
  /** Called when the transaction is committed. */
  readonly committed?: (cache: A, tx: Transaction) => void
  /**
   * Whether concurrent readers share this cache, which is safe when the cache changes only with a commit. By default, each reader
   * starts with an empty cache. With `"whenUpToDate"`, readers share the cache unless it is known that other engines have written
   * since this engine's last transaction.
   */
  readonly isShared?: boolean | "whenUpToDate"
  /** Called when the transaction is rolled back. */
  readonly rolledBack?: (cache: A) => void
}

const allCaches: Array<Cache<unknown>> = []
/** Which of `allCaches` may hold back writes: their indexes. */
const writeBackIndexes: Array<number> = []

/** Defines a cache. The returned function gets the cache of the database that a transaction works with. */
export const defineCache = <A>(cache: Cache<A>): ((tx: Transaction) => A) => {
  const index = allCaches.length
  // safe cast: each cache gets only values that its own `make` returned
  allCaches.push(cache as Cache<unknown>)
  if (cache.write !== undefined) writeBackIndexes.push(index)
  return (tx) => (tx.caches[index] ??= cache.make(tx)) as A
}

/** Gives `target`, the transaction of a concurrent reader, the caches of `source` that such a reader may see. */
export const shareCaches = (source: Transaction, target: Transaction, isUpToDate: boolean): void => {
  for (const [index, cache] of allCaches.entries()) {
    if (cache.isShared === true || (cache.isShared === "whenUpToDate" && isUpToDate))
      target.caches[index] = source.caches[index] ??= cache.make(source)
  }
}

/** Calls `use` with each cache that has content, in the order of definition. */
export const forEachCache = (
  caches: ReadonlyArray<unknown>,
  use: (cache: Cache<unknown>, content: unknown) => void
): void => {
  for (const [index, content] of caches.entries()) if (content !== undefined) use(allCaches[index]!, content)
}

/** Programs that make the writes which the caches of a transaction hold back. */
export const heldWritesOf = function* (tx: Transaction): Iterable<Program<void>> {
  for (const index of writeBackIndexes) {
    const content = tx.caches[index]
    const program = content === undefined ? undefined : allCaches[index]!.write?.(content, tx)
    if (program !== undefined) yield program
  }
}
