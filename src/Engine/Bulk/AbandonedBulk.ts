/**
 * Continues bulk operations that no engine carries out any more. When several engines share the database, an engine that ends
 * leaves its operations behind. Each engine checks the operations of the others every two seconds, and continues an operation
 * that has made no progress in several checks. Two engines may then carry out the same operation for a moment. That does no harm:
 * a slice is stored only if the stored progress is still the progress at which the slice began. An engine that finds other
 * progress leaves the operation to the other engine.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreService } from "../Store/Store.ts"
import * as BulkRows from "./BulkRows.ts"

/** How often an engine checks while other engines carry out operations, in milliseconds. */
const CHECK_MS = 2000
/**
 * After how many checks without progress an operation counts as abandoned. A living engine stores the progress of its operations
 * about once in a second.
 */
const CHECKS_WITHOUT_PROGRESS = 5

export interface AbandonedBulk {
  /** Makes the next check read the operations, because there may be an operation that this engine no longer carries out. */
  readonly checkSoon: () => void
}

/** Checks until the scope ends. A check sends no query while other engines write nothing and carry out no operations. */
export const continueAbandonedBulk = (
  store: StoreService,
  callbacks: {
    /** Whether this engine carries out the operation. */
    readonly isCarried: (id: string) => boolean
    /** Carries out an abandoned operation in this engine. */
    readonly begin: (operation: BulkRows.RunningBulk) => Effect.Effect<void>
    /** Run when the erasure of another engine has ended. That engine may not have deleted all work data of the erasure. */
    readonly afterErase: Effect.Effect<void>
    /** Called when operations of other engines may have ended. */
    readonly onEndedElsewhere: () => void
  }
): Effect.Effect<AbandonedBulk, never, Scope.Scope> =>
  Effect.gen(function* () {
    let mayHaveNew = true
    let watched: ReadonlyMap<string, BulkRows.RunningBulk & { readonly checks: number }> = new Map()

    const check = Effect.gen(function* () {
      const running = yield* store.read(BulkRows.runningBulk())
      const watchedBefore = watched
      watched = new Map(
        running
          .filter(({ id }) => !callbacks.isCarried(id))
          .map((operation) => {
            const earlier = watchedBefore.get(operation.id)
            const isUnchanged = earlier?.updatedAt === operation.updatedAt
            return [operation.id, { ...operation, checks: isUnchanged ? earlier.checks + 1 : 0 }]
          })
      )
      for (const operation of watched.values()) {
        if (operation.checks < CHECKS_WITHOUT_PROGRESS) continue
        yield* Effect.logInfo(
          `This engine continues bulk operation ${operation.id}: the engine that carried it out has stopped or cannot be reached`
        )
        yield* callbacks.begin(operation)
      }
      const isGone = (id: string): boolean => !running.some((operation) => operation.id === id)
      if ([...watchedBefore.values()].some(({ action, id }) => action === "erase" && isGone(id)))
        yield* callbacks.afterErase
    })

    const stop = store.onCommit(({ isFromOtherEngine, stale }) => {
      if (isFromOtherEngine) mayHaveNew = true
      if (stale.has("bulk")) callbacks.onEndedElsewhere()
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.gen(function* () {
          yield* Effect.sleep(CHECK_MS)
          if (!mayHaveNew && watched.size === 0) return
          mayHaveNew = false
          // the next check tries again; the store itself reports that the database cannot be read
          yield* Effect.catch(check, () => Effect.sync(() => void (mayHaveNew = true)))
        })
      )
    )
    return { checkSoon: () => void (mayHaveNew = true) }
  })
