/**
 * Statistics of runs since the engine started: how many runs of each function started, ended and so on; how long runs, turns and
 * steps took; and the counts of each minute of the last day. Everything is counted in memory when it happens, so that nothing has
 * to be queried later. A transaction that was rolled back does not count.
 */
import { Histogram, type HistogramData } from "../../Histogram.ts"
import { type RegisteredFunction, registryOf } from "../Functions/Registry.ts"
import { defineCache } from "../Store/Cache.ts"
import { acrossEnvironments, type Program } from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"

/** What is counted for each function. */
export const countedEvents = [
  "started",
  "completed",
  "failed",
  "cancelled",
  "retried",
  "lost",
  "stale"
] as const
type CountedEvent = (typeof countedEvents)[number]

/** What is measured, as durations. */
type MeasuredDuration = "waitToStart" | "turn" | "step" | "run" | "timerLateness"

/** Maximum number of functions that are counted separately; all others are counted together. */
export const MAX_FUNCTIONS = 200
/** How many minutes are kept: one day. */
const MINUTES = 24 * 60

/** The key under which the functions that are not counted separately are counted. */
const OTHERS = -1

/** One minute in which something happened. */
export interface MinuteStats extends Readonly<Record<CountedEvent, number>> {
  /** When the minute began, in epoch milliseconds. */
  readonly at: number
  readonly turns: number
  readonly steps: number
  /** The longest wait of a run for its first turn, in milliseconds. */
  readonly longestWaitMs: number
  /** The longest time from the creation to the end of a run, in milliseconds. */
  readonly longestRunMs: number
}

interface FunctionStats extends Readonly<Record<CountedEvent, number>> {
  /** The function; absent for the functions that are counted together. */
  readonly identity?: { readonly environment: string; readonly functionId: string }
}

export interface RunStats {
  readonly functions: ReadonlyArray<FunctionStats>
  readonly durations: Readonly<Record<MeasuredDuration, HistogramData>>
}

type Mutable<A> = { -readonly [K in keyof A]: A[K] }
type Counts = Record<CountedEvent, number>

const noCounts = (): Counts => ({
  started: 0,
  completed: 0,
  failed: 0,
  cancelled: 0,
  retried: 0,
  lost: 0,
  stale: 0
})

class Stats {
  /**
   * What happened in the current transaction. Three items of this list belong together: what happened, the key of the function,
   * and how long it took in milliseconds. The list is flat for speed, because every run adds to it.
   */
  readonly pendingItems: Array<CountedEvent | MeasuredDuration | number> = []
  readonly functions = new Map<number, Counts>()
  readonly durations: Record<MeasuredDuration, Histogram> = {
    waitToStart: new Histogram(),
    turn: new Histogram(),
    step: new Histogram(),
    run: new Histogram(),
    timerLateness: new Histogram()
  }
  /** The minutes in which anything happened, oldest first. */
  minutes: Array<MinuteStats> = []

  committed(now: number): void {
    const { pendingItems } = this
    if (pendingItems.length === 0) return
    const minute = this.#minuteOf(now)
    for (let i = 0; i < pendingItems.length; i += 3) {
      this.#add(
        minute,
        pendingItems[i] as CountedEvent | MeasuredDuration,
        pendingItems[i + 1] as number,
        pendingItems[i + 2] as number
      )
    }
    pendingItems.length = 0
  }

  #add(minute: Mutable<MinuteStats>, what: CountedEvent | MeasuredDuration, fn: number, ms: number): void {
    switch (what) {
      case "waitToStart":
        if (ms > minute.longestWaitMs) minute.longestWaitMs = ms
        return this.durations.waitToStart.add(ms / 1000)
      case "turn":
        minute.turns++
        return this.durations.turn.add(ms / 1000)
      case "step":
        minute.steps++
        return this.durations.step.add(ms / 1000)
      case "run":
        if (ms > minute.longestRunMs) minute.longestRunMs = ms
        return this.durations.run.add(ms / 1000)
      case "timerLateness":
        return this.durations.timerLateness.add(ms / 1000)
      default:
        minute[what]++
        this.#countsOf(fn)[what]++
    }
  }

  #countsOf(fn: number): Counts {
    const known = this.functions.get(fn)
    if (known !== undefined) return known
    if (this.functions.size >= MAX_FUNCTIONS && fn !== OTHERS) return this.#countsOf(OTHERS)
    const counts = noCounts()
    this.functions.set(fn, counts)
    return counts
  }

  #minuteOf(now: number): Mutable<MinuteStats> {
    const at = now - (now % 60_000)
    const last = this.minutes.at(-1)
    // when the clock was set back, everything counts in the newest minute
    if (last !== undefined && last.at >= at) return last
    if (this.minutes.length >= 2 * MINUTES) this.minutes = this.minutes.slice(-MINUTES)
    const minute = { at, ...noCounts(), turns: 0, steps: 0, longestWaitMs: 0, longestRunMs: 0 }
    this.minutes.push(minute)
    return minute
  }
}

const statsOf = defineCache<Stats>({
  // readers see only what is committed
  isShared: true,
  make: () => new Stats(),
  begin: ({ pendingItems }) => void (pendingItems.length = 0),
  committed: (stats, tx) => stats.committed(tx.now())
})

/** Counts something that happened to a run. `fn` is the key of its function. For a duration, `ms` is how long it took. */
export const countRunEvent = (
  tx: Transaction,
  what: CountedEvent | MeasuredDuration,
  fn: number,
  ms = 0
): void => {
  statsOf(tx).pendingItems.push(what, fn, ms)
}

/** The counts so far. */
export const readRunStats = acrossEnvironments(
  "readRunStats",
  function* (tx: Transaction): Program<RunStats> {
    const { durations, functions } = statsOf(tx)
    const registry = registryOf(tx)
    const identityOf = ({ environment, registration: { id } }: RegisteredFunction) => ({
      identity: { environment, functionId: id }
    })
    // functions without counts are reported with 0: a time series whose first value is 1 would show no increase
    const idleFunctions = registry
      .all()
      .filter(({ deleted, key }) => deleted !== true && !functions.has(key))
      .slice(0, Math.max(0, MAX_FUNCTIONS - functions.size))
    return yield* resultOf({
      functions: [
        ...Array.from(functions, ([key, counts]) => {
          const fn = registry.byKey(key)
          return { ...counts, ...(fn === undefined ? {} : identityOf(fn)) }
        }),
        ...idleFunctions.map((fn) => ({ ...noCounts(), ...identityOf(fn) }))
      ],
      durations: {
        waitToStart: durations.waitToStart.data(),
        turn: durations.turn.data(),
        step: durations.step.data(),
        run: durations.run.data(),
        timerLateness: durations.timerLateness.data()
      }
    })
  },
  () => "read the counts of runs"
)

/** The minutes of the last day in which anything happened, oldest first. */
export const readMinutes = acrossEnvironments(
  "readMinutes",
  function* (tx: Transaction): Program<ReadonlyArray<MinuteStats>> {
    const since = tx.now() - MINUTES * 60_000
    return yield* resultOf(
      statsOf(tx)
        .minutes.filter(({ at }) => at > since)
        .map((minute) => ({ ...minute }))
    )
  },
  () => "read the counts of runs by minute"
)

/** A program that returns this value, without a query. */
function* resultOf<A>(value: A): Program<A> {
  return value
}
