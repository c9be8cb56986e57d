/**
 * A map and a set for what comes and goes all the time: runs, jobs, calls that are under way.
 *
 * V8 leaves in the table of a `Map` or `Set` that was cleared, or grew full of deleted entries, a link to the table that comes
 * after it. As soon as one such table is old, each of the following is kept by the one before it, with all that was in it, until
 * all of the heap is collected: everything that passes through is copied twice instead of being dropped. Here a new `Map` is
 * begun before that, which nothing links to.
 */

/** So many entries may be gone before a new one is begun, or as many as there are. */
const MOST_GONE = 32

/** Iterating goes over what was there when it began, and perhaps what came later. */
export class PassingMap<K, V> {
  #entries = new Map<K, V>()
  #gone = 0

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
    if (++this.#gone >= MOST_GONE && this.#gone >= this.#entries.size) {
      this.#entries = new Map(this.#entries)
      this.#gone = 0
    }
    return true
  }

  clear(): void {
    if (this.#entries.size === 0) return
    this.#entries = new Map()
    this.#gone = 0
  }

  keys(): MapIterator<K> {
    return this.#entries.keys()
  }

  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.#entries[Symbol.iterator]()
  }
}

/** See {@link PassingMap}. */
export class PassingSet<A> {
  readonly #entries = new PassingMap<A, true>()

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
