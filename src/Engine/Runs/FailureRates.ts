/**
 * How many runs of each function ended in the last minutes, and how many of them failed. The runs are counted in memory, and only
 * while failing functions are watched.
 */
import { registryOf } from "../Functions/Registry.ts"
import { defineCache } from "../Store/Cache.ts"
import { acrossEnvironments, type Program } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

interface Minute {
  /** The start of the minute, in epoch milliseconds. */
  readonly at: number
  completed: number
  failed: number
}

/** Maximum number of functions that are counted. Beyond that, the function whose last run ended the longest ago is dropped. */
const MAX_FUNCTIONS = 1000

class Rates {
  /** How many of the last minutes are counted; `undefined` while failing functions are not watched. */
  minutes: number | undefined
  /** The ends of runs in the current transaction. */
  readonly pending: Array<readonly [fn: number, hasFailed: boolean]> = []
  readonly functions = new Map<number, Array<Minute>>()

  committed(now: number): void {
    const at = now - (now % 60_000)
    for (const [fn, hasFailed] of this.pending) {
      const minutes = this.functions.get(fn) ?? []
      // the map is in the order of the last ends: this moves the function to the end
      this.functions.delete(fn)
      this.functions.set(fn, minutes)
      let last = minutes.at(-1)
      // when the clock was set back, the run counts in the newest minute
      if (last === undefined || last.at < at) minutes.push((last = { at, completed: 0, failed: 0 }))
      if (hasFailed) last.failed++
      else last.completed++
      if (minutes.length > (this.minutes ?? 0) + 1) minutes.shift()
    }
    this.pending.length = 0
    for (const fn of this.functions.keys()) {
      if (this.functions.size <= MAX_FUNCTIONS) break
      this.functions.delete(fn)
    }
  }
}

const ratesOf = defineCache<Rates>({
  make: () => new Rates(),
  begin: ({ pending }) => void (pending.length = 0),
  committed: (rates, tx) => {
    if (rates.pending.length > 0) rates.committed(tx.now())
  }
})

/** Counts the end of a run. `fn` is the key of its function. */
export const countForFailureRate = (tx: Transaction, fn: number, hasFailed: boolean): void => {
  const rates = ratesOf(tx)
  if (rates.minutes !== undefined) rates.pending.push([fn, hasFailed])
}

/** Starts to count runs, and keeps the counts of this many minutes. */
export const watchRates = acrossEnvironments(
  "watchRates",
  function* (tx: Transaction, minutes: number): Program<void> {
    ratesOf(tx).minutes = minutes
  },
  () => "count the runs that fail"
)

/** How many runs of a function completed and failed in the counted minutes. */
export interface FailureRate {
  readonly environment: string
  readonly functionId: string
  readonly completed: number
  readonly failed: number
}

/** The rates of the functions that had a failed run in the counted minutes. */
export function* readRates(tx: Transaction): Program<ReadonlyArray<FailureRate>> {
  const rates = ratesOf(tx)
  const since = tx.now() - (rates.minutes ?? 0) * 60_000
  const found: Array<FailureRate> = []
  for (const [key, minutes] of rates.functions) {
    const fn = registryOf(tx).byKey(key)
    const recent = minutes.filter(({ at }) => at + 60_000 > since)
    const failed = recent.reduce((sum, minute) => sum + minute.failed, 0)
    if (fn === undefined || failed === 0) continue
    const completed = recent.reduce((sum, minute) => sum + minute.completed, 0)
    found.push({ environment: fn.environment, functionId: fn.registration.id, completed, failed })
  }
  return found
}
