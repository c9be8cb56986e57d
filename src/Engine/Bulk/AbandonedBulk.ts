/**
 * Finds bulk operations that no engine carries out any more. When several engines share the database, an engine that ends leaves
 * its operations behind. An operation that makes no progress for some looks is continued here. For a moment, two engines may then
 * carry it out. That does no harm: a slice takes effect only if the operation is where the slice began, and the engine that is
 * overtaken leaves the operation to the other one.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreService } from "../Store/Store.ts"
import * as BulkRows from "./BulkRows.ts"

/** How often an engine looks while operations run that it does not carry out, milliseconds. */
const LOOK_MS = 2000
/**
 * After how many looks without progress an operation counts as abandoned. An engine that carries it out stores progress within
 * about a second.
 */
const STILL_LOOKS = 5

export interface AbandonedBulk {
  /** Looks again soon, because there may be an operation that this engine no longer carries out. */
  readonly look: () => void
}

/** Looks until the scope ends. It sends no query while other engines write nothing and carry out no operations. */
export const continueAbandonedBulk = (
  store: StoreService,
  does: {
    /** Whether this engine carries the operation out. */
    readonly isCarried: (id: string) => boolean
    readonly begin: (operation: BulkRows.RunningBulk) => Effect.Effect<void>
    /** Run when an erasure has ended that another engine carried out. That engine may have left something behind. */
    readonly eraseEnded: Effect.Effect<void>
    /** Called when operations of other engines have ended. */
    readonly ended: () => void
  }
): Effect.Effect<AbandonedBulk, never, Scope.Scope> =>
  Effect.gen(function* () {
    let mayHaveNew = true
    let watched: ReadonlyMap<string, BulkRows.RunningBulk & { readonly looks: number }> = new Map()

    const look = Effect.gen(function* () {
      const running = yield* store.read(BulkRows.runningBulk())
      const before = watched
      watched = new Map(
        running
          .filter(({ id }) => !does.isCarried(id))
          .map((operation) => {
            const known = before.get(operation.id)
            const isStill = known?.updatedAt === operation.updatedAt
            return [operation.id, { ...operation, looks: isStill ? known.looks + 1 : 0 }]
          })
      )
      for (const operation of watched.values()) {
        if (operation.looks < STILL_LOOKS) continue
        yield* Effect.logInfo(
          `This engine continues bulk operation ${operation.id}: the engine that carried it out has stopped or cannot be reached`
        )
        yield* does.begin(operation)
      }
      const isGone = (id: string): boolean => !running.some((operation) => operation.id === id)
      if ([...before.values()].some(({ action, id }) => action === "erase" && isGone(id)))
        yield* does.eraseEnded
    })

    const stop = store.onCommit(({ elsewhere, stale }) => {
      if (elsewhere) mayHaveNew = true
      if (stale.has("bulk")) does.ended()
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.gen(function* () {
          yield* Effect.sleep(LOOK_MS)
          if (!mayHaveNew && watched.size === 0) return
          mayHaveNew = false
          // the next look tries again; the store itself reports that the database cannot be read
          yield* Effect.catch(look, () => Effect.sync(() => void (mayHaveNew = true)))
        })
      )
    )
    return { look: () => void (mayHaveNew = true) }
  })
