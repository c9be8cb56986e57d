/** Deletes old records: at the start and every hour, in small transactions, so that no caller waits for it. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreError } from "../Errors.ts"

/** How many records one transaction deletes. */
export const BATCH = 200

const INTERVAL = Duration.hours(1)

/** The pause between two transactions, in milliseconds, in which other work can use the store. */
const PAUSE_MS = 10

/** Runs `sweep` at once and then every hour, until the scope ends. `what` names the records in log lines: `Ended runs`. */
export const everyHour = (
  what: string,
  sweep: Effect.Effect<void, StoreError>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.forkScoped(
      Effect.forever(
        Effect.andThen(
          Effect.catch(sweep, (error) =>
            Effect.logWarning(`${what} could not be deleted; trying again in an hour`, error)
          ),
          Effect.sleep(INTERVAL)
        )
      )
    )
  )

/** Repeats a transaction that returns how many records it has deleted, until it deletes fewer than {@link BATCH}. */
export const untilBatchNotFull = <E>(deleteSome: Effect.Effect<number, E>): Effect.Effect<void, E> =>
  Effect.flatMap(deleteSome, (count) =>
    count < BATCH ? Effect.void : Effect.andThen(Effect.sleep(PAUSE_MS), untilBatchNotFull(deleteSome))
  )

/** Repeats a transaction, each time with the place at which the last one stopped (`after`), until one returns no place. */
export const untilNoPlaceLeft = <A, E>(
  deleteSome: (after: A | undefined) => Effect.Effect<{ readonly after?: A | undefined }, E>,
  start?: A
): Effect.Effect<void, E> =>
  Effect.flatMap(deleteSome(start), ({ after }) =>
    after === undefined
      ? Effect.void
      : Effect.andThen(Effect.sleep(PAUSE_MS), untilNoPlaceLeft(deleteSome, after))
  )
