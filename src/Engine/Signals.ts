/** Who waits for which thing to happen: things have names, and one wait may be for several. */
import * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

export interface Listening {
  /** Succeeds when one of the things has happened since. */
  readonly happened: Effect.Effect<void>
  readonly stop: () => void
}

export class Signals {
  readonly #waiting = new Map<string, Set<Deferred.Deferred<void>>>()

  listen(names: ReadonlyArray<string>): Listening {
    const deferred = Deferred.makeUnsafe<void>()
    for (const name of names) {
      let waiting = this.#waiting.get(name)
      if (waiting === undefined) this.#waiting.set(name, (waiting = new Set()))
      waiting.add(deferred)
    }
    return {
      happened: Deferred.await(deferred),
      stop: () => {
        for (const name of names) {
          const left = this.#waiting.get(name)
          if (left?.delete(deferred) === true && left.size === 0) this.#waiting.delete(name)
        }
      }
    }
  }

  /** It has happened: everybody who waits for it goes on. */
  announce(name: string): void {
    for (const deferred of this.#waiting.get(name) ?? []) Deferred.doneUnsafe(deferred, Exit.void)
  }
}
