/** An effect that fails when a store has stopped for good. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import type { StoreService } from "./Store.ts"

/** Never succeeds. Fails with the reason when the store has stopped for good: see `StoreService.onLost`. */
export const failWhenLost = (store: StoreService): Effect.Effect<never, StoreError> =>
  Effect.callback((resume) => {
    const stop = store.onLost((error) => resume(Effect.fail(error)))
    return Effect.sync(stop)
  })
