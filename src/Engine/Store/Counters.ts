/** Counts what has happened since the engine started, over all environments. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { addCounts, type Counts, noCounts } from "./Changes.ts"
import { Store } from "./Store.ts"

export interface CountersService {
  /** Adds 1 to a count. It is for what no commit can count: a write that was refused before it reached the store. */
  readonly count: (what: keyof Counts) => void
  /** Returns the counts. `commits` counts the transactions that changed something. */
  readonly read: () => Readonly<Counts> & { readonly commits: number }
}

export class Counters extends Context.Service<Counters, CountersService>()(
  "@ironflow/node/Engine/Counters"
) {}

export const layer: Layer.Layer<Counters, never, Store> = Layer.effect(
  Counters,
  Effect.gen(function* () {
    const store = yield* Store
    const counts = noCounts()
    let commits = 0
    const stop = store.onCommit((changes) => {
      if (changes.isFromOtherEngine) return
      commits++
      addCounts(counts, changes.counts)
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    return {
      count: (what) => void counts[what]++,
      read: () => ({ ...counts, commits })
    }
  })
)
