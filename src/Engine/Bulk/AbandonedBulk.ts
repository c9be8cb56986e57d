/**
 * Finds bulk operations that no engine carries out any more, where several engines share the database: an engine that ends leaves
 * its operations. An operation that stands still for some looks is continued here. It may be continued at two engines for a moment,
 * since a slice takes effect only where the operation is: the engine that is overtaken leaves it to the other one.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreService } from "../Store/Store.ts"
import * as BulkRows from "./BulkRows.ts"

/** How often an engine looks, while operations run that it does not carry out, milliseconds. */
const LOOK_MS = 2000
/** How many looks without progress mean that nobody carries an operation out: each step is stored within about a second. */
const STILL_LOOKS = 5

export interface AbandonedBulk {
  /** Looks again soon: there may be an operation that this engine no longer carries out. */
  readonly look: () => void
}

/** Looks until the scope ends. Sends no query while no engine writes and no operations run elsewhere. */
export const continueAbandonedBulk = (
  store: StoreService,
  does: {
    /** Whether this engine carries the operation out. */
    readonly isCarried: (id: string) => boolean
    readonly begin: (operation: BulkRows.RunningBulk) => Effect.Effect<void>
    /** Runs when an erasure has ended that another engine carried out: that engine may have left something. */
    readonly eraseEnded: Effect.Effect<void>
    /** Called when operations have ended elsewhere. */
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
          // it is looked again; the store says that the database cannot be read
          yield* Effect.catch(look, () => Effect.sync(() => void (mayHaveNew = true)))
        })
      )
    )
    return { look: () => void (mayHaveNew = true) }
  })
