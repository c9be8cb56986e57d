import { ShortLivedMap } from "../ShortLivedMap.ts"

/** Named signals. A listener may wait for several names, hears each name once, and gets the value of the signal. */
export class NamedSignals<A = void> {
  readonly #listeners = new ShortLivedMap<string, Set<(value: A) => void>>()

  /** Calls `listener` at the next signal of each of the names. Returns a function that removes the listener. */
  listen(names: ReadonlyArray<string>, listener: (value: A) => void): () => void {
    for (const name of names) {
      let listeners = this.#listeners.get(name)
      if (listeners === undefined) this.#listeners.set(name, (listeners = new Set()))
      listeners.add(listener)
    }
    return () => {
      for (const name of names) {
        const listeners = this.#listeners.get(name)
        if (listeners?.delete(listener) === true && listeners.size === 0) this.#listeners.delete(name)
      }
    }
  }

  /** Signals every name, for when anything may have happened. */
  notifyAll(value: A): void {
    for (const name of Array.from(this.#listeners.keys())) this.notify(name, value)
  }

  /** Signals a name: removes all its listeners, and calls them. */
  notify(name: string, value: A): void {
    const listeners = this.#listeners.get(name)
    if (listeners === undefined) return
    // removed before the calls, because a listener may call `listen` again
    this.#listeners.delete(name)
    for (const listener of listeners) listener(value)
  }
}
