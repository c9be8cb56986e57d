/** Keeps a copy in memory of something in the database, and reads the original again when another engine has changed it. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { StoreError } from "../../Errors.ts"
import { RETRY_MS, StoreOutage } from "./StoreOutage.ts"

export interface SharedCopy {
  /** Call it when another engine has changed the original: the original is read again. */
  readonly refresh: () => void
  /** Call it when this engine has changed the original: a read in progress may be outdated, and is then repeated. */
  readonly changed: () => void
  /** Whether a change of another engine has not been read yet. */
  readonly isOutdated: () => boolean
  /**
   * Reads the original again, and waits for the result of the next try. Fails when this try fails. Even then, further tries follow,
   * unless another engine has taken the database over.
   */
  readonly refreshed: Effect.Effect<void, StoreError>
}

/**
 * Makes a copy. Each refresh reads until a read succeeds, one read at a time, and passes the result to `use`. This stops when the
 * scope ends, and when another engine has taken the database over. `what` names the original in log lines: "keys and policies".
 */
export const make = <A>(
  what: string,
  read: Effect.Effect<A, StoreError>,
  use: (original: A) => void
): Effect.Effect<SharedCopy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Scope.Scope
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const outage = new StoreOutage(
      `Cannot read ${what}, which another engine may have changed`,
      `Can read ${what} again`
    )
    let isReading = false
    /** Whether the original was changed after the current read began. */
    let hasChangedSince = false
    let nextResult = Deferred.makeUnsafe<void, StoreError>()
    const endTry = (result: Effect.Effect<void, StoreError>): void => {
      Deferred.doneUnsafe(nextResult, result)
      nextResult = Deferred.makeUnsafe()
    }
    const readUntilDone: Effect.Effect<void> = Effect.suspend(() => {
      hasChangedSince = false
      return Effect.matchEffect(read, {
        onSuccess: (original) => {
          if (hasChangedSince) return readUntilDone
          isReading = false
          return Effect.andThen(
            Effect.sync(() => {
              use(original)
              endTry(Effect.void)
            }),
            outage.succeeded()
          )
        },
        onFailure: (error) => {
          endTry(Effect.fail(error))
          // STORE_LOCKED: another engine has taken the database over, so reads can no longer succeed
          return error.code === "STORE_LOCKED"
            ? Effect.void
            : Effect.andThen(outage.failed(error), Effect.delay(readUntilDone, RETRY_MS))
        }
      })
    })
    const refresh = (): void => {
      hasChangedSince = true
      if (isReading) return
      isReading = true
      Fiber.runIn(runFork(readUntilDone), scope)
    }
    return {
      refresh,
      changed: () => void (hasChangedSince = true),
      isOutdated: () => isReading,
      refreshed: Effect.suspend(() => {
        const result = Deferred.await(nextResult)
        refresh()
        return result
      })
    }
  })
