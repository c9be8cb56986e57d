/** Fails when another engine has taken over the database of a store. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import type { StoreService } from "./Store.ts"

/** Never succeeds. Fails, with the reason, when the store finds that another engine has taken the database over. */
export const failWhenLost = (store: StoreService): Effect.Effect<never, StoreError> =>
  Effect.callback((resume) => {
    const stop = store.onLost((error) => resume(Effect.fail(error)))
    return Effect.sync(stop)
  })
