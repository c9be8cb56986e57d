/** The end of a store whose database another engine has taken over. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import type { StoreService } from "./Store.ts"

/** Fails, with the reason, when another engine is found to have taken the database over. */
export const failWhenLost = (store: StoreService): Effect.Effect<never, StoreError> =>
  Effect.callback((resume) => {
    const stop = store.onLost((error) => resume(Effect.fail(error)))
    return Effect.sync(stop)
  })
