/**
 * Caches and counters of the parts of the engine while a database is open: registered functions, buckets, leases. They live in
 * the process that runs the programs, and are kept in step with its commits and rollbacks.
 */
import type { Program } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

/** What other engines on the same database have done since this engine's last transaction. */
export interface RemoteChanges {
  /** Keys of the functions with ready runs. */
  readonly ready: ReadonlyArray<number>
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
  readonly invalidate?: (cache: A, others: RemoteChanges) => void
  /** Writes what the transaction has changed, before it commits. */
  readonly save?: (cache: A) => Program<void>
  /**
   * Returns a program that makes the writes which the cache holds back; `undefined` when there are none. Called before a program
   * that may query the rows of these writes, and before the commit.
   */
  readonly write?: (cache: A, tx: Transaction) => Program<void> | undefined
  /** Called when the transaction is committed. */
  readonly committed?: (cache: A, tx: Transaction) => void
  /**
   * Whether concurrent readers share this cache, which is safe when the cache changes only with a commit. By default, a reader
   * starts with an empty cache. With `"unmoved"`, readers share the cache unless other engines are known to have written since this
   * engine's last transaction.
   */
  readonly isShared?: boolean | "unmoved"
  /** Called when the transaction is rolled back. */
  readonly rolledBack?: (cache: A) => void
}

const all: Array<Cache<unknown>> = []
/** Indexes in `all` of the caches that may hold back writes. */
const holdingIndexes: Array<number> = []

/** Defines a cache. The returned function gets the cache of the database that a transaction works with. */
export const defineCache = <A>(cache: Cache<A>): ((tx: Transaction) => A) => {
  const index = all.length
  // safe cast: each cache gets only values that its own `make` returned
  all.push(cache as Cache<unknown>)
  if (cache.write !== undefined) holdingIndexes.push(index)
  return (tx) => (tx.caches[index] ??= cache.make(tx)) as A
}

/** Gives `to` the caches of `from` that concurrent readers may see. */
export const shareCaches = (from: Transaction, to: Transaction, isUnmoved: boolean): void => {
  for (const [index, cache] of all.entries()) {
    if (cache.isShared === true || (cache.isShared === "unmoved" && isUnmoved))
      to.caches[index] = from.caches[index] ??= cache.make(from)
  }
}

/** Calls `use` with each cache that has content, in the order of definition. */
export const eachCache = (
  caches: ReadonlyArray<unknown>,
  use: (cache: Cache<unknown>, content: unknown) => void
): void => {
  for (const [index, content] of caches.entries()) if (content !== undefined) use(all[index]!, content)
}

/** The programs that write what the caches of a transaction hold back. */
export const writesOf = function* (tx: Transaction): Iterable<Program<void>> {
  for (const index of holdingIndexes) {
    const content = tx.caches[index]
    const program = content === undefined ? undefined : all[index]!.write?.(content, tx)
    if (program !== undefined) yield program
  }
}
