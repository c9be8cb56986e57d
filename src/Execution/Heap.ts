/** An entry of a {@link Heap}. The heap orders entries by `rank`, and sets `position`. */
export interface Ranked {
  readonly rank: number
  /** Index in the heap; -1 when the entry is in no heap. */
  position: number
}

/**
 * A priority queue with the lowest rank first; equal ranks have no defined order. Any entry can be removed in
 * logarithmic time.
 */
export class Heap<A extends Ranked> {
  readonly #entries: Array<A> = []

  get size(): number {
    return this.#entries.length
  }

  peek(): A | undefined {
    return this.#entries[0]
  }

  add(entry: A): void {
    this.#entries.push(entry)
    this.#rise(entry, this.#entries.length - 1)
  }

  /** Removes the entry if it is in the heap. */
  remove(entry: A): void {
    const position = entry.position
    if (position < 0) return
    entry.position = -1
    const last = this.#entries.pop()
    if (last === undefined || last === entry) return
    this.#rise(last, position)
    if (last.position === position) this.#sink(last, position)
  }

  clear(): void {
    for (const entry of this.#entries) entry.position = -1
    this.#entries.length = 0
  }

  #rise(entry: A, start: number): void {
    let position = start
    while (position > 0) {
      const parentPosition = (position - 1) >> 1
      const parent = this.#entries[parentPosition] as A
      if (parent.rank <= entry.rank) break
      this.#put(parent, position)
      position = parentPosition
    }
    this.#put(entry, position)
  }

  #sink(entry: A, start: number): void {
    let position = start
    for (;;) {
      const leftPosition = 2 * position + 1
      const leftChild = this.#entries[leftPosition]
      if (leftChild === undefined) break
      const rightChild = this.#entries[leftPosition + 1]
      const child = rightChild !== undefined && rightChild.rank < leftChild.rank ? rightChild : leftChild
      if (entry.rank <= child.rank) break
      const next = child.position
      this.#put(child, position)
      position = next
    }
    this.#put(entry, position)
  }

  #put(entry: A, position: number): void {
    this.#entries[position] = entry
    entry.position = position
  }
}
