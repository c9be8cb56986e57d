import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreService } from "../Store/Store.ts"
import { BATCH, everyHour, untilBatchNotFull } from "../Sweep.ts"
import { forgetExpired } from "./Idempotency.ts"

/** Deletes expired idempotency keys every hour, until the scope ends. */
export const make = (store: StoreService): Effect.Effect<void, never, Scope.Scope> =>
  everyHour("Expired idempotency keys", untilBatchNotFull(store.write(forgetExpired(BATCH))))
