/**
 * Watches for another engine taking the database. Workers in this process do not renew leases, so the engine may write nothing
 * for as long as a step takes, and would not notice that it has lost the database. The watch is active only while workers in
 * this process have turns.
 */
import * as Effect from "effect/Effect"
import type { StoreService } from "../Store/Store.ts"

/** How often to check which engine has the database, while turns of this process run, in milliseconds. */
export const TAKEOVER_CHECK_MS = 500

export class TakeoverWatch {
  readonly #store: StoreService
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #isNeeded: () => boolean
  #isChecking = false

  /** `isNeeded` says whether turns of this process are active; `run` runs an effect that cannot fail, in the background. */
  constructor(store: StoreService, run: (effect: Effect.Effect<void>) => void, isNeeded: () => boolean) {
    this.#store = store
    this.#run = run
    this.#isNeeded = isNeeded
  }

  /** Checks from now on, as long as turns are active. */
  begin(): void {
    const { checkOwner } = this.#store
    if (this.#isChecking || checkOwner === undefined) return
    this.#isChecking = true
    const check: Effect.Effect<void> = Effect.andThen(
      Effect.sleep(TAKEOVER_CHECK_MS),
      Effect.suspend(() => {
        if (!this.#isNeeded()) {
          this.#isChecking = false
          return Effect.void
        }
        return Effect.matchEffect(checkOwner, {
          onSuccess: () => check,
          // if the database cannot be read, the owner is checked again; if another engine has it, the listeners of `onLost` have
          // done all that is needed
          onFailure: ({ code }) => (code === "STORE_LOCKED" ? Effect.void : check)
        })
      })
    )
    this.#run(check)
  }
}
