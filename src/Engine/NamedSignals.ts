import { ShortLivedMap } from "../ShortLivedMap.ts"

/** Named one-time signals. A listener may wait for several names, and a signal may carry a value. */
export class NamedSignals<A = void> {
  readonly #waiting = new ShortLivedMap<string, Set<(what: A) => void>>()

  /** Calls `listener` once for each of the names that is signalled. Returns a function that removes the listener. */
  listen(names: ReadonlyArray<string>, listener: (what: A) => void): () => void {
    for (const name of names) {
      let waiting = this.#waiting.get(name)
      if (waiting === undefined) this.#waiting.set(name, (waiting = new Set()))
      waiting.add(listener)
    }
    return () => {
      for (const name of names) {
        const left = this.#waiting.get(name)
        if (left?.delete(listener) === true && left.size === 0) this.#waiting.delete(name)
      }
    }
  }

  /** Signals every name, because anything may have happened. */
  notifyAll(what: A): void {
    for (const name of Array.from(this.#waiting.keys())) this.notify(name, what)
  }

  /** Signals a name: calls all its listeners, and removes them. */
  notify(name: string, what: A): void {
    const waiting = this.#waiting.get(name)
    if (waiting === undefined) return
    // removed before the calls, because a listener may wait again
    this.#waiting.delete(name)
    for (const listener of waiting) listener(what)
  }
}
