/** Every hour, deletes the consumer groups that are not used any more. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreService } from "../Store/Store.ts"
import { BATCH, everyHour, untilBatchNotFull } from "../Sweep.ts"
import { deleteAbandonedGroups, touchGroups } from "./AbandonedGroups.ts"

/** How long a consumer group without connected members is kept, in milliseconds. Configured and paused groups are always kept. */
export const GROUP_RETENTION_MS = 30 * 24 * 60 * 60 * 1000

/** Deletes groups periodically, until the scope ends. */
export const make = (
  store: StoreService,
  activeGroups: () => ReadonlyMap<string, ReadonlyArray<number>>
): Effect.Effect<void, never, Scope.Scope> =>
  everyHour(
    "Abandoned consumer groups",
    Effect.suspend(() =>
      Effect.andThen(
        Effect.forEach(activeGroups(), ([environment, keys]) => store.write(touchGroups(environment, keys)), {
          discard: true
        }),
        untilBatchNotFull(deleteAbandonedGroups(store, GROUP_RETENTION_MS, BATCH))
      )
    )
  )
