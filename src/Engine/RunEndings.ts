/** Who waits for which run to end. */
import * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

export interface Ending {
  /** Succeeds when the run has ended. */
  readonly ended: Effect.Effect<void>
  readonly stop: () => void
}

export class RunEndings {
  readonly #waiting = new Map<string, Set<Deferred.Deferred<void>>>()

  listen(runId: string): Ending {
    const deferred = Deferred.makeUnsafe<void>()
    let waiting = this.#waiting.get(runId)
    if (waiting === undefined) this.#waiting.set(runId, (waiting = new Set()))
    waiting.add(deferred)
    return {
      ended: Deferred.await(deferred),
      stop: () => {
        const left = this.#waiting.get(runId)
        if (left?.delete(deferred) === true && left.size === 0) this.#waiting.delete(runId)
      }
    }
  }

  /** The run has ended: everybody who waits for it goes on. */
  announce(runId: string): void {
    const waiting = this.#waiting.get(runId)
    if (waiting === undefined) return
    this.#waiting.delete(runId)
    for (const deferred of waiting) Deferred.doneUnsafe(deferred, Exit.void)
  }
}
