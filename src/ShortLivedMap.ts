/**
 * A map and a set for short-lived entries: runs, jobs, pending calls.
 *
 * When a `Map` or `Set` is cleared, or has many deleted entries, V8 allocates a new table, and the old table
 * keeps a link to the new one. Once an old table has reached the old generation, it keeps every later table
 * alive, with all former entries, until a full garbage collection. So the garbage collector does not simply drop
 * deleted entries, but copies them. Here a new `Map` replaces the old one before V8 allocates a new table for the old
 * one, and no old table links to the table of the new `Map`.
 */

/** A new map is made when this many entries were deleted, or as many as are left if that is more. */
const MIN_DELETED = 32

/**
 * A map for entries that live for a short time. A loop over it covers the entries that exist when it starts. Of
 * the entries that are added or deleted during the loop, it may cover some.
 */
export class ShortLivedMap<K, V> {
  #entries = new Map<K, V>()
  #deleted = 0

  get size(): number {
    return this.#entries.size
  }

  get(key: K): V | undefined {
    return this.#entries.get(key)
  }

  has(key: K): boolean {
    return this.#entries.has(key)
  }

  set(key: K, value: V): void {
    this.#entries.set(key, value)
  }

  delete(key: K): boolean {
    if (!this.#entries.delete(key)) return false
    if (++this.#deleted >= MIN_DELETED && this.#deleted >= this.#entries.size) {
      this.#entries = new Map(this.#entries)
      this.#deleted = 0
    }
    return true
  }

  clear(): void {
    if (this.#entries.size === 0) return
    this.#entries = new Map()
    this.#deleted = 0
  }

  keys(): MapIterator<K> {
    return this.#entries.keys()
  }

  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.#entries[Symbol.iterator]()
  }
}

/** A set for entries that live for a short time: see {@link ShortLivedMap}. */
export class ShortLivedSet<A> {
  readonly #entries = new ShortLivedMap<A, true>()

  get size(): number {
    return this.#entries.size
  }

  has(value: A): boolean {
    return this.#entries.has(value)
  }

  add(value: A): void {
    this.#entries.set(value, true)
  }

  delete(value: A): boolean {
    return this.#entries.delete(value)
  }

  clear(): void {
    this.#entries.clear()
  }

  [Symbol.iterator](): MapIterator<A> {
    return this.#entries.keys()
  }
}
