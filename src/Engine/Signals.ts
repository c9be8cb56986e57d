import { PassingMap } from "../Passing.ts"

/** Who waits for which thing to happen: things have names, one wait may be for several, and what happened may be told. */
export class Signals<A = void> {
  readonly #waiting = new PassingMap<string, Set<(what: A) => void>>()

  /** Calls `listener` when one of the things happens, once for each. Returns what forgets it. */
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

  /** Anything may have happened: everybody goes on. */
  announceAll(what: A): void {
    for (const name of Array.from(this.#waiting.keys())) this.announce(name, what)
  }

  /** It has happened: everybody who waits for it goes on. */
  announce(name: string, what: A): void {
    const waiting = this.#waiting.get(name)
    if (waiting === undefined) return
    // first, because whoever is called may wait for the next time
    this.#waiting.delete(name)
    for (const listener of waiting) listener(what)
  }
}
