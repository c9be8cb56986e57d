/** Keeps a copy in memory of something in the database, and reads it again when another engine has changed it. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { StoreError } from "../../Errors.ts"
import { RETRY_MS, StoreOutage } from "./StoreOutage.ts"

export interface SharedCopy {
  /** Tells it that another engine has changed the original: it reads again. */
  readonly refresh: () => void
  /** Tells it that this engine has changed the original: a read in progress may be outdated. */
  readonly changed: () => void
  /** Whether a change of another engine has not been read yet. */
  readonly isOutdated: () => boolean
  /**
   * Reads again, and waits for the result of the next try. Fails when that fails; the tries go on, unless another engine has taken
   * the database over.
   */
  readonly refreshed: Effect.Effect<void, StoreError>
}

/**
 * Makes a copy that reads until it succeeds, one read at a time. It stops when the scope ends, and when another engine has taken
 * the database over. `what` is a noun for the original: "keys and policies".
 */
export const make = <A>(
  what: string,
  read: Effect.Effect<A, StoreError>,
  use: (found: A) => void
): Effect.Effect<SharedCopy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Scope.Scope
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const outage = new StoreOutage(
      `Cannot read ${what}, which another engine may have changed`,
      `Can read ${what} again`
    )
    let isReading = false
    let isOld = false
    let waiting = Deferred.makeUnsafe<void, StoreError>()
    const tell = (result: Effect.Effect<void, StoreError>): void => {
      Deferred.doneUnsafe(waiting, result)
      waiting = Deferred.makeUnsafe()
    }
    const reading: Effect.Effect<void> = Effect.suspend(() => {
      isOld = false
      return Effect.matchEffect(read, {
        onSuccess: (found) => {
          if (isOld) return reading
          isReading = false
          return Effect.andThen(
            Effect.sync(() => {
              use(found)
              tell(Effect.void)
            }),
            outage.succeeded()
          )
        },
        onFailure: (error) => {
          tell(Effect.fail(error))
          // another engine has taken the database over, so reads can no longer succeed
          return error.code === "STORE_LOCKED"
            ? Effect.void
            : Effect.andThen(outage.failed(error), Effect.delay(reading, RETRY_MS))
        }
      })
    })
    const refresh = (): void => {
      isOld = true
      if (isReading) return
      isReading = true
      Fiber.runIn(runFork(reading), scope)
    }
    return {
      refresh,
      changed: () => void (isOld = true),
      isOutdated: () => isReading,
      refreshed: Effect.suspend(() => {
        const result = Deferred.await(waiting)
        refresh()
        return result
      })
    }
  })
