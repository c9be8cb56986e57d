/** Fills in the search attributes of older runs, in small transactions with pauses between them. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { StoreService } from "../Store/Store.ts"
import { fillAttributes, isFillingNeeded } from "./SearchAttributes.ts"

/** The pause between two transactions, in milliseconds. */
const PAUSE_MS = 10
/** The delay before another try after an error, in milliseconds. */
const RETRY_DELAY_MS = 60_000

/** Fills in attributes at the start and after each registration of functions, until the scope ends. */
export const make = (store: StoreService): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const changed = yield* Queue.sliding<void>(1)
    const stop = store.onCommit(({ functions }) => {
      if (functions.length > 0) Queue.offerUnsafe(changed, undefined)
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    // reads first, because most databases have nothing to fill in, and a write transaction is expensive
    const fillSome = Effect.flatMap(store.read(isFillingNeeded()), (isNeeded) =>
      isNeeded ? store.write(fillAttributes()) : Effect.succeed(false)
    )
    const fill: Effect.Effect<void> = Effect.matchEffect(fillSome, {
      onSuccess: (hasMore) =>
        hasMore
          ? Effect.andThen(
              Effect.sleep(PAUSE_MS),
              Effect.suspend(() => fill)
            )
          : Effect.void,
      onFailure: (error) =>
        Effect.andThen(
          Effect.logWarning(
            "The search attributes of earlier runs could not be filled in; trying again in a minute",
            error
          ),
          Effect.andThen(
            Effect.sleep(RETRY_DELAY_MS),
            Effect.suspend(() => fill)
          )
        )
    })
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(fill, Queue.take(changed))))
  })
