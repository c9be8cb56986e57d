/**
 * Many deadlines, most of which are cancelled long before they pass, behind one sleeping fiber. Without deadlines it does not
 * sleep: that would keep the process alive.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { Heap, type Ranked } from "./Heap.ts"
import { setImmediate } from "../RealTimers.ts"

export interface Alarm {
  /**
   * Calls `fn` once, when the clock shows `epochMs` or later. Returns a function that cancels the call and forgets it.
   * `fn` must not throw.
   */
  readonly at: (epochMs: number, fn: () => void) => () => void
}

interface Entry extends Ranked {
  readonly fn: () => void
}

/** Clocks may jump, and timers have an upper bound: look again at least this often. */
const longestSleepMs = 3_600_000

/** Calls `fn` once, `ms` milliseconds later, also when the wall clock is set in between. Returns what cancels that. */
export type After = (ms: number, fn: () => void) => () => void

/** An alarm over the clock in context. It ends with the scope, and then calls nothing any more. */
export const make: Effect.Effect<Alarm, never, Scope.Scope> = Effect.clockWith((clock) =>
  over(clock, () => clock.currentTimeMillisUnsafe())
)

/** For time limits: as {@link make}, over the time that only goes on. */
export const makeAfter: Effect.Effect<After, never, Scope.Scope> = Effect.clockWith((clock) => {
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  return Effect.map(
    over(clock, nowMs),
    ({ at }): After =>
      (ms, fn) =>
        at(nowMs() + ms, fn)
  )
})

const over = Effect.fnUntraced(function* (clock: Clock.Clock, nowMs: () => number) {
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const entries = new Heap<Entry>()
  let sleeper: Fiber.Fiber<void> | undefined
  let wakesAt = Number.POSITIVE_INFINITY
  let closed = false

  const ring = (): void => {
    sleeper = undefined
    wakesAt = Number.POSITIVE_INFINITY
    const now = nowMs()
    for (let first = entries.peek(); first !== undefined && first.rank <= now; first = entries.peek()) {
      entries.remove(first)
      first.fn()
    }
    arm()
  }

  const arm = (): void => {
    const first = entries.peek()
    // A sleeper that wakes too early, because what it slept for was cancelled, costs less than one restarted each time.
    if (closed || first === undefined || wakesAt <= first.rank) return
    sleeper?.interruptUnsafe()
    const now = nowMs()
    const ms = Math.min(Math.max(first.rank - now, 0), longestSleepMs)
    wakesAt = now + ms
    sleeper = runFork(Effect.andThen(clock.sleep(Duration.millis(ms)), Effect.sync(ring)))
  }

  let resting = false
  /** Not at once: the next deadline may come with the answer to what had this one. */
  const rest = (): void => {
    if (resting || closed || sleeper === undefined) return
    resting = true
    setImmediate(() => {
      resting = false
      if (entries.size > 0) return
      sleeper?.interruptUnsafe()
      sleeper = undefined
      wakesAt = Number.POSITIVE_INFINITY
    })
  }

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      entries.clear()
      sleeper?.interruptUnsafe()
    })
  )

  const at: Alarm["at"] = (rank, fn) => {
    const entry: Entry = { rank, position: -1, fn }
    if (!closed) {
      entries.add(entry)
      arm()
    }
    return () => {
      entries.remove(entry)
      if (entries.size === 0) rest()
    }
  }
  return { at }
})
