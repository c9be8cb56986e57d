/**
 * Watches for another engine taking the database. Workers in this process do not renew leases, so the engine may write nothing
 * for as long as a step takes, and would not notice. The watch is active only while workers in this process have turns.
 */
import * as Effect from "effect/Effect"
import type { StoreService } from "../Store/Store.ts"

/** How often the owner of the database is checked while turns of this process run, milliseconds. */
export const TAKEOVER_LOOK_MS = 500

export class TakeoverWatch {
  readonly #store: StoreService
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #isNeeded: () => boolean
  #looking = false

  /** `isNeeded` says whether turns of this process are active; `run` runs an effect that cannot fail, in the background. */
  constructor(store: StoreService, run: (effect: Effect.Effect<void>) => void, isNeeded: () => boolean) {
    this.#store = store
    this.#run = run
    this.#isNeeded = isNeeded
  }

  /** Checks from now on, as long as turns are active. */
  begin(): void {
    const { checkOwner } = this.#store
    if (this.#looking || checkOwner === undefined) return
    this.#looking = true
    const look: Effect.Effect<void> = Effect.andThen(
      Effect.sleep(TAKEOVER_LOOK_MS),
      Effect.suspend(() => {
        if (!this.#isNeeded()) {
          this.#looking = false
          return Effect.void
        }
        return Effect.matchEffect(checkOwner, {
          onSuccess: () => look,
          // when the database cannot be read, it is checked again; when another engine has it, `onLost` has done everything
          onFailure: ({ code }) => (code === "STORE_LOCKED" ? Effect.void : look)
        })
      })
    )
    this.#run(look)
  }
}
